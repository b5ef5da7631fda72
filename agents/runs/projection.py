"""How long a run will take: each unit of work is tried once on this machine, then multiplied.

In: a task and a configuration. Out: seconds of each stage. What is tried works on models of its own, so that nothing of
the run itself is touched. Seconds are of this process's own work, so that another program on the same core does not
make the run seem long.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from agents.runs.health import diverged, is_sound
from agents.seqgan import SeqGAN, SeqGANConfig
from agents.setting_paths import changed, value_at
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.tasks.task import Task

_BATCHES = 4  # of MLE and of the discriminator that are tried
_SAMPLES = 500  # that are drawn and measured
_TABLE_LINES = 7
# Tokens that the search of one update may draw while it is tried; beyond that a share of its sequences is.
_SEARCHED = 64 * 16 * 20 * 20
_LONG = 3.0  # seconds of a unit that is not tried twice
_SECONDS_KEPT = 0.05  # share of a time limit that is left for what cannot be foreseen
# What a time limit makes smaller, and the least of each that is still useful: with fewer rounds a run is a SeqGAN in
# name only, and a game against an untrained discriminator is worth nothing.
COUNTS: dict[str, int] = {"pretraining.epochs": 5, "discriminator.pretraining_steps": 5, "game.rounds": 10}


class WorkClock:
    """Seconds of this process's work since the object was made: processor time, or wall time where that is less.

    With several threads processor time counts each of them, so that wall time is less. On a GPU it is wall time.

    Args:
        device: where models live.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._on_gpu = torch.device(device).type != "cpu"
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def seconds(self) -> float:
        """Since the start."""
        wall, processor = time.perf_counter() - self._wall, time.process_time() - self._processor
        return wall if self._on_gpu else min(wall, processor)


@dataclass(frozen=True)
class UnitCosts:
    """Seconds of the units of work that a run repeats.

    Attributes:
        mle_epoch: one MLE epoch with its held-out NLL.
        discriminator_draw: drawing fresh negatives and reporting, without the epochs; 0 if no discriminator is trained.
        discriminator_epoch: one epoch on a draw; likewise.
        generator_update: search, scoring and policy gradient of one batch.
        measurement: of the generator, on the way.
        discriminator_is_done: whether its pretraining costs nothing any more.
    """

    mle_epoch: float
    discriminator_draw: float
    discriminator_epoch: float
    generator_update: float
    measurement: float
    discriminator_is_done: bool = False

    def without(self, *stages: str) -> UnitCosts:
        """The costs of a run that has done some stages: "mle", "discriminator"."""
        return replace(
            self,
            mle_epoch=0.0 if "mle" in stages else self.mle_epoch,
            discriminator_is_done="discriminator" in stages,
        )

    def projection(self, config: SeqGANConfig) -> Projection:
        """Seconds of a whole run, stage by stage; early stopping of MLE is not foreseen, its closing table is."""
        game, mle = config.game, config.pretraining
        d_step = self.discriminator_draw + game.k_epochs * self.discriminator_epoch
        a_round = game.g_steps * self.generator_update + game.d_steps * d_step
        return Projection(
            mle=mle.epochs * (self.mle_epoch + self.measurement / mle.measure_every) if self.mle_epoch else 0.0,
            discriminator=0.0 if self.discriminator_is_done else config.discriminator.pretraining_steps * d_step,
            adversarial=game.rounds * a_round + game.rounds / game.measure_every * self.measurement,
            table=_TABLE_LINES * self.measurement * config.final_samples / config.measuring.samples,
        )


@dataclass(frozen=True)
class Projection:
    """Seconds that the stages of a run will take."""

    mle: float
    discriminator: float
    adversarial: float
    table: float = 0.0

    @property
    def total(self) -> float:
        """Of all stages, in seconds."""
        return self.mle + self.discriminator + self.adversarial + self.table

    def __str__(self) -> str:
        stages = (
            ("MLE", self.mle),
            ("D pretraining", self.discriminator),
            ("game", self.adversarial),
            ("table", self.table),
        )
        parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in stages if seconds)
        return f"projected time on this machine: {duration(self.total)} ({parts})"


