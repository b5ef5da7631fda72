"""Lab 8: six searches. One is right. Five have a mistake that was found in public SeqGAN code.

Every search is made with a generator and a discriminator and is called with sequences that the generator wrote. It
returns Q of every token, (B, T), by N completions of each prefix (Eq. 4). `update()` tells it that the generator has
changed.

The mistakes are told of in public: williamSYSU/TextGAN-PyTorch issue 62 (rewards are reshaped without a transpose) and
issue 24 (which output of the discriminator is the reward?), LantaoYu/SeqGAN issue 28 (the roll-out policy and the
generator), ZiJianZhao/SeqGAN-PyTorch issue 14 (the index of the last reward). Dropout that stays on while scoring is in
several of them. Which class has which mistake is for you to find out.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from seqgan_env.models.discriminators import Discriminator
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.rollout_policies import complete_sequences, replay


class Search:
    """The right one.

    Args:
        generator: G_theta; the roll-out policy is a copy that `update` renews.
        discriminator: D_phi; its logit is positive for real sequences.
        n_rollouts: N.
        seed: of the completions.
    """

    def __init__(self, generator: SequenceModel, discriminator: Discriminator, n_rollouts: int, seed: int = 0) -> None:
        self.generator = generator
        self.discriminator = discriminator
        self.n_rollouts = n_rollouts
        self.rng = np.random.default_rng(seed)
        self.rollout_policy = copy.deepcopy(generator)

    def update(self) -> None:
        """beta <- theta."""
        self.rollout_policy = copy.deepcopy(self.generator)

    def __call__(self, sequences: Tensor) -> Tensor:
        """(B, T) int64 -> Q of every token, (B, T) float32."""
        batch, horizon = sequences.shape
        rewards = [self.score(self.complete(sequences, t)) for t in range(1, horizon)]  # (N * B,) each
        rewards.append(self.score(sequences.repeat(self.n_rollouts, 1)))
        return self.average(torch.stack(rewards), batch)  # from (T, N * B)

    def complete(self, sequences: Tensor, t: int) -> Tensor:
        """N completions of the first t tokens, (N * B, T); all B sequences, then all again."""
        batch, horizon = sequences.shape
        lengths = torch.full((batch,), t)
        prefixes = sequences.clone()
        prefixes[:, t:] = self.generator.vocab_size  # PAD
        uniforms = torch.from_numpy(self.rng.random((batch, self.n_rollouts, horizon - t), dtype=np.float32))
        state = replay(self.rollout_policy, prefixes, lengths)
        completed = complete_sequences(self.rollout_policy, state, prefixes, lengths, uniforms)  # (B * N, T)
        return completed.view(batch, self.n_rollouts, horizon).transpose(0, 1).reshape(-1, horizon)

    def score(self, sequences: Tensor) -> Tensor:
        """D(Y), (R,) float32."""
        return torch.sigmoid(self.discriminator.score(sequences))

    def average(self, rewards: Tensor, batch: int) -> Tensor:
        """(T, N * B) rewards -> (B, T)."""
        return rewards.view(len(rewards), self.n_rollouts, batch).mean(dim=1).t()


class SearchA(Search):
    """Another implementation."""

    def average(self, rewards: Tensor, batch: int) -> Tensor:
        horizon = len(rewards)
        stacked = (
            rewards.view(horizon, self.n_rollouts, batch).transpose(0, 1).reshape(self.n_rollouts * horizon, batch)
        )
        return stacked.view(batch, horizon, self.n_rollouts).mean(dim=-1)


class SearchB(Search):
    """Another implementation."""

    def update(self) -> None:
        rollout_policy = copy.deepcopy(self.rollout_policy)
        rollout_policy.load_state_dict(self.generator.state_dict())


class SearchC(Search):
    """Another implementation."""

    @torch.no_grad()
    def score(self, sequences: Tensor) -> Tensor:
        return torch.sigmoid(self.discriminator(sequences))


class SearchD(Search):
    """Another implementation."""

    def __call__(self, sequences: Tensor) -> Tensor:
        batch, horizon = sequences.shape
        rewards = torch.zeros(horizon, self.n_rollouts * batch)
        for t in range(1, horizon):
            rewards[t - 1] = self.score(self.complete(sequences, t))
        rewards[t - 1] += self.score(sequences.repeat(self.n_rollouts, 1))
        return self.average(rewards, batch)


class SearchE(Search):
    """Another implementation."""

    def score(self, sequences: Tensor) -> Tensor:
        logits = self.discriminator.score(sequences)
        classes = torch.stack([torch.zeros_like(logits), logits], dim=1)  # (R, 2)
        return torch.softmax(classes, dim=1)[:, 0]


FAULTY = (SearchA, SearchB, SearchC, SearchD, SearchE)
