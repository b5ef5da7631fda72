"""The methods that the paper compares, and controls that it does not have. Each is a few settings of the same code.

The paper's methods are random tokens, MLE, scheduled sampling, PG-BLEU and SeqGAN. Some controls keep the policy
gradient, but with a reward without information (constant, random or shuffled). Others stop MLE by the NLL of held-out
sequences, or regularise it: the strongest baseline. The rivals start from that one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from agents.runs.presets import BEST, NO_GAME, REGULARISED
from agents.seqgan import SeqGANConfig
from agents.setting_paths import changed
from agents.studies.rival_settings import COT, DDO, DPG, RELATIVISTIC, RESIDUAL, SPIN
from seqgan_env.measures.measurement import Measurement, Measures
from seqgan_env.rollout_policies import UniformPolicy

# Default temperatures of a method. Those of MLE are dense, because its curve is the baseline of all others.
_TEMPERATURES = (1.1, 1.0, 0.9, 0.8)
_MLE_TEMPERATURES = (1.2, 1.1, 1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6)
# The curve of the best MLE reaches the NLL_test of the other methods.
_HELD_OUT_TEMPERATURES = (*_MLE_TEMPERATURES, 0.5, 0.45, 0.4)


@dataclass(frozen=True)
class Method:
    """A way to make a generator.

    Attributes:
        name: name in CSVs and folders.
        label: name in tables and pictures.
        settings: its changes to a `SeqGANConfig`: dotted path -> value.
        starts_from: the method whose pretraining it shares; None if it has its own.
        untrained: measures a method without training; called with the task's measures, the number of samples, their
            random stream and the device. None for a trained method.
        proposals: proposals for each measured sample, of which its discriminator picks one; 1: it picks none.
        temperatures: temperatures of its measurements for the curves.
        paper_nll_oracle: its row in the paper's Table 1, nats per token.
    """

    name: str
    label: str
    settings: dict[str, Any] = field(default_factory=dict)
    starts_from: str | None = None
    untrained: Callable[[Measures, int, np.random.Generator, str], Measurement] | None = None
    proposals: int = 1
    temperatures: tuple[float, ...] = _TEMPERATURES
    paper_nll_oracle: float | None = None

    @property
    def is_trained(self) -> bool:
        """Whether the method is trained."""
        return self.untrained is None

    def config(self, base: SeqGANConfig, seed: int) -> SeqGANConfig:
        """Its settings for a seed; all others are those of `base`."""
        return changed(base, {"seed": seed} | self.settings)


def _random_tokens(measures: Measures, samples: int, rng: np.random.Generator, device: str) -> Measurement:
    return measures.measure(UniformPolicy(measures.task.vocab_size), samples, rng)


def _oracle_itself(measures: Measures, samples: int, rng: np.random.Generator, device: str) -> Measurement:
    assert measures.task.oracle is not None
    return measures.measure(measures.task.oracle.to(device), samples, rng)


def _held_out_sequences(measures: Measures, samples: int, rng: np.random.Generator, device: str) -> Measurement:
    return measures.real_data(samples, rng)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("random", "random", untrained=_random_tokens, temperatures=(1.0,), paper_nll_oracle=10.310),
        Method("mle", "MLE", NO_GAME, temperatures=_MLE_TEMPERATURES, paper_nll_oracle=9.038),
        Method(
            "scheduled_sampling",
            "scheduled sampling",
            NO_GAME | {"pretraining.curriculum_rate_step": 0.002},
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
            NO_GAME | {"pretraining.patience": 10},
            temperatures=_HELD_OUT_TEMPERATURES,
        ),
        Method(
            "mle_regularised",
            "MLE, regularised",
            NO_GAME | REGULARISED,
            temperatures=_MLE_TEMPERATURES,
        ),
        Method("best", "SeqGAN, best preset", BEST, starts_from="mle_held_out", temperatures=_MLE_TEMPERATURES),
        Method(
            "best_random_reward",
            "its twin, random reward",
            BEST | {"game.reward_model": "random"},
            starts_from="mle_held_out",
            temperatures=_TEMPERATURES,
        ),
        Method("cot", "CoT", COT, starts_from="mle_regularised"),
        Method("ddo", "DDO", DDO, starts_from="mle_regularised"),
        Method("spin", "SPIN", SPIN, starts_from="mle_regularised"),
        Method("relativistic", "relativistic reward", RELATIVISTIC, starts_from="mle_regularised"),
        Method("dpg", "DPG", DPG, starts_from="mle_regularised"),
        Method("residual", "residual energy", RESIDUAL, starts_from="mle_regularised", proposals=16),
        Method("oracle", "oracle (floor)", untrained=_oracle_itself, temperatures=(1.0,)),
    )
}
# Held-out real sequences, measured like samples of a method.
REAL = Method("real", "real data", untrained=_held_out_sequences, temperatures=(1.0,))
# From worst to best NLL_oracle in the paper.
PAPER_ORDER = ("random", "mle", "scheduled_sampling", "pg_bleu", "seqgan")
CONTROLS = ("shuffled_reward", "random_reward", "constant_reward")
# Methods that the paper does not have. The curves show them, Table 1 only if named.
IMPROVED = ("mle_regularised", "best", "best_random_reward")
# Other methods with the aim of SeqGAN: docs/rivals.md. They are computed only if named.
RIVALS = ("cot", "ddo", "spin", "relativistic", "dpg", "residual")


def continued(method: Method, base: SeqGANConfig) -> Method:
    """A method without a game, with one more epoch for each round of the others: for the common axis of Fig. 2."""
    epochs = base.pretraining.epochs + base.game.rounds
    return replace(method, name=f"{method.name}_continued", settings=method.settings | {"pretraining.epochs": epochs})


@dataclass(frozen=True)
class Schedule:
    """(g, d, k) of Algorithm 1, as in Fig. 3.

    Attributes:
        g: generator updates per round.
        d: draws of fresh negatives per round.
        k: discriminator epochs on each draw.
        paper_nll_oracle: the level at its end in Fig. 3, read off the axis labels, nats per token.
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
        """SeqGAN with this schedule and about `updates` generator updates, in whole rounds, at least one."""
        settings = {
            "game.g_steps": self.g,
            "game.d_steps": self.d,
            "game.k_epochs": self.k,
            "game.rounds": max(1, round(updates / self.g)),
            "game.measure_every": max(1, 5 // self.g),
        }
        return Method(f"seqgan_g{self.g}_d{self.d}_k{self.k}", self.label, settings, starts_from="mle")


# From worst to best in the paper.
SCHEDULES = (
    Schedule(100, 1, 10, 8.94),
    Schedule(30, 1, 30, 8.89),
    Schedule(1, 1, 10, 8.81),
    Schedule(1, 5, 3, 8.73),
)
