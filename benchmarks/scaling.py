"""How the cost of our code grows with T, N, V and B: seconds, and peak memory in a new process for each point.

One axis is varied at a time from a base point, with the light filters, so that everything takes some ten minutes on one
core. The batch has random tokens: speed depends only on their number. Memory is the peak of the first call, minus the
memory before it, when models and data exist already. It contains token tables, blocks of logits, the gradient and the
optimizer's moments.
Scoring looks windows up in token tables if a call has more tokens than the vocabulary. If the tables would take more
than 1 GiB, it multiplies instead and needs no tables. With the paper's filters this is so at V = 50,000 (2.3 GiB); the
tables of the light filters take 244 MiB there.
In: the axes to vary. Out: rows of a CSV, tables.
"""

from __future__ import annotations

import contextlib
import csv
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from rich import box
from rich.table import Table

from agents.discriminator_trainer import DiscriminatorTrainer
from agents.pretraining import Pretrainer
from benchmarks.machine import MACHINE_COLUMNS, Machine, seconds_of, use_threads
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rewards import DiscriminatorReward
from seqgan_env.rollout_policies import DelayedCopy, sample_sequences
from seqgan_env.tasks.task import Task

ScalingStage = Literal["sampling", "mle-step", "search", "discriminator-step"]
Axis = Literal["T", "N", "V", "B"]
BASE = "base"
CSV_COLUMNS = (
    *("stage", "axis", "T", "N", "V", "B"),
    *("seconds", "unit", "units", "seconds_per_unit", "peak_bytes", "full_bytes", "threads"),
    *MACHINE_COLUMNS,
)
Row = Mapping[str, str]  # a line of the CSV

_STATUS = Path("/proc/self/status")
_SECONDS_PER_POINT = 8.0  # seconds for repeats; the first one is always made
_STEPS_PER_CALL = 8  # training steps, so that the rest of an epoch costs little


@dataclass(frozen=True)
class Point:
    """Sizes of one measurement: sequence length T, completions N, vocabulary V, batch B."""

    T: int = 20
    N: int = 16
    V: int = 5000
    B: int = 64


@dataclass(frozen=True)
class Grid:
    """A base point, and the values of each axis, including that of the base."""

    base: Point
    values: Mapping[Axis, tuple[int, ...]]


FULL_GRID = Grid(Point(), {"T": (20, 40, 80), "N": (1, 4, 16, 64), "V": (500, 5000, 50_000), "B": (16, 64, 256, 1024)})
QUICK_GRID = Grid(Point(T=3, N=2, V=70, B=4), {"T": (3, 6), "N": (1, 2), "V": (70, 140), "B": (4, 8)})


@dataclass(frozen=True)
class Case:
    """One stage at one point; `axis` is the one that was varied, or "base"."""

    stage: ScalingStage
    axis: str
    point: Point

    def __str__(self) -> str:
        at = self.point
        return f"{self.stage} at T={at.T}, N={at.N}, V={at.V:,}, B={at.B:,}"


@dataclass(frozen=True)
class Cost:
    """Seconds for the stage's work, the minimum over the repeats; peak memory above the start, in bytes."""

    seconds: float
    peak_bytes: int


def cases(grid: Grid, stages: Sequence[ScalingStage] = (), axes: Sequence[Axis] = ()) -> list[Case]:
    """Every measurement: each stage at the base, then along each axis that it has; only the search has N.

    Args:
        grid: base and values.
        stages: stages to measure; if empty, all.
        axes: axes to vary; if empty, all.
    """
    planned = []
    for stage in get_args(ScalingStage):
        if stages and stage not in stages:
            continue
        planned.append(Case(stage, BASE, grid.base))
        for axis, values in grid.values.items():
            if (axes and axis not in axes) or (axis == "N" and stage != "search"):
                continue
            points = (replace(grid.base, **{axis: value}) for value in values)
            planned += [Case(stage, axis, point) for point in points if point != grid.base]
    return planned


