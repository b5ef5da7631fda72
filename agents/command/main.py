"""The `seqgan` command: train, evaluate, sample, plot, reproduce, compare.

Options and help texts are generated from `configuration.SeqGANConfig` and the options of the tasks. A mistake of the
user ends with status 2 and one line that names the argument; an interruption with status 130 and the command that goes
on.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from rich.console import Console
from tyro.conf import OmitArgPrefixes, Positional, arg
from tyro.extras import SubcommandApp

from agents.configuration import MUSIC, PRESETS, TEXT, TOY, CorpusConfig, SeqGANConfig
from agents.runs.console import TerminalConsole
from agents.runs.learning_curve import plot_learning_curves
from agents.runs.projection import UnitCosts, try_units, within
from agents.runs.run_folder import RunFolder
from agents.runs.samples import SampleKind, samples_as_text
from agents.runs.training import (
    Experiment,
    close_run,
    curve_csv,
    evaluate_run,
    make_task,
    resolve_device,
    results_csv,
    results_table,
)
from agents.studies.comparison import ComparisonOptions
from agents.studies.comparison import compare as run_comparison
from agents.studies.grid import GridReport
from agents.studies.plots import plot_csv
from agents.studies.reproduction import FigureName, Preset, ReproductionOptions
from agents.studies.reproduction import reproduce as run_reproduction
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.music import PRESETS as MUSIC_PRESETS
from seqgan_env.tasks.music import MusicOptions
from seqgan_env.tasks.task import Split, Task
from seqgan_env.tasks.text import TextOptions
from seqgan_env.terminal_text import OutputError, prepare_streams, shown, visible, write_output

MusicPreset = Literal["paper", "beat", "rhythm"]
TEXT_OPTIONS = TextOptions()
DEFAULT_REPRODUCTION = ReproductionOptions()
DEFAULT_COMPARISON = ComparisonOptions()


def build_app(preset: Preset, music_preset: MusicPreset = "paper") -> SubcommandApp:
    """The command's parser, with the presets' values as the defaults that `--help` shows."""
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
            preset: fast (minutes on two cores), best (likewise, an adversarial phase that does better than the
                paper's), paper, or the authors' code of 2016 or 2018 (many hours).
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

    @train.command(name="text")
    def train_text(
        options: Annotated[TextOptions, arg(name="")] = TEXT_OPTIONS,
        config: Annotated[CorpusConfig, arg(name="")] = TEXT,
        minutes: float | None = 15.0,
        out: Path | None = None,
        resume: Path | None = None,
        device: str = "auto",
        progress: bool = True,
    ) -> None:
        """Train SeqGAN on text of your own: a sequence is a line or a sentence, a token a character, word or subword.

        Args:
            options: What is read, and how it becomes sequences.
            config: Settings.
            minutes: Where a run would take longer on this machine, it gets fewer MLE epochs, discriminator steps
                and rounds; None: never.
            out: Run folder to make; by default a new one under runs/.
            resume: Go on with this run, with its own settings. It needs no corpus.
            device: auto (a GPU if there is one), cpu, cuda, cuda:1, ...
            progress: Draw a progress bar.
        """
        corpus = _Corpus(options, TEXT_OPTIONS, minutes)
        _train("text", config, TEXT, "text", out, resume, device, progress, corpus)

    @train.command(name="music")
    def train_music(
        options: Annotated[MusicOptions, arg(name="")] = MUSIC_PRESETS[music_preset],
        config: Annotated[CorpusConfig, arg(name="")] = MUSIC,
        preset: MusicPreset = music_preset,
        minutes: float | None = 15.0,
        out: Path | None = None,
        resume: Path | None = None,
        device: str = "auto",
        progress: bool = True,
    ) -> None:
        """Train SeqGAN on melodies of your own: MIDI, ABC or text, sampled to one pitch per step of a grid.

        Args:
            options: What is read, and how it becomes sequences; the defaults shown are the preset's.
            config: Settings.
            preset: paper (a pitch every 0.4 s, T = 32), beat (every quaver), rhythm (semiquavers, rests, held notes).
            minutes: Where a run would take longer on this machine, it gets fewer MLE epochs, discriminator steps
                and rounds; None: never.
            out: Run folder to make; by default a new one under runs/.
            resume: Go on with this run, with its own settings. It needs no corpus.
            device: auto (a GPU if there is one), cpu, cuda, cuda:1, ...
            progress: Draw a progress bar.
        """
        corpus = _Corpus(options, MUSIC_PRESETS[preset], minutes)
        _train("music", config, MUSIC, preset, out, resume, device, progress, corpus)

    app = SubcommandApp()
    app.command(train, name="train", help="Train a SeqGAN, or go on with a run.")
    for command in (evaluate, sample, plot, reproduce, compare):
        app.command(command)
    return app


@dataclass(frozen=True)
class _Corpus:
    """What a command says of a corpus.

    Attributes:
        options: of its task; `defaults`: what they are where nothing is said.
        minutes: how long a run may take, or None.
    """

    options: TextOptions | MusicOptions
    defaults: TextOptions | MusicOptions
    minutes: float | None


def _train(
    task_name: str,
    config: SeqGANConfig,
    default: SeqGANConfig,
    preset: str,
    out: Path | None,
    resume: Path | None,
    device: str,
    progress: bool,
    corpus: _Corpus | None = None,
) -> None:
    console = TerminalConsole()
    device = resolve_device(device)
    if resume is not None:
        changed = _changed(config, default) + ([] if corpus is None else _changed(corpus.options, corpus.defaults))
        run = _opened_for_resuming(resume, task_name, changed, out)
    else:
        if out is not None:
            RunFolder.expect_unused(out)  # before the work of reading a corpus
        task = _read_task(task_name, config, corpus, console)
        name = f"{task_name}-{preset}-seed{config.seed}" if task_name != preset else f"{task_name}-seed{config.seed}"
        with console.status("timing each unit of work"):  # first, so that an unusable setting leaves no folder behind
            costs = try_units(task, config, device)
        if corpus is not None:
            config = replace(config, sequence_length=task.sequence_length, vocab_size=task.vocab_size)
            config = replace(config, train_sequences=len(task.real_sequences("train")))
            config = _in_time(config, costs, corpus, console)
        out = out or _unused(Path("runs") / name)
        with _writing(out):
            options = None if corpus is None else asdict(corpus.options)
            run = RunFolder.create(out, task, config, preset, corpus_options=options)
        console.print(str(costs.projection(config)), highlight=False)
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
    except OutputError:
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise SystemExit(
            _complain(f"no space left to save {run.path}; make room, then go on with: {again}", 1)
        ) from error
    console.print(f"run folder: {run.path} (learning_curve.png, results.csv, metrics.csv)", highlight=False)


def _read_task(task_name: str, config: SeqGANConfig, corpus: _Corpus | None, console: Console) -> Task:
    """The task of a new run; of a corpus, with what it holds printed."""
    if corpus is None:
        return make_task(task_name, config)
    with console.status("reading the corpus"):
        task = make_task(task_name, config, corpus.options)
    for heading, value in task.description():
        console.print(f"{heading:>24}  {value}", highlight=False, markup=False, soft_wrap=True)
    bounds: tuple[tuple[str, int | None, Split, str], ...] = (
        ("epoch_sequences", config.epoch_sequences, "train", "an MLE epoch takes {bound:,} of them, drawn anew"),
        ("held_out_sequences", config.held_out_sequences, "validation", "{bound:,} are looked at"),
        ("held_out_sequences", config.held_out_sequences, "test", "{bound:,} are looked at"),
    )
    for what, bound, split, use in bounds:
        count = len(task.real_sequences(split))
        if bound is not None and bound < count:
            option = what.replace("_", "-")
            said = f"{count:,} {split} sequences: {use.format(bound=bound)} (--{option})"
            console.print(f"{'bounded work':>24}  {said}", highlight=False, markup=False, soft_wrap=True)
    return task


def _in_time(config: SeqGANConfig, costs: UnitCosts, corpus: _Corpus, console: Console) -> SeqGANConfig:
    """The settings, with less work where the run would take too long; says so."""
    if corpus.minutes is None:
        return config
    if not corpus.minutes > 0:
        raise ValueError(f"minutes={corpus.minutes} must be above 0, or None for no limit")
    fitting = within(config, costs, corpus.minutes)
    for name in _changed(fitting, config):
        option, was, now = name.replace("_", "-"), getattr(config, name), getattr(fitting, name)
        console.print(
            f"--{option} {was} -> {now}, so that the run ends in {corpus.minutes:g} minutes (--minutes)",
            highlight=False,
        )
    return fitting


def _changed(given: Any, default: Any) -> list[str]:
    """Fields in which two objects of one dataclass differ."""
    return [field.name for field in fields(given) if getattr(given, field.name) != getattr(default, field.name)]


def _opened_for_resuming(path: Path, task_name: str, changed: Sequence[str], out: Path | None) -> RunFolder:
    """The run to go on with.

    Args:
        path: its folder.
        task_name: of the command.
        changed: settings that were given.
        out: likewise.

    Raises:
        ValueError: if it is none, is of another task, or settings were given that it cannot take.
    """
    if out is not None:
        raise ValueError("out and resume exclude each other: a resumed run stays in its folder")
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

    Of a run on a corpus: NLL_test, perplexity, BLEU, self-BLEU and more; several temperatures give the curve of quality
    against diversity.

    Args:
        run: Run folder.
        samples: Sequences to draw for each line (paper: 100,000).
        temperatures: One line for each; below 1 sharpens.
        seed: Of the samples.
        out: CSV to write as well; of a run on a corpus `seqgan plot` draws it.
        device: auto, cpu, cuda, ...
    """
    _check_seed(seed)
    if samples < 1:
        raise ValueError(f"samples={samples} must be at least 1")
    folder = RunFolder(run)
    rows = evaluate_run(folder, samples, temperatures, seed, resolve_device(device))
    if out is not None:  # first, so that a terminal which is gone costs nothing
        text = curve_csv(rows, folder, temperatures) if folder.measures.writes_curve else results_csv(rows)
        with _writing(out):
            out.write_text(text, encoding="utf-8")
    TerminalConsole().print(results_table(rows, folder.measures))


