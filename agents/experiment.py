"""One run from start to table: train, measure on the way, save, show progress; and go on after an interruption.

In: a run folder. Out: the same folder with metrics, checkpoints, the closing table and the learning curve.
Measurements draw from random streams of their own, named by seed, stage and index, so that measuring more or less often
does not change the training.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from agents.checkpoints import (
    read_tensors,
    restore,
    restore_pretraining,
    snapshot,
    write_atomically,
    write_tensors,
)
from agents.configuration import SeqGANConfig
from agents.plots import plot_learning_curves
from agents.run_folder import RunFolder
from agents.seqgan import Milestone, SeqGAN, Stage
from seqgan_env.metrics import Estimate, GeneratorMetrics, measure_generator
from seqgan_env.rollout_policies import RolloutPolicy, UniformPolicy
from seqgan_env.tasks.oracle import oracle_task
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import toy_task

_STAGE_TITLES: dict[Stage, str] = {"mle": "MLE", "discriminator": "D pretraining", "adversarial": "SeqGAN"}
# Streams of measurements, beside the seed; part of what a seed means, so never renumbered.
_STREAMS: dict[str, int] = {"mle": 0, "discriminator": 1, "adversarial": 2, "table": 3, "command": 4}
# Temperatures at which MLE stands beside SeqGAN in the closing table: each lowers NLL_oracle for free.
MLE_TEMPERATURES = (0.9, 0.8, 0.7)


@dataclass(frozen=True)
class TableRow:
    """A line of the closing table."""

    method: str
    metrics: GeneratorMetrics


def make_task(name: str, config: SeqGANConfig) -> Task:
    """The task of a new run, "oracle" or "toy"."""
    oracle = int(config.oracle) if config.oracle is not None and config.oracle.isdigit() else config.oracle
    make = oracle_task if name == "oracle" else toy_task
    return make(
        config.vocab_size,
        config.sequence_length,
        oracle,
        n_sequences=config.train_sequences,
        data_seed=config.data_seed,
    )


class Experiment:
    """A run in its folder: trains what is left of it.

    Args:
        run: the run folder; the latest checkpoint in it, if any, is where training goes on.
        device: "cpu", "cuda", ...
        console: where progress goes.
        show_progress: whether to draw a bar; measurements are printed in any case.
    """

    def __init__(self, run: RunFolder, device: str = "cpu", console: Console | None = None, show_progress: bool = True):
        self.run = run
        self.config = run.config()
        self.task = run.task()
        self.console = console or Console()
        self.show_progress = show_progress
        self.game = SeqGAN(self.task, self.config, device)
        run.remove_remains()
        metrics_size = 0
        if run.latest_checkpoint.is_file():
            tensors, state = read_tensors(run.latest_checkpoint)
            restore(self.game, tensors, state["game"])
            metrics_size = state["metrics_size"]
        elif run.mle_checkpoint.is_file():  # begun with the pretraining of another run
            tensors, state = read_tensors(run.mle_checkpoint)
            restore_pretraining(self.game, tensors, state["game"])
            metrics_size = state["metrics_size"]
        run.rewind_metrics(metrics_size)
        self._units = 0

    def train(self) -> None:
        """Algorithm 1 from where the run stands, then everything that closes a run."""
        bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[nlls]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.show_progress,
        )
        stages: dict[Stage, TaskID] = {}
        with bar:

            def after(milestone: Milestone) -> None:
                if milestone.stage not in stages:
                    for other in stages.values():
                        bar.stop_task(other)
                    title = _STAGE_TITLES[milestone.stage]
                    stages[milestone.stage] = bar.add_task(title, total=milestone.total, nlls="")
                metrics = self._after(milestone)
                bar.update(stages[milestone.stage], completed=milestone.index)
                if metrics is not None:
                    bar.update(stages[milestone.stage], nlls=_nlls(metrics))

            self.game.train(after)
        self._save(self.run.latest_checkpoint)
        self.run.close()

    def _after(self, milestone: Milestone) -> GeneratorMetrics | None:
        """Measure, log and save after a unit of work; the measurement, if one was due."""
        last = milestone.index == milestone.total
        if milestone.stage == "mle":
            last = self.game.pretrainer.finished
        every = self.config.evaluate_every_epochs if milestone.stage == "mle" else self.config.evaluate_every_rounds
        due = milestone.stage != "discriminator" and (last or milestone.index == 1 or milestone.index % every == 0)
        metrics = self._measure(milestone) if due else None
        self._log(milestone, metrics)
        self._units += 1
        if last and milestone.stage == "mle":
            self._save(self.run.mle_checkpoint)
        if last or self._units % self.config.checkpoint_every == 0:
            self._save(self.run.latest_checkpoint)
        return metrics

    def _measure(self, milestone: Milestone) -> GeneratorMetrics:
        size = self.config.evaluation_samples
        return measure_generator(
            self.game.generator,
            self.task.real_sequences("test")[:size],
            np.random.default_rng([self.config.seed, _STREAMS[milestone.stage], milestone.index]),
            oracle=self.task.oracle,
            n_samples=size,
            eos_token=self.task.eos_token,
        )

    def _log(self, milestone: Milestone, metrics: GeneratorMetrics | None) -> None:
        row: dict[str, str | int | float | None] = {
            "stage": milestone.stage,
            "index": milestone.index,
            "epoch": self.game.pretrainer.epochs + self.game.trainer.rounds,
            "train_nll": milestone.train_nll,
            "validation_nll": milestone.validation_nll,
        }
        if metrics is not None:
            row |= {"distinct": metrics.distinct}
            for name in ("nll_oracle", "nll_test", "entropy"):
                value: Estimate | None = getattr(metrics, name)
                if value is not None:
                    row |= {name: value.mean, f"{name}_se": value.standard_error}
        report = self.game.trainer.last_report
        if milestone.stage != "mle" and report is not None:
            row["discriminator_loss"] = report.loss
            row["discriminator_accuracy"] = report.accuracy
            row["discriminator_calibration_error"] = report.calibration_error
        if milestone.stage == "adversarial":
            row["mean_reward"] = self.game.trainer.mean_reward
        self.run.log(row)
        if metrics is not None:
            title = f"{_STAGE_TITLES[milestone.stage]} {milestone.index}/{milestone.total}"
            accuracy = row.get("discriminator_accuracy")
            held_out = "" if accuracy is None else f"  D accuracy {accuracy:.3f}"
            self.console.print(f"{title:>14}  {_nlls(metrics)}{held_out}", highlight=False)

    def _save(self, checkpoint: Path) -> None:
        tensors, state = snapshot(self.game)
        write_tensors(checkpoint, tensors, {"game": state, "metrics_size": self.run.metrics_size()})


def close_run(run: RunFolder, device: str, console: Console) -> list[TableRow]:
    """Measure all methods of the closing table, print and save it, and draw the learning curve."""
    config, task = run.config(), run.task()
    methods: list[tuple[str, RolloutPolicy]] = [("random", UniformPolicy(task.vocab_size))]
    if run.mle_checkpoint.is_file():
        mle = run.generator(run.mle_checkpoint).to(device)
        methods.append(("MLE", mle))
        methods += [(f"MLE, temp. {t}", mle.at_temperature(t)) for t in MLE_TEMPERATURES]
    name = "SeqGAN" if config.reward_model == "discriminator" else f"reward {config.reward_model}"
    methods.append((name, run.generator().to(device)))
    rows = []
    with console.status("measuring for the closing table"):
        for index, (method, generator) in enumerate(methods):
            rng = np.random.default_rng([config.seed, _STREAMS["table"], index])
            rows.append(TableRow(method, measure(generator, task, rng, config.final_samples)))
        if task.oracle is not None:
            rng = np.random.default_rng([config.seed, _STREAMS["table"], len(methods)])
            rows.append(TableRow("oracle (floor)", measure(task.oracle, task, rng, config.final_samples)))
    console.print(results_table(rows))
    write_atomically(run.path / "results.csv", results_csv(rows).encode())
    floor = rows[-1].metrics.entropy if task.oracle is not None else None
    plot_learning_curves([run], run.path / "learning_curve.png", None if floor is None else floor.mean)
    return rows


def measure(generator: RolloutPolicy, task: Task, rng: np.random.Generator, n_samples: int) -> GeneratorMetrics:
    """All metrics of a generator on a task, with the whole test split."""
    return measure_generator(
        generator,
        task.real_sequences("test"),
        rng,
        oracle=task.oracle,
        n_samples=n_samples,
        eos_token=task.eos_token,
    )


def results_table(rows: Sequence[TableRow]) -> Table:
    """The closing table: both NLLs side by side with standard errors, entropy, both KLs, diversity."""
    samples = rows[0].metrics.n_samples
    table = Table(
        title=f"nats per token, ± standard error, {samples:,} samples a line; o is the oracle",
        caption="NLL_oracle alone falls when a generator loses diversity, as MLE at\n"
        "lower temperatures shows; better means lower at equal or lower NLL_test.",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("method", no_wrap=True, max_width=18)
    for column in ("NLL_oracle", "NLL_test", "H(G)", "KL(G‖o)", "KL(o‖G)", "unique"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        m = row.metrics
        with_errors = ["" if nll is None else str(nll) for nll in (m.nll_oracle, m.nll_test)]
        means = ["" if e is None else f"{e.mean:.3f}" for e in (m.entropy, m.kl_from_oracle, m.kl_to_oracle)]
        table.add_row(row.method, *with_errors, *means, f"{m.distinct:.4f}")
    return table


def results_csv(rows: Sequence[TableRow]) -> str:
    """The closing table as CSV, a column for each mean and standard error."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", *measured_columns(rows[0].metrics)])
    for row in rows:
        writer.writerow([row.method, *measured_columns(row.metrics).values()])
    return text.getvalue()


