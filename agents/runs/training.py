"""One run from start to table: train, measure on the way, save, show progress; and go on after an interruption.

In: a run folder. Out: the same folder with metrics, checkpoints, the closing table and the learning curve.
Measurements draw from random streams of their own, named by seed, stage and index, so that measuring more or less often
does not change the training.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from agents.configuration import SeqGANConfig
from agents.runs.checkpoints import (
    read_tensors,
    restore,
    restore_pretraining,
    snapshot,
    write_atomically,
    write_tensors,
)
from agents.runs.console import TerminalConsole
from agents.runs.learning_curve import plot_learning_curves
from agents.runs.measurements import Measurement, TaskMeasures, measured_columns
from agents.runs.run_folder import RunFolder
from agents.seqgan import Milestone, SeqGAN, Stage
from seqgan_env.measures.likelihood import Estimate, GeneratorMetrics, measure_generator
from seqgan_env.measures.samples import CorpusMetrics
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.rollout_policies import RolloutPolicy, UniformPolicy
from seqgan_env.tasks.music import MusicOptions, music_task
from seqgan_env.tasks.oracle import oracle_task
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.text import TextOptions, text_task
from seqgan_env.tasks.toy import toy_task

_STAGE_TITLES: dict[Stage, str] = {"mle": "MLE", "discriminator": "D pretraining", "adversarial": "SeqGAN"}
# Streams of measurements, beside the seed; part of what a seed means, so never renumbered.
_STREAMS: dict[str, int] = {"mle": 0, "discriminator": 1, "adversarial": 2, "table": 3, "command": 4}
# Temperatures at which MLE stands beside SeqGAN in the closing table: each lowers NLL_oracle for free.
MLE_TEMPERATURES = (0.9, 0.8, 0.7)
_FLOOR = "oracle (floor)"
_MATCHED = "*"  # marks MLE at the temperature at which it is as little diverse as the method it stands beside
_WRITTEN = 50  # samples of each measurement that are kept to be read


@dataclass(frozen=True)
class TableRow:
    """A line of the closing table."""

    method: str
    metrics: GeneratorMetrics
    corpus: CorpusMetrics | None = None


def make_task(name: str, config: SeqGANConfig, options: TextOptions | MusicOptions | None = None) -> Task:
    """The task of a new run: "oracle" or "toy", or what `options` say of a corpus.

    Raises:
        ValueError: if an oracle or a corpus cannot be used.
    """
    if isinstance(options, TextOptions):
        return text_task(**asdict(options))
    if isinstance(options, MusicOptions):
        return music_task(**asdict(options))
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
        self.console = console or TerminalConsole()
        self.show_progress = show_progress
        self.game = SeqGAN(self.task, self.config, device)
        self.measures = TaskMeasures(self.task, self.config.held_out_sequences)
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
                measurement = self._after(milestone)
                bar.update(stages[milestone.stage], completed=milestone.index)
                if measurement is not None:
                    bar.update(stages[milestone.stage], nlls=measurement.headline())

            self.game.train(after)
        self._save(self.run.latest_checkpoint)
        self.run.close()

    def _after(self, milestone: Milestone) -> Measurement | None:
        """Measure, log and save after a unit of work; the measurement, if one was due."""
        last = milestone.index == milestone.total
        if milestone.stage == "mle":
            last = self.game.pretrainer.finished
        every = self.config.evaluate_every_epochs if milestone.stage == "mle" else self.config.evaluate_every_rounds
        due = milestone.stage != "discriminator" and (last or milestone.index == 1 or milestone.index % every == 0)
        measurement = self._measure(milestone) if due else None
        self._log(milestone, measurement)
        self._units += 1
        if last and milestone.stage == "mle":
            self._save(self.run.mle_checkpoint)
        if last or self._units % self.config.checkpoint_every == 0:
            self._save(self.run.latest_checkpoint)
        return measurement

    def _measure(self, milestone: Milestone) -> Measurement:
        size = self.config.evaluation_samples
        rng = np.random.default_rng([self.config.seed, _STREAMS[milestone.stage], milestone.index])
        tested = None if self.measures.is_corpus else self.measures.test[:size]  # an oracle's are all alike
        measurement = self.measures.generator(self.game.generator, size, rng, tested)
        if self.task.vocabulary is not None:
            written = measurement.samples[:_WRITTEN].tolist()
            self.run.write_samples(milestone.stage, milestone.index, map(self.task.vocabulary.decode, written))
        return measurement

    def _log(self, milestone: Milestone, measurement: Measurement | None) -> None:
        row: dict[str, str | int | float | None] = {
            "stage": milestone.stage,
            "index": milestone.index,
            "epoch": self.game.pretrainer.epochs + self.game.trainer.rounds,
            "train_nll": milestone.train_nll,
            "validation_nll": milestone.validation_nll,
        }
        if measurement is not None:
            row |= {"distinct": measurement.metrics.distinct}
            for name in ("nll_oracle", "nll_test", "entropy"):
                value: Estimate | None = getattr(measurement.metrics, name)
                if value is not None:
                    row |= {name: value.mean, f"{name}_se": value.standard_error}
            if measurement.corpus is not None:
                columns = measurement.corpus.columns()
                row |= {name: columns[name] for name in self.run.metric_columns if name in columns}
                row["perplexity"] = measurement.metrics.perplexity
        report = self.game.trainer.last_report
        if milestone.stage != "mle" and report is not None:
            row["discriminator_loss"] = report.loss
            row["discriminator_accuracy"] = report.accuracy
            row["discriminator_calibration_error"] = report.calibration_error
        if milestone.stage == "adversarial":
            row["mean_reward"] = self.game.trainer.mean_reward
        self.run.log(row)
        if measurement is not None:
            title = f"{_STAGE_TITLES[milestone.stage]} {milestone.index}/{milestone.total}"
            accuracy = row.get("discriminator_accuracy")
            held_out = "" if accuracy is None else f"  D accuracy {accuracy:.3f}"
            self.console.print(f"{title:>14}  {measurement.headline()}{held_out}", highlight=False)

    def _save(self, checkpoint: Path) -> None:
        tensors, state = snapshot(self.game)
        write_tensors(checkpoint, tensors, {"game": state, "metrics_size": self.run.metrics_size()})


def close_run(run: RunFolder, device: str, console: Console) -> list[TableRow]:
    """Measure all methods of the closing table, save it, draw the learning curve, and print the table."""
    with console.status("measuring for the closing table"):
        rows = _corpus_rows(run, device) if run.task().statistics is not None else _oracle_rows(run, device)
    write_atomically(run.path / "results.csv", results_csv(rows).encode())
    floor = rows[-1].metrics.entropy if rows[-1].method == _FLOOR else None
    plot_learning_curves([run], run.path / "learning_curve.png", None if floor is None else floor.mean)
    console.print(results_table(rows))
    return rows


def _methods(run: RunFolder, device: str) -> list[tuple[str, SequenceModel]]:
    """What a run has made: MLE, MLE at lower temperatures, and what the game made of it."""
    config, methods = run.config(), []
    if run.mle_checkpoint.is_file():
        mle = run.generator(run.mle_checkpoint).to(device)
        methods = [("MLE", mle), *((f"MLE, temp. {t}", mle.at_temperature(t)) for t in MLE_TEMPERATURES)]
    if methods and not config.rounds:
        return methods
    name = "SeqGAN" if config.reward_model in ("discriminator", "logit") else f"reward {config.reward_model}"
    return [*methods, (name, run.generator().to(device))]


def _oracle_rows(run: RunFolder, device: str) -> list[TableRow]:
    """Random tokens, the run's methods and the oracle itself."""
    config, task = run.config(), run.task()
    methods: list[tuple[str, RolloutPolicy]] = [("random", UniformPolicy(task.vocab_size)), *_methods(run, device)]
    if task.oracle is not None:
        methods.append((_FLOOR, task.oracle))
    rows = []
    for index, (method, generator) in enumerate(methods):
        rng = np.random.default_rng([config.seed, _STREAMS["table"], index])
        rows.append(TableRow(method, measure(generator, task, rng, config.final_samples)))
    return rows


