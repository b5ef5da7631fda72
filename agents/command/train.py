"""`seqgan train TASK`: make a run folder and train in it, or go on with one. One subcommand for each task there is."""

from __future__ import annotations

import difflib
import errno
import inspect
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from tyro.conf import arg
from tyro.extras import SubcommandApp

from agents.command.errors import complain, expect_writable_folder, writing
from agents.command.forms import (
    calls_another,
    deferred,
    expect_own_options,
    form_of,
    not_called,
    read_form,
    run_form,
    with_parts,
)
from agents.runs.budget import new_budget
from agents.runs.console import TerminalConsole
from agents.runs.flat_names import FLAT_NAMES
from agents.runs.presets import presets_of
from agents.runs.projection import UnitCosts, try_units, within
from agents.runs.run_folder import RunFolder
from agents.runs.starting_points import task_with_tokens_of, with_generator_of
from agents.runs.stopping import exit_status
from agents.runs.training import Experiment, close_run, resolve_device
from agents.runs.trust import own_parts
from agents.seqgan import SeqGANConfig
from agents.setting_paths import differing, value_at
from seqgan_env.tasks import TASKS
from seqgan_env.tasks.task import Split, Task
from seqgan_env.terminal_text import OutputError

# What `--help` shows; `--help-all` shows everything.
SHOWN = ("seed", "corpus", "generator", "pretraining.epochs")
_PRESET_TEXT = {
    "fast": "minutes on two cores",
    "mle": "no game, but the best MLE, regularised: what a game has to beat",
    "best": "an adversarial phase that does better than the paper's, and worse than preset mle",
    "paper": "the paper's settings",
    "repo2016": "the authors' code of 2016 (many hours)",
    "repo2018": "the authors' code of 2018 (many hours)",
    "beat": "a pitch every quaver",
    "rhythm": "semiquavers, rests, held notes",
}


@dataclass(frozen=True)
class Asked:
    """What the command line asks for besides the settings."""

    preset: str
    out: Path | None
    resume: Path | None
    device: str
    progress: bool
    minutes: float | None = None
    trust: tuple[str, ...] = ()
    start_from: Path | None = None


def add_train(app: SubcommandApp, arguments: Sequence[str], show_all: bool) -> None:
    """Add `train` with a subcommand for each task.

    Args:
        app: of `seqgan`.
        arguments: the command line; a preset and parts that it names decide which defaults and options there are.
        show_all: whether help shows all options.

    Raises:
        ValueError: if the command line names a part that does not exist, or an option that it does not have.
    """
    if calls_another("train", arguments):
        app.command(name="train")(not_called)
        return
    train = SubcommandApp()
    called = next((word for word in arguments[1:2] if arguments[0] == "train" and word in TASKS), None)
    for name in TASKS:
        # The other tasks' options are not made: that takes time, and the parser would offer them for misspelt ones.
        command: Any = _command(name, arguments, show_all) if called in (name, None) else not_called
        line = None if called else str(inspect.getdoc(command)).split("\n\n")[0]
        train.command(name=name, help=line)(command if command is not_called else deferred(command))
    app.command(train, name="train", help="Train a SeqGAN, or go on with a run.")


def _command(task_name: str, arguments: Sequence[str], show_all: bool) -> Callable[..., None]:
    """The function that tyro makes a subcommand of."""
    presets = presets_of(task_name)
    preset = named(arguments, "preset")
    preset = preset if preset in presets else next(iter(presets))
    base = with_parts(presets[preset], lambda kind: named(arguments, kind), preset)
    expect_own_options(base, arguments)

    is_corpus = "corpus" in {field.name for field in fields(base.task)}
    form = form_of(base, None if show_all else SHOWN)
    asked = run_form(
        *([("preset", Literal[tuple(presets)], preset, _presets_text(presets))] if len(presets) > 1 else []),
        ("out", Path | None, None, "Run folder to make; by default a new one under runs/."),
        ("resume", Path | None, None, "Go on with this run, with its own settings."),
        (
            "start_from",
            Path | None,
            None,
            "Train this run's generator further, on the sequences given here.",
        ),
        ("minutes", float | None, 15.0 if is_corpus else None, _MINUTES),
        ("trust", tuple[str, ...], (), _TRUST),
        (
            "device",
            str,
            "cpu" if task_name == "toy" else "auto",
            "auto (a GPU if there is one), cpu, cuda, cuda:1, ...",
        ),
        ("progress", bool, True, "Draw a progress bar."),
        hidden=() if show_all else ("trust", "start_from") if is_corpus else ("trust", "start_from", "minutes"),
    )

    def train(asked: Any, config: Any) -> None:
        values = {"preset": preset, "minutes": None} | {f.name: getattr(asked, f.name) for f in fields(asked)}
        run(task_name, read_form(base, config), presets[preset], Asked(**values))

    train.__annotations__ = {"asked": Annotated[asked, arg(name="")], "config": Annotated[form, arg(name="")]}
    train.__defaults__ = (asked(), form())
    train.__doc__ = f"Train SeqGAN. {_summary(task_name)}" + ("" if show_all else f"\n\n{MORE}")
    return train


