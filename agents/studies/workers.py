"""Workers compute the cells of a grid: in this process, or by Ray on this machine or on a cluster.

In: cells, each after those that it needs, and the grid's folder. Out: their outcomes, one by one as cells end. On Ray a
cell is a task, and the outcomes of the cells that it needs are its arguments. Ray starts a cell again if its process
dies. If the master is killed with SIGKILL, cells end at once; two idle processes of Ray end a minute later.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch

from agents.studies.cells import Cell, Outcome, compute

_RETRIES = 2  # retries of a cell whose process was killed; a cell that raises an error is not tried again
_OBJECT_STORE_BYTES = 80 << 20  # near Ray's minimum, because results are in files


class Workers(Protocol):
    """Computes cells inside a `with` block. At the end of the block running cells are stopped."""

    @property
    def threads(self) -> int:
        """PyTorch's threads for each cell."""

    def __enter__(self) -> Workers:
        """Start the workers."""

    def __exit__(self, *error: object) -> None:
        """Stop everything. Later, cells continue from their folders."""

    def outcomes(self, cells: Sequence[Cell], grid: Path) -> Iterator[tuple[str, Outcome]]:
        """Name and outcome of each cell, in the order in which they end; a cell comes after those that it needs."""


class ThisProcess:
    """Computes one cell after the other in this process, so that a debugger can look into it."""

    @property
    def threads(self) -> int:
        """PyTorch's threads of this process."""
        return torch.get_num_threads()

    def __enter__(self) -> ThisProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def outcomes(self, cells: Sequence[Cell], grid: Path) -> Iterator[tuple[str, Outcome]]:
        """Compute one cell for each outcome, when it is taken."""
        ended: dict[str, Outcome] = {}
        for cell in cells:
            ended[cell.name] = compute(cell, grid, {name: ended[name] for name in cell.after if name in ended})
            yield cell.name, ended[cell.name]


class RayWorkers:
    """Ray on this machine, or on the cluster of RAY_ADDRESS or `ray start`.

    All machines of a cluster must see the grid's folder under the same path.

    Args:
        count: cells computed at the same time; None is one per core. A cluster decides this itself.
        threads: PyTorch's threads for each cell. None is an equal share of this machine's cores, and 1 on a cluster.
        on_cluster: whether to use a running cluster.
        device: device of the cells' models. On a cluster, "cuda" requests a GPU for each cell. On this machine all
            cells share the GPUs.

    Raises:
        ImportError: if Ray is not installed; names the extra.
    """

    def __init__(
        self, count: int | None = None, threads: int | None = None, on_cluster: bool = False, device: str = "cpu"
    ) -> None:
        try:
            self._ray: Any = import_module("ray")
        except ImportError as error:
            raise ImportError(
                'workers need Ray: pip install "seqgan-gym[reproduce]"; or compute in this process with --workers 0'
            ) from error
        self.count = count or usable_cores()
        self.threads = threads or (1 if on_cluster else max(1, usable_cores() // self.count))
        self.on_cluster = on_cluster
        self.device = device
        self._running: dict[Any, Cell] = {}
        self._folder: str | None = None  # folder of the files of a local Ray
        self._is_ours = False

    def __enter__(self) -> RayWorkers:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # by default Ray reports its use to its makers
        before = signal.getsignal(signal.SIGTERM)
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
            try:
                self._ray.init(**quiet, **({} if self.on_cluster else self._local_options()))
            except BaseException:
                self.__exit__()
                raise
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray has set its own handler
        return self

    def _local_options(self) -> dict[str, Any]:
        # Ray's socket paths must be short, so this is /tmp if it exists.
        self._folder = tempfile.mkdtemp(prefix="seqgan-ray-", dir="/tmp" if os.name == "posix" else None)
        options: dict[str, Any] = {
            "address": "local",
            "num_cpus": self.count * self.threads,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "_temp_dir": self._folder,
        }
        if self.device.startswith("cuda"):  # otherwise Ray hides the GPUs from cells that request none
            options["runtime_env"] = {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}}
        return options

    def __exit__(self, *error: object) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        if self._is_ours:
            self._ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def outcomes(self, cells: Sequence[Cell], grid: Path) -> Iterator[tuple[str, Outcome]]:
        """Send all cells to Ray, and give the outcomes as they end. A cell whose process died too often has failed."""
        # Ray limits OpenMP's threads to the number of CPUs of the task.
        gpus = float(self.on_cluster and self.device.startswith("cuda"))
        task = self._ray.remote(_compute_on_worker)
        task = task.options(num_cpus=self.threads, num_gpus=gpus, max_retries=_RETRIES)
        sent: dict[str, Any] = {}
        for cell in cells:
            names = [name for name in cell.after if name in sent]
            needed = [sent[name] for name in names]
            sent[cell.name] = task.remote(cell, grid.absolute(), self.threads, names, *needed)
            self._running[sent[cell.name]] = cell
        ended: dict[str, Outcome] = {}
        while self._running:
            for reference in self._ray.wait(list(self._running), num_returns=1)[0]:
                cell = self._running.pop(reference)
                ended[cell.name] = self._outcome(cell, reference, grid, ended)
                yield cell.name, ended[cell.name]

    def _outcome(self, cell: Cell, reference: Any, grid: Path, ended: dict[str, Outcome]) -> Outcome:
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            # Ray passes the error of a dead process to all tasks that need its result.
            lost = [name for name in cell.after if name in ended and ended[name].is_lost]
            if lost:
                return Outcome("not started", lost[0])
            outcome = Outcome("failed", f"its process died {_RETRIES + 1} times: {str(error).splitlines()[0]}")
            (cell.folder(grid) / "error.txt").write_text(f"{error}\n", encoding="utf-8")
        return outcome


def _compute_on_worker(cell: Cell, grid: Path, threads: int, names: Sequence[str], *needed: Outcome) -> Outcome:
    """The Ray task. Ray passes the outcomes of the cells `names` when they exist."""
    torch.set_num_threads(threads)
    return compute(cell, grid, dict(zip(names, needed, strict=True)))


def usable_cores() -> int:
    """Number of cores that this process may use. An affinity mask can make it smaller than that of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
