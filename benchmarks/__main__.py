"""The command `python -m benchmarks`: time every stage, ours and plain in turn, and print tables.

The subcommands are `scaling`, `models`, `variance` and `pretrained`.
"""

from __future__ import annotations

import sys
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn, TypeVar, get_args

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from agents.studies.workers import usable_cores
from benchmarks import models, pretrained, report, scaling, variance
from benchmarks.machine import measure_rates, seconds_of, this_machine, use_threads
from benchmarks.pictures import draw_scaling, read_scaling
from benchmarks.report import Result
from benchmarks.roofline import WORK, Rates
from benchmarks.scaling import Axis, ScalingStage
from benchmarks.sizes import PAPER_SIZES, QUICK_SIZES
from benchmarks.stages import STAGES, Pair, StageName, World

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class StagesOptions:
    """Time each loop of SeqGAN, compared with plain PyTorch and with the limits of the machine, at the paper's sizes
    (some minutes).

    Every number is the minimum over the repeats after a warm-up. Ours and plain take turns, so that both meet the same
    state of the machine. `bound` is the shortest time that the machine's rates allow; the rates are measured in the
    same run. `reached` is bound divided by the time of ours. There are four other subcommands: `python -m benchmarks
    scaling --help`, cost and memory for growing sizes; `python -m benchmarks models --help`, every generator and
    discriminator; `python -m benchmarks variance --help`, the value of estimates of the policy gradient; and `python -m
    benchmarks pretrained --help`, a generator hf:... against transformers.
    """

    threads: tuple[int, ...] = (1,)
    """PyTorch threads. With several numbers (`--threads 1 2`) ours takes turns with each, and a table gives the gain;
    plain is timed only with the first. Let nothing else run: if another process uses a core, PyTorch's threads wait for
    each other, and two are slower than one.
    """
    repeats: int | None = None
    """Timings of each side of each stage; the fastest counts; by default 3, or 1 with --quick."""
    quick: bool = False
    """Tiny sizes, to check that everything runs; the numbers mean nothing."""
    csv: Path | None = None
    """File for the results, one line per stage and number of threads; an existing file is replaced."""
    only: tuple[StageName, ...] = ()
    """Stages to time; by default all."""
    device: Device = "cpu"
    """Device of both sides."""


@dataclass(frozen=True)
class ScalingOptions:
    """Time only our code, and measure its peak memory, while T, N, V and B grow one at a time (some ten minutes).

    The base point is T=20, N=16, V=5,000, B=64 with the light filters. Every point has a new process.
    """

    threads: int = 1
    """PyTorch threads. With more than one, let nothing else run: PyTorch's threads wait for each other."""
    repeats: int | None = None
    """Timings of each point; the fastest counts; by default 5, or 1 with --quick; fewer if they are long."""
    quick: bool = False
    """Tiny sizes in one process, to check that everything runs; the numbers mean nothing."""
    csv: Path | None = None
    """File for the results, one line per stage and point; an existing file is replaced."""
    picture: Path | None = None
    """PNG file for a picture of the results."""
    plot_only: bool = False
    """Measure nothing: draw --picture from the lines of --csv."""
    only: tuple[ScalingStage, ...] = ()
    """Stages to measure; by default all."""
    axes: tuple[Axis, ...] = ()
    """Axes to vary; by default all."""
    device: Device = "cpu"
    """The device. On a GPU, memory is that of PyTorch on it."""


@dataclass(frozen=True)
class ModelsOptions:
    """Count the parameters of every generator and discriminator, and time each, at the paper's sizes (some minutes)."""

    threads: int = 1
    """PyTorch threads. With more than one, let nothing else run: PyTorch's threads wait for each other."""
    repeats: int | None = None
    """Timings of each model and work; the fastest counts; by default 3, or 1 with --quick."""
    quick: bool = False
    """Tiny sizes, to see that everything runs; the numbers mean nothing."""
    csv: Path | None = None
    """File for the results, one line per model and work; an existing file is replaced."""
    page: Path | None = None
    """Markdown page, docs/performance.md, to fill with tables of the results; needs --csv, which it links to."""
    page_only: bool = False
    """Measure nothing: fill --page from the lines of --csv."""
    device: Device = "cpu"
    """The device."""