def _corpus_rows(run: RunFolder, device: str) -> list[TableRow]:
    """The run's methods, MLE at the temperature at which it repeats itself as the last one does, and real data."""
    config, task = run.config(), run.task()
    measures = TaskMeasures(task, config.held_out_sequences)
    size, methods = config.final_samples, _methods(run, device)

    def rng(index: int) -> np.random.Generator:
        return np.random.default_rng([config.seed, _STREAMS["table"], index])

    rows = []
    for index, (method, generator) in enumerate(methods):
        measurement = measures.generator(generator, size, rng(index))
        rows.append(TableRow(method, measurement.metrics, measurement.corpus))
    last = rows[-1].corpus
    if methods[0][0] == "MLE" and config.rounds and last is not None:
        target = last.self_bleu[measures.order].mean
        temperature = measures.matched_temperature(methods[0][1], target, size, rng(len(methods)))
        if temperature is not None:
            matched = methods[0][1].at_temperature(temperature)
            measurement = measures.generator(matched, size, rng(len(methods) + 1))
            rows.append(TableRow(f"MLE, temp. {temperature:.2f}{_MATCHED}", measurement.metrics, measurement.corpus))
    real = measures.real_data(size, rng(len(methods) + 2))
    return [*rows, TableRow("real data", real.metrics, real.corpus)]


