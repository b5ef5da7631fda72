"""`seqgan reproduce` and `compare`: many runs, their figures and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from agents.command.errors import complain, expect_writable_folder, warn
from agents.command.forms import add_command, form_of, read_form
from agents.runs.console import TerminalConsole
from agents.runs.stopping import exit_status
from agents.studies.comparison import ComparisonOptions
from agents.studies.comparison import compare as run_comparison
from agents.studies.grid import GridReport
from agents.studies.reproduction import FigureName, ReproductionOptions
from agents.studies.reproduction import reproduce as run_reproduction

# What `--help` shows; `--help-all` shows everything.
_REPRODUCE_SHOWN = ("fast", "seeds", "samples", "methods", "corpus", "preset", "task", "out", "workers")
_COMPARE_SHOWN = ("task", "learners", "seeds", "out", "workers", "fast")
_MORE = "This shows the most common options. --help-all shows all of them."


def add_studies(app: SubcommandApp, arguments: Sequence[str], show_all: bool) -> None:
    """Add `reproduce` and `compare`.

    Args:
        app: the command's parser.
        arguments: the command line; the help of the command that it calls is whole.
        show_all: whether help shows all options, or the most common.
    """
    reproduction, comparison = ReproductionOptions(), ComparisonOptions()
    reproduction_form = form_of(reproduction, None if show_all else _REPRODUCE_SHOWN)
    comparison_form = form_of(comparison, None if show_all else _COMPARE_SHOWN)
    more = "" if show_all else f"\n\n{_MORE}"

    def reproduce(figure: Any, options: Any) -> None:
        asked = read_form(reproduction, options)
        _run_cells(
            lambda console: run_reproduction(figure, asked, console), asked.folder(figure), asked.command(figure)
        )

    def compare(options: Any) -> None:
        asked = read_form(comparison, options)
        _run_cells(lambda console: run_comparison(asked, console), asked.folder(), asked.command())

    reproduce.__annotations__ = {
        "figure": Annotated[FigureName, arg(help="Which."), Positional],
        "options": Annotated[reproduction_form, arg(name="")],
    }
    reproduce.__defaults__ = (reproduction_form(),)
    reproduce.__doc__ = (
        "Get a result of the paper beside ours: table1, fig2, fig3, curves and learners that it lacks, real sequences."
        "\n\nThe latter are poems, speeches and music (Tables 2-4), and text of your own; name the file with --corpus."
        f" The same command goes on after an interruption and computes nothing twice.{more}"
    )
    compare.__annotations__ = {"options": Annotated[comparison_form, arg(name="")]}
    compare.__defaults__ = (comparison_form(),)
    compare.__doc__ = (
        "Train other libraries' learners side by side with their tuned settings: curves over seeds, and where each "
        f"ends.\n\nThe same command goes on after an interruption and computes nothing twice.{more}"
    )
    for command in (reproduce, compare):
        add_command(app, command, arguments)


def _run_cells(run: Callable[[Console], GridReport], folder: Path, again: str) -> None:
    """Compute a grid, and say what is left to do if it was interrupted or cells failed."""
    console = TerminalConsole()
    expect_writable_folder(folder)
    try:
        report = run(console)
    except KeyboardInterrupt as stop:
        with suppress(OSError):  # the terminal may be gone
            console.print(f"interrupted; what is done stays done; go on with: {again}", highlight=False, soft_wrap=True)
        raise SystemExit(exit_status(stop)) from None
    if report.is_complete:
        return
    for name, reason in report.failed.items():
        warn(f"failed: {name}: {reason} (traceback: {folder / 'cells' / name / 'error.txt'})")
    for name, cause in report.not_started.items():
        warn(f"not started: {name}, which needs {cause}")
    raise SystemExit(complain(f"{len(report.failed)} cells failed; mend the cause, then go on with: {again}", 1))
