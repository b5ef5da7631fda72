"""`workers`: processes get their share of the threads, die alone, and never outlive their master."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.studies.cells import Cell, Outcome, holder
from agents.studies.workers import Processes, RayCluster, ThisProcess, Workers, usable_cores
from tests.agents.studies import grid_cells


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Processes]:
    workers = Processes(2, threads=3)
    yield workers
    workers.close()


def collect(workers: Workers, count: int) -> dict[str, Outcome]:
    """The next `count` outcomes."""
    ended: dict[str, Outcome] = {}
    deadline = time.monotonic() + 120
    while len(ended) < count:
        assert time.monotonic() < deadline
        ended |= dict(workers.outcomes(0.2))
    return ended


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_processes_compute_with_their_share_of_the_threads_and_are_used_again(tmp_path: Path, two: Processes) -> None:
    cells = [Cell(name, f"{grid_cells.HERE}:note_threads") for name in "abcd"]
    for cell in cells[:2]:
        assert two.has_room
        two.submit(cell, tmp_path)
    assert not two.has_room
    assert collect(two, 2) == {"a": Outcome("done"), "b": Outcome("done")}
    for cell in cells[2:]:
        two.submit(cell, tmp_path)
    collect(two, 2)
    found = [json.loads((tmp_path / name / "result.json").read_text()) for name in "abcd"]
    assert {(row["torch"], row["omp"]) for row in found} == {(3, "3")}
    pids = {row["pid"] for row in found}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert os.environ.get("OMP_NUM_THREADS") != "3"  # this process keeps its own


def test_a_process_that_dies_is_a_failure_of_its_cell_and_is_replaced(tmp_path: Path, two: Processes) -> None:
    two.submit(Cell("dies", f"{grid_cells.HERE}:kill_once"), tmp_path)
    two.submit(Cell("lives", f"{grid_cells.HERE}:count"), tmp_path)
    ended = collect(two, 2)
    assert ended["lives"] == Outcome("done")
    assert ended["dies"].state == "failed"
    assert ended["dies"].message == "the process that computed it ended with signal 9 (SIGKILL; out of memory?)"
    assert (tmp_path / "dies" / "error.txt").read_text() == ended["dies"].message + "\n"
    two.submit(Cell("dies", f"{grid_cells.HERE}:kill_once"), tmp_path)
    assert collect(two, 1) == {"dies": Outcome("done")}


def test_closing_stops_what_runs_and_frees_its_lock(tmp_path: Path, two: Processes) -> None:
    two.submit(Cell("a", f"{grid_cells.HERE}:wait_for_release"), tmp_path)
    wait_until((tmp_path / "a" / "computations").is_file)
    assert holder(tmp_path / "a") is not None
    pid = int((tmp_path / "a" / "computations").read_text())
    start = time.monotonic()
    two.close()
    assert time.monotonic() - start < 4
    assert not is_alive(pid)
    assert holder(tmp_path / "a") is None


def test_threads_are_the_cores_shared_out() -> None:
    assert Processes(1).threads == usable_cores()
    assert Processes(usable_cores()).threads == 1
    assert Processes(10 * usable_cores()).threads == 1


def test_this_process_computes_one_cell_after_the_other(tmp_path: Path) -> None:
    workers = ThisProcess()
    assert workers.outcomes(0) == []
    workers.submit(Cell("a", f"{grid_cells.HERE}:count"), tmp_path)
    assert not workers.has_room
    assert workers.outcomes(0) == [("a", Outcome("done"))]
    assert workers.has_room
    assert int((tmp_path / "a" / "computations").read_text()) == os.getpid()
    workers.close()


# Ray.


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'--ray needs Ray: pip install "seqgan-gym\[ray\]"'):
        RayCluster()


needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """A local Ray with two workers."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@needs_ray
@pytest.mark.usefixtures("local_ray")
def test_a_local_ray_with_two_workers_computes_two_cells_at_once(tmp_path: Path) -> None:
    workers = RayCluster()
    for name in ("a", "b"):
        workers.submit(Cell(name, f"{grid_cells.HERE}:wait_for_release"), tmp_path)
    for name in ("a", "b"):
        wait_until((tmp_path / name / "computations").is_file)
    (tmp_path / "release").touch()
    assert collect(workers, 2) == {"a": Outcome("done"), "b": Outcome("done")}
    assert (tmp_path / "a" / "computations").read_text() != (tmp_path / "b" / "computations").read_text()
    workers.submit(Cell("threads", f"{grid_cells.HERE}:note_threads"), tmp_path)
    collect(workers, 1)
    assert json.loads((tmp_path / "threads" / "result.json").read_text())["torch"] == 1
    workers.close()


@needs_ray
@pytest.mark.usefixtures("local_ray")
def test_failures_and_deaths_on_ray_are_failures_of_their_cells(tmp_path: Path) -> None:
    workers = RayCluster(at_once=1)
    workers.submit(Cell("fails", f"{grid_cells.HERE}:fail"), tmp_path)
    assert not workers.has_room
    assert collect(workers, 1) == {"fails": Outcome("failed", "RuntimeError: meant to fail")}
    workers.submit(Cell("dies", f"{grid_cells.HERE}:kill_once"), tmp_path)
    outcome = collect(workers, 1)["dies"]
    assert outcome.state == "failed"
    assert outcome.message.startswith("Ray lost it: ")
    assert (tmp_path / "dies" / "error.txt").is_file()
    workers.submit(Cell("stops", f"{grid_cells.HERE}:wait_for_release"), tmp_path)
    wait_until((tmp_path / "stops" / "computations").is_file)
    workers.close()
    wait_until(lambda: holder(tmp_path / "stops") is None)
