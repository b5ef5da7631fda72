"""Eq. 2: reward models, anything that scores whole sequences.

In: sequences (R, T) int64, PAD = V after the end. Out: rewards (R,) float32, finite; higher is better.
The paper's reward is D_phi(Y), the probability that Y is real. Null rewards (constant) belong here too: they show
what a policy gradient without a baseline does on its own.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from seqgan_env.models.discriminators import Discriminator
from seqgan_env.models.sequence_models import SequenceModel


@runtime_checkable
class RewardModel(Protocol):
    """Scores whole sequences. Any callable with this signature is a reward model."""

    def __call__(self, sequences: Tensor, /) -> Tensor:
        """(R, T) int64, PAD = V after the end -> (R,) finite floats."""


class DiscriminatorReward:
    """Eq. 2's D_phi(Y) = sigmoid(logit), a probability; dropout is off while scoring.

    Args:
        discriminator: D_phi, shared with whoever trains it.
    """

    def __init__(self, discriminator: nn.Module) -> None:
        self.discriminator = discriminator

    @torch.no_grad()
    def __call__(self, sequences: Tensor, /) -> Tensor:
        if isinstance(self.discriminator, Discriminator):
            return torch.sigmoid(self.discriminator.score(sequences))
        was_training = self.discriminator.training
        self.discriminator.eval()
        try:
            return torch.sigmoid(self.discriminator(sequences))
        finally:
            self.discriminator.train(was_training)


class ConstantReward:
    """The same reward for every sequence: the null twin of any reward.

    Args:
        value: 0.5 is what an undecided discriminator gives.
    """

    def __init__(self, value: float = 0.5) -> None:
        self.value = value

    def __call__(self, sequences: Tensor, /) -> Tensor:
        return torch.full((sequences.shape[0],), self.value)


class OracleReward:
    """Likelihood of a sequence under the oracle, geometric mean per token: exp(mean_t log p(y_t)), in (0, 1].

    A learner that sees this is told the answer: for tests and upper bounds, never for a result.

    Args:
        oracle: the known distribution.
    """

    def __init__(self, oracle: SequenceModel) -> None:
        self.oracle = oracle

    def __call__(self, sequences: Tensor, /) -> Tensor:
        log_probs = self.oracle.log_probs(sequences)
        real = (sequences < self.oracle.vocab_size).to(log_probs.device)
        return (log_probs.sum(dim=1) / real.sum(dim=1).clamp(min=1)).exp()


def score_sequences(reward_model: RewardModel, sequences: Tensor) -> npt.NDArray[np.float64]:
    """Rewards of (R, T) sequences, checked: (R,) float64.

    Raises:
        TypeError: if the reward model returns something that is not an array of numbers.
        ValueError: if it returns another shape, NaN or infinity.
    """
    with torch.no_grad():
        returned = reward_model(sequences)
    try:
        rewards = (
            returned.detach().cpu().numpy() if isinstance(returned, Tensor) else np.asarray(returned, dtype=np.float64)
        ).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"reward_model must return a tensor of {len(sequences)} numbers, got {type(returned).__name__}"
        ) from error
    if rewards.shape != (len(sequences),):
        raise ValueError(
            f"reward_model returned shape {rewards.shape} for {len(sequences)} sequences; "
            f"expected ({len(sequences)},), one reward a sequence"
        )
    if not np.isfinite(rewards).all():
        bad = int(np.flatnonzero(~np.isfinite(rewards))[0])
        raise ValueError(
            f"reward_model returned {rewards[bad]} for sequence {sequences[bad].tolist()}; rewards must be finite"
        )
    return rewards