@dataclass(frozen=True)
class VarianceOptions:
    """Variance of the policy gradient times its seconds, for R(Y) at the end and for Monte-Carlo search with N = 1 to
    64 completions, each with its baselines (toy and middle: a minute or two; paper: half an hour)."""

    sizes: Literal["toy", "middle", "paper"] = "toy"
    """V=3, T=3; V=50, T=10; or V=5,000, T=20, as in the paper."""
    threads: int = 1
    """PyTorch threads."""
    repeats: int | None = None
    """Batches of sequences for the variance; by default 100, for paper 24, or 12 with --quick."""
    seed: int = 0
    """Seed of the oracle, the generator, the discriminator and the sequences."""
    quick: bool = False
    """Tiny sizes, to see that everything runs; the numbers mean nothing."""
    csv: Path | None = None
    """File for the results, one line per estimator; an existing file is replaced."""
    device: Literal["cpu"] = "cpu"
    """The device."""


@dataclass(frozen=True)
class PretrainedOptions:
    """A pretrained generator against `transformers`: drawing with `generate`, and search without a cache, for a GPT-2
    of 124 million random weights (some minutes; needs the extra `transformers`)."""

    threads: int = 1
    """PyTorch threads."""
    repeats: int | None = None
    """Timings of each way; the median counts; by default 5, or 1 with --quick."""
    quick: bool = False
    """Tiny sizes, to see that everything runs; the numbers mean nothing."""
    csv: Path | None = None
    """File for the results, one line per ratio; an existing file is replaced."""
    device: Device = "cpu"
    """The device."""


Options = TypeVar("Options", StagesOptions, ScalingOptions, ModelsOptions, VarianceOptions, PretrainedOptions)


def measure(pair: Pair, threads: tuple[int, ...], repeats: int, device: torch.device) -> tuple[dict[int, float], float]:
    """Seconds of ours with each number of threads, and of plain with the first, for one unit of work.

    The minimum over the repeats, after one call of each; all take turns. After a change of the number of threads, one
    call is not counted: it pays for new threads and cold caches.
    """
    ours: dict[int, list[float]] = {number: [] for number in threads}
    plain = []
    for _ in range(1 + repeats):
        for number in threads:
            use_threads(number)
            for _ in threads[:2]:
                pair.prepare()
                seconds = seconds_of(pair.ours, device)
            ours[number].append(seconds)
        use_threads(threads[0])
        plain.append(seconds_of(pair.plain, device))
    fastest = {number: min(seconds[1:]) / pair.per_call for number, seconds in ours.items()}
    return fastest, min(plain[1:]) / pair.per_call * pair.plain_scale


def refuse(message: str) -> NoReturn:
    """End with exit status 2, which means wrong usage."""
    print(f"python -m benchmarks: {message}", file=sys.stderr)
    raise SystemExit(2)


def check(options: StagesOptions | ScalingOptions | ModelsOptions | VarianceOptions | PretrainedOptions) -> None:
    """Refuse options that cannot be used, before time is spent on them."""
    threads = options.threads if isinstance(options.threads, tuple) else (options.threads,)
    if not threads:
        refuse("--threads needs at least one number, such as --threads 1 2")
    if len(set(threads)) < len(threads):
        refuse(f"--threads {' '.join(map(str, threads))} names a number twice; give each once")
    for name, value in (*(("threads", number) for number in threads), ("repeats", options.repeats)):
        if value is not None and value < 1:
            refuse(f"--{name} {value} must be at least 1")
    if max(threads) > usable_cores():
        print(
            f"--threads {max(threads)}: only {usable_cores()} can run at once here, the others wait; do not trust this",
            file=sys.stderr,
        )
    for name in ("csv", "picture"):
        path: Path | None = getattr(options, name, None)
        if path is not None and not path.absolute().parent.is_dir():
            refuse(f"--{name} {path}: the folder {path.absolute().parent} does not exist; create it first")
    if options.device == "cuda" and not torch.cuda.is_available():
        refuse(
            f"--device cuda: PyTorch {torch.__version__} finds no GPU here; use --device cpu, or a machine with a GPU "
            "and a build of PyTorch for it"
        )


