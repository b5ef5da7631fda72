"""The cost of each generator and each discriminator: its parameters, and seconds at the paper's sizes.

Only our models, one after the other, each built by its name. A generator is timed for drawing sequences and for an
epoch of maximum likelihood, a discriminator for scoring sequences and for a training step.
In: sizes, a device. Out: rows of a CSV, printed tables, and the same tables in a Markdown page.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich import box
from rich.table import Table
from torch import Tensor, nn

from agents.discriminator_trainer import DiscriminatorTrainer
from agents.pretraining import Pretrainer
from benchmarks.machine import MACHINE_COLUMNS, Machine, seconds_of
from benchmarks.sizes import Sizes
from seqgan_env.components import DISCRIMINATORS, GENERATORS, build_discriminator, build_generator
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.task import Task

Kind = Literal["generator", "discriminator"]
CSV_COLUMNS = ("kind", "model", "parameters", "work", "seconds", "threads", *MACHINE_COLUMNS)
Row = Mapping[str, str]  # a line of the CSV

# For each kind: the columns of its table, and the work that they time.
WORK: Mapping[Kind, Mapping[str, str]] = {
    "generator": {"sampling": "drawing 10,000 sequences", "mle-epoch": "an epoch of maximum likelihood on 10,000"},
    "discriminator": {"scoring": "scoring 10,000 sequences", "step": "a training step on a batch of 64"},
}
_BEGIN, _END = "<!-- models.csv -->", "<!-- end of models.csv -->"


@dataclass(frozen=True)
class Subject:
    """One model: its name on the command line, and its options."""

    kind: Kind
    name: str
    options: Mapping[str, object]

    def __str__(self) -> str:
        return ", ".join([self.name, *map(str, self.options.values())])


SUBJECTS: tuple[Subject, ...] = (
    *(Subject("generator", name, {}) for name in GENERATORS),
    Subject("discriminator", "cnn", {"filters": "light"}),
    *(Subject("discriminator", name, {}) for name in (*DISCRIMINATORS, "ensemble")),
)


@dataclass(frozen=True)
class Job:
    """`call` does `per_call` times the work."""

    call: Callable[[], object]
    per_call: int = 1


def _random_task(sizes: Sizes) -> Task:
    """Random sequences, without an oracle: the cost of a model does not depend on the tokens."""
    shape = (sizes.sequences, sizes.sequence_length)
    sequences = torch.randint(sizes.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    return Task("random", sizes.vocab_size, sizes.sequence_length, lambda split: sequences)


def _generator_jobs(subject: Subject, task: Task, sizes: Sizes, device: torch.device) -> tuple[int, dict[str, Job]]:
    """The number of parameters, and the jobs of `WORK`."""
    options = {"embedding_size": sizes.hidden_size, "hidden_size": sizes.hidden_size, **subject.options}
    model = build_generator(subject.name, task, **options).to(device)
    real = task.real_sequences("train")
    rng = np.random.default_rng(0)
    trainer = Pretrainer(model, real, real[:1], batch_size=sizes.batch_size, rng=np.random.default_rng(0))
    sampling = Job(lambda: sample_sequences(model, sizes.sequences, sizes.sequence_length, rng))
    return _parameters(model), {"sampling": sampling, "mle-epoch": Job(trainer.epoch)}


def _discriminator_jobs(subject: Subject, task: Task, sizes: Sizes, device: torch.device) -> tuple[int, dict[str, Job]]:
    """The number of parameters, and the jobs of `WORK`."""
    options = {"embedding_size": sizes.discriminator_embedding_size, **subject.options}
    model = build_discriminator(subject.name, task, **options).to(device)
    sequences: Tensor = task.real_sequences("train").to(device)
    trainer = DiscriminatorTrainer(model, task, batch_size=sizes.batch_size)
    real, generated = sequences[: sizes.batch_size * sizes.discriminator_steps].chunk(2)
    step = Job(lambda: trainer.epoch(real, generated), per_call=sizes.discriminator_steps)
    return _parameters(model), {"scoring": Job(lambda: model.score(sequences)), "step": step}


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def measure(
    subject: Subject, sizes: Sizes, device: torch.device, threads: int, repeats: int, machine: Machine
) -> list[Row]:
    """The rows of one model: seconds are the minimum over the repeats, after a call that is not counted."""
    jobs_of = _generator_jobs if subject.kind == "generator" else _discriminator_jobs
    parameters, jobs = jobs_of(subject, _random_task(sizes), sizes, device)
    rows: list[Row] = []
    for work in WORK[subject.kind]:
        job = jobs[work]
        seconds = [seconds_of(job.call, device) for _ in range(1 + repeats)][1:]
        rows.append(
            {
                "kind": subject.kind,
                "model": str(subject),
                "parameters": str(parameters),
                "work": work,
                "seconds": f"{min(seconds) / job.per_call:.6g}",
                "threads": str(threads),
                **machine.cells(),
            }
        )
    return rows


# Output.


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows; an existing file is replaced."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[Row]:
    """The lines of a CSV that `write_csv` wrote.

    Raises:
        ValueError: if the file is missing or has other columns.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows: list[Row] = list(reader)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist; measure first, with --csv {path}") from None
    missing = [column for column in CSV_COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; it is not a CSV of `python -m benchmarks models`")
    return rows


def cells(rows: Iterable[Row], kind: Kind) -> list[list[str]]:
    """For each model of a kind: its name, its parameters, and its seconds for each work of the kind."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        if row["kind"] == kind:
            line = lines.setdefault(row["model"], [row["model"], f"{int(row['parameters']):,}"])
            line.append(f"{float(row['seconds']):.3g}")
    return list(lines.values())


def headings(kind: Kind) -> list[str]:
    """Headings of the columns of `cells`."""
    return [kind, "parameters", *(f"{work}, s" for work in WORK[kind])]


def table(rows: Sequence[Row], kind: Kind) -> Table | None:
    """The models of a kind; None if none was measured."""
    caption = "; ".join(f"{work}: {meaning}" for work, meaning in WORK[kind].items())
    result = Table(title=f"{kind}s".capitalize(), caption=caption, box=box.SIMPLE)
    for heading in headings(kind):
        result.add_column(heading, justify="left" if heading == kind else "right", no_wrap=True)
    for line in cells(rows, kind):
        result.add_row(*line)
    return result if result.row_count else None


def markdown(rows: Sequence[Row], csv_link: str) -> str:
    """The source of the numbers, and a table for each kind, as Markdown.

    Raises:
        ValueError: if the rows come from several runs.
    """
    runs = {(row["commit"], row["threads"], row["device"]) for row in rows}
    if len(runs) != 1:
        raise ValueError(f"the lines come from {len(runs)} runs, expected one: {sorted(runs)}")
    ((commit, threads, device),) = runs
    where = f"{threads} thread{'s' if threads != '1' else ''}" if device == "cpu" else rows[0]["machine"]
    parts = [f"[CSV]({csv_link}), commit `{commit}`, {where}."]
    for kind, works in WORK.items():
        lines = [headings(kind), ["---"] * (2 + len(works)), *cells(rows, kind)]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts)


def check_page(page: Path) -> None:
    """Raise ValueError if a page has no place for the tables."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if text.count(_BEGIN) != 1 or text.count(_END) != 1 or text.index(_BEGIN) > text.index(_END):
        raise ValueError(f"{page} must have the lines {_BEGIN} and {_END}, between which the tables go")


def fill_page(page: Path, rows: Sequence[Row], csv_path: Path) -> None:
    """Replace the text between the two marks of a page by the tables of the rows.

    Args:
        page: a Markdown file.
        rows: rows of the CSV.
        csv_path: the CSV, which the page links to.

    Raises:
        ValueError: if the page lacks the marks, or the rows come from several runs.
    """
    check_page(page)
    before, rest = page.read_text(encoding="utf-8").split(_BEGIN)
    _, after = rest.split(_END)
    link = Path(os.path.relpath(csv_path, page.parent)).as_posix()
    page.write_text(f"{before}{_BEGIN}\n{markdown(rows, link)}\n{_END}{after}", encoding="utf-8")