def sample(
    run: Positional[Path],
    n: Annotated[int, arg(aliases=["-n"])] = 10,
    temperature: float = 1.0,
    seed: int = 0,
    nearest: bool = True,
    kind: Annotated[SampleKind, arg(name="format")] = "text",
    out: Path | None = None,
    device: str = "auto",
) -> None:
    """Print sequences drawn from a run's generator, one a line; or write melodies as music or as a picture.

    Needs the run folder alone. Below a text stands the training sequence that is most like it, behind its likeness: the
    mean over n = 1 to 4 of the share of the sample's different n-grams that it has too; 1 is a copy.

    Args:
        run: Run folder.
        n: How many.
        temperature: Below 1 sharpens.
        seed: Of the samples.
        nearest: Show the nearest training sequence below each sample, where the run has a corpus.
        kind: text; of music also midi (--out is a folder), abc, and png, a piano roll.
        out: File or folder to write; text and abc are printed if none is given.
        device: auto, cpu, cuda, ...
    """
    if n < 1:
        raise ValueError(f"n={n} must be at least 1")
    _check_seed(seed)
    folder = RunFolder(run)
    task = folder.task()
    if kind not in (*task.text_formats, *task.file_formats):
        known = ", ".join((*task.text_formats, *task.file_formats))
        raise ValueError(f"format={kind!r}: {str(run)!r} is a run of the task {task.name!r}, which has {known}")
    if kind in task.file_formats and out is None:
        raise ValueError(f"format={kind!r} needs --out, the {task.file_formats[kind]} to write")
    generator = folder.generator().to(resolve_device(device)).at_temperature(temperature)
    sequences = sample_sequences(generator, n, task.sequence_length, np.random.default_rng(seed), task.eos_token).cpu()
    if kind in task.file_formats:
        assert out is not None
        with _writing(out):
            for written in task.write(sequences, kind, out):
                _say(written)
        return
    if kind == "text":
        text = samples_as_text(sequences, task, nearest, for_terminal=out is None and sys.stdout.isatty())
    else:
        text = task.as_text(sequences, kind)
    if out is None:
        write_output(text)
        return
    with _writing(out):
        out.write_text(text, encoding="utf-8", errors="replace")
    _say(out)


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
    if any(is_csv):
        target = out or runs[0].with_suffix(".png")
        with _writing(target):
            plot_csv(runs[0], target)
    else:
        folders = [RunFolder(path) for path in runs]
        target = out or folders[0].path / "learning_curve.png"
        with _writing(target):
            plot_learning_curves(folders, target)
    _say(target)


