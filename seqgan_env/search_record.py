"""Eq. 3-4 seen from inside: the completions behind a Q, and Q of tokens that were not chosen.

The search in `monte_carlo` returns Q alone, because training needs no more. Pictures and pages show where a Q comes
from. In: prefixes, a roll-out policy, a reward model. Out: completions with their rewards. Looking changes nothing: the
random stream of a reward model is put back where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from seqgan_env.rewards import RewardModel, score_sequences
from seqgan_env.rollout_policies import RolloutPolicy, complete_sequences, replay

_DRAWS = 64  # next tokens that are drawn to find the likely ones


@dataclass(frozen=True)
class SearchRecord:
    """One search of Eq. 3-4: what was completed, and what each completion won.

    Attributes:
        completions: (N, T) int64, PAD after the end; the sequence itself, once, where it is whole.
        rewards: (N,) float64, R of each completion.
    """

    completions: npt.NDArray[np.int64]
    rewards: npt.NDArray[np.float64]

    @property
    def value(self) -> float:
        """Q: the mean of the rewards."""
        return float(self.rewards.mean())


def search_records(
    policy: RolloutPolicy,
    prefixes: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    reward_model: RewardModel,
    n_rollouts: int,
    rng: np.random.Generator,
    eos_token: int | None = None,
) -> list[SearchRecord]:
    """Eq. 3-4 for each of B prefixes, with everything that the search saw.

    Args:
        policy: G_beta.
        prefixes: (B, T) int64, PAD after the end.
        lengths: (B,) int64, tokens in each, at least 1.
        reward_model: R(Y) of Eq. 2.
        n_rollouts: N.
        rng: of the completions; all prefixes of one length see the same draws.
        eos_token: the token that ends a sequence early, or None.

    Raises:
        TypeError, ValueError: if the reward model returns anything but finite numbers, one per sequence.
    """
    horizon = prefixes.shape[1]
    uniforms = np.broadcast_to(
        rng.random((1, n_rollouts, horizon), dtype=np.float32), (len(lengths), n_rollouts, horizon)
    )
    last = prefixes[np.arange(len(lengths)), lengths - 1]
    whole = lengths == horizon
    if eos_token is not None:
        whole |= last == eos_token
    parts = [torch.from_numpy(prefixes[row : row + 1]) for row in range(len(lengths))]
    going_on = np.flatnonzero(~whole)
    if len(going_on):
        rows, counts = torch.from_numpy(prefixes[going_on]), torch.from_numpy(lengths[going_on])
        state = replay(policy, rows, counts)
        device = state[0].device
        drawn = torch.from_numpy(np.ascontiguousarray(uniforms[going_on])).to(device)
        completed = complete_sequences(policy, state, rows.to(device), counts.to(device), drawn, eos_token).cpu()
        for row, completions in zip(going_on, completed.split(n_rollouts), strict=True):
            parts[row] = completions
    with unmoved(reward_model):
        rewards = score_sequences(reward_model, torch.cat(parts))
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return [SearchRecord(part.numpy(), won) for part, won in zip(parts, np.split(rewards, ends), strict=True)]


def likely_tokens(
    policy: RolloutPolicy, prefix: npt.NDArray[np.int64], length: int, count: int, rng: np.random.Generator
) -> list[int]:
    """The next tokens that a roll-out policy draws most often: all tokens of a small vocabulary, in their order.

    Args:
        policy: G_beta.
        prefix: (T,) int64.
        length: tokens in it.
        count: how many are wanted, at most.
        rng: of the draws.
    """
    if policy.vocab_size <= count:
        return list(range(policy.vocab_size))
    state = replay(policy, torch.from_numpy(prefix[None]), torch.tensor([length]))
    uniforms = torch.from_numpy(rng.random((1, _DRAWS), dtype=np.float32)).to(state[0].device)
    with torch.no_grad():
        tokens, times = np.unique(policy.draw(state, uniforms).cpu().numpy(), return_counts=True)
    return [int(token) for token in tokens[np.argsort(-times, kind="stable")][:count]]


@contextmanager
def unmoved(reward_model: RewardModel) -> Iterator[None]:
    """Put the random stream of a reward model, if it has one, back where it was."""
    rng = getattr(reward_model, "rng", None)
    if not isinstance(rng, np.random.Generator):
        yield
        return
    state = rng.bit_generator.state
    try:
        yield
    finally:
        rng.bit_generator.state = state