def units(stage: ScalingStage, point: Point) -> tuple[str, int]:
    """A unit of work, so that a stage's cost should be linear in it, and the number of units.

    The cost of a generator is its logits: V for every drawn or trained token. The search draws T - t tokens for each of
    B N completions of Y_{1:t}, t = 1..T-1: so it grows with T (T - 1) / 2, about the square of T, like the algorithm. A
    step of the discriminator reads B T tokens.
    """
    if stage == "discriminator-step":
        return "token", point.B * point.T
    tokens = point.B * point.N * point.T * (point.T - 1) // 2 if stage == "search" else point.B * point.T
    return "logit", tokens * point.V


def full_bytes(stage: ScalingStage, point: Point) -> int | None:
    """Bytes of all logits of a whole batch: B T V float32, in the search B T N V; None without logits."""
    if stage == "discriminator-step":
        return None
    return 4 * point.B * point.T * point.V * (point.N if stage == "search" else 1)


# The measured work.


@dataclass(frozen=True)
class Job:
    """A stage at a point: `call` does `per_call` times its work; `prepare` runs before it, outside the clock."""

    call: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    per_call: int = 1


def _sampling(point: Point, device: torch.device) -> Job:
    generator, rng = _generator(point, device), np.random.default_rng(0)
    return Job(lambda: sample_sequences(generator, point.B, point.T, rng))


def _mle_step(point: Point, device: torch.device) -> Job:
    sequences = _tokens(point, _STEPS_PER_CALL * point.B)
    rng = np.random.default_rng(0)
    trainer = Pretrainer(_generator(point, device), sequences, sequences[:1], batch_size=point.B, rng=rng)
    return Job(trainer.epoch, per_call=_STEPS_PER_CALL)


def _search(point: Point, device: torch.device) -> Job:
    discriminator = _discriminator(point, device).eval()
    rollout_policy = DelayedCopy(_generator(point, device))
    env = SequenceVectorEnv(
        _task(point),
        point.B,
        autoreset_mode=AutoresetMode.DISABLED,
        reward_model=DiscriminatorReward(discriminator),
        n_rollouts=point.N,
    )
    env.reset(seed=0)
    sequences = _tokens(point, point.B).numpy()

    @torch.no_grad()
    def new_round() -> None:
        # In training, D and G_beta have changed since the last search, so no values derived from them may be kept.
        for parameter in discriminator.parameters():
            parameter.mul_(1 + 1e-6)
        env.set_rollout_policy(rollout_policy)

    def episode() -> None:
        env.reset()
        for actions in sequences.T:
            env.step(actions)

    return Job(episode, new_round)


def _discriminator_step(point: Point, device: torch.device) -> Job:
    trainer = DiscriminatorTrainer(_discriminator(point, device), _task(point), batch_size=point.B)
    real, generated = _tokens(point, _STEPS_PER_CALL * point.B).to(device).chunk(2)
    return Job(lambda: trainer.epoch(real, generated), per_call=_STEPS_PER_CALL)


_JOBS: dict[ScalingStage, Callable[[Point, torch.device], Job]] = {
    "sampling": _sampling,
    "mle-step": _mle_step,
    "search": _search,
    "discriminator-step": _discriminator_step,
}


def _tokens(point: Point, count: int) -> torch.Tensor:
    """(count, T) int64 random sequences."""
    return torch.randint(point.V, (count, point.T), generator=torch.Generator().manual_seed(0))


def _task(point: Point) -> Task:
    """A task of random sequences, without an oracle, since its likelihood would cost time."""
    return Task("scaling", point.V, point.T, lambda split: _tokens(point, point.B))


def _generator(point: Point, device: torch.device) -> LSTMSequenceModel:
    return LSTMSequenceModel(point.V, seed=1).to(device)


def _discriminator(point: Point, device: torch.device) -> CNNDiscriminator:
    return CNNDiscriminator(point.V, point.T, "light").to(device)


# Measuring.


def measures_memory() -> bool:
    """Whether the system gives the peak memory of a process, as Linux does."""
    return _STATUS.is_file()


