"""A grid of cells, computed in parallel, each once: what is done stays done, what failed is told.

In: cells (settings x seeds) and a folder. Out: a `GridReport`, and in the folder a subfolder for each cell. A grid that
was interrupted goes on with the same call. Two grids may share a folder at the same time: each leaves the other's cells
alone and waits for those that it needs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from agents.runs.console import TerminalConsole
from agents.studies.cells import Cell, holder, is_done, minutes_of, refuse_another
from agents.studies.workers import Workers

_POLL_SECONDS = 0.5
_EVER = 1e9  # seconds; rich estimates the time left from the last 30 s unless told otherwise


@dataclass
class GridReport:
    """How a grid ended.

    Attributes:
        done: names of the finished cells.
        computed: those of them that this grid computed itself.
        failed: name -> why, in one line; the traceback is in the cell's error.txt.
        not_started: name -> the cell that it waited for and that failed.
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

    def __init__(self, cells: Sequence[Cell], folder: Path, workers: Workers, console: Console) -> None:
        self.folder = folder
        self.workers = workers
        self.console = console
        self.waiting = {cell.name: cell for cell in cells}
        self.running: dict[str, Cell] = {}
        self.report = GridReport()
        self.told_of: set[str] = set()  # cells of other grids

    def step(self) -> None:
        """Start what can start, then take in what has ended."""
        self._sort_out()
        for cell in list(self.waiting.values()):
            if not self.workers.has_room:
                break
            if all(name in self.report.done for name in cell.after) and not self._is_elsewhere(cell):
                self.running[cell.name] = self.waiting.pop(cell.name)
                self.workers.submit(cell, self.folder)
        if not self.running and self.waiting:
            time.sleep(_POLL_SECONDS)
            return
        for name, outcome in self.workers.outcomes(_POLL_SECONDS):
            cell = self.running.pop(name)
            if outcome.state == "busy":  # another grid was faster
                self.waiting[name] = cell
            elif outcome.state == "failed":
                self.report.failed[name] = outcome.message
                self.console.print(f"failed  {name}: {outcome.message}", highlight=False, markup=False)
            else:
                self._finish(cell, outcome.state == "done")

    def _sort_out(self) -> None:
        """Take away what is done already, and what can never start."""
        for cell in list(self.waiting.values()):
            lost = [name for name in cell.after if name in self.report.failed or name in self.report.not_started]
            if is_done(cell.folder(self.folder)):
                self.report.done.append(cell.name)
                del self.waiting[cell.name]
            elif lost:
                self.report.not_started[cell.name] = lost[0]
                del self.waiting[cell.name]

    def _is_elsewhere(self, cell: Cell) -> bool:
        """Whether another grid computes a cell at this moment; said once."""
        who = holder(cell.folder(self.folder))
        if who is not None and cell.name not in self.told_of:
            self.told_of.add(cell.name)
            self.console.print(f"waits   {cell.name}: computed by another grid (host and process {who})")
        return who is not None

    def _finish(self, cell: Cell, computed: bool) -> None:
        folder = cell.folder(self.folder)
        if not is_done(folder):
            self.report.failed[cell.name] = f"done on a machine that does not share {str(folder)!r} with this one"
            return
        self.report.done.append(cell.name)
        if computed:
            self.report.computed.append(cell.name)
        self.console.print(f"done    {cell.name}  {minutes_of(folder):.1f} min", highlight=False)


def run_grid(
    cells: Sequence[Cell],
    folder: Path,
    workers: Workers,
    console: Console | None = None,
    show_progress: bool = True,
) -> GridReport:
    """Compute all cells that are not done, each after those that it names; failures do not stop the others.

    Args:
        cells: in the order of their importance.
        folder: of the grid; the cells' folders are made in it.
        workers: where to compute; closed at the end, also after Ctrl-C.
        console: where progress goes.
        show_progress: whether to draw a bar; a line for each cell is printed in any case.

    Raises:
        ValueError: if two cells have the same name, a cell waits for itself or for one that is not in the grid, or the
            folder holds a cell with other settings. Nothing is computed then.
    """
    console = console or TerminalConsole()
    try:
        _check(cells)
        for cell in cells:
            refuse_another(cell, folder)
        grid = _Grid(cells, folder, workers, console)
        bar = Progress(
            TextColumn("[bold]cells"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[running]} running, {task.fields[failed]} failed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not show_progress,
            speed_estimate_period=_EVER,
        )
        with bar:
            grid._sort_out()
            task = bar.add_task("", total=len(cells), completed=len(grid.report.done), running=0, failed=0)
            while grid.waiting or grid.running:
                grid.step()
                report = grid.report
                failed = len(report.failed) + len(report.not_started)
                bar.update(task, completed=len(report.done), running=len(grid.running), failed=failed)
        return grid.report
    finally:
        workers.close()


def _check(cells: Sequence[Cell]) -> None:
    """Raises what `run_grid` says."""
    before: set[str] = set()
    names = [cell.name for cell in cells]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"cells={name!r} stands {names.count(name)} times in the grid; names must differ")
    left = {cell.name: set(cell.after) for cell in cells}
    for name, after in left.items():
        if not after <= set(names):
            raise ValueError(f"cell {name!r} waits for {sorted(after - set(names))[0]!r}, which is not in the grid")
    while left:
        ready = {name for name, after in left.items() if after <= before}
        if not ready:
            raise ValueError(f"cells={sorted(left)} wait for each other; `after` must not form a circle")
        before |= ready
        left = {name: after for name, after in left.items() if name not in ready}
