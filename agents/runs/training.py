"""One run from start to table: train, measure on the way, save, show progress; and go on after an interruption.

In: a run folder. Out: the same folder with metrics, checkpoints, the closing table and the learning curve.
Measurements draw from random streams of their own, named by seed, stage and index, so that measuring more or less often
does not change the training.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from agents.learner_options import reward_model_of
from agents.runs.budget import Budget
from agents.runs.checkpoints import read_tensors, restore, restore_pretraining, snapshot, write_tensors
from agents.runs.console import TerminalConsole
from agents.runs.health import Diverged, Health, diverged
from agents.runs.learning_curve import plot_learning_curves
from agents.runs.reading import reading
from agents.runs.regular_files import write_atomically
from agents.runs.resampling import Residual
from agents.runs.run_folder import RunFolder
from agents.runs.stopping import undisturbed
from agents.runs.stored_models import check_game_sizes
from agents.seqgan import Milestone, SeqGAN, SeqGANConfig, Stage
from seqgan_env.components import is_learned_reward
from seqgan_env.measures.measurement import Measurement, Measures, TableRow
from seqgan_env.mixed_reward import MixedReward, is_mixed
from seqgan_env.models.sequence_models import SequenceModel

_STAGE_TITLES: dict[Stage, str] = {"mle": "MLE", "discriminator": "D pretraining", "adversarial": "SeqGAN"}
# Streams of measurements, beside the seed; part of what a seed means, so never renumbered.
_STREAMS: dict[str, int] = {"mle": 0, "discriminator": 1, "adversarial": 2, "table": 3, "command": 4}
# Temperatures at which MLE stands beside SeqGAN in the closing table: each lowers NLL_oracle for free.
MLE_TEMPERATURES = (0.9, 0.8, 0.7)
_WRITTEN = 50  # samples of each measurement that are kept to be read


class Experiment:
    """A run in its folder: trains what is left of it. It holds the run's lock until `train` or `close` ends.

    Args:
        run: the run folder; the newest whole checkpoint in it, if any, is where training goes on.
        device: "cpu", "cuda", ...
        console: where progress goes.
        show_progress: whether to draw a bar; measurements are printed in any case.

    Raises:
        ValueError: if the run cannot go on, or another process trains it.
        OSError: if the folder cannot be written.
    """

    def __init__(self, run: RunFolder, device: str = "cpu", console: Console | None = None, show_progress: bool = True):
        run.expect_resumable()
        self.run = run
        self.device = device
        self.config = run.config()
        self.console = console or TerminalConsole()
        self.show_progress = show_progress
        self._unsaved: tuple[dict[str, Tensor], dict[str, Any]] | None = None
        self._units = 0
        run.acquire()
        try:
            self._open()
        except BaseException:
            run.release()
            raise

    def _open(self) -> None:
        """Build the game and set it to where the run stands."""
        run = self.run
        run.remove_remains()
        self.task = run.task()
        stored = run.newest_readable()
        if stored is not None:
            check_game_sizes(self.config, self.task, stored[1], stored[0])
        self.game = SeqGAN(self.task, self.config, self.device, run.models())
        self.measures = self.task.measures(self.config.measuring.held_out_sequences)
        self.health = Health(self.game)
        self.budget = Budget.of(run)
        if stored is None:
            if run.start_checkpoint.is_file():
                self.game.begin_with(read_tensors(run.start_checkpoint)[0])
            run.rewind_metrics(0)
            return
        path, tensors, state = stored
        if "game" not in state or "metrics_size" not in state:
            raise ValueError(f"{str(path)!r} is not a checkpoint of a run; restore the file, or start a new run")
        begun_by_another = path == run.mle_checkpoint and run.description.get("pretrained") is not None
        (restore_pretraining if begun_by_another else restore)(self.game, tensors, state["game"])
        remembered = state.get("metrics")
        run.rewind_metrics(state["metrics_size"], None if remembered is None else remembered.encode())

    def close(self) -> None:
        """Close the logs and give the lock back."""
        try:
            self.run.close()
        finally:
            self.run.release()

    def train(self) -> None:
        """Algorithm 1 from where the run stands.

        Whatever ends it, Ctrl-C and a full terminal included, what was done is saved first, up to the last whole unit
        of work.

        Raises:
            Diverged: if numbers leave the sensible range; the last good checkpoint stays.
        """
        stage: Stage = "mle"
        bar = self._bar()
        stages: dict[Stage, TaskID] = {}

        def after(milestone: Milestone) -> None:
            nonlocal stage
            stage = milestone.stage
            if stage not in stages:
                for other in stages.values():
                    bar.stop_task(other)
                stages[stage] = bar.add_task(_STAGE_TITLES[stage], total=milestone.total, nlls="")
            measurement = self._after(milestone)
            bar.update(stages[stage], completed=milestone.index)
            if measurement is not None:
                bar.update(stages[stage], nlls=measurement.headline())

        try:
            with bar:
                self._train(after)
            self._save(self.run.latest_checkpoint)  # with G_beta, also where no game followed
        except (KeyboardInterrupt, Diverged, OSError):
            raise
        except Exception as error:  # an error that NaN has led to somewhere else
            fault = self.health.fault()
            if fault is None:
                raise
            raise diverged(fault, stage, self.config) from error
        finally:
            with undisturbed():
                try:
                    self._save_what_is_left()
                finally:
                    self.close()

    def _train(self, after: Callable[[Milestone], None]) -> None:
        self.budget.begin(self.device)
        self.game.train(after)

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[nlls]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.show_progress,
        )

    def _after(self, milestone: Milestone) -> Measurement | None:
        """Measure, log and save after a unit of work; the measurement, if one was due."""
        last = milestone.index == milestone.total
        if milestone.stage == "mle":
            last = self.game.pretrainer.finished
        every = (self.config.pretraining if milestone.stage == "mle" else self.config.game).measure_every
        due = milestone.stage != "discriminator" and (last or milestone.index == 1 or milestone.index % every == 0)
        self.health.check(milestone, None)  # before anything is drawn from models that may be broken
        measurement = self._measure(milestone) if due else None
        if measurement is not None:
            self.health.check(milestone, measurement)
        self._log(milestone, measurement)
        self._units += 1
        if last and milestone.stage == "mle":
            self._save(self.run.mle_checkpoint)
        if last or self._units % self.config.checkpoint_every == 0:
            self._save(self.run.latest_checkpoint)
        else:
            self._unsaved = self._snapshot(copy=True)
        self._tell(milestone, measurement)
        self.budget.after(self.game, self.run, milestone, self.device, self.console)
        self.config = self.game.config
        return measurement

    def _measure(self, milestone: Milestone) -> Measurement:
        size = self.config.measuring.samples
        rng = np.random.default_rng([self.config.seed, _STREAMS[milestone.stage], milestone.index])
        measurement = self.measures.measure_on_the_way(self.game.generator, size, rng)
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
            numbers = measurement.numbers()
            row |= {name: numbers[name] for name in self.run.metric_columns if name in numbers}
        report = self.game.trainer.last_report
        if milestone.stage != "mle" and report is not None:
            row["discriminator_loss"] = report.loss
            row["discriminator_accuracy"] = report.accuracy
            row["discriminator_calibration_error"] = report.calibration_error
        if milestone.stage == "adversarial":
            row["mean_reward"] = self.game.trainer.mean_reward
            if isinstance(self.game.plain_reward_model, MixedReward):
                means = self.game.plain_reward_model.take_means()
                row |= {f"reward_{name}": mean for name, mean in means.items()}
        self.run.log(row)

    def _tell(self, milestone: Milestone, measurement: Measurement | None) -> None:
        """Print a measurement, and a warning if the generator repeats itself."""
        if measurement is None:
            return
        report = self.game.trainer.last_report
        title = f"{_STAGE_TITLES[milestone.stage]} {milestone.index}/{milestone.total}"
        held_out = "" if milestone.stage == "mle" or report is None else f"  D accuracy {report.accuracy:.3f}"
        self.console.print(f"{title:>14}  {measurement.headline()}{held_out}", highlight=False)
        if (said := self.health.collapse(measurement)) is not None:
            self.console.print(f"warning: {said}", highlight=False, soft_wrap=True)

    # Checkpoints.

    def _snapshot(self, copy: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Where the game and metrics.csv stand; with `copy` tensors that later training does not change."""
        tensors, state = snapshot(self.game)
        if copy:
            tensors = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        metrics = self.run.metrics_content()
        return tensors, {"game": state, "metrics_size": len(metrics), "metrics": metrics.decode()}

    def _save(self, checkpoint: Path) -> None:
        self._write(checkpoint, *self._snapshot())
        if checkpoint == self.run.latest_checkpoint:
            self._unsaved = None

    def _write(self, checkpoint: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        previous = self.run.previous_checkpoint if checkpoint == self.run.latest_checkpoint else None
        write_tensors(checkpoint, tensors, state, previous)

    def _save_what_is_left(self) -> None:
        """Save units of work that no checkpoint holds yet."""
        if self._unsaved is not None:
            self._write(self.run.latest_checkpoint, *self._unsaved)
            self._unsaved = None


def close_run(run: RunFolder, device: str, console: Console) -> list[TableRow]:
    """Measure all methods of the closing table, save it, draw the learning curve, print the table and what it says."""
    methods = _methods(run, device)
    with console.status("measuring for the closing table"):
        rows = _closing_rows(run, methods)
    write_atomically(run.path / "results.csv", results_csv(rows).encode())
    plot_learning_curves([run], run.path / "learning_curve.png", run.measures.floor(rows))
    console.print(results_table(rows, run.measures))
    if (said := reading(rows, methods[-1][0])) is not None:
        console.print(said, highlight=False)
    return rows


def _closing_rows(run: RunFolder, methods: Sequence[tuple[str, SequenceModel]]) -> list[TableRow]:
    """What the run has made, with what the task's measures compare it with."""
    config = run.config()

    def rng(line: int) -> np.random.Generator:
        return np.random.default_rng([config.seed, _STREAMS["table"], line])

    mle = methods[0][1] if methods[0][0] == "MLE" and config.game.rounds else None
    return run.measures.closing_rows(methods, config.final_samples, rng, mle)


def _methods(run: RunFolder, device: str) -> list[tuple[str, SequenceModel]]:
    """What a run has made: MLE, MLE at lower temperatures, and what the game made of it."""
    config, methods = run.config(), []
    if run.mle_checkpoint.is_file():
        mle = run.generator(run.mle_checkpoint).to(device)
        methods = [("MLE", mle), *((f"MLE, temp. {t}", mle.at_temperature(t)) for t in MLE_TEMPERATURES)]
    if methods and not config.game.rounds:
        return methods
    name = _name_of_the_game(config)
    asked = Budget.of(run).asked.get("game.rounds", config.game.rounds)
    if config.game.rounds < asked:
        name = f"{name}, {config.game.rounds} of {asked} rounds"
    return [*methods, (name, run.generator().to(device))]


def _name_of_the_game(config: SeqGANConfig) -> str:
    """What the closing table calls the generator after the game."""
    if reward_model_of(config.learner.name) == "constant":
        return f"learner {config.learner.name}"
    reward = config.game.reward_model
    if is_mixed(reward):
        return "SeqGAN, mixed reward" if is_learned_reward(reward) else "mixed reward"
    return "SeqGAN" if reward in ("discriminator", "logit", "relativistic") else f"reward {reward}"


def results_table(rows: Sequence[TableRow], measures: Measures) -> Table:
    """The closing table for the terminal."""
    text = measures.table(rows)
    table = _new_table(text.title, text.caption, text.gap)
    for column in text.columns:
        table.add_column(column, justify="right", no_wrap=True)
    for cells in text.cells:
        table.add_row(*cells)
    return table


def _new_table(title: str, caption: str, gap: int = 1) -> Table:
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, gap, 0, 0), pad_edge=False)
    table.add_column("method", no_wrap=True, max_width=28)
    return table


