"""`seqgan evaluate`, `sample` and `plot`: what a run has made, measured, printed and drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import Positional, arg

from agents.command.errors import check_seed, expect_writable, expect_writable_folder, say, warn, writing
from agents.runs.console import TerminalConsole
from agents.runs.learning_curve import plot_learning_curves
from agents.runs.resampling import Residual
from agents.runs.run_folder import RunFolder
from agents.runs.samples import SampleKind, samples_as_text
from agents.runs.training import curve_csv, evaluate_run, resolve_device, results_csv, results_table
from agents.studies.plots import plot_csv
from seqgan_env.arguments import check_count
from seqgan_env.rollout_policies import RolloutPolicy
from seqgan_env.tasks.task import Task
from seqgan_env.terminal_text import write_output
from seqgan_env.truncated_policy import TruncatedPolicy


def evaluate(
    run: Positional[Path],
    samples: int = 100_000,
    temperatures: tuple[float, ...] = (1.0,),
    seed: int = 0,
    out: Path | None = None,
    resample: int = 1,
    trust: tuple[str, ...] = (),
    device: str = "auto",
) -> None:
    """Measure a run's generator: both NLLs, entropy, both KLs and diversity, with standard errors.

    Of a run on a corpus: NLL_test, perplexity, BLEU, self-BLEU and more; several temperatures give the curve of quality
    against diversity.

    Args:
        run: Run folder.
        samples: Sequences to draw for each line (paper: 100,000).
        temperatures: One line for each; below 1 sharpens.
        seed: Of the samples.
        out: CSV to write as well; of a run on a corpus `seqgan plot` draws it.
        resample: Proposals for each sample, of which the run's discriminator picks one; 1: it picks none.
        trust: module:Class of a generator that the run names and whose module may be imported, and so executed.
        device: auto, cpu, cuda, ...
    """
    check_seed(seed)
    if samples < 1:
        raise ValueError(f"samples={samples} must be at least 1")
    check_count("resample", resample)
    folder = RunFolder(run, trust)
    if out is not None:
        expect_writable(out)
    rows = evaluate_run(folder, samples, temperatures, seed, resolve_device(device), resample)
    if out is not None:  # first, so that a terminal which is gone costs nothing
        text = curve_csv(rows, folder, temperatures) if folder.measures.writes_curve else results_csv(rows)
        with writing(out):
            out.write_text(text, encoding="utf-8")
    TerminalConsole().print(results_table(rows, folder.measures))


def sample(
    run: Positional[Path],
    n: Annotated[int | None, arg(aliases=["-n"])] = None,
    prompt: str | None = None,
    interactive: bool = False,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    seed: int = 0,
    nearest: bool = True,
    resample: int = 1,
    kind: Annotated[SampleKind, arg(name="format")] = "text",
    out: Path | None = None,
    trust: tuple[str, ...] = (),
    device: str = "auto",
) -> None:
    """Print sequences drawn from a run's generator, one per line; or write melodies as music or as a picture.

    Needs the run folder alone. Each text is followed by its nearest training sequence and a similarity score from 0 to
    1: the mean over n = 1 to 4 of the share of the sample's different n-grams that both have; 1 is a copy. A run on a
    task with prompts continues prompts of test sequences, or the one that you give.

    Args:
        run: Run folder.
        n: How many; None: 10, or 3 if --interactive.
        prompt: Continue this text.
        interactive: Read prompts from the terminal, a line each; Ctrl-D ends.
        temperature: Below 1 sharpens.
        top_k: Draw only among the k most likely tokens.
        top_p: Draw only among the likely tokens that have this probability together.
        seed: Of the samples.
        nearest: Show the nearest training sequence below each sample, where the run has a corpus.
        resample: Proposals for each sample, of which the run's discriminator picks one; 1: it picks none.
        kind: text; of music also midi (--out is a folder), abc, and png, a piano roll.
        out: File or folder to write; text and abc are printed if none is given.
        trust: module:Class of a generator that the run names and whose module may be imported, and so executed.
        device: auto, cpu, cuda, ...
    """
    n = (3 if interactive else 10) if n is None else n
    if n < 1:
        raise ValueError(f"n={n} must be at least 1")
    check_seed(seed)
    if interactive and (kind != "text" or out is not None or prompt is not None):
        raise ValueError("interactive=True prints text and reads its prompts; leave out --format, --out and --prompt")
    check_count("resample", resample)
    keeps_all = top_k is None and top_p == 1
    if resample > 1 and (interactive or prompt is not None or not keeps_all):
        raise ValueError(f"resample={resample} goes with neither --prompt, --interactive, --top-k nor --top-p")
    folder = RunFolder(run, trust)
    task = folder.task()
    if kind not in (*task.text_formats, *task.file_formats):
        known = ", ".join((*task.text_formats, *task.file_formats))
        raise ValueError(f"format={kind!r}: {str(run)!r} is a run of the task {task.name!r}, which has {known}")
    if kind in task.file_formats and out is None:
        raise ValueError(f"format={kind!r} needs --out, the {task.file_formats[kind]} to write")
    if out is not None:
        (expect_writable_folder if task.file_formats.get(kind) == "folder" else expect_writable)(out)
    rng = np.random.default_rng(seed)
    if resample > 1:
        sequences = Residual.of(folder, resolve_device(device)).draw(n, resample, rng, temperature).sequences.cpu()
    else:
        generator = folder.generator().to(resolve_device(device)).at_temperature(temperature)
        policy: RolloutPolicy = generator if keeps_all else TruncatedPolicy(generator, top_k, top_p)
        if interactive:
            _converse(task, policy, n, rng)
            return
        sequences = task.sample(policy, n, rng) if prompt is None else task.continuations(policy, prompt, n, rng)
        sequences = sequences.cpu()
    if kind in task.file_formats:
        assert out is not None
        with writing(out):
            for written in task.write(sequences, kind, out):
                say(written)
        return
    if kind == "text":
        text = samples_as_text(sequences, task, nearest, for_terminal=out is None and sys.stdout.isatty())
    else:
        text = task.as_text(sequences, kind)
    if out is None:
        write_output(text)
        return
    with writing(out):
        out.write_text(text, encoding="utf-8", errors="replace")
    say(out)


def _converse(task: Task, policy: RolloutPolicy, n: int, rng: np.random.Generator) -> None:
    """Read prompts until the end of the input, and print n continuations of each; a prompt may be wrong."""
    at_terminal = sys.stdin.isatty()
    while True:
        try:
            prompt = input("> " if at_terminal else "")
        except EOFError:
            break
        try:
            sequences = task.continuations(policy, prompt, n, rng).cpu()
        except ValueError as error:
            warn(str(error))
            continue
        write_output(samples_as_text(sequences, task, nearest=False, for_terminal=sys.stdout.isatty()))
    if at_terminal:
        write_output("\n")


def plot(runs: Positional[tuple[Path, ...]], out: Path | None = None) -> None:
    """Draw the learning curves of one run, or of several in one picture; or a reproduced figure from its CSV.

    Args:
        runs: Run folders, or one CSV that `seqgan reproduce` or `seqgan compare` wrote.
        out: PNG to write; by default learning_curve.png in the (first) run folder, or beside the CSV.
    """
    if not runs:
        raise ValueError("runs is empty; give at least one run folder")
    is_csv = [path.suffix == ".csv" for path in runs]
    if any(is_csv) and len(runs) > 1:
        raise ValueError(f"runs={str(runs[is_csv.index(True)])!r} is a CSV; give it alone, a figure has one")
    if out is not None:
        expect_writable(out)
    if any(is_csv):
        target = out or runs[0].with_suffix(".png")
        with writing(target):
            plot_csv(runs[0], target)
    else:
        folders = [RunFolder(path) for path in runs]
        target = out or folders[0].path / "learning_curve.png"
        with writing(target):
            plot_learning_curves(folders, target)
    say(target)
