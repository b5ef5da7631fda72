"""The `seqgan` command: its parser, what it says to mistakes, and its exit status.

Options and help texts are generated from the settings' dataclasses. A mistake of the user ends with status 2 and one
line that names the argument; an interruption with status 130 and the command that goes on, SIGTERM with 143.
"""

from __future__ import annotations

import io
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version

from tyro.extras import SubcommandApp

from agents.command.errors import complain, warn
from agents.command.export import export
from agents.command.forms import add_command
from agents.command.import_path import demote_current_folder
from agents.command.show import evaluate, plot, sample
from agents.command.studies import add_studies
from agents.command.train import add_train, grouped, similar_flat_name
from agents.command.watch import watch
from agents.runs.run_folder import RunWarning
from agents.runs.stopping import exit_status, stopping_signals
from seqgan_env.envs import expect_known
from seqgan_env.tasks import TASKS
from seqgan_env.terminal_text import OutputError, prepare_streams, write_output

_ALL = "--help-all"
# Lines around a message, on terminals that know box drawing and on others.
_BOX = re.compile(r"[\u2500-\u257f]+|(?<!\S)[-+|]+(?!\S)|[-+|]{4,}")
# A box's title whose words the text below it repeats.
_TITLE = re.compile(r"^(\w[\w ]{7,}?)\s+(?=\1)", re.IGNORECASE)

_ON_RUNS = (evaluate, sample, plot, export, watch)
_COMMANDS = ("train", *(command.__name__ for command in _ON_RUNS), "reproduce", "compare")


def build_app(arguments: Sequence[str], show_all: bool = True) -> SubcommandApp:
    """The command's parser.

    Args:
        arguments: the command line: a preset and models that it names decide which defaults and options there are.
        show_all: whether help shows all options, or the most common.
    """
    app = SubcommandApp()
    add_train(app, arguments, show_all)
    for command in _ON_RUNS:
        add_command(app, command, arguments)
    add_studies(app, arguments, show_all)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `seqgan` command."""
    prepare_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    demote_current_folder(arguments)
    if arguments == ["--version"]:
        print(f"seqgan {version('seqgan-gym')}")
        return
    show_all = _ALL in arguments or not {"-h", "--help"} & set(arguments)
    arguments = ["--help" if argument == _ALL else argument for argument in arguments]
    if arguments[:1] == ["train"]:
        arguments = grouped(arguments)
    try:
        with stopping_signals(), _warnings_in_one_line(), _threads_without_disk_errors():
            _parse_and_run(arguments, show_all)
        write_output("")  # flush here, so that an error is one line
    except (ValueError, TypeError, ImportError) as error:
        if os.environ.get("SEQGAN_DEBUG"):
            raise
        raise SystemExit(complain(error, 2)) from error
    except KeyboardInterrupt as stop:
        raise SystemExit(complain("interrupted", exit_status(stop))) from None
    except BrokenPipeError:  # as in `seqgan sample RUN | head`
        _forget_output()
        raise SystemExit(1) from None
    except OutputError as error:
        _forget_output()
        raise SystemExit(complain(error.strerror, 1)) from error
    except OSError as error:  # a folder that cannot be written, a file that cannot be read
        if os.environ.get("SEQGAN_DEBUG"):
            raise
        where = "" if error.filename is None else f"{str(error.filename)!r}: "
        raise SystemExit(complain(f"{where}{error.strerror or error}", 1)) from error


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Print warnings about run folders as other messages are printed; those of libraries stay as they are."""
    original = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: object, **more: object) -> None:
        if issubclass(category, RunWarning):
            warn(f"seqgan: warning: {message}")
        else:
            original(message, category, *rest, **more)  # type: ignore[arg-type]

    with warnings.catch_warnings():
        warnings.simplefilter("always", RunWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


@contextmanager
def _threads_without_disk_errors() -> Iterator[None]:
    """Let no thread print a traceback of an OSError: TensorBoard's writes beside the run, which meets the same disk."""
    original = threading.excepthook

    def hook(error: threading.ExceptHookArgs) -> None:
        if not issubclass(error.exc_type, OSError):
            original(error)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = original


def _forget_output() -> None:
    """Let what standard output still holds go nowhere: it cannot be written, and Python would try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse_and_run(arguments: Sequence[str], show_all: bool) -> None:
    """Run the subcommand that the arguments name; the parser's complaint, a box of many lines, becomes one line."""
    _expect_known_command(arguments)
    app = build_app(arguments, show_all)
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            call: Callable[[], None] = app.cli(
                prog="seqgan",
                args=arguments,
                description=f"SeqGAN: {', '.join(_COMMANDS)}. Also: --version, --help-all.",
            )
    except SystemExit as end:
        if end.code != 2:
            raise
        text = _TITLE.sub("", _BOX.sub(" ", said.getvalue()).strip())
        raise SystemExit(complain(text + similar_flat_name(arguments, text), 2)) from None
    call()


def _expect_known_command(arguments: Sequence[str]) -> None:
    """Raise TypeError, with the most similar name, if the first word is no command or that after `train` no task."""
    for what, known, word in zip(("command", "task"), (_COMMANDS, TASKS), arguments, strict=False):
        if word.startswith("-"):
            return
        expect_known(what, {word: None}, known)
        if word != "train":
            return


if __name__ == "__main__":
    main()
