"""Where the cells of a grid are computed: in this process, in processes on this machine, or on a Ray cluster.

In: cells that may start now. Out: their outcomes, as they come. PyTorch's threads are shared out, because two processes
that each take every core slow each other down many times over.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from agents.studies.cells import Cell, Outcome, compute

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_SECONDS_TO_STOP = 5.0


class Workers(Protocol):
    """Computes cells. `close` stops what is running; cells go on from their folders another time."""

    @property
    def has_room(self) -> bool:
        """Whether another cell can start."""

    def submit(self, cell: Cell, grid: Path) -> None:
        """Start a cell; only while there is room."""

    def outcomes(self, seconds: float) -> list[tuple[str, Outcome]]:
        """Name and outcome of the cells that have ended, after at most so many seconds."""

    def close(self) -> None:
        """Stop everything that runs."""


class ThisProcess:
    """One cell after the other, here: for looking into a cell with a debugger."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Cell, Path]] = []

    @property
    def has_room(self) -> bool:
        """Whether no cell waits."""
        return not self._waiting

    def submit(self, cell: Cell, grid: Path) -> None:
        """Leave a cell for `outcomes` to compute."""
        self._waiting.append((cell, grid))

    def outcomes(self, seconds: float) -> list[tuple[str, Outcome]]:
        """Compute what waits, however long it takes."""
        ended = [(cell.name, compute(cell, grid)) for cell, grid in self._waiting]
        self._waiting.clear()
        return ended

    def close(self) -> None:
        """Nothing runs between calls."""


class Processes:
    """Processes on this machine, each with its share of the threads, each computing cells one after the other.

    They end with the process that started them, also when that is killed, and leave Ctrl-C to it.

    Args:
        count: cells computed at the same time.
        threads: of PyTorch in each; by default an equal share of the cores that this process may use.
    """

    def __init__(self, count: int, threads: int | None = None) -> None:
        self.threads = threads or max(1, usable_cores() // count)
        self._context = multiprocessing.get_context("spawn")  # a forked copy of a threaded process may hang
        self._count = count
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, tuple[_Worker, Cell, Path]] = {}

    @property
    def has_room(self) -> bool:
        """Whether a process has nothing to do, or one more may be started."""
        return len(self._busy) < self._count

    def submit(self, cell: Cell, grid: Path) -> None:
        """Send a cell to a process, a new one if none is idle."""
        worker = self._idle.pop() if self._idle else _Worker(self._context, self.threads)
        self._busy[worker.connection] = (worker, cell, grid)
        with suppress(BrokenPipeError):  # it has died meanwhile; `outcomes` meets the same end
            worker.connection.send((cell, grid))

    def outcomes(self, seconds: float) -> list[tuple[str, Outcome]]:
        """What has ended; a process that died with its cell gives a failure."""
        ended = []
        ready = wait(list(self._busy), seconds)
        for connection in [one for one in self._busy if one in ready]:
            worker, cell, grid = self._busy.pop(connection)
            try:
                outcome: Outcome = worker.connection.recv()
                self._idle.append(worker)
            except (EOFError, ConnectionResetError):
                outcome = Outcome("failed", f"the process that computed it ended with {worker.end()}")
                (cell.folder(grid) / "error.txt").write_text(outcome.message + "\n", encoding="utf-8")
            ended.append((cell.name, outcome))
        return ended

    def close(self) -> None:
        """Stop all processes, whatever they do."""
        workers = self._idle + [worker for worker, *_ in self._busy.values()]
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.end()
        self._idle.clear()
        self._busy.clear()


class _Worker:
    """A process and the pipe to it."""

    def __init__(self, context: Any, threads: int) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, threads), daemon=True)
        with _inherited_by_a_worker(threads):
            self.process.start()
        theirs.close()  # else its end would never be seen

    def end(self) -> str:
        """Wait for the end, and say which it was."""
        self.process.join(_SECONDS_TO_STOP)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.connection.close()
        code = self.process.exitcode
        if code < 0:
            memory = "; out of memory?" if -code == signal.SIGKILL else ""
            return f"signal {-code} ({signal.Signals(-code).name}{memory})"
        return f"exit status {code}"


def usable_cores() -> int:
    """Cores that this process may use, which an affinity mask can make fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _inherited_by_a_worker(threads: int) -> Iterator[None]:
    """What a process must find when it starts: OpenMP reads its threads once, and Ctrl-C may come during imports."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update({name: str(threads) for name in _THREAD_VARIABLES})
    is_main = threading.current_thread() is threading.main_thread()  # others may not set handlers
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if is_main else None
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, threads: int) -> None:
    """A worker process: compute what comes through the pipe until nobody is at its other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            cell, grid = connection.recv()
            _limit_threads(threads)
            connection.send(compute(cell, grid))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _limit_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


class RayCluster:
    """A Ray cluster: the one that RAY_ADDRESS or `ray start` names, or a local one. A CPU, and a thread, for each cell.

    All machines must see the grid's folder under the same path.

    Args:
        at_once: cells computed at the same time; None leaves that to Ray.
        gpus: for each cell; may be a fraction.

    Raises:
        ImportError: if Ray is not installed.
    """

    def __init__(self, at_once: int | None = None, gpus: float = 0) -> None:
        try:
            self._ray: Any = import_module("ray")
        except ImportError as error:
            raise ImportError('--ray needs Ray: pip install "seqgan-gym[ray]"') from error
        self.threads = 1
        self._at_once = at_once
        self._started = not self._ray.is_initialized()
        if self._started:
            self._ray.init(log_to_driver=False)
        # A cell that fails is our report's matter, not Ray's.
        self._compute = self._ray.remote(_compute_with_one_thread).options(num_cpus=1, num_gpus=gpus, max_retries=0)
        self._running: dict[Any, tuple[Cell, Path]] = {}

    @property
    def has_room(self) -> bool:
        """Whether another cell may be sent; Ray lets it wait for a CPU."""
        return self._at_once is None or len(self._running) < self._at_once

    def submit(self, cell: Cell, grid: Path) -> None:
        """Send a cell to the cluster."""
        self._running[self._compute.remote(cell, grid.absolute())] = (cell, grid)

    def outcomes(self, seconds: float) -> list[tuple[str, Outcome]]:
        """What has ended; a machine that was lost with a cell gives a failure."""
        if not self._running:
            return []
        ended = []
        for reference in self._ray.wait(list(self._running), num_returns=1, timeout=seconds)[0]:
            cell, grid = self._running.pop(reference)
            try:
                outcome: Outcome = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                outcome = Outcome("failed", f"Ray lost it: {str(error).splitlines()[0]}")
                (cell.folder(grid) / "error.txt").write_text(f"{error}\n", encoding="utf-8")
            ended.append((cell.name, outcome))
        return ended

    def close(self) -> None:
        """Stop what runs, and the cluster's connection if it was opened here."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        if self._started:
            self._ray.shutdown()


def _compute_with_one_thread(cell: Cell, grid: Path) -> Outcome:
    _limit_threads(1)
    return compute(cell, grid)
