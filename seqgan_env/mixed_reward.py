"""A reward that is a weighted sum of others, as "0.5*discriminator + 1.0*my_module:verifier" names it.

A discriminator says whether a sequence looks real; a verifier says whether it is right. Their sum asks for both, as in
adversarial rewards beside verifiable ones (arXiv 2607.01181). The mean of each term is kept, so that one can see which
of them grows.
In: sequences (R, T) int64. Out: rewards (R,) float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqgan_env.rewards import RewardModel, load_reward_state, reward_state, score_sequences


@dataclass(frozen=True)
class Term:
    """A term of a mixed reward.

    Attributes:
        weight: finite, not 0.
        name: of the reward model.
    """

    weight: float
    name: str


def is_mixed(spec: str) -> bool:
    """Whether a name is that of a weighted sum."""
    return "*" in spec or "+" in spec


def reward_terms(spec: str) -> list[Term]:
    """The terms of "0.5*discriminator + my_module:verifier"; a term without a number has the weight 1.

    Raises:
        ValueError: for a weight that is no finite number or 0, a term without a name, or a name that occurs twice.
    """
    terms = []
    for part in spec.split("+"):
        number, star, name = part.partition("*")
        number, name = (number, name) if star else ("1", number)
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not math.isfinite(weight) or weight == 0 or not name.strip() or "*" in name:
            raise ValueError(
                f"reward_model={spec!r}: {part.strip()!r} is no term; write a number, * and the name of a reward, "
                "as in '0.5*discriminator + 1.0*my_module:verifier'"
            )
        terms.append(Term(weight, name.strip()))
    names = [term.name for term in terms]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"reward_model={spec!r}: {name!r} occurs twice; add its weights")
    return terms


class MixedReward:
    """sum_k w_k R_k(Y).

    Args:
        terms: weights and names.
        models: their reward models, in the same order.

    Raises:
        ValueError: if the numbers of terms and models differ.
    """

    def __init__(self, terms: Sequence[Term], models: Sequence[RewardModel]) -> None:
        if len(terms) != len(models):
            raise ValueError(f"{len(terms)} terms need as many reward models, got {len(models)}")
        self.terms = tuple(terms)
        self.models = tuple(models)
        self._sums = [0.0] * len(terms)
        self._count = 0
        for model in models:
            if isinstance(rng := getattr(model, "rng", None), np.random.Generator):
                self.rng = rng  # so that an environment seeds it

    def __call__(self, sequences: Tensor, /) -> Tensor:
        scores = [score_sequences(model, sequences) for model in self.models]
        for place, own in enumerate(scores):
            self._sums[place] += float(own.sum())
        self._count += len(sequences)
        return torch.from_numpy(sum(term.weight * own for term, own in zip(self.terms, scores, strict=True)))

    def take_means(self) -> dict[str, float]:
        """Name -> mean, before weighting, over all sequences scored since the last call; empty if there was none."""
        means = {
            term.name: total / self._count for term, total in zip(self.terms, self._sums, strict=True) if self._count
        }
        self._sums, self._count = [0.0] * len(self.terms), 0
        return means

    def state_dict(self) -> dict[str, Any]:
        """The states of the terms' models, and the sums since the last `take_means`."""
        return {"models": [reward_state(model) for model in self.models], "sums": self._sums, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what `state_dict` returned."""
        for model, own in zip(self.models, state["models"], strict=True):
            load_reward_state(model, own)
        self._sums, self._count = list(state["sums"]), state["count"]
