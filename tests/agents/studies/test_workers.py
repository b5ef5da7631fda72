"""`workers`: Ray computes cells with their share of the threads, and nothing outlives the grid."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console

from agents.studies.cells import Cell, Outcome
from agents.studies.grid import GridReport, run_grid
from agents.studies.workers import RayWorkers, ThisProcess, usable_cores
from tests.agents.studies import grid_cells

ROOT = Path(__file__).parents[3]


def cell(name: str, function: str = "count", after: tuple[str, ...] = ()) -> Cell:
    return Cell(name, f"{grid_cells.HERE}:{function}", after=after)


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def computations(folder: Path) -> dict[str, int]:
    """How often each cell was computed."""
    return {path.parent.name: len(path.read_text().splitlines()) for path in sorted(folder.glob("*/computations"))}


def test_this_process_computes_one_cell_after_the_other(tmp_path: Path) -> None:
    with ThisProcess() as workers:
        outcomes = workers.outcomes([cell("a"), cell("b", after=("a",))], tmp_path)
        assert not (tmp_path / "a").exists()
        assert next(outcomes) == ("a", Outcome("done"))
        assert not (tmp_path / "b").exists()
        assert list(outcomes) == [("b", Outcome("done"))]
        assert workers.threads == torch.get_num_threads()
    assert int((tmp_path / "b" / "computations").read_text()) == os.getpid()


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'need Ray: pip install "seqgan-gym\[reproduce\]"; or .* --workers 0'):
        RayWorkers(2)


# With Ray.


def run_on_ray(cells: list[Cell], folder: Path) -> GridReport:
    return run_grid(cells, folder, RayWorkers(2, threads=1), Console(quiet=True), show_progress=False)


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One local Ray for several tests; `RayWorkers` uses a Ray that is there, and leaves it."""
    ray = pytest.importorskip("ray")
    with RayWorkers(2, threads=1):
        yield
    assert not ray.is_initialized()


def test_threads_are_the_cores_shared_out() -> None:
    pytest.importorskip("ray")
    assert RayWorkers(1).threads == usable_cores()
    assert RayWorkers(usable_cores()).threads == RayWorkers(10 * usable_cores()).threads == RayWorkers().threads == 1
    assert RayWorkers(1, on_cluster=True).threads == 1


def test_two_cells_are_computed_at_once_with_one_thread_each(tmp_path: Path, local_ray: None) -> None:
    waiting = [cell("a", "wait_for_release"), cell("b", "wait_for_release"), cell("threads", "note_threads", ("a",))]
    outcomes = RayWorkers(2, threads=1).outcomes([*waiting, cell("released", after=("a", "b"))], tmp_path)
    (tmp_path / "release").touch()
    assert dict(outcomes) == {name: Outcome("done") for name in ("a", "b", "threads", "released")}
    pids = {(tmp_path / name / "computations").read_text() for name in ("a", "b")}
    assert len(pids) == 2
    assert f"{os.getpid()}\n" not in pids
    found = json.loads((tmp_path / "threads" / "result.json").read_text())
    assert (found["torch"], found["omp"]) == (1, "1")


def test_a_cell_whose_process_is_killed_is_started_again(tmp_path: Path, local_ray: None) -> None:
    report = run_on_ray([cell("dies", "kill_once"), cell("other"), cell("late", after=("dies",))], tmp_path)
    assert report.is_complete
    assert computations(tmp_path) == {"dies": 1, "other": 1, "late": 1}


@pytest.mark.slow
def test_a_cell_that_always_dies_costs_itself_and_what_needs_it(tmp_path: Path, local_ray: None) -> None:
    cells = [cell("dies", "die"), cell("late", after=("dies",)), cell("later", after=("late",)), cell("other")]
    report = run_on_ray([*cells, cell("fails", "fail")], tmp_path)
    assert report.done == ["other"]
    assert report.not_started == {"late": "dies", "later": "late"}
    assert report.failed["fails"] == "RuntimeError: meant to fail"
    assert report.failed["dies"].startswith("its process died 3 times: ")
    assert len((tmp_path / "dies" / "attempts").read_text().splitlines()) == 3
    assert (tmp_path / "dies" / "error.txt").is_file()


MASTER = f"""
import signal
import sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins without it
from agents.studies.cells import Cell
from agents.studies.grid import run_grid
from agents.studies.workers import RayWorkers

cells = [Cell(name, "{grid_cells.HERE}:" + function) for name, function in (
    ("quick", "count"), ("slow", "wait_for_release"), ("other", "wait_for_release"), ("last", "count"))]
try:
    report = run_grid(cells, Path(sys.argv[1]), RayWorkers(2, threads=1), show_progress=False)
except KeyboardInterrupt:
    sys.exit(130)
sys.exit(not report.is_complete)
"""


def processes_of(session: int) -> dict[int, str]:
    """Process id -> command line of what is left of a session, and alive."""
    found = subprocess.run(
        ["ps", "-ww", "-o", "pid=,stat=,args=", "-s", str(session)], capture_output=True, text=True
    ).stdout
    lines = [line.split(maxsplit=2) for line in found.splitlines()]
    return {int(pid): command for pid, state, command in lines if not state.startswith("Z")}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_grid_goes_on_where_it_was(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """Ctrl-C goes to the whole group and leaves no process behind. SIGKILL goes to the master; the cells end too."""
    pytest.importorskip("ray")
    grid = tmp_path / "grid"
    (tmp_path / "master.py").write_text(MASTER)
    master = subprocess.Popen(
        [sys.executable, str(tmp_path / "master.py"), str(grid)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert master.stderr is not None
    started = {"quick", "slow", "other"}
    wait_until(lambda: computations(grid).keys() == started and (grid / "quick" / "done.json").is_file(), 120)
    folders = set(re.findall(r"/tmp/seqgan-ray-\w+", " ".join(processes_of(master.pid).values())))
    if number is signal.SIGINT:
        os.killpg(master.pid, number)
    else:
        master.send_signal(number)
    assert master.wait(timeout=30) == status
    wait_until(lambda: not grid_cells.is_held(grid / "slow") and not grid_cells.is_held(grid / "other"))
    if number is signal.SIGINT:
        wait_until(lambda: not processes_of(master.pid))
        assert not any(Path(folder).exists() for folder in folders)
        assert "Traceback" not in master.stderr.read()
    # Agents of Ray end a minute after a master that was killed.
    for pid in processes_of(master.pid):
        os.kill(pid, signal.SIGKILL)
    assert folders
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    (grid / "release").touch()
    cells = [cell("quick"), cell("slow", "wait_for_release"), cell("other", "wait_for_release"), cell("last")]
    report = run_grid(cells, grid, ThisProcess(), Console(quiet=True), show_progress=False)
    assert report.is_complete
    assert report.computed == ["slow", "other", "last"]
    assert computations(grid) == {"quick": 1, "slow": 2, "other": 2, "last": 1}