def reproduce(
    figure: Positional[FigureName], options: Annotated[ReproductionOptions, arg(name="")] = DEFAULT_REPRODUCTION
) -> None:
    """Get a result of the paper beside ours: table1, fig2, fig3, the curves that it did not draw, or real sequences.

    The latter are poems, speeches and music (Tables 2-4), and text of your own; name the file with --corpus.

    The same command goes on after an interruption and computes nothing twice. CSV, picture and a record of command,
    commit, seeds, hardware and minutes go to one folder.

    Args:
        figure: Which.
        options: How.
    """
    again = options.command(figure)
    _run_cells(lambda console: run_reproduction(figure, options, console), options.folder(figure), again)


def compare(options: Annotated[ComparisonOptions, arg(name="")] = DEFAULT_COMPARISON) -> None:
    """Train other libraries' learners side by side with their tuned settings: curves over seeds, and where each ends.

    The same command goes on after an interruption and computes nothing twice. CSV, picture and a record of command,
    commit, seeds, hardware and minutes go to one folder.

    Args:
        options: What and how.
    """
    _run_cells(lambda console: run_comparison(options, console), options.folder(), options.command())


def _run_cells(run: Callable[[Console], GridReport], folder: Path, again: str) -> None:
    """Compute a grid, and say what is left to do if it was interrupted or cells failed."""
    console = TerminalConsole()
    try:
        report = run(console)
    except KeyboardInterrupt:
        console.print(f"interrupted; what is done stays done; go on with: {again}", highlight=False, soft_wrap=True)
        raise SystemExit(130) from None
    if report.is_complete:
        return
    for name, reason in report.failed.items():
        _warn(f"failed: {name}: {reason} (traceback: {folder / 'cells' / name / 'error.txt'})")
    for name, cause in report.not_started.items():
        _warn(f"not started: {name}, which needs {cause}")
    raise SystemExit(_complain(f"{len(report.failed)} cells failed; mend the cause, then go on with: {again}", 1))


