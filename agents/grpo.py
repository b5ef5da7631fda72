"""GRPO: group relative policy optimization, PPO's clipped ratio without a value network.

Shao et al. 2024 (DeepSeekMath, arXiv 2402.03300), Eq. 3-4, with G for the policy and M sequences in the group:
    A_i = (R(Y_i) - mean_j R(Y_j)) / std_j R(Y_j),   r_{i,t} = G(y_t | Y_{1:t-1}) / G_old(y_t | Y_{1:t-1}),
    J = (1/M) sum_i (1/|Y_i|) sum_t [ min(r A_i, clip(r, 1 - eps, 1 + eps) A_i) - kl_coef * k_{i,t} ],
    k_{i,t} = G_ref/G - log(G_ref/G) - 1.
In: the whole sequences of one update, which are one group. Out: `n_epochs` steps of Adam.
Departure: where a task has prompts, a group holds responses to all prompts of the update, not to one alone. The mean of
other prompts is no bias, but it is noisier. Two things to know:
- Dividing by std gives more weight to groups with little spread, and dividing by |Y_i| gives more weight to short
  sequences. `scale_rewards` and `length_normalised` turn each off, as Dr. GRPO does (Liu et al. 2025, arXiv
  2503.20783).
- The expectation of k is KL(G || G_ref), but its gradient is that of KL(G_ref || G) at the sampled prefixes (Tang,
  Munos 2025, arXiv 2506.09477). A KL in the reward, as in RLOO and KLPPO, has the right gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import Tensor

from agents.sequence_learner import SequenceBatch, SequenceLearner
from seqgan_env.arguments import check_number


class GRPO(SequenceLearner):
    """Group relative policy optimization.

    Args:
        policy, env, learning_rate, n_steps, n_epochs, max_grad_norm: as in `SequenceLearner` (paper: 1 epoch per
            batch).
        clip_range: eps; a ratio to the old policy outside 1 - eps to 1 + eps brings no further gain.
        kl_coef: weight of the KL term (paper: 0.04); with 0 there is no reference.
        scale_rewards: divide by the standard deviation of the group (paper), or not (Dr. GRPO).
        length_normalised: divide each sequence's sum by its length (paper), or by T (Dr. GRPO).
        sb3: as in SB3.

    Raises:
        ValueError, TypeError: as `SequenceLearner`; also if clip_range or kl_coef is not finite or out of range.
    """

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-2,
        n_steps: int | None = None,
        n_epochs: int = 2,
        clip_range: float = 0.2,
        kl_coef: float = 0.04,
        scale_rewards: bool = True,
        length_normalised: bool = True,
        max_grad_norm: float = 1.0,
        **sb3: Any,
    ) -> None:
        check_number("clip_range", clip_range, above=0)
        check_number("kl_coef", kl_coef, at_least=0)
        self.clip_range = clip_range
        self.kl_coef = kl_coef
        self.scale_rewards = scale_rewards
        self.length_normalised = length_normalised
        super().__init__(policy, env, learning_rate, n_steps, n_epochs, max_grad_norm, kl_coef > 0, **sb3)

    def loss(self, log_probs: Tensor, batch: SequenceBatch) -> Tensor:
        advantages = group_advantages(batch.rewards, self.scale_rewards).unsqueeze(1)  # (M, 1)
        gains = clipped_gains(log_probs - batch.old_log_probs, advantages, self.clip_range)  # (M, T)
        if batch.reference_log_probs is not None:
            log_ratio = batch.reference_log_probs - log_probs  # log G_ref / G
            gains = gains - self.kl_coef * (log_ratio.exp() - log_ratio - 1)
        lengths = batch.is_token.sum(dim=1) if self.length_normalised else self.longest_response(log_probs)
        return -((gains * batch.is_token).sum(dim=1) / lengths).mean()


def group_advantages(rewards: Tensor, scale: bool) -> Tensor:
    """Rewards of a group minus their mean; with `scale`, divided by their standard deviation: (M,) -> (M,) float32.

    Equal rewards give 0: they contain nothing to learn from.
    """
    advantages = rewards - rewards.mean()
    return advantages / (rewards.std() + 1e-4) if scale and len(rewards) > 1 else advantages


def clipped_gains(log_ratio: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """min(r A, clip(r, 1 - eps, 1 + eps) A) with r = exp(log_ratio), each (M, T); A may be (M, 1)."""
    ratio = log_ratio.exp()
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip_range, 1 + clip_range) * advantages)