_MINUTES = "Working time at most: a longer run does less, as run.json then says. None: no limit."
_TRUST = "module:Class of parts that the run of --resume names and whose modules may be imported, and so executed."
MORE = (
    "These are the common options; --help-all shows all, in groups: --generator.*, --pretraining.*, --discriminator.*, "
    "--game.*, --learner.* (--learner ppo swaps the algorithm), --measuring.*. Old names like --mle-epochs still work."
)


def _presets_text(presets: dict[str, SeqGANConfig]) -> str:
    return "Settings to start from: " + "; ".join(f"{name}: {_PRESET_TEXT.get(name, name)}" for name in presets) + "."


def _summary(task_name: str) -> str:
    """The first sentence of the module that holds a task."""
    text = sys.modules[TASKS[task_name].__module__].__doc__ or ""
    return " ".join(text.split("\n\n")[0].split())


def named(arguments: Sequence[str], option: str) -> str | None:
    """The value that the arguments give an option, the last one counts; None if they do not name it."""
    value = None
    for place, argument in enumerate(arguments):
        name, equals, given = argument.partition("=")
        if name == f"--{option}":
            value = given if equals else (arguments[place + 1] if place + 1 < len(arguments) else None)
    return value


def grouped(arguments: Sequence[str]) -> list[str]:
    """A command line whose flat names of earlier versions are replaced by those of groups."""
    found: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        bare = name.removeprefix("--").removeprefix("no-").replace("-", "_")
        no = "no-" if name.startswith("--no-") else ""
        paths = FLAT_NAMES.get(bare, ()) if name.startswith("--") else ()
        options = [_option(path, no) for path in paths]
        if options in ([], [name]):
            found.append(argument)
        elif equals:
            found += [f"{option}={value}" for option in options]
        elif len(options) > 1 and rest:
            given = rest.pop(0)
            found += [word for option in options for word in (option, given)]
        else:
            found += options
    return found


def similar_flat_name(arguments: Sequence[str], complaint: str) -> str:
    """A sentence for a misspelt flat name, which the parser does not know; empty if it has found a similar option."""
    if arguments[:1] != ["train"] or "Unrecognized" not in complaint or "Perhaps" in complaint:
        return ""
    for argument in arguments:
        bare = argument.partition("=")[0].removeprefix("--").replace("-", "_")
        similar = difflib.get_close_matches(bare, FLAT_NAMES, 1, cutoff=0.8)
        if argument.startswith("--") and argument in complaint and similar:
            return f"; did you mean --{similar[0].replace('_', '-')}?"
    return ""


def _option(path: str, no: str = "") -> str:
    """The option of a dotted path: "--pretraining.epochs"; a task's options and a model's name have no group."""
    group, _, name = path.rpartition(".")
    name = name.replace("_", "-")
    if group in ("", "task"):
        return f"--{no}{name}"
    return f"--{group}" if name == "name" else f"--{group}.{no}{name}"


def run(task_name: str, config: SeqGANConfig, default: SeqGANConfig, asked: Asked) -> None:
    """Make the run folder or open it, train what is left, and close the run."""
    console = TerminalConsole()
    device = resolve_device(asked.device)
    if asked.resume is not None:
        changes = differing(config.complete(), default.complete())
        folder = _opened_for_resuming(asked, task_name, changes)
    else:
        if asked.start_from is not None:
            _expect_no_generator(differing(config.complete(), default.complete()))
        folder = _made(task_name, config, asked, device, console)
    trust = "".join(f" --trust {shlex.quote(name)}" for name in own_parts(folder.config()).values())
    again = f"seqgan train {task_name} --resume {shlex.quote(str(folder.path))}{trust}"
    try:
        _train(folder, device, console, asked.progress)
    except KeyboardInterrupt as stop:
        with suppress(OSError):  # the terminal may be gone
            console.print(
                f"interrupted; the run goes on from its last checkpoint with: {again}", highlight=False, soft_wrap=True
            )
        raise SystemExit(exit_status(stop)) from None
    except OutputError as error:
        raise OutputError(error.errno, f"{error.strerror}; the run goes on with: {again}") from error
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            said = f"no space left to save {folder.path}; make room"
        else:
            said = f"{str(folder.path)!r} cannot be written: {error.strerror or error}; mend that"
        raise SystemExit(complain(f"{said}, then go on with: {again}", 1)) from error
    console.print(f"run folder: {folder.path} (learning_curve.png, results.csv, metrics.csv)", highlight=False)


def _expect_no_generator(changes: Sequence[str]) -> None:
    """Raise ValueError if settings of the generator were given, which another run has already."""
    for change in changes:
        if change.startswith("generator."):
            raise ValueError(f"{_option(change)} cannot be given with --start-from, whose run has its generator")


