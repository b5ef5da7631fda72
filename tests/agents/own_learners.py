"""Learners as somebody else would write them: named "tests.agents.own_learners:Class" on the command line."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3 import A2C, DQN, PPO
from torch import Tensor

from agents.sequence_learner import SequenceBatch, SequenceLearner


class RunningBaseline(SequenceLearner):
    """REINFORCE on whole sequences; the baseline is the mean reward of earlier updates.

    Args:
        share: weight of the newest update in the baseline.
    """

    def __init__(self, policy: Any, env: Any, learning_rate: float = 3e-3, share: float = 0.1, **sb3: Any) -> None:
        super().__init__(policy, env, learning_rate, **sb3)
        self.share = share
        self.mean_reward = 0.5

    def loss(self, log_probs: Tensor, batch: SequenceBatch) -> Tensor:
        advantages = batch.rewards - self.mean_reward
        self.mean_reward += self.share * (batch.rewards.mean().item() - self.mean_reward)
        return -(advantages * log_probs.sum(dim=1)).mean()


class NoisyA2C(A2C):
    """A2C whose state has all kinds of attributes: an array, a list, a tensor, a module, an optimizer, a generator."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.rng = np.random.default_rng(3)
        self.noise = np.zeros(2)
        self.history: list[float] = []
        self.total = torch.zeros(1)
        self.scale = torch.nn.Linear(1, 1)
        self.scale_optimizer = torch.optim.Adam(self.scale.parameters(), 1e-2)

    def train(self) -> None:
        self.noise += self.rng.normal(size=2)
        self.history = [*self.history, float(self.noise[0])][-3:]
        loss = (self.scale(torch.ones(1, 1)) - float(self.noise[1])).square().sum()
        self.scale_optimizer.zero_grad()
        loss.backward()
        self.scale_optimizer.step()
        self.total += self.scale.weight.detach()[0] + len(self.history)
        self.rollout_buffer.advantages *= float(self.total.exp().clamp(0.5, 2))
        super().train()


class Raises(PPO):
    """A learner with a fault."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        raise RuntimeError("no such thing")


class OtherSteps(PPO):
    """A learner that does not take the n_steps that it is given."""

    def __init__(self, policy: Any, env: Any, policy_kwargs: Any = None, **sb3: Any) -> None:
        super().__init__(policy, env, n_steps=8, batch_size=8, policy_kwargs=policy_kwargs)


class OtherPolicy(PPO):
    """A learner that does not take the policy that it is given."""

    def __init__(self, policy: Any, env: Any, n_steps: int = 3) -> None:
        super().__init__("MlpPolicy", env, n_steps=n_steps, batch_size=n_steps)


ValueBased = DQN
NOT_A_CLASS = 7
