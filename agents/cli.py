"""The `seqgan` command: train, evaluate, sample, plot, reproduce.

Options and help texts are generated from `configuration.SeqGANConfig`. A mistake of the user ends with status 2 and one
line that names the argument; an interruption with status 130 and the command that goes on.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import numpy as np
from rich.console import Console
from tyro.conf import OmitArgPrefixes, Positional, arg
from tyro.extras import SubcommandApp

from agents.configuration import PRESETS, TOY, SeqGANConfig
from agents.experiment import (
    Experiment,
    close_run,
    evaluate_run,
    make_task,
    resolve_device,
    results_csv,
    results_table,
)
from agents.plots import plot_csv, plot_learning_curves
from agents.projection import try_units
from agents.reproduction import FigureName, Preset, ReproductionOptions
from agents.reproduction import reproduce as run_reproduction
from agents.run_folder import RunFolder
from seqgan_env.rollout_policies import sample_sequences

DEFAULT_REPRODUCTION = ReproductionOptions()


def build_app(preset: Preset) -> SubcommandApp:
    """The command's parser, with a preset's values as the defaults that `--help` shows."""
    train = SubcommandApp()

    @train.command(name="oracle")
    def train_oracle(
        config: Annotated[SeqGANConfig, arg(name="")] = PRESETS[preset],
        preset: Preset = preset,
        out: Path | None = None,
        resume: Path | None = None,
        device: str = "auto",
        progress: bool = True,
    ) -> None:
        """Train SeqGAN on the paper's synthetic task: real sequences come from an LSTM with random parameters.

        Args:
            config: Settings; the defaults shown are the preset's.
            preset: fast (minutes on two cores), paper, or the authors' code of 2016 or 2018 (many hours).
            out: Run folder to make; by default a new one under runs/.
            resume: Go on with this run, with its own settings.
            device: auto (a GPU if there is one), cpu, cuda, cuda:1, ...
            progress: Draw a progress bar.
        """
        _train("oracle", config, PRESETS[preset], preset, out, resume, device, progress)

    @train.command(name="toy")
    def train_toy(
        config: Annotated[SeqGANConfig, arg(name="")] = TOY,
        out: Path | None = None,
        resume: Path | None = None,
        device: str = "cpu",
        progress: bool = True,
    ) -> None:
        """Train SeqGAN on the toy task of 27 sequences, in seconds: to see every part at work.

        Args:
            config: Settings.
            out: Run folder to make; by default a new one under runs/.
            resume: Go on with this run, with its own settings.
            device: auto (a GPU if there is one), cpu, cuda, cuda:1, ...
            progress: Draw a progress bar.
        """
        _train("toy", config, TOY, "toy", out, resume, device, progress)

    app = SubcommandApp()
    app.command(train, name="train", help="Train a SeqGAN, or go on with a run.")
    for command in (evaluate, sample, plot, reproduce):
        app.command(command)
    return app


def _train(
    task_name: str,
    config: SeqGANConfig,
    default: SeqGANConfig,
    preset: str,
    out: Path | None,
    resume: Path | None,
    device: str,
    progress: bool,
) -> None:
    console = Console()
    device = resolve_device(device)
    if resume is not None:
        run = _opened_for_resuming(resume, task_name, config, default, out)
    else:
        task = make_task(task_name, config)
        name = f"{task_name}-{preset}-seed{config.seed}" if task_name != preset else f"{task_name}-seed{config.seed}"
        with console.status("timing each unit of work"):  # first, so that an unusable setting leaves no folder behind
            projection = try_units(task, config, device).projection(config)
        out = out or _unused(Path("runs") / name)
        with _writing(out):
            run = RunFolder.create(out, task, config, preset)
        console.print(str(projection), highlight=False)
    again = f"seqgan train {task_name} --resume {shlex.quote(str(run.path))}"
    console.print(f"run folder: {run.path}", highlight=False)
    try:
        Experiment(run, device, console, progress).train()
        close_run(run, device, console)
    except KeyboardInterrupt:
        console.print(
            f"interrupted; the run goes on from its last checkpoint with: {again}", highlight=False, soft_wrap=True
        )
        raise SystemExit(130) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise SystemExit(
            _complain(f"no space left to save {run.path}; make room, then go on with: {again}", 1)
        ) from error
    console.print(f"run folder: {run.path} (learning_curve.png, results.csv, metrics.csv)", highlight=False)


def _opened_for_resuming(
    path: Path, task_name: str, config: SeqGANConfig, default: SeqGANConfig, out: Path | None
) -> RunFolder:
    """The run to go on with.

    Raises:
        ValueError: if it is none, is of another task, or settings were given that it cannot take.
    """
    if out is not None:
        raise ValueError("out and resume exclude each other: a resumed run stays in its folder")
    changed = [field.name for field in fields(config) if getattr(config, field.name) != getattr(default, field.name)]
    if changed:
        option = changed[0].replace("_", "-")
        raise ValueError(f"--{option} cannot change a run that is resumed; leave it out, or start a new run")
    run = RunFolder(path)
    if run.description["task"] != task_name:
        task = run.description["task"]
        raise ValueError(
            f"resume={str(path)!r} is a run of the task {task!r}; use: seqgan train {task} --resume {path}"
        )
    return run


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Name the argument when its path cannot be written.

    Raises:
        ValueError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"out={str(out)!r} cannot be written: {reason}; choose another place") from error


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise ValueError(f"seed={seed} must be at least 0")


def _unused(path: Path) -> Path:
    """`path`, or with the first number behind it that is not taken."""
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_name(f"{path.name}-{number}")
        number += 1
    return candidate


def evaluate(
    run: Positional[Path],
    samples: int = 100_000,
    temperatures: tuple[float, ...] = (1.0,),
    seed: int = 0,
    out: Path | None = None,
    device: str = "auto",
) -> None:
    """Measure a run's generator: both NLLs, entropy, both KLs and diversity, with standard errors.

    Args:
        run: Run folder.
        samples: Sequences to draw for each line (paper: 100,000).
        temperatures: One line for each; below 1 sharpens.
        seed: Of the samples.
        out: CSV to write as well.
        device: auto, cpu, cuda, ...
    """
    _check_seed(seed)
    rows = evaluate_run(RunFolder(run), samples, temperatures, seed, resolve_device(device))
    Console().print(results_table(rows))
    if out is not None:
        with _writing(out):
            out.write_text(results_csv(rows), encoding="utf-8")


def sample(
    run: Positional[Path],
    n: Annotated[int, arg(aliases=["-n"])] = 10,
    temperature: float = 1.0,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Print sequences drawn from a run's generator, one a line.

    Args:
        run: Run folder.
        n: How many.
        temperature: Below 1 sharpens.
        seed: Of the samples.
        device: auto, cpu, cuda, ...
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1")
    _check_seed(seed)
    folder = RunFolder(run)
    task = folder.task()
    generator = folder.generator().to(resolve_device(device)).at_temperature(temperature)
    sequences = sample_sequences(generator, n, task.sequence_length, np.random.default_rng(seed), task.eos_token)
    for sequence in sequences.tolist():
        tokens = [token for token in sequence if token < task.vocab_size]
        print(" ".join(map(str, tokens)) if task.vocabulary is None else task.vocabulary.decode(tokens))


def plot(runs: Positional[tuple[Path, ...]], out: Path | None = None) -> None:
    """Draw the learning curves of one run, or of several in one picture; or a reproduced figure from its CSV.

    Args:
        runs: Run folders, or one CSV that `seqgan reproduce` wrote.
        out: PNG to write; by default learning_curve.png in the (first) run folder, or beside the CSV.
    """
    if not runs:
        raise ValueError("runs is empty; give at least one run folder")
    is_csv = [path.suffix == ".csv" for path in runs]
    if any(is_csv) and len(runs) > 1:
        raise ValueError(f"runs={str(runs[is_csv.index(True)])!r} is a CSV; give it alone, a figure has one")
    if any(is_csv):
        target = out or runs[0].with_suffix(".png")
        with _writing(target):
            plot_csv(runs[0], target)
    else:
        folders = [RunFolder(path) for path in runs]
        target = out or folders[0].path / "learning_curve.png"
        with _writing(target):
            plot_learning_curves(folders, target)
    print(target)


def reproduce(
    figure: Positional[FigureName], options: Annotated[ReproductionOptions, arg(name="")] = DEFAULT_REPRODUCTION
) -> None:
    """Get a result of the paper beside ours: table1, fig2, fig3, or the curves that it did not draw.

    The same command goes on after an interruption and computes nothing twice. CSV, picture and a record of command,
    commit, seeds, hardware and minutes go to one folder.

    Args:
        figure: Which.
        options: How.
    """
    console = Console()
    again = options.command(figure)
    try:
        report = run_reproduction(figure, options, console)
    except KeyboardInterrupt:
        console.print(f"interrupted; what is done stays done; go on with: {again}", highlight=False, soft_wrap=True)
        raise SystemExit(130) from None
    if report.is_complete:
        return
    for name, reason in report.failed.items():
        print(
            f"failed: {name}: {reason} (traceback: {options.folder() / 'cells' / name / 'error.txt'})", file=sys.stderr
        )
    for name, cause in report.not_started.items():
        print(f"not started: {name}, which needs {cause}", file=sys.stderr)
    raise SystemExit(_complain(f"{len(report.failed)} cells failed; mend the cause, then go on with: {again}", 1))


def _complain(message: object, status: int) -> int:
    print(f"seqgan: error: {' '.join(str(message).split())}", file=sys.stderr)  # one line, whatever it was
    return status


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `seqgan` command."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "" not in sys.path:  # the current folder, for "module:Class" of the user's own; `python -m` has it too
        sys.path.insert(0, "")
    app = build_app(_named_preset(arguments))
    try:
        app.cli(
            prog="seqgan",
            args=arguments,
            config=(OmitArgPrefixes,),
            description="SeqGAN: train, evaluate, sample, plot, reproduce.",
        )
    except (ValueError, TypeError, ImportError) as error:
        if os.environ.get("SEQGAN_DEBUG"):
            raise
        raise SystemExit(_complain(error, 2)) from error
    except KeyboardInterrupt:
        raise SystemExit(_complain("interrupted", 130)) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # as in `seqgan sample RUN | head`
        raise SystemExit(1) from None


def _named_preset(arguments: Sequence[str]) -> Preset:
    """The preset that the arguments name, so that its values become the defaults; the parser refuses unknown ones."""
    for place, argument in enumerate(arguments):
        name = argument.partition("=")[2]
        if argument == "--preset" and place + 1 < len(arguments):
            name = arguments[place + 1]
        if argument.startswith("--preset") and name in PRESETS:
            return name  # type: ignore[return-value]
    return "fast"


if __name__ == "__main__":
    main()