def _train(folder: RunFolder, device: str, console: Console, show_progress: bool) -> None:
    """Train and close a run, while no other process may."""
    folder.acquire()
    try:
        console.print(f"run folder: {folder.path}", highlight=False)
        Experiment(folder, device, console, show_progress).train()
        close_run(folder, device, console)
    finally:
        folder.release()


def _made(task_name: str, config: SeqGANConfig, asked: Asked, device: str, console: Console) -> RunFolder:
    """A new run folder."""
    start = None if asked.start_from is None else RunFolder(asked.start_from, asked.trust)
    if asked.trust and start is None:
        raise ValueError(f"trust={asked.trust[0]!r} is for --resume; a new run trusts what its own command names")
    if start is not None:
        config = with_generator_of(start, config)
    preset, seed = asked.preset, config.seed
    name = f"{task_name}-{preset}-seed{seed}" if task_name != preset else f"{task_name}-seed{seed}"
    if asked.out is not None:  # before the work of reading a corpus
        RunFolder.expect_unused(asked.out)
    expect_writable_folder(asked.out or Path("runs") / name)
    task = _read_task(config, console, start)
    with console.status("timing each unit of work"):  # first, so that an unusable setting leaves no folder behind
        costs = try_units(task, config, device)
    asked_for, config = config, _in_time(config, costs, asked.minutes, console)
    out = asked.out or _unused(Path("runs") / name)
    with writing(out):
        options = asdict(config.task) if hasattr(config.task, "corpus") else None
        budget = None if asked.minutes is None else new_budget(asked.minutes, asked_for)
        folder = RunFolder.create(out, task, config, preset, corpus_options=options, budget=budget, start=start)
    console.print(str(costs.projection(config)), highlight=False)
    return folder


def _read_task(config: SeqGANConfig, console: Console, start: RunFolder | None) -> Task:
    """The task of a new run, with what it says of itself printed."""
    with console.status("reading the task"):
        task: Task = config.task.task() if start is None else task_with_tokens_of(start, config)
    for heading, value in task.description():
        console.print(f"{heading:>24}  {value}", highlight=False, markup=False, soft_wrap=True)
    epoch, held_out = config.pretraining.epoch_sequences, config.measuring.held_out_sequences
    bounds: tuple[tuple[str, int | None, Split, str], ...] = (
        ("pretraining.epoch-sequences", epoch, "train", "an MLE epoch takes {bound:,} of them, drawn anew"),
        ("measuring.held-out-sequences", held_out, "validation", "{bound:,} are looked at"),
        ("measuring.held-out-sequences", held_out, "test", "{bound:,} are looked at"),
    )
    for option, bound, split, use in bounds:
        if bound is not None and bound < (count := len(task.real_sequences(split))):
            said = f"{count:,} {split} sequences: {use.format(bound=bound)} (--{option})"
            console.print(f"{'bounded work':>24}  {said}", highlight=False, markup=False, soft_wrap=True)
    return task


def _in_time(config: SeqGANConfig, costs: UnitCosts, minutes: float | None, console: Console) -> SeqGANConfig:
    """The settings, with less work where the run would take too long; says so."""
    if minutes is None:
        return config
    if not minutes > 0:
        raise ValueError(f"minutes={minutes} must be above 0, or None for no limit")
    fitting = within(config, costs, minutes)
    for path in differing(fitting, config):
        was, now = value_at(config, path), value_at(fitting, path)
        console.print(
            f"{_option(path)} {was} -> {now}, so that the run ends in {minutes:g} minutes (--minutes)", highlight=False
        )
    return fitting


def _opened_for_resuming(asked: Asked, task_name: str, changes: Sequence[str]) -> RunFolder:
    """The run to go on with.

    Args:
        asked: with its folder.
        task_name: of the command.
        changes: dotted paths of settings that were given.

    Raises:
        ValueError: if it is none, is of another task, or settings were given that it cannot take.
    """
    path = asked.resume
    assert path is not None
    for option in ("out", "start_from"):
        if getattr(asked, option) is not None:
            raise ValueError(f"{option} and resume exclude each other: a resumed run stays in its folder")
    if changes:
        first = min(changes, key=lambda change: not change.endswith(".name"))  # a name brings other changes with it
        raise ValueError(f"{_option(first)} cannot change a run that is resumed; leave it out, or start a new run")
    folder = RunFolder(path, asked.trust)
    if folder.description["task"] != task_name:
        task = folder.description["task"]
        raise ValueError(
            f"resume={str(path)!r} is a run of the task {task!r}; use: seqgan train {task} --resume {path}"
        )
    folder.expect_resumable()
    return folder


def _unused(path: Path) -> Path:
    """`path`, or with the first number behind it that is not taken."""
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_name(f"{path.name}-{number}")
        number += 1
    return candidate
