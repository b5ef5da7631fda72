"""The output of a run of the stages: printed tables, and a CSV with one line per stage and number of threads.

In: seconds of each stage, and the rates of the machine. Out: rich tables; the CSV.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from benchmarks.machine import MACHINE_COLUMNS, Machine
from benchmarks.roofline import Rates, Work, bound
from benchmarks.stages import Pair

CSV_COLUMNS = (
    *("stage", "threads", "precision", "ours_seconds", "plain_seconds", "ratio", "bound_seconds", "reached"),
    *("gflops", "gexps", "bandwidth"),
    *MACHINE_COLUMNS,
)


@dataclass(frozen=True)
class Result:
    """Seconds of one stage, the minimum over the repeats.

    Attributes:
        stage: its name on the command line.
        pair: the timed functions.
        ours_seconds: number of threads -> seconds of ours for one unit of work, in the given order.
        plain_seconds: seconds of plain, scaled to the whole work, with only the first number of threads.
        work: the operations of a unit of work, or None if there is no bound.
    """

    stage: str
    pair: Pair
    ours_seconds: Mapping[int, float]
    plain_seconds: float
    work: Work | None = None

    @property
    def threads(self) -> int:
        """The first number of threads, at which both sides were timed."""
        return next(iter(self.ours_seconds))

    @property
    def ratio(self) -> float:
        """Seconds of plain divided by seconds of ours, with the same number of threads."""
        return self.plain_seconds / self.ours_seconds[self.threads]

    @property
    def gain(self) -> float:
        """Seconds of ours with the lowest number of threads divided by those with the highest."""
        return self.ours_seconds[min(self.ours_seconds)] / self.ours_seconds[max(self.ours_seconds)]

    def bound_seconds(self, rates: Rates) -> float | None:
        """The shortest time of a unit of work at these rates, in seconds; None if there is no bound."""
        return None if self.work is None else bound(self.work, rates)


def _verdict(value: float, required: float | None) -> str:
    """The requirement, and whether it holds; empty if there is none."""
    if required is None:
        return ""
    return f"{required:g} " + ("[green]holds[/]" if value >= required else "[red]missed[/]")


def _bound_cells(result: Result, threads: int, rates: Rates) -> tuple[str, str]:
    """The bound in seconds, and the share of it that is reached."""
    bound_seconds = result.bound_seconds(rates)
    if bound_seconds is None:
        return "", ""
    return f"{bound_seconds:.3g}", f"{bound_seconds / result.ours_seconds[threads]:.0%}"


def seconds_table(results: Sequence[Result], rates: Mapping[int, Rates], judge: bool) -> Table:
    """Seconds of both sides with the first number of threads, their ratio, the required ratio, and the bound.

    Args:
        results: the stages in the order of the rows.
        rates: of the machine with each number of threads.
        judge: whether to say if the required ratios hold; they are meant only for the paper's sizes on a CPU.
    """
    threads = results[0].threads if results else 1
    title = f"Seconds with {_in_words(threads)}, the minimum over the repeats"
    table = _new_table(title, "bound: the shortest time that this machine's rates allow")
    for heading in ("ours", "plain", "ratio", "required", "bound", "reached"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        seconds = (f"{result.ours_seconds[threads]:.3g}", f"{result.plain_seconds:.3g}")
        verdict = _verdict(result.ratio, result.pair.required) if judge else ""
        limits = _bound_cells(result, threads, rates[threads])
        table.add_row(result.stage, *seconds, f"{result.ratio:.1f}", verdict, *limits)
    return table


def _new_table(title: str, caption: str | None = None) -> Table:
    """A table that fits into 80 columns, with the stages in its first column."""
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("stage", no_wrap=True)
    return table


def threads_table(results: Sequence[Result], rates: Mapping[int, Rates], judge: bool) -> Table | None:
    """The gain of more threads: seconds of ours with each number, and the gain; None for one number.

    Args:
        results: the stages in the order of the rows.
        rates: of the machine with each number of threads.
        judge: whether to say if the required gains hold; they are meant for two threads over one.
    """
    if not results or len(results[0].ours_seconds) < 2:
        return None
    numbers = sorted(results[0].ours_seconds)
    table = _new_table("Seconds of ours, taking turns")
    for threads in numbers:
        table.add_column(_in_words(threads), justify="right", no_wrap=True)
        table.add_column("reached", justify="right", no_wrap=True)
    table.add_column(f"{_in_words(numbers[-1])} / {numbers[0]}", justify="right", no_wrap=True)
    table.add_column("required", justify="right", no_wrap=True)
    for result in results:
        cells = []
        for threads in numbers:
            cells += [f"{result.ours_seconds[threads]:.3g}", _bound_cells(result, threads, rates[threads])[1]]
        meant = judge and (numbers[0], numbers[-1]) == (1, 2)
        verdict = _verdict(result.gain, result.pair.required_gain) if meant else ""
        table.add_row(result.stage, *cells, f"{result.gain:.2f}", verdict)
    return table


def stepping_table(results: Sequence[Result]) -> Table | None:
    """Environment steps per second, counting every environment; None if no stage steps environments."""
    table = Table(title="Environment steps per second", box=box.SIMPLE)
    for heading in ("stage", "native vector env", "single envs", "ratio"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for result in results:
        if result.pair.env_steps is not None:
            both = (result.ours_seconds[result.threads], result.plain_seconds)
            ours, plain = (result.pair.env_steps / seconds for seconds in both)
            table.add_row(result.stage, f"{ours:,.0f}", f"{plain:,.0f}", f"{result.ratio:.1f}")
    return table if table.row_count else None


def notes(results: Sequence[Result]) -> list[str]:
    """The units of work, and notes on single stages; stages with the same note share a line."""
    stages: dict[str, list[str]] = {}
    work = " · ".join(f"{result.stage} {result.pair.work}" for result in results)
    for result in results:
        if result.pair.note:
            stages.setdefault(result.pair.note, []).append(result.stage)
        if result.pair.precision != "fp32":
            other = f"its products are {result.pair.precision}, but the bound is that of fp32, which it may pass"
            stages.setdefault(other, []).append(result.stage)
    return [f"Units of work: {work}."] + [f"{', '.join(names)}: {note}." for note, names in stages.items()]


def rates_lines(rates: Mapping[int, Rates]) -> list[str]:
    """The measured rates, a line for each number of threads."""
    return [f"{_in_words(threads)}: {measured}" for threads, measured in rates.items()]


def _in_words(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def write_csv(path: Path, results: Sequence[Result], rates: Mapping[int, Rates], machine: Machine) -> None:
    """Write one line for each stage and number of threads, with the columns of `CSV_COLUMNS`; replaces the file.

    Seconds are for one unit of work. `plain_seconds` and `ratio` are given only for the first number of threads;
    `reached` is bound_seconds / ours_seconds. Rates are those of the machine with that number of threads: `gflops` in
    1e9 fp32 operations per second, `gexps` in 1e9 exponentials, `bandwidth` in 1e9 bytes.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, restval="")
        writer.writeheader()
        for result in results:
            for threads, seconds in result.ours_seconds.items():
                measured = rates[threads]
                row: dict[str, object] = {
                    "stage": result.stage,
                    "threads": threads,
                    "precision": result.pair.precision,
                    "ours_seconds": f"{seconds:.6g}",
                    "gflops": f"{measured.flops / 1e9:.4g}",
                    "gexps": f"{measured.exps / 1e9:.4g}",
                    "bandwidth": f"{measured.bytes / 1e9:.4g}",
                    **machine.cells(),
                }
                if threads == result.threads:
                    row |= {"plain_seconds": f"{result.plain_seconds:.6g}", "ratio": f"{result.ratio:.3f}"}
                bound_seconds = result.bound_seconds(measured)
                if bound_seconds is not None:
                    row |= {"bound_seconds": f"{bound_seconds:.6g}", "reached": f"{bound_seconds / seconds:.3f}"}
                writer.writerow(row)