def results_csv(rows: Sequence[TableRow]) -> str:
    """The closing table as CSV, a column for each mean and standard error."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", *rows[0].measurement.columns()])
    for row in rows:
        writer.writerow([row.method, *row.measurement.columns().values()])
    return text.getvalue()


def curve_csv(rows: Sequence[TableRow], run: RunFolder, temperatures: Sequence[float]) -> str:
    """A run on a corpus at some temperatures, as `seqgan plot` draws quality against diversity."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "seed", "temperature", *rows[0].measurement.columns()])
    for row, temperature in zip(rows, temperatures, strict=True):
        where = [run.path.name, run.config().seed, temperature]
        writer.writerow([*where, *row.measurement.columns().values()])
    return text.getvalue()


def evaluate_run(
    run: RunFolder, n_samples: int, temperatures: Sequence[float], seed: int, device: str, proposals: int = 1
) -> list[TableRow]:
    """Measure a run's latest generator at some temperatures; with more proposals than 1, resampled by D's logit."""
    if proposals > 1:
        return _resampled_rows(run, n_samples, temperatures, seed, device, proposals)
    generator = run.generator().to(device)
    rows = []
    for index, temperature in enumerate(temperatures):
        rng = np.random.default_rng([seed, _STREAMS["command"], index])
        measurement = run.measures.measure(generator.at_temperature(temperature), n_samples, rng)
        rows.append(TableRow(f"temperature {temperature}", measurement))
    return rows


def _resampled_rows(
    run: RunFolder, n_samples: int, temperatures: Sequence[float], seed: int, device: str, proposals: int
) -> list[TableRow]:
    residual, rows = Residual.of(run, device), []
    for index, temperature in enumerate(temperatures):
        rng = np.random.default_rng([seed, _STREAMS["command"], index])
        measurement = residual.measure(run.measures, n_samples, proposals, rng, temperature)
        rows.append(TableRow(f"resampled at {temperature}", measurement))
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