def duration(seconds: float) -> str:
    """For people: "40 s", "3 min", "7 h 20 min", "4 d 6 h"."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def try_units(
    task: Task,
    config: SeqGANConfig,
    device: str | torch.device = "cpu",
    models: Mapping[str, Path] = MappingProxyType({}),
) -> UnitCosts:
    """Time each unit of work on a small share of it, some seconds at the paper's sizes.

    Args:
        task: of the run.
        config: likewise.
        device: where models will live.
        models: as of `SeqGAN`.

    Raises:
        Diverged: if one unit of each is enough to spoil a model.
    """
    searched = config.learner.batch_size * config.game.n_rollouts * task.sequence_length**2
    share = 1.0 if config.game.reward_mode == "terminal" else min(1.0, _SEARCHED / searched)
    rows = max(1, round(config.learner.batch_size * share))
    game = SeqGAN(task, changed(config, {"game.g_steps": 1, "learner.batch_size": rows}), device, models)
    try:
        return _timed(game, task, config, rows, device)
    except Exception as error:
        if not is_sound(game.discriminator):
            raise diverged("a first epoch spoils the discriminator", "discriminator", config) from error
        if not is_sound(game.generator):
            stage = "mle" if config.pretraining.learning_rate >= config.learner.learning_rate else "adversarial"
            raise diverged("a first step spoils the generator", stage, config) from error
        raise


def _timed(game: SeqGAN, task: Task, config: SeqGANConfig, rows: int, device: str | torch.device) -> UnitCosts:
    """The units of a game of so many parallel rows, timed."""
    _expect_real_lengths(game.generator, task)
    rng = np.random.default_rng(0)
    train = task.real_sequences("train")
    of_an_epoch = min(len(train), config.pretraining.epoch_sequences or len(train))
    tried = train[: min(_BATCHES * config.pretraining.batch_size, of_an_epoch)]
    validation = task.some_sequences("validation", config.measuring.held_out_sequences)
    plain = changed(config.pretraining, {"epoch_sequences": None, "patience": None, "curriculum_rate_step": 0.0})
    held_out = validation[: max(1, round(len(validation) * len(tried) / of_an_epoch))]
    pretrainer = plain.pretrainer(game.generator, tried, held_out, rng)
    real = tried.to(game.discriminator.device)
    draw_size = min(config.discriminator.sample_size or len(train), len(train))
    measures = task.measures(config.measuring.held_out_sequences)
    measured = measures.trial_samples(config.measuring.samples)

    def draw() -> object:
        return task.sample(game.generator, _SAMPLES, rng, "train")

    def update() -> object:
        return game.agent.learn(rows * task.response_length, reset_num_timesteps=False)

    def measure() -> object:
        return measures.measure_on_the_way(game.generator, measured, rng)

    measures.prepare()  # once in a run
    game.trainer.sync(game.generator)
    game.env.env_method("set_rollout_policy", game.trainer.rollout_policy)
    with game.streams:
        draw_seconds = epoch_seconds = 0.0
        if game.trainer.discriminator is not None:
            # A report draws and scores sequences of its own; that costs about as much as drawing so many more.
            draw_seconds = _seconds(draw, device) * (draw_size + 4 * _SAMPLES) / _SAMPLES
            epoch_seconds = _seconds(lambda: game.trainer.epoch(real, real), device) * draw_size / len(real)
        return UnitCosts(
            mle_epoch=_seconds(pretrainer.epoch, device) * of_an_epoch / len(tried),
            discriminator_draw=draw_seconds,
            discriminator_epoch=epoch_seconds,
            generator_update=_seconds(update, device) * config.learner.batch_size / rows,
            measurement=_seconds(measure, device) * config.measuring.samples / measured,
        )


@torch.no_grad()
def _expect_real_lengths(generator: SequenceModel, task: Task) -> None:
    """Let a new generator's sequences be about as long as real ones; else they hardly ever end, and cost more."""
    if task.eos_token is None:
        return
    sequences = task.some_sequences("validation", 1000)
    tokens = float((sequences < task.vocab_size).sum(dim=1).float().mean())
    generator.output.bias[task.eos_token] = math.log(max(1, task.vocab_size - 1) / max(tokens - 1, 0.1))


