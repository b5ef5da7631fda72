"""What a run of the benchmarks says: the machine, the table, the CSV.

In: seconds of each stage. Out: rich tables, and a CSV with a line a stage.
"""

from __future__ import annotations

import csv
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich import box
from rich.table import Table

from benchmarks.stages import Pair

CSV_COLUMNS = ("stage", "ours_seconds", "plain_seconds", "ratio", "threads", "torch", "commit", "cpu")


@dataclass(frozen=True)
class Result:
    """Seconds of one stage, the minimum over the repeats.

    Attributes:
        stage: its name on the command line.
        pair: what was timed.
        ours_seconds: for one unit of work; `plain_seconds`: likewise, scaled to the whole work.
    """

    stage: str
    pair: Pair
    ours_seconds: float
    plain_seconds: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.plain_seconds / self.ours_seconds


@dataclass(frozen=True)
class Machine:
    """Where and with what a run was made.

    Attributes:
        cpu: name of the processor.
        torch: version; `threads`: of PyTorch's operations; `dtype`: of parameters.
        commit: of this repository, with "-dirty" where files differ from it; "unknown" outside a git checkout.
    """

    cpu: str
    torch: str
    threads: int
    dtype: str
    commit: str

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.cpu} · torch {self.torch} · {threads} · {self.dtype} · commit {self.commit}"


def this_machine() -> Machine:
    """The machine that this runs on, with PyTorch's present settings."""
    dtype = str(torch.get_default_dtype()).removeprefix("torch.")
    return Machine(cpu_name(), torch.__version__, torch.get_num_threads(), dtype, git_commit())


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return " ".join(value.split())
    return platform.processor() or platform.machine() or "unknown"


def git_commit() -> str:
    """The commit of this checkout; see `Machine`."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def seconds_table(results: Sequence[Result], judge: bool) -> Table:
    """Seconds of both sides, their ratio, and the ratio that is required.

    Args:
        results: the stages in the order of the rows.
        judge: whether to say if the required ratios hold; they are meant for the paper's sizes alone.
    """
    table = Table(title="Seconds, the minimum over the repeats", box=box.SIMPLE)
    table.add_column("stage", no_wrap=True)
    table.add_column("work")
    for heading in ("ours", "plain", "ratio", "required"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        required = result.pair.required
        verdict = ""
        if judge and required is not None:
            verdict = f"{required:g} [green]holds[/]" if result.ratio >= required else f"{required:g} [red]missed[/]"
        seconds = (f"{result.ours_seconds:.3g}", f"{result.plain_seconds:.3g}")
        table.add_row(result.stage, result.pair.work, *seconds, f"{result.ratio:.1f}", verdict)
    return table


def stepping_table(results: Sequence[Result]) -> Table | None:
    """Environment steps per second, counting every environment; None if no stage steps environments."""
    table = Table(title="Environment steps per second", box=box.SIMPLE)
    for heading in ("stage", "native vector env", "single envs", "ratio"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for result in results:
        if result.pair.env_steps is not None:
            ours, plain = (result.pair.env_steps / seconds for seconds in (result.ours_seconds, result.plain_seconds))
            table.add_row(result.stage, f"{ours:,.0f}", f"{plain:,.0f}", f"{result.ratio:.1f}")
    return table if table.row_count else None


def notes(results: Sequence[Result]) -> list[str]:
    """What a reader must know of single stages, a line each; stages with the same note share one."""
    stages: dict[str, list[str]] = {}
    for result in results:
        if result.pair.note:
            stages.setdefault(result.pair.note, []).append(result.stage)
    return [f"{', '.join(names)}: {note}." for note, names in stages.items()]


def write_csv(path: Path, results: Sequence[Result], machine: Machine) -> None:
    """Write one line a stage with the columns of `CSV_COLUMNS`; an existing file is replaced."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS)
        writer.writeheader()
        for result in results:
            writer.writerow(
                {
                    "stage": result.stage,
                    "ours_seconds": f"{result.ours_seconds:.6g}",
                    "plain_seconds": f"{result.plain_seconds:.6g}",
                    "ratio": f"{result.ratio:.3f}",
                    "threads": machine.threads,
                    "torch": machine.torch,
                    "commit": machine.commit,
                    "cpu": machine.cpu,
                }
            )
