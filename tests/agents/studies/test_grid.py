"""`grid`: every cell once, in an order that fits, whatever fails, is killed, or runs beside it."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console

from agents.studies.cells import Cell, Outcome
from agents.studies.grid import GridReport, run_grid
from agents.studies.workers import ThisProcess, Workers
from tests.agents.studies import grid_cells


def cell(name: str, function: str = "count", after: Sequence[str] = (), **settings: int) -> Cell:
    return Cell(name, f"{grid_cells.HERE}:{function}", settings, tuple(after))


def run(cells: Sequence[Cell], folder: Path, workers: Workers | None = None) -> tuple[GridReport, str]:
    """The report, and what was printed."""
    console = Console(file=io.StringIO(), width=200)
    report = run_grid(cells, folder, workers or ThisProcess(), console, show_progress=False)
    assert isinstance(console.file, io.StringIO)
    return report, console.file.getvalue()


def computations(folder: Path) -> dict[str, int]:
    """How often each cell was computed."""
    return {path.parent.name: len(path.read_text().splitlines()) for path in sorted(folder.glob("*/computations"))}


def test_every_cell_is_computed_once_and_not_again(tmp_path: Path) -> None:
    cells = [cell(f"c{seed}", seed=seed) for seed in range(3)]
    report, text = run(cells, tmp_path)
    assert report == GridReport(done=["c0", "c1", "c2"], computed=["c0", "c1", "c2"])
    assert report.is_complete
    assert json.loads((tmp_path / "c2" / "result.json").read_text())["seed"] == 2
    assert [line.split()[:2] for line in text.splitlines()] == [["done", "c0"], ["done", "c1"], ["done", "c2"]]
    again, text = run([*cells, cell("c3", seed=3)], tmp_path)
    assert again == GridReport(done=["c0", "c1", "c2", "c3"], computed=["c3"])
    assert computations(tmp_path) == {"c0": 1, "c1": 1, "c2": 1, "c3": 1}
    assert len(text.splitlines()) == 1


def test_a_cell_starts_after_those_that_it_needs(tmp_path: Path) -> None:
    cells = [cell("last", after=("first", "middle")), cell("middle", after=("first",)), cell("first")]
    report, _ = run(cells, tmp_path)
    assert report.computed == ["first", "middle", "last"]


def test_a_failure_is_reported_stops_what_needs_it_and_nothing_else(tmp_path: Path) -> None:
    cells = [
        cell("bad", "fail_unless_mended"),
        cell("needs-bad", after=("bad",)),
        cell("needs-that", after=("needs-bad",)),
        cell("good"),
    ]
    report, text = run(cells, tmp_path)
    assert report.done == ["good"]
    assert report.failed == {"bad": "ValueError: not mended yet: make the file `mended`"}
    assert report.not_started == {"needs-bad": "bad", "needs-that": "needs-bad"}
    assert not report.is_complete
    assert "failed  bad: ValueError: not mended yet: make the file `mended`" in text
    assert "not mended yet" in (tmp_path / "bad" / "error.txt").read_text()
    (tmp_path / "bad" / "mended").touch()
    report, _ = run(cells, tmp_path)
    assert report.is_complete
    assert report.computed == ["bad", "needs-bad", "needs-that"]
    assert computations(tmp_path) == {"good": 1, "needs-bad": 1, "needs-that": 1}


@pytest.mark.parametrize(
    ("cells", "match"),
    [
        ([cell("a"), cell("a")], "cells='a' occurs 2 times in the grid"),
        ([cell("a", after=("b",))], "cell 'a' waits for 'b', which is not in the grid"),
        ([cell("c"), cell("a", after=("b",)), cell("b", after=("a",))], r"cells=\['a', 'b'\] wait for each other"),
        ([cell("b"), cell("a", x=2)], "was computed with x=1, not 2; choose another folder"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_before_anything_is_computed(
    tmp_path: Path, cells: list[Cell], match: str
) -> None:
    run([cell("a", x=1)], tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=match):
        run(cells, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_cells_of_another_grid_are_left_alone_and_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    results: list[tuple[GridReport, str]] = []
    with FileLock(tmp_path / "a" / "lock"):
        thread = threading.Thread(
            target=lambda: results.append(run([cell("a"), cell("needs-a", after=("a",)), cell("b")], tmp_path))
        )
        thread.start()
        while not (tmp_path / "b" / "done.json").is_file():
            time.sleep(0.02)
        time.sleep(0.6)  # more than one look at the lock
        assert not (tmp_path / "needs-a").exists()
        (tmp_path / "a" / "done.json").write_text('{"minutes": 0}')
    thread.join()
    report, text = results[0]
    assert report == GridReport(done=["b", "a", "needs-a"], computed=["b", "needs-a"])
    assert text.count("waits   a: computed by another grid (host and process ") == 1
    assert computations(tmp_path) == {"b": 1, "needs-a": 1}


def test_a_cell_whose_other_grid_gives_up_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    results = []
    with FileLock(tmp_path / "a" / "lock"):
        thread = threading.Thread(target=lambda: results.append(run([cell("a")], tmp_path)))
        thread.start()
        time.sleep(0.2)
        assert not results
    thread.join()
    assert results[0][0].computed == ["a"]


def test_two_grids_on_one_folder_compute_each_cell_once(tmp_path: Path) -> None:
    cells = [cell(f"c{number}") for number in range(30)]
    reports: list[GridReport] = []
    threads = [threading.Thread(target=lambda: reports.append(run(cells, tmp_path)[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert computations(tmp_path) == {f"c{number}": 1 for number in range(30)}
    assert all(report.is_complete and len(report.done) == 30 for report in reports)
    assert sorted(name for report in reports for name in report.computed) == sorted(one.name for one in cells)


def test_progress_tells_what_is_done_and_failed(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    run_grid([cell("a"), cell("b", "fail")], tmp_path, ThisProcess(), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "1/2" in text
    assert "1 failed" in text
    assert "left" in text


def test_a_machine_that_does_not_share_the_folder_is_told(tmp_path: Path) -> None:
    class Elsewhere(ThisProcess):
        def outcomes(self, cells: Sequence[Cell], grid: Path) -> Iterator[tuple[str, Outcome]]:
            return super().outcomes(cells, grid.with_name("elsewhere"))

    report, _ = run([cell("a")], tmp_path / "here", Elsewhere())
    assert "does not share" in report.failed["a"]


def test_workers_start_only_if_something_is_left_to_compute(tmp_path: Path) -> None:
    class Unavailable(ThisProcess):
        def __enter__(self) -> ThisProcess:
            raise RuntimeError("nobody can start me")

    with pytest.raises(RuntimeError, match="nobody can start me"):
        run([cell("a")], tmp_path, Unavailable())
    run([cell("a")], tmp_path)
    assert run([cell("a")], tmp_path, Unavailable())[0].done == ["a"]