def _say(message: object) -> None:
    """Write one line to standard output."""
    line = str(message)
    write_output((visible(line, one_line=True) if sys.stdout.isatty() else line) + "\n")


def _warn(message: object) -> None:
    """Write one line to standard error, whatever the message holds."""
    print(shown(" ".join(str(message).split()), sys.stderr, one_line=True), file=sys.stderr)


def _complain(message: object, status: int) -> int:
    _warn(f"seqgan: error: {message}")
    return status


def _forget_output() -> None:
    """Let what standard output still holds go nowhere: it cannot be written, and Python would try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `seqgan` command."""
    prepare_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "" not in sys.path:  # the current folder, for "module:Class" of the user's own; `python -m` has it too
        sys.path.insert(0, "")
    app = build_app(
        _named_preset(arguments, get_args(Preset), "fast"), _named_preset(arguments, get_args(MusicPreset), "paper")
    )
    try:
        app.cli(
            prog="seqgan",
            args=arguments,
            config=(OmitArgPrefixes,),
            description="SeqGAN: train, evaluate, sample, plot, reproduce, compare.",
        )
        write_output("")  # flush here, so that an error is one line
    except (ValueError, TypeError, ImportError) as error:
        if os.environ.get("SEQGAN_DEBUG"):
            raise
        raise SystemExit(_complain(error, 2)) from error
    except KeyboardInterrupt:
        raise SystemExit(_complain("interrupted", 130)) from None
    except BrokenPipeError:  # as in `seqgan sample RUN | head`
        _forget_output()
        raise SystemExit(1) from None
    except OutputError as error:
        _forget_output()
        raise SystemExit(_complain(error.strerror, 1)) from error


def _named_preset(arguments: Sequence[str], names: Sequence[str], default: str) -> Any:
    """The preset that the arguments name, so that its values become the defaults; the parser refuses unknown ones."""
    for place, argument in enumerate(arguments):
        name = argument.partition("=")[2]
        if argument == "--preset" and place + 1 < len(arguments):
            name = arguments[place + 1]
        if argument.startswith("--preset") and name in names:
            return name
    return default


if __name__ == "__main__":
    main()
