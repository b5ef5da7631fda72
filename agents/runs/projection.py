"""How long a run will take: each unit of work is tried once on this machine, then multiplied.

In: a task and a configuration. Out: seconds of each stage. What is tried works on models of its own, so that nothing of
the run itself is touched.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from agents.seqgan import SeqGAN, SeqGANConfig
from agents.setting_paths import changed
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.task import Task

_BATCHES = 4  # of MLE and of the discriminator that are tried
_SAMPLES = 500  # that are drawn and measured
_TABLE_LINES = 7
# Tokens that the search of one update may draw while it is tried; beyond that a share of its sequences is.
_SEARCHED = 64 * 16 * 20 * 20
_LONG = 3.0  # seconds of a unit that is not tried twice
_SECONDS_KEPT = 0.05  # share of a time limit that is left for what cannot be foreseen


@dataclass(frozen=True)
class UnitCosts:
    """Seconds of the units of work that a run repeats.

    Attributes:
        mle_epoch: one MLE epoch with its held-out NLL.
        discriminator_draw: drawing fresh negatives and reporting, without the epochs; 0 if no discriminator is trained.
        discriminator_epoch: one epoch on a draw; likewise.
        generator_update: search, scoring and policy gradient of one batch.
        measurement: of the generator, on the way.
    """

    mle_epoch: float
    discriminator_draw: float
    discriminator_epoch: float
    generator_update: float
    measurement: float

    def projection(self, config: SeqGANConfig) -> Projection:
        """Seconds of a whole run, stage by stage; early stopping of MLE is not foreseen, its closing table is."""
        game, mle = config.game, config.pretraining
        d_step = self.discriminator_draw + game.k_epochs * self.discriminator_epoch
        a_round = game.g_steps * self.generator_update + game.d_steps * d_step
        return Projection(
            mle=mle.epochs * self.mle_epoch + mle.epochs / mle.measure_every * self.measurement,
            discriminator=config.discriminator.pretraining_steps * d_step,
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


def try_units(task: Task, config: SeqGANConfig, device: str | torch.device = "cpu") -> UnitCosts:
    """Time each unit of work on a small share of it, some seconds at the paper's sizes.

    Args:
        task: of the run.
        config: likewise.
        device: where models will live.
    """
    searched = config.learner.batch_size * config.game.n_rollouts * task.sequence_length**2
    share = 1.0 if config.game.reward_mode == "terminal" else min(1.0, _SEARCHED / searched)
    rows = max(1, round(config.learner.batch_size * share))
    game = SeqGAN(task, changed(config, {"game.g_steps": 1, "learner.batch_size": rows}), device)
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
        return sample_sequences(game.generator, _SAMPLES, task.sequence_length, rng, task.eos_token)

    def update() -> object:
        return game.agent.learn(rows * task.sequence_length, reset_num_timesteps=False)

    def measure() -> object:
        return measures.measure_on_the_way(game.generator, measured, rng)

    measures.prepare()  # once in a run
    game.trainer.sync(game.generator)
    game.env.env_method("set_rollout_policy", game.trainer.rollout_policy)
    with game.streams:
        draw_seconds = epoch_seconds = 0.0
        if game.trainer.discriminator is not None:
            # A report draws and scores sequences of its own; that costs about as much as drawing so many more.
            draw_seconds = _seconds(draw) * (draw_size + 4 * _SAMPLES) / _SAMPLES
            epoch_seconds = _seconds(lambda: game.trainer.epoch(real, real)) * draw_size / len(real)
        return UnitCosts(
            mle_epoch=_seconds(pretrainer.epoch) * of_an_epoch / len(tried),
            discriminator_draw=draw_seconds,
            discriminator_epoch=epoch_seconds,
            generator_update=_seconds(update) * config.learner.batch_size / rows,
            measurement=_seconds(measure) * config.measuring.samples / measured,
        )


@torch.no_grad()
def _expect_real_lengths(generator: SequenceModel, task: Task) -> None:
    """Let a new generator's sequences be about as long as real ones; else they hardly ever end, and cost more."""
    if task.eos_token is None:
        return
    sequences = task.some_sequences("validation", 1000)
    tokens = float((sequences < task.vocab_size).sum(dim=1).float().mean())
    generator.output.bias[task.eos_token] = math.log(max(1, task.vocab_size - 1) / max(tokens - 1, 0.1))


def within(config: SeqGANConfig, costs: UnitCosts, minutes: float) -> SeqGANConfig:
    """Settings whose projected time is at most so long.

    MLE gets at most half of the time, in fewer epochs; what is left is shared by discriminator and game, each with the
    same share of its steps and rounds, since a game against an untrained discriminator is worth nothing.

    Returns:
        `config` itself where it fits.
    """
    limit = 60 * minutes * (1 - _SECONDS_KEPT)
    projection = costs.projection(config)
    if projection.total <= limit or not projection.adversarial:
        return config
    if projection.mle > limit / 2:
        epochs = max(1, int(config.pretraining.epochs * limit / 2 / projection.mle))
        config = changed(config, {"pretraining.epochs": epochs})
        projection = costs.projection(config)
    left = max(0.0, limit - projection.mle - projection.table)
    share = min(1.0, left / (projection.discriminator + projection.adversarial))
    steps = config.discriminator.pretraining_steps
    fewer = {
        "game.rounds": max(1, int(config.game.rounds * share)),
        "discriminator.pretraining_steps": max(min(1, steps), int(steps * share)),
    }
    return changed(config, fewer)


def _seconds(work: Callable[[], object]) -> float:
    """Wall time of the second of two calls: the first also pays for what is made once, which a long one may."""
    for _ in range(2):
        _wait_for_gpu()
        start = time.perf_counter()
        work()
        _wait_for_gpu()
        seconds = time.perf_counter() - start
        if seconds > _LONG:
            break
    return seconds


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
