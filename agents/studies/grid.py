"""A grid of cells. Each is computed once, finished cells stay finished, and a failed cell is reported.

In: cells (settings x seeds) and a folder. Out: a `GridReport`, and in the folder a subfolder for each cell. After an
interruption the same call continues a grid. Two grids may use a folder at the same time: each leaves cells to the other
that computes them, and waits for those that it needs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from agents.runs.console import TerminalConsole
from agents.studies.cells import Cell, Outcome, check_same_cell, is_done, minutes_of
from agents.studies.workers import Workers

_PAUSE_SECONDS = 0.5  # pause before cells of another grid are tried again
_EVER = 1e9  # seconds; by default rich estimates the remaining time from only the last 30 s


@dataclass
class GridReport:
    """The result of a grid.

    Attributes:
        done: names of the finished cells.
        computed: the finished cells that this grid itself computed.
        failed: name -> reason, in one line; the traceback is in the cell's error.txt.
        not_started: name -> the failed cell that it needed.
    """

    done: list[str] = field(default_factory=list)
    computed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    not_started: dict[str, str] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether every cell is done."""
        return not self.failed and not self.not_started


class _Grid:
    """The state of one pass over the cells."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self.report = GridReport()
        self.elsewhere: set[str] = set()  # cells of other grids that were already reported

    def take(self, cell: Cell, outcome: Outcome) -> None:
        """Record and print the outcome of a cell."""
        folder, report = cell.folder(self.folder), self.report
        if outcome.state == "busy":
            if cell.name not in self.elsewhere:
                self.elsewhere.add(cell.name)
                self._print(f"waits   {cell.name}: computed by another grid (host and process {outcome.message})")
        elif outcome.state == "not started":
            report.not_started[cell.name] = outcome.message
        elif outcome.state == "failed" or not is_done(folder):
            elsewhere = f"done on a machine that does not share {str(folder)!r} with this one"
            report.failed[cell.name] = outcome.message or elsewhere
            self._print(f"failed  {cell.name}: {report.failed[cell.name]}")
        else:
            report.done.append(cell.name)
            if outcome.state == "done":
                report.computed.append(cell.name)
            self._print(f"done    {cell.name}  {minutes_of(folder):.1f} min")

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False)


def run_grid(
    cells: Sequence[Cell],
    folder: Path,
    workers: Workers,
    console: Console | None = None,
    show_progress: bool = True,
) -> GridReport:
    """Compute all cells that are not done, each after the cells that it needs. A failure does not stop the others.

    Args:
        cells: the cells, most important first.
        folder: folder of the grid; the cells' folders are made in it.
        workers: compute the cells. They start only if something is left to compute, and stop at the end and after
            Ctrl-C.
        console: shows the progress.
        show_progress: whether to draw a bar; a line for each cell is always printed.

    Raises:
        ValueError: if two cells have the same name, if a cell waits for itself or for a cell outside the grid, or if
            the folder holds a cell with other settings. Nothing is computed then.
    """
    console = console or TerminalConsole()
    ordered = _in_order(cells)
    for cell in ordered.values():
        check_same_cell(cell, folder)
    grid = _Grid(folder, console)
    grid.report.done += [name for name, cell in ordered.items() if is_done(cell.folder(folder))]
    left = [cell for name, cell in ordered.items() if name not in grid.report.done]
    if not left:
        return grid.report
    bar = Progress(
        TextColumn("[bold]cells"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not show_progress,
        speed_estimate_period=_EVER,
    )
    with bar, workers:
        task = bar.add_task("", total=len(ordered), completed=len(grid.report.done), failed=0)
        while left:
            busy = []
            for name, outcome in workers.outcomes(left, folder):
                grid.take(ordered[name], outcome)
                if outcome.state == "busy":
                    busy.append(ordered[name])
                failed = len(grid.report.failed) + len(grid.report.not_started)
                bar.update(task, completed=len(grid.report.done), failed=failed)
            left = [cell for cell in left if cell in busy]  # in the original order
            if left:
                time.sleep(_PAUSE_SECONDS)
    return grid.report


def _in_order(cells: Sequence[Cell]) -> dict[str, Cell]:
    """Name -> cell, each after those that it needs, otherwise in the given order; raises as `run_grid`."""
    named = {cell.name: cell for cell in cells}
    names = [cell.name for cell in cells]
    for cell in cells:
        if names.count(cell.name) > 1:
            raise ValueError(
                f"cells={cell.name!r} occurs {names.count(cell.name)} times in the grid; names must differ"
            )
        if missing := sorted(set(cell.after) - named.keys()):
            raise ValueError(f"cell {cell.name!r} waits for {missing[0]!r}, which is not in the grid")
    try:
        TopologicalSorter({cell.name: cell.after for cell in cells}).prepare()
    except CycleError as error:
        raise ValueError(
            f"cells={sorted(set(error.args[1]))} wait for each other; `after` must not form a circle"
        ) from error
    ordered: dict[str, Cell] = {}

    def add(cell: Cell) -> None:
        for name in cell.after:
            add(named[name])
        ordered[cell.name] = cell

    for cell in cells:
        add(cell)
    return ordered