def new_progress(console: Console) -> Progress:
    """A progress bar on a terminal's error stream, which disappears at the end."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True)


def time_stages(options: StagesOptions) -> None:
    """Time, print, save."""
    device = torch.device(options.device)
    console = Console()
    machine = this_machine(device)
    sizes = QUICK_SIZES if options.quick else PAPER_SIZES
    for line in (str(machine), str(sizes)):
        console.print(line, highlight=False, soft_wrap=True)
    world = World(sizes, device)
    repeats = options.repeats or (1 if options.quick else 3)
    names = [name for name in STAGES if name in (options.only or STAGES)]

    def rates() -> dict[int, Rates]:
        measured = {}
        for number in options.threads:
            use_threads(number)
            measured[number] = measure_rates(device, options.quick)
        return measured

    results = []
    with new_progress(Console(stderr=True)) as progress:
        bar = progress.add_task("the machine's rates", total=len(names))
        before = rates()
        for name in names:
            progress.update(bar, description=name)
            pair = STAGES[name](world)
            work = WORK[name](sizes) if name in WORK else None
            results.append(Result(name, pair, *measure(pair, options.threads, repeats, device), work))
            progress.advance(bar)
        progress.update(bar, description="the machine's rates")
        best = {number: measured.best(before[number]) for number, measured in rates().items()}
    for line in report.rates_lines(best):
        console.print(line, highlight=False, soft_wrap=True)
    judge = not options.quick and device.type == "cpu"
    console.print(report.seconds_table(results, best, judge))
    for table in (report.threads_table(results, best, judge), report.stepping_table(results)):
        if table is not None:
            console.print(table)
    for note in report.notes(results):
        console.print(note, highlight=False, soft_wrap=True)
    if options.csv is not None:
        report.write_csv(options.csv, results, best, machine)


def measure_scaling(options: ScalingOptions) -> list[scaling.Row]:
    """Measure every point and print the tables; returns the rows of the CSV."""
    if options.device == "cpu" and not scaling.measures_memory():
        refuse("scaling reads the peak memory of a process from /proc/self/status, which this system does not have")
    console = Console()
    machine = this_machine(torch.device(options.device))
    console.print(str(machine), highlight=False, soft_wrap=True)
    repeats = options.repeats or (1 if options.quick else 5)
    run = scaling.measure if options.quick else scaling.measure_afresh
    planned = scaling.cases(scaling.QUICK_GRID if options.quick else scaling.FULL_GRID, options.only, options.axes)
    rows = []
    with new_progress(Console(stderr=True)) as progress:
        bar = progress.add_task("", total=len(planned))
        for case in planned:
            progress.update(bar, description=str(case))
            try:
                cost = run(case, options.device, options.threads, repeats)
            except BrokenProcessPool:
                refuse(f"the process that measured {case} died, probably for lack of memory; leave it out by --axes")
            rows.append(scaling.csv_row(case, cost, options.threads, machine))
            progress.advance(bar)
    for axis in get_args(Axis):
        table = scaling.axis_table(rows, axis)
        if table is not None:
            console.print(table)
    return rows


def run_scaling(options: ScalingOptions) -> None:
    """Measure, print, save and draw; or only draw."""
    if options.plot_only:
        if options.csv is None or options.picture is None:
            refuse("--plot-only draws --picture from the lines of --csv; give both")
        try:
            draw_scaling(read_scaling(options.csv), options.picture)
        except ValueError as error:
            refuse(str(error))
        return
    rows = measure_scaling(options)
    if options.csv is not None:
        scaling.write_csv(options.csv, rows)
    if options.picture is not None:
        draw_scaling(rows, options.picture)


def run_models(options: ModelsOptions) -> None:
    """Measure, print, save and fill the page; or only fill the page."""
    if (options.page is not None or options.page_only) and (options.csv is None or options.page is None):
        refuse("--page is filled from the lines of --csv; give both")
    try:
        if options.page is not None:
            models.check_page(options.page)
        if options.csv is not None and options.page_only:
            rows = models.read_csv(options.csv)
        else:
            rows = measure_models(options)
        if options.csv is not None and not options.page_only:
            models.write_csv(options.csv, rows)
        if options.csv is not None and options.page is not None:
            models.fill_page(options.page, rows, options.csv)
    except ValueError as error:
        refuse(str(error))


def measure_models(options: ModelsOptions) -> list[models.Row]:
    """Measure every model and print the tables; returns the rows of the CSV."""
    device = torch.device(options.device)
    use_threads(options.threads)
    console = Console()
    machine = this_machine(device)
    sizes = QUICK_SIZES if options.quick else PAPER_SIZES
    for line in (str(machine), str(sizes)):
        console.print(line, highlight=False, soft_wrap=True)
    repeats = options.repeats or (1 if options.quick else 3)
    rows: list[models.Row] = []
    with new_progress(Console(stderr=True)) as progress:
        bar = progress.add_task("", total=len(models.SUBJECTS))
        for subject in models.SUBJECTS:
            progress.update(bar, description=f"{subject.kind} {subject}")
            rows += models.measure(subject, sizes, device, options.threads, repeats, machine)
            progress.advance(bar)
    for kind in models.WORK:
        console.print(models.table(rows, kind))
    return rows


def run_variance(options: VarianceOptions) -> None:
    """Measure, print, save."""
    use_threads(options.threads)
    sizes = variance.SIZES["quick" if options.quick else options.sizes]
    if options.repeats is not None:
        sizes = replace(sizes, batches=max(options.repeats, 2))
    console, machine = Console(), this_machine(torch.device("cpu"))
    console.print(str(machine), highlight=False, soft_wrap=True)
    with new_progress(Console(stderr=True)) as progress:
        bar = progress.add_task("batches", total=1 + sizes.batches)
        rows = variance.measure(sizes, machine, options.seed, lambda: progress.advance(bar))
    console.print(variance.table(rows))
    if options.csv is not None:
        variance.write_csv(options.csv, rows)


def run_pretrained(options: PretrainedOptions) -> None:
    """Measure, print, save."""
    device = torch.device(options.device)
    use_threads(options.threads)
    sizes = pretrained.SIZES["quick" if options.quick else "full"]
    repeats = options.repeats or (1 if options.quick else 5)
    console, machine = Console(), this_machine(device)
    console.print(str(machine), highlight=False, soft_wrap=True)
    with new_progress(Console(stderr=True)) as progress:
        bar = progress.add_task("timings", total=4 * (1 + repeats))
        rows = pretrained.measure(sizes, machine, repeats, device, lambda: progress.advance(bar))
    console.print(pretrained.table(rows))
    if options.csv is not None:
        pretrained.write_csv(options.csv, rows)


def parse(kind: type[Options], prog: str, args: list[str]) -> Options:
    """Options from a command line, checked."""
    options = tyro.cli(kind, prog=prog, args=args, config=(tyro.conf.FlagCreatePairsOff,))
    check(options)
    return options


def main(args: list[str] | None = None) -> None:
    """Run the subcommand at the beginning of the command line (args, or that of the process); by default `stages`."""
    given = sys.argv[1:] if args is None else args
    if given[:1] == ["scaling"]:
        run_scaling(parse(ScalingOptions, "python -m benchmarks scaling", given[1:]))
    elif given[:1] == ["models"]:
        run_models(parse(ModelsOptions, "python -m benchmarks models", given[1:]))
    elif given[:1] == ["variance"]:
        run_variance(parse(VarianceOptions, "python -m benchmarks variance", given[1:]))
    elif given[:1] == ["pretrained"]:
        run_pretrained(parse(PretrainedOptions, "python -m benchmarks pretrained", given[1:]))
    else:
        rest = given[1:] if given[:1] == ["stages"] else given
        time_stages(parse(StagesOptions, "python -m benchmarks", rest))


if __name__ == "__main__":
    main()
