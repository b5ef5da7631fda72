"""Maximum likelihood with importance weights from the discriminator: the estimator of MaliGAN.

Che et al. 2017 (arXiv 1702.07983): the best D against G_old has D / (1 - D) = p_real / G_old, so that
    grad E_{Y real}[log G(Y)] = E_{Y ~ G_old}[ r(Y) grad log G(Y) ],   r = D / (1 - D),
is estimated by sum_i ( r_i / sum_j r_j - b ) grad log G(Y_i), with b = 1/M: the generator's own sequences, weighted as
if they were real.
In: the whole sequences of one update, and D's output as R(Y). Out: `n_epochs` steps of Adam. Dividing by the sum makes
the estimate biased by O(1/M); with many sequences its expectation is grad log E_G[r] (for one epoch).
`self_normalised=False` gives (r_i - mean of the others) / M. This is unbiased for grad E_G[r] and has a larger
variance.
Departure: the paper raises b from 0 during training and mixes in real sequences. Here b = 1/M, the mean weight, and
there are no real sequences.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import Tensor

from agents.rloo import leave_one_out
from agents.sequence_learner import SequenceBatch, SequenceLearner

_LARGEST_LOGIT = 30.0  # its exp is finite in float32, and so is a sum of many


class WeightedMLE(SequenceLearner):
    """MaliGAN's generator update.

    Args:
        policy, env, learning_rate, n_steps, n_epochs, max_grad_norm: as in `SequenceLearner`.
        reward: the meaning of R(Y): "probability", D in [0, 1] (reward model "discriminator"), or "logit", its logit.
        self_normalised: whether the weights of a batch are divided by their sum, as in the paper.
        sb3: as in SB3.

    Raises:
        ValueError, TypeError: as `SequenceLearner`; also for another `reward`. With reward="probability", `learn`
            raises ValueError for a reward outside [0, 1].
    """

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-2,
        n_steps: int | None = None,
        n_epochs: int = 1,
        reward: Literal["probability", "logit"] = "probability",
        self_normalised: bool = True,
        max_grad_norm: float = 1.0,
        **sb3: Any,
    ) -> None:
        if reward not in ("probability", "logit"):
            raise ValueError(f"reward={reward!r} must be 'probability' or 'logit'")
        self.reward = reward
        self.self_normalised = self_normalised
        super().__init__(policy, env, learning_rate, n_steps, n_epochs, max_grad_norm, **sb3)

    def loss(self, log_probs: Tensor, batch: SequenceBatch) -> Tensor:
        logits = batch.rewards if self.reward == "logit" else logits_of(batch.rewards)
        if self.self_normalised:
            weights = torch.softmax(logits, dim=0) - 1 / len(logits)  # softmax of log r is r / sum r
            return -(weights * log_probs.sum(dim=1)).sum()
        ratios = logits.clamp(max=_LARGEST_LOGIT).exp()
        sequences = self.n_envs * self.n_steps / self.longest_response(log_probs)
        return -(leave_one_out(ratios, batch.columns) * log_probs.sum(dim=1)).sum() / sequences


def logits_of(probabilities: Tensor) -> Tensor:
    """log(D / (1 - D)), (M,) float32; 0 and 1 are moved inside by float32's smallest step at 1.

    Raises:
        ValueError: if one lies outside [0, 1].
    """
    wrong = ~((probabilities >= 0) & (probabilities <= 1))
    if bool(wrong.any()):
        raise ValueError(
            f"reward={probabilities[wrong][0].item():g} is not in [0, 1]; give a reward model that returns the "
            "probability D(Y), or reward='logit' if yours returns log(D / (1 - D))"
        )
    step = torch.finfo(probabilities.dtype).eps
    return torch.logit(probabilities, eps=step)
