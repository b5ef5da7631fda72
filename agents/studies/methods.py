"""The methods that the paper compares, and the controls that it lacks: each a few settings of one code path.

The paper's are random tokens, MLE, scheduled sampling, PG-BLEU and SeqGAN. The controls keep the policy gradient and
take its information away (a constant, random or shuffled reward), or stop MLE where held-out sequences say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from agents.runs.presets import BEST
from agents.seqgan import SeqGANConfig
from agents.setting_paths import changed
from seqgan_env.measures.measurement import Measurement, Measures
from seqgan_env.rollout_policies import UniformPolicy

# A method's own temperatures; those of MLE are dense, because they are the curve that the others are set against.
_TEMPERATURES = (1.1, 1.0, 0.9, 0.8)
_MLE_TEMPERATURES = (1.2, 1.1, 1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6)
# The curve of the best MLE goes on to where the others' NLL_test is.
_HELD_OUT_TEMPERATURES = (*_MLE_TEMPERATURES, 0.5, 0.45, 0.4)


@dataclass(frozen=True)
class Method:
    """A way to make a generator.

    Attributes:
        name: in CSVs and folders.
        label: for people.
        settings: what it changes in a `SeqGANConfig`: dotted path -> value.
        starts_from: the method whose pretraining it shares, or None if it does its own.
        untrained: how to measure a method that trains nothing: called with the measures of the task, the number of
            samples, their random stream and the device. None for a method that is trained.
        temperatures: at which it is measured for the curves.
        paper_nll_oracle: its row in the paper's Table 1, nats per token.
    """

    name: str
    label: str
    settings: dict[str, Any] = field(default_factory=dict)
    starts_from: str | None = None
    untrained: Callable[[Measures, int, np.random.Generator, str], Measurement] | None = None
    temperatures: tuple[float, ...] = _TEMPERATURES
    paper_nll_oracle: float | None = None

    @property
    def is_trained(self) -> bool:
        """Whether there is anything to train."""
        return self.untrained is None

    def config(self, base: SeqGANConfig, seed: int) -> SeqGANConfig:
        """Its settings for a seed, all others as in `base`."""
        return changed(base, {"seed": seed} | self.settings)


def _random_tokens(measures: Measures, samples: int, rng: np.random.Generator, device: str) -> Measurement:
    return measures.measure(UniformPolicy(measures.task.vocab_size), samples, rng)


def _oracle_itself(measures: Measures, samples: int, rng: np.random.Generator, device: str) -> Measurement:
    assert measures.task.oracle is not None
    return measures.measure(measures.task.oracle.to(device), samples, rng)


def _held_out_sequences(measures: Measures, samples: int, rng: np.random.Generator, device: str) -> Measurement:
    return measures.real_data(samples, rng)


_NO_GAME: dict[str, Any] = {"game.rounds": 0, "discriminator.pretraining_steps": 0}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("random", "random", untrained=_random_tokens, temperatures=(1.0,), paper_nll_oracle=10.310),
        Method("mle", "MLE", _NO_GAME, temperatures=_MLE_TEMPERATURES, paper_nll_oracle=9.038),
        Method(
            "scheduled_sampling",
            "scheduled sampling",
            _NO_GAME | {"pretraining.curriculum_rate_step": 0.002},
            paper_nll_oracle=8.985,
        ),
        Method(
            "pg_bleu",
            "PG-BLEU",
            {
                "game.reward_model": "bleu",
                "game.anchor_weight": 0.0,
                "game.n_rollouts": 1,
                "discriminator.pretraining_steps": 0,
            },
            starts_from="mle",
            paper_nll_oracle=8.946,
        ),
        Method("seqgan", "SeqGAN", starts_from="mle", paper_nll_oracle=8.736),
        Method("shuffled_reward", "shuffled reward", {"game.reward_model": "shuffled"}, starts_from="mle"),
        Method("random_reward", "random reward", {"game.reward_model": "random"}, starts_from="mle"),
        Method("constant_reward", "constant reward", {"game.reward_model": "constant"}, starts_from="mle"),
        Method(
            "mle_held_out",
            "MLE, held-out best",
            _NO_GAME | {"pretraining.patience": 10},
            temperatures=_HELD_OUT_TEMPERATURES,
        ),
        Method("best", "SeqGAN, best preset", BEST, starts_from="mle_held_out", temperatures=_MLE_TEMPERATURES),
        Method(
            "best_random_reward",
            "its twin, random reward",
            BEST | {"game.reward_model": "random"},
            starts_from="mle_held_out",
            temperatures=_TEMPERATURES,
        ),
        Method("oracle", "oracle (floor)", untrained=_oracle_itself, temperatures=(1.0,)),
    )
}
# Held-out real sequences, measured as if they were samples of a method.
REAL = Method("real", "real data", untrained=_held_out_sequences, temperatures=(1.0,))
# From worst to best in NLL_oracle, as the paper has it.
PAPER_ORDER = ("random", "mle", "scheduled_sampling", "pg_bleu", "seqgan")
CONTROLS = ("shuffled_reward", "random_reward", "constant_reward")
# What the paper does not have at all; the curves show it, Table 1 only if asked.
IMPROVED = ("best", "best_random_reward")


def continued(method: Method, base: SeqGANConfig) -> Method:
    """A method without a game that trains on for as many epochs as the others play rounds: for Fig. 2's common axis."""
    epochs = base.pretraining.epochs + base.game.rounds
    return replace(method, name=f"{method.name}_continued", settings=method.settings | {"pretraining.epochs": epochs})


@dataclass(frozen=True)
class Schedule:
    """(g, d, k) of Algorithm 1, as in Fig. 3.

    Attributes:
        g: generator updates a round.
        d: draws of fresh negatives a round.
        k: discriminator epochs on each draw.
        paper_nll_oracle: the level that Fig. 3 shows at its end, read off the axis labels, nats per token.
    """

    g: int
    d: int
    k: int
    paper_nll_oracle: float

    @property
    def label(self) -> str:
        """For people."""
        return f"({self.g}, {self.d}, {self.k})"

    def method(self, updates: int) -> Method:
        """SeqGAN with this schedule, for about so many generator updates: whole rounds, at least one."""
        settings = {
            "game.g_steps": self.g,
            "game.d_steps": self.d,
            "game.k_epochs": self.k,
            "game.rounds": max(1, round(updates / self.g)),
            "game.measure_every": max(1, 5 // self.g),
        }
        return Method(f"seqgan_g{self.g}_d{self.d}_k{self.k}", self.label, settings, starts_from="mle")


# From worst to best, as the paper has it.
SCHEDULES = (
    Schedule(100, 1, 10, 8.94),
    Schedule(30, 1, 30, 8.89),
    Schedule(1, 1, 10, 8.81),
    Schedule(1, 5, 3, 8.73),
)