def least(config: SeqGANConfig) -> SeqGANConfig:
    """The settings with the least useful counts; one that is asked to be smaller stays as it is."""
    return changed(config, {path: min(count, value_at(config, path)) for path, count in COUNTS.items()})


def within(config: SeqGANConfig, costs: UnitCosts, minutes: float) -> SeqGANConfig:
    """Settings whose projected time is at most so long.

    MLE gets at most half of the time, in fewer epochs; what is left is shared by discriminator and game, each with the
    same share of its steps and rounds. No count falls below its least useful value.

    Returns:
        `config` itself where it fits.

    Raises:
        ValueError: if the least useful run takes longer; says what each stage needs.
    """
    fitting, fits = fitted_to(config, costs, 60 * minutes)
    if fits:
        return fitting
    needed, smallest = costs.projection(least(config)), least(config)
    parts = (
        (f"MLE {smallest.pretraining.epochs} epochs", needed.mle),
        (f"D pretraining {smallest.discriminator.pretraining_steps} steps", needed.discriminator),
        (f"the game {smallest.game.rounds} rounds", needed.adversarial),
        ("the table", needed.table),
    )
    stages = ", ".join(f"{name} ({duration(seconds)})" for name, seconds in parts if seconds)
    enough = math.ceil(10 * needed.total / 60 / (1 - _SECONDS_KEPT)) / 10
    raise ValueError(
        f"minutes={minutes:g} is too short for a useful run on this machine, which needs at least {stages}; give "
        f"--minutes {enough:g} or more, None for no limit, or settings with less work"
    )


def fitted_to(config: SeqGANConfig, costs: UnitCosts, seconds: float) -> tuple[SeqGANConfig, bool]:
    """Settings as `within` makes them, and whether they fit; if not, they are the least useful ones."""
    limit = seconds * (1 - _SECONDS_KEPT)
    asked, smallest = costs.projection(config), least(config)
    needed = costs.projection(smallest)
    if asked.total <= limit:
        return config, True
    if needed.total > limit:
        return smallest, False
    game = needed.discriminator + needed.adversarial
    share = limit / 2 if game else limit
    share = min(share, limit - game - asked.table)  # of MLE
    epochs, steps = config.pretraining.epochs, config.discriminator.pretraining_steps
    if asked.mle > share:
        epochs = max(smallest.pretraining.epochs, int(epochs * share / asked.mle))
        config = changed(config, {"pretraining.epochs": epochs})
    left = limit - costs.projection(config).mle - asked.table
    if asked.discriminator + asked.adversarial > left:
        part = left / (asked.discriminator + asked.adversarial)
        steps = max(smallest.discriminator.pretraining_steps, int(steps * part))
        fewer = changed(config, {"discriminator.pretraining_steps": steps})
        rest = left - costs.projection(fewer).discriminator
        rounds = int(config.game.rounds * min(part, rest / asked.adversarial)) if asked.adversarial else 0
        config = changed(fewer, {"game.rounds": max(smallest.game.rounds, rounds)})
    return config, True


def _seconds(work: Callable[[], object], device: str | torch.device) -> float:
    """Seconds of the second of two calls; the first is a warm-up. A call over 3 s is not repeated."""
    for _ in range(2):
        _wait_for_gpu()
        clock = WorkClock(device)
        work()
        _wait_for_gpu()
        seconds = clock.seconds()
        if seconds > _LONG:
            break
    return seconds


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
