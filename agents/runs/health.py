"""Whether a run still learns something: numbers that cannot be stop it, samples that repeat each other are told.

In: a game after a unit of work, and what was measured. Out: nothing, a sentence of warning, or an error that says what
to change. No random number is drawn, and nothing of the game is changed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from agents.seqgan import Milestone, SeqGAN
from agents.setting_paths import value_at
from seqgan_env.measures.likelihood import nll_per_token
from seqgan_env.measures.measurement import Measurement

# Nats per token, of any likelihood or loss. float32 gives a token a probability of at least e^-104.
LARGEST_LOSS = 1000.0
# Of a reward: sums of squares of larger ones are no float32.
LARGEST_REWARD = 1e15
LARGEST_PARAMETER = 1e8
_LOOKED_AT = 64  # held-out sequences that are scored after each round; a few hundredths of the round's time
_SLACK = 1e-3  # nats; of an entropy that was estimated from samples
# Below this share of the data's entropy, or of its share of unique sequences, a generator is said to collapse.
_COLLAPSED = 0.9

_REMEDIES = {"mle": "pretraining.learning_rate", "discriminator": "discriminator.learning_rate"}


class Diverged(ValueError):
    """Training has left the range of sensible numbers; nothing of the last unit of work was saved."""


def is_sound(module: nn.Module) -> bool:
    """Whether no parameter is NaN or infinite, or so large that what it leads to will be."""
    return all(bool((parameter.detach().abs() < LARGEST_PARAMETER).all()) for parameter in module.parameters())


class Health:
    """Looks at a game after each unit of work.

    Args:
        game: the game; its task's validation sequences are looked at.
    """

    def __init__(self, game: SeqGAN) -> None:
        self.game = game
        self.held_out = game.task.real_sequences("validation")[:_LOOKED_AT].to(game.generator.device)
        self._told = False

    def fault(self) -> str | None:
        """What is wrong with the game's models, or None."""
        for name, module in (("generator", self.game.generator), ("discriminator", self.game.discriminator)):
            if not is_sound(module):
                return f"a parameter of the {name} is NaN, or above {LARGEST_PARAMETER:g}"
        return None

    def check(self, milestone: Milestone, measurement: Measurement | None) -> None:
        """Check all numbers that a unit of work has left.

        Raises:
            Diverged: if one is NaN, infinite, or out of bounds; says what to change.
        """
        fault = self.fault()
        for name, value in () if fault else self._losses(milestone, measurement).items():
            if not abs(value) <= LARGEST_LOSS:
                fault = f"{name} is {value:.3g}, and sensible values lie below {LARGEST_LOSS:g}"
        reward = self.game.trainer.mean_reward
        if fault is None and reward is not None and not abs(reward) <= LARGEST_REWARD:
            fault = f"the mean reward is {reward:.3g}; divide the reward by a constant, so that it stays below 1e15"
        if fault is None and measurement is not None and measurement.metrics.entropy is not None:
            entropy, greatest = measurement.metrics.entropy.mean, math.log(self.game.task.vocab_size)
            if not -_SLACK <= entropy <= greatest + self._noise(measurement):
                fault = f"the entropy is {entropy:.3g} nats per token, outside of 0 to {greatest:.3g}"
        if fault is not None:
            raise diverged(fault, milestone.stage, self.game.config)

    def _losses(self, milestone: Milestone, measurement: Measurement | None) -> dict[str, float]:
        """Name -> nats."""
        found: dict[str, float | None] = {
            "the training NLL": milestone.train_nll,
            "the held-out NLL": milestone.validation_nll,
        }
        if milestone.stage == "adversarial":
            given = self.game.task.prompt_length
            found["the held-out NLL"] = nll_per_token(self.game.generator, self.held_out, given).mean
        report = self.game.trainer.last_report
        if report is not None:
            found["the discriminator's loss"] = report.loss
        if measurement is not None:
            metrics = measurement.metrics
            for name, estimate in (("NLL_test", metrics.nll_test), ("NLL_oracle", metrics.nll_oracle)):
                found[name] = None if estimate is None else estimate.mean
        return {name: value for name, value in found.items() if value is not None}

    @staticmethod
    def _noise(measurement: Measurement) -> float:
        """How far an estimated entropy may lie above log V: six standard errors."""
        entropy = measurement.metrics.entropy
        return _SLACK if entropy is None else _SLACK + 6 * entropy.standard_error

    def collapse(self, measurement: Measurement) -> str | None:
        """One sentence, once, if the generator repeats itself more than the real sequences do; else None."""
        if self._told:
            return None
        count = min(len(measurement.samples), len(real := self.game.task.real_sequences("validation")))
        task = self.game.task
        shares = [_unique_share(task.responses(rows[:count])) for rows in (measurement.samples, real)]
        said = None
        if shares[0] < _COLLAPSED * shares[1]:
            said = f"of {count} samples {shares[0]:.1%} are unique, of real sequences {shares[1]:.1%}"
        elif task.oracle is not None and measurement.metrics.entropy is not None:
            data = nll_per_token(task.oracle, real[:count], task.prompt_length).mean
            if (entropy := measurement.metrics.entropy.mean) < _COLLAPSED * data:
                said = f"its entropy is {entropy:.3f} nats per token, the data's {data:.3f}"
        self._told = said is not None
        return None if said is None else f"the generator loses diversity: {said}"


def diverged(fault: str, stage: str, config: Any) -> Diverged:
    """The error for a fault in a stage."""
    path = _REMEDIES.get(stage, f"learner.{config.learner.step_setting}")
    option, value = path.replace("_", "-"), value_at(config, path)
    return Diverged(
        f"training diverged: {fault}. Start a new run with a lower --{option} (now {value:g}), or another reward"
    )


def _unique_share(sequences: Tensor) -> float:
    return len(torch.unique(sequences, dim=0)) / max(1, len(sequences))
