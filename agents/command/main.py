"""The `seqgan` command: its parser, what it says to mistakes, and its exit status.

Options and help texts are generated from the settings' dataclasses. A mistake of the user ends with status 2 and one
line that names the argument; an interruption with status 130 and the command that goes on.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from importlib.metadata import version

from tyro.extras import SubcommandApp

from agents.command.errors import complain
from agents.command.forms import deferred
from agents.command.show import evaluate, plot, sample
from agents.command.studies import add_studies
from agents.command.train import add_train, grouped
from agents.command.watch import watch
from seqgan_env.terminal_text import OutputError, prepare_streams, write_output

_ALL = "--help-all"
# Lines around a message, on terminals that know box drawing and on others.
_BOX = re.compile(r"[\u2500-\u257f]+|(?<!\S)[-+|]+(?!\S)|[-+|]{4,}")


def build_app(arguments: Sequence[str], show_all: bool = True) -> SubcommandApp:
    """The command's parser.

    Args:
        arguments: the command line: a preset and models that it names decide which defaults and options there are.
        show_all: whether help shows all options, or the most common.
    """
    app = SubcommandApp()
    add_train(app, arguments, show_all)
    for command in (evaluate, sample, plot, watch):
        app.command(deferred(command))
    add_studies(app, show_all)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `seqgan` command."""
    prepare_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "" not in sys.path:  # the current folder, for "module:Class" of the user's own; `python -m` has it too
        sys.path.insert(0, "")
    if arguments == ["--version"]:
        print(f"seqgan {version('seqgan-gym')}")
        return
    show_all = _ALL in arguments or not {"-h", "--help"} & set(arguments)
    arguments = ["--help" if argument == _ALL else argument for argument in arguments]
    if arguments[:1] == ["train"]:
        arguments = grouped(arguments)
    try:
        _parse_and_run(arguments, show_all)
        write_output("")  # flush here, so that an error is one line
    except (ValueError, TypeError, ImportError) as error:
        if os.environ.get("SEQGAN_DEBUG"):
            raise
        raise SystemExit(complain(error, 2)) from error
    except KeyboardInterrupt:
        raise SystemExit(complain("interrupted", 130)) from None
    except BrokenPipeError:  # as in `seqgan sample RUN | head`
        _forget_output()
        raise SystemExit(1) from None
    except OutputError as error:
        _forget_output()
        raise SystemExit(complain(error.strerror, 1)) from error


def _forget_output() -> None:
    """Let what standard output still holds go nowhere: it cannot be written, and Python would try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse_and_run(arguments: Sequence[str], show_all: bool) -> None:
    """Run the subcommand that the arguments name; the parser's complaint, a box of many lines, becomes one line."""
    app = build_app(arguments, show_all)
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            call: Callable[[], None] = app.cli(
                prog="seqgan",
                args=arguments,
                description="SeqGAN: train, evaluate, sample, plot, watch, reproduce, compare. Also: --version, "
                "--help-all.",
            )
    except SystemExit as end:
        if end.code != 2:
            raise
        text = _BOX.sub(" ", said.getvalue())
        raise SystemExit(complain(text, 2)) from None
    call()


if __name__ == "__main__":
    main()
