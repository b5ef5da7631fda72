"""How long a run will take: each unit of work is tried once on this machine, then multiplied.

In: a task and a configuration. Out: seconds of each stage. What is tried works on models of its own, so that nothing of
the run itself is touched; only the global random state is, which a run sets anew when it begins.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from agents.configuration import SeqGANConfig
from agents.pretraining import Pretrainer
from agents.seqgan import SeqGAN
from seqgan_env.metrics import measure_generator
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.task import Task

_BATCHES = 4  # of MLE and of the discriminator that are tried
_SAMPLES = 500  # that are drawn and measured


@dataclass(frozen=True)
class UnitCosts:
    """Seconds of the units of work that a run repeats.

    Attributes:
        mle_epoch: one MLE epoch with its held-out NLL.
        discriminator_draw: drawing fresh negatives and reporting, without the epochs; 0 if no discriminator is trained.
        discriminator_epoch: one epoch on a draw; likewise.
        generator_update: search, scoring and policy gradient of one batch.
        measurement: both NLLs on the way.
    """

    mle_epoch: float
    discriminator_draw: float
    discriminator_epoch: float
    generator_update: float
    measurement: float

    def projection(self, config: SeqGANConfig) -> Projection:
        """Seconds of a whole run, stage by stage; early stopping of MLE is not foreseen."""
        d_step = self.discriminator_draw + config.k_epochs * self.discriminator_epoch
        measured_epochs = config.mle_epochs / config.evaluate_every_epochs
        measured_rounds = config.rounds / config.evaluate_every_rounds
        a_round = config.g_steps * self.generator_update + config.d_steps * d_step
        return Projection(
            mle=config.mle_epochs * self.mle_epoch + measured_epochs * self.measurement,
            discriminator=config.discriminator_pretraining_steps * d_step,
            adversarial=config.rounds * a_round + measured_rounds * self.measurement,
        )


@dataclass(frozen=True)
class Projection:
    """Seconds that the stages of a run will take, without its closing table."""

    mle: float
    discriminator: float
    adversarial: float

    @property
    def total(self) -> float:
        """Of all stages, in seconds."""
        return self.mle + self.discriminator + self.adversarial

    def __str__(self) -> str:
        stages = (("MLE", self.mle), ("D pretraining", self.discriminator), ("game", self.adversarial))
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
    game = SeqGAN(task, replace(config, g_steps=1), device)
    rng = np.random.default_rng(0)
    train = task.real_sequences("train")
    tried = train[: _BATCHES * config.batch_size]
    pretrainer = Pretrainer(
        game.generator, tried, tried, learning_rate=config.mle_learning_rate, batch_size=config.batch_size, rng=rng
    )
    real = tried.to(game.discriminator.device)
    draw_size = min(config.discriminator_sample_size or len(train), len(train))

    def draw() -> object:
        return sample_sequences(game.generator, _SAMPLES, task.sequence_length, rng, task.eos_token)

    def update() -> object:
        return game.agent.learn(config.generator_batch_size * task.sequence_length, reset_num_timesteps=False)

    def measure() -> object:
        return measure_generator(
            game.generator,
            task.real_sequences("test")[:_SAMPLES],
            rng,
            oracle=task.oracle,
            n_samples=_SAMPLES,
            eos_token=task.eos_token,
        )

    game.trainer.sync(game.generator)
    game.env.env_method("set_rollout_policy", game.trainer.rollout_policy)
    draw_seconds = epoch_seconds = 0.0
    if game.trainer.discriminator is not None:
        # A report draws and scores sequences of its own; that costs about as much as drawing so many more.
        draw_seconds = _seconds(draw) * (draw_size + 4 * _SAMPLES) / _SAMPLES
        epoch_seconds = _seconds(lambda: game.trainer.epoch(real, real)) * draw_size / len(real)
    return UnitCosts(
        mle_epoch=_seconds(pretrainer.epoch) * len(train) / len(tried),
        discriminator_draw=draw_seconds,
        discriminator_epoch=epoch_seconds,
        generator_update=_seconds(update),
        measurement=_seconds(measure) * config.evaluation_samples / _SAMPLES,
    )


def _seconds(work: Callable[[], object]) -> float:
    """Wall time of the second of two calls: the first also pays for what is made once."""
    work()
    _wait_for_gpu()
    start = time.perf_counter()
    work()
    _wait_for_gpu()
    return time.perf_counter() - start


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