@contextlib.contextmanager
def peak_memory(device: torch.device) -> Iterator[list[int]]:
    """Yields a list. At the end of the block it gets the block's peak memory above that at its start, in bytes.

    On a CPU this is the resident memory of the process. A process keeps memory that it had once, so only the first peak
    is true.
    """
    peak: list[int] = []
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        start = torch.cuda.memory_allocated(device)
        yield peak
        peak.append(torch.cuda.max_memory_allocated(device) - start)
        return
    with contextlib.suppress(OSError):  # if this is forbidden, the peak of a new process is that of its models
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # restarts the peak from here
    start = _status_bytes("VmRSS")
    yield peak
    peak.append(max(0, _status_bytes("VmHWM") - start))


def _status_bytes(field: str) -> int:
    """A number of kilobytes in /proc/self/status, in bytes."""
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def measure(case: Case, device_name: str, threads: int, repeats: int) -> Cost:
    """Memory of a first call, then seconds: the minimum of several calls, fewer if they are long.

    Before that the same stage runs at tiny sizes, so that the code of libraries does not count as its memory.
    """
    device = torch.device(device_name)
    use_threads(threads)
    tiny, job = (_JOBS[case.stage](point, device) for point in (QUICK_GRID.base, case.point))
    tiny.call()
    job.prepare()
    with peak_memory(device) as peak:
        seconds_of(job.call, device)
    seconds: list[float] = []
    start = time.perf_counter()
    while len(seconds) < repeats and (not seconds or time.perf_counter() - start < _SECONDS_PER_POINT):
        job.prepare()
        seconds.append(seconds_of(job.call, device))
    return Cost(min(seconds) / job.per_call, peak[0])


def measure_afresh(case: Case, device_name: str, threads: int, repeats: int) -> Cost:
    """`measure` in a separate process, so that the memory is only that of this case.

    Raises:
        concurrent.futures.process.BrokenProcessPool: if the process dies, usually because memory ran out.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as executor:
        return executor.submit(measure, case, device_name, threads, repeats).result()


# Output.


def csv_row(case: Case, cost: Cost, threads: int, machine: Machine) -> Row:
    """A line with the columns of `CSV_COLUMNS`; `full_bytes` is empty for stages without logits."""
    unit, count = units(case.stage, case.point)
    full = full_bytes(case.stage, case.point)
    return {
        "stage": case.stage,
        "axis": case.axis,
        **{axis: str(getattr(case.point, axis)) for axis in get_args(Axis)},
        "seconds": f"{cost.seconds:.6g}",
        "unit": unit,
        "units": str(count),
        "seconds_per_unit": f"{cost.seconds / count:.4g}",
        "peak_bytes": str(cost.peak_bytes),
        "full_bytes": "" if full is None else str(full),
        "threads": str(threads),
        **machine.cells(),
    }


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows; an existing file is replaced."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def along(rows: Iterable[Row], stage: str, axis: str) -> list[Row]:
    """The rows of a stage along an axis, with the base, sorted by their value; empty if it was not varied."""
    own = [row for row in rows if row["stage"] == stage and row["axis"] in (axis, BASE)]
    return sorted(own, key=lambda row: int(row[axis])) if any(row["axis"] == axis for row in own) else []


def axis_table(rows: Sequence[Row], axis: Axis) -> Table | None:
    """Cost of every stage along an axis; None if no stage was measured along it."""
    table = Table(title=f"Cost over {axis}", box=box.SIMPLE)
    table.add_column("stage", no_wrap=True)
    for heading in (axis, "seconds", "ns per unit", "of", "peak MiB", "full logits MiB"):
        table.add_column(heading, justify="left" if heading == "of" else "right", no_wrap=True)
    for stage in get_args(ScalingStage):
        own = along(rows, stage, axis)
        for row in own:
            full = f"{int(row['full_bytes']) / 2**20:,.0f}" if row["full_bytes"] else ""
            table.add_row(
                stage if row is own[0] else "",
                f"{int(row[axis]):,}",
                f"{float(row['seconds']):.3g}",
                f"{1e9 * float(row['seconds_per_unit']):.3g}",
                row["unit"],
                f"{int(row['peak_bytes']) / 2**20:,.1f}",
                full,
                end_section=row is own[-1],
            )
    return table if table.row_count else None