def measure(generator: RolloutPolicy, task: Task, rng: np.random.Generator, n_samples: int) -> GeneratorMetrics:
    """All likelihoods of a generator on a task, with the whole test split."""
    return measure_generator(
        generator,
        task.real_sequences("test"),
        rng,
        oracle=task.oracle,
        n_samples=n_samples,
        eos_token=task.eos_token,
    )


def results_table(rows: Sequence[TableRow]) -> Table:
    """The closing table, with an oracle or for a corpus."""
    return _oracle_table(rows) if rows[0].corpus is None else _corpus_table(rows)


def _oracle_table(rows: Sequence[TableRow]) -> Table:
    """Both NLLs side by side with standard errors, entropy, both KLs, diversity."""
    samples = rows[0].metrics.n_samples
    table = _new_table(
        f"nats per token, ± standard error, {samples:,} samples a line; o is the oracle",
        "NLL_oracle alone falls when a generator loses diversity, as MLE at\n"
        "lower temperatures shows; better means lower at equal or lower NLL_test.",
    )
    for column in ("NLL_oracle", "NLL_test", "H(G)", "KL(G‖o)", "KL(o‖G)", "unique"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        m = row.metrics
        with_errors = ["" if nll is None else str(nll) for nll in (m.nll_oracle, m.nll_test)]
        means = ["" if e is None else f"{e.mean:.3f}" for e in (m.entropy, m.kl_from_oracle, m.kl_to_oracle)]
        table.add_row(row.method, *with_errors, *means, f"{m.distinct:.4f}")
    return table


def _corpus_table(rows: Sequence[TableRow]) -> Table:
    """Quality (BLEU) beside diversity (self-BLEU, distinct pairs), likelihood, memory; for music the squared error."""
    first = rows[0].corpus
    assert first is not None
    caption = (
        "BLEU alone rises when a generator loses diversity, as MLE at lower\n"
        "temperatures shows: compare lines of equal self-BLEU (self-2).\n"
        + ("MSE is to the nearest test melody" if first.melody else "dist-2 is the share of different pairs")
        + ", real data the\nvalidation split. results.csv has more."
    )
    if any(row.method.endswith(_MATCHED) for row in rows):
        caption += f"\n{_MATCHED} the temperature at which MLE repeats itself as much as the line above"
    table = _new_table(
        f"{rows[0].metrics.n_samples:,} samples a line against {first.references:,} test sequences; ± standard error",
        caption,
        gap=0,
    )
    is_music = first.melody is not None
    for column in ("NLL_test", "ppl", "BLEU-2", "-3", "-4", "self-2", "MSE" if is_music else "dist-2", "copied"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        m, c = row.metrics, row.corpus
        assert c is not None
        cells = ["", ""] if m.nll_test is None else [f"{m.nll_test.mean:.3f}", f"{m.perplexity:.1f}"]
        cells += [f"{c.bleu[2].mean:.3f} ±{c.bleu[2].standard_error:.3f}", f"{c.bleu[3].mean:.3f}"]
        cells += [f"{c.bleu[4].mean:.3f}", f"{c.self_bleu[2].mean:.3f}"]
        cells += [f"{c.distinct[2]:.3f}" if c.melody is None else f"{c.melody.nearest.mean:.2f}"]
        table.add_row(row.method, *cells, f"{c.copied.mean:.1%}")
    return table


def _new_table(title: str, caption: str, gap: int = 1) -> Table:
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, gap, 0, 0), pad_edge=False)
    table.add_column("method", no_wrap=True, max_width=18)
    return table


def results_csv(rows: Sequence[TableRow]) -> str:
    """The closing table as CSV, a column for each mean and standard error."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", *measured_columns(rows[0].metrics, rows[0].corpus)])
    for row in rows:
        writer.writerow([row.method, *measured_columns(row.metrics, row.corpus).values()])
    return text.getvalue()


def curve_csv(rows: Sequence[TableRow], run: RunFolder, temperatures: Sequence[float]) -> str:
    """A run on a corpus at some temperatures, as `seqgan plot` draws quality against diversity."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "seed", "temperature", *measured_columns(rows[0].metrics, rows[0].corpus)])
    for row, temperature in zip(rows, temperatures, strict=True):
        where = [run.path.name, run.config().seed, temperature]
        writer.writerow([*where, *measured_columns(row.metrics, row.corpus).values()])
    return text.getvalue()


def evaluate_run(
    run: RunFolder, n_samples: int, temperatures: Sequence[float], seed: int, device: str
) -> list[TableRow]:
    """Measure a run's latest generator at some temperatures."""
    measures = TaskMeasures(run.task(), run.config().held_out_sequences)
    generator = run.generator().to(device)
    rows = []
    for index, temperature in enumerate(temperatures):
        rng = np.random.default_rng([seed, _STREAMS["command"], index])
        measurement = measures.generator(generator.at_temperature(temperature), n_samples, rng)
        rows.append(TableRow(f"temperature {temperature}", measurement.metrics, measurement.corpus))
    return rows


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