def measured_columns(metrics: GeneratorMetrics) -> dict[str, str]:
    """Name -> text of each mean and standard error, as CSVs hold them; empty where there is none."""
    columns = {}
    for name in ("nll_oracle", "nll_test", "entropy", "kl_from_oracle", "kl_to_oracle"):
        value: Estimate | None = getattr(metrics, name)
        columns[name] = "" if value is None else f"{value.mean:.6f}"
        columns[f"{name}_se"] = "" if value is None else f"{value.standard_error:.6f}"
    return columns | {"distinct": f"{metrics.distinct:.6f}", "n_samples": str(metrics.n_samples)}


def evaluate_run(
    run: RunFolder, n_samples: int, temperatures: Sequence[float], seed: int, device: str
) -> list[TableRow]:
    """Measure a run's latest generator at some temperatures."""
    task = run.task()
    generator = run.generator().to(device)
    rows = []
    for index, temperature in enumerate(temperatures):
        rng = np.random.default_rng([seed, _STREAMS["command"], index])
        tempered = generator.at_temperature(temperature)
        rows.append(TableRow(f"temperature {temperature}", measure(tempered, task, rng, n_samples)))
    return rows


def _nlls(metrics: GeneratorMetrics) -> str:
    """Both NLLs, never one alone."""
    oracle = "" if metrics.nll_oracle is None else f"NLL_oracle {metrics.nll_oracle.mean:.3f}  "
    return f"{oracle}NLL_test {'' if metrics.nll_test is None else f'{metrics.nll_test.mean:.3f}'}"


def resolve_device(device: str) -> str:
    """A device's name; "auto" is a GPU where there is one.

    Raises:
        ValueError: if there is no such device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={device!r} cannot be used here ({reason}); use auto or cpu") from error
    return device
