"""RLOO: REINFORCE on whole sequences. The baseline of each is the mean reward of the others.

Kool, van Hoof, Welling 2019; Ahmadian et al. 2024 (arXiv 2402.14740):
    grad J = (1/k) sum_i ( R(Y_i) - 1/(k-1) sum_{j != i} R(Y_j) ) grad log G(Y_i).
With a reference the reward is R(Y) - kl_coef * log(G(Y) / G_ref(Y)), so that J = E[R] - kl_coef * KL(G || G_ref).
In: the whole sequences of one update; they are the group. Out: one step of Adam.
Departure: "the others" are the sequences of the other environments. If all sequences have one length, this is the same.
If lengths differ, the number of further sequences of the same environment depends on this sequence, so that using them
would bias the gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import Tensor

from agents.sequence_learner import SequenceBatch, SequenceLearner
from seqgan_env.arguments import check_number


class RLOO(SequenceLearner):
    """REINFORCE leave-one-out; its gradient is unbiased.

    Args:
        policy, env, learning_rate, n_steps, max_grad_norm: as in `SequenceLearner`.
        kl_coef: weight of KL(G || G_ref) in nats per sequence; with 0 there is no reference.
        sb3: as in SB3.

    Raises:
        ValueError, TypeError: as `SequenceLearner`; also if kl_coef is not finite or negative.
    """

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-2,
        n_steps: int | None = None,
        kl_coef: float = 0.0,
        max_grad_norm: float = 1.0,
        **sb3: Any,
    ) -> None:
        check_number("kl_coef", kl_coef, at_least=0)
        self.kl_coef = kl_coef
        super().__init__(
            policy, env, learning_rate, n_steps, max_grad_norm=max_grad_norm, has_reference=kl_coef > 0, **sb3
        )

    def loss(self, log_probs: Tensor, batch: SequenceBatch) -> Tensor:
        rewards = batch.rewards
        if batch.reference_log_probs is not None:
            drift = (batch.old_log_probs - batch.reference_log_probs).sum(dim=1)  # log G(Y) / G_ref(Y)
            rewards = rewards - self.kl_coef * drift
        advantages = leave_one_out(rewards, batch.columns)
        # Divide by a fixed number, not by M: if lengths differ, M depends on the sequences, and this would be a bias.
        sequences = self.n_envs * self.n_steps / self.longest_response(log_probs)
        return -(advantages * log_probs.sum(dim=1)).sum() / sequences


def leave_one_out(rewards: Tensor, columns: Tensor) -> Tensor:
    """Rewards minus the mean reward of the other environments' sequences; with one environment, of all others.

    Args:
        rewards: (M,) float32.
        columns: (M,) int64, the environment of each.

    Returns:
        (M,) float32; 0 where there are no others.
    """
    if bool((columns == columns[0]).all()):
        columns = torch.arange(len(columns), device=columns.device)
    of_own = torch.zeros(int(columns.max()) + 1, dtype=rewards.dtype, device=rewards.device)
    sums = of_own.scatter_add(0, columns, rewards)[columns]
    counts = of_own.scatter_add(0, columns, torch.ones_like(rewards))[columns]
    others = len(rewards) - counts
    return torch.where(others > 0, rewards - (rewards.sum() - sums) / others.clamp(min=1), 0.0)
