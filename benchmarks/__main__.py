"""The command `python -m benchmarks`: time every stage, ours and plain in turn, and print a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.report import Result, notes, seconds_table, stepping_table, this_machine, write_csv
from benchmarks.stages import PAPER_SIZES, QUICK_SIZES, STAGES, Pair, StageName, World


@dataclass(frozen=True)
class Options:
    """Time each loop of SeqGAN beside the same work in plain PyTorch, at the paper's sizes (some minutes).

    Every number is the minimum over the repeats after a warm-up; ours and plain take turns, so that both meet the same
    machine.
    """

    threads: int = 1
    """PyTorch threads of both sides."""
    repeats: int | None = None
    """Timings of each side of each stage, of which the fastest counts; 3 if not given, 1 with --quick."""
    quick: bool = False
    """Tiny sizes, to see that everything runs; the numbers mean nothing."""
    csv: Path | None = None
    """File for the results, a line a stage; an existing one is replaced."""
    only: tuple[StageName, ...] = ()
    """Stages to time; all if none is given."""


def seconds_of(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(pair: Pair, repeats: int) -> tuple[float, float]:
    """Seconds of ours and of plain for one unit of work: the minimum over the repeats, after a call of each."""
    ours, plain = [], []
    for _ in range(1 + repeats):
        pair.prepare()
        ours.append(seconds_of(pair.ours))
        plain.append(seconds_of(pair.plain))
    return min(ours[1:]) / pair.per_call, min(plain[1:]) / pair.per_call * pair.plain_scale


def refuse(message: str) -> None:
    """End with exit status 2, the status of wrong usage."""
    print(f"python -m benchmarks: {message}", file=sys.stderr)
    raise SystemExit(2)


def check(options: Options) -> None:
    """Refuse options that cannot be used, before minutes are spent on them."""
    for name, value in (("threads", options.threads), ("repeats", options.repeats)):
        if value is not None and value < 1:
            refuse(f"--{name} {value} must be at least 1")
    if options.csv is not None and not options.csv.absolute().parent.is_dir():
        refuse(f"--csv {options.csv}: the folder {options.csv.absolute().parent} does not exist; create it first")


def main(args: list[str] | None = None) -> None:
    """Parse the command line (args, or that of the process), time, print, save."""
    options = tyro.cli(Options, prog="python -m benchmarks", args=args, config=(tyro.conf.FlagCreatePairsOff,))
    check(options)
    torch.set_num_threads(options.threads)
    console = Console()
    machine = this_machine()
    sizes = QUICK_SIZES if options.quick else PAPER_SIZES
    for line in (machine, sizes):
        console.print(str(line), highlight=False, soft_wrap=True)
    world = World(sizes)
    repeats = options.repeats or (1 if options.quick else 3)
    names = [name for name in STAGES if name in (options.only or STAGES)]
    results = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("")
        for place, name in enumerate(names, start=1):
            progress.update(bar, description=f"stage {place} of {len(names)}: {name}")
            pair = STAGES[name](world)
            results.append(Result(name, pair, *measure(pair, repeats)))
    console.print(seconds_table(results, judge=not options.quick))
    steps = stepping_table(results)
    if steps is not None:
        console.print(steps)
    for note in notes(results):
        console.print(note, highlight=False, soft_wrap=True)
    if options.csv is not None:
        write_csv(options.csv, results, machine)


if __name__ == "__main__":
    main()
