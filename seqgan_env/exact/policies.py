"""Policies of a small world: a table of probabilities, and the probabilities of a policy that can only draw."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from seqgan_env.exact.sequences import FloatArray, IntArray, SequenceTree
from seqgan_env.models.sampling import draw_from_logits
from seqgan_env.models.sequence_models import State
from seqgan_env.rollout_policies import RolloutPolicy

_GRID = 1 << 14  # uniforms for a policy that can draw, but does not give its probabilities
_GRID_CELLS = 1 << 22  # draws at once


class TablePolicy:
    """A policy with a table of next-token probabilities, one row per prefix. `ExactWorld.policy` makes it.

    Args:
        children: (P, V) int64, the number of the prefix that follows each prefix with each token; 0 where it has ended.
        probabilities: (P, V) float64, rows sum to 1. Row 0 is the empty prefix.

    Attributes:
        vocab_size: V.
    """

    def __init__(self, children: IntArray, probabilities: FloatArray) -> None:
        self.vocab_size = children.shape[1]
        self._children = torch.from_numpy(children)
        self._log_table = torch.from_numpy(log_or_minus_infinity(probabilities))

    def initial_state(self, batch_size: int) -> State:
        """The empty prefix: ((B,) int64 numbers of prefixes,)."""
        return (torch.zeros(batch_size, dtype=torch.int64),)

    def advance(self, state: State, tokens: Tensor) -> State:
        """State after one more token, (R,) int64."""
        return (self._children[state[0], tokens],)

    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        """(R, N) float32 in [0, 1) -> (R, N) int64."""
        return draw_from_logits(self._log_table[state[0]].float(), uniforms)

    def log_probs(self, sequences: Tensor) -> Tensor:
        """log p of every token in nats, 0 at PAD, -inf for what is never drawn: (B, T) int64 -> (B, T) float64."""
        found = torch.zeros(sequences.shape, dtype=torch.float64)
        state = self.initial_state(len(sequences))
        for t, column in enumerate(sequences.cpu().unbind(1)):
            tokens = column.clamp(max=self.vocab_size - 1)
            found[:, t] = torch.where(column < self.vocab_size, self._log_table[state[0], tokens], 0.0)
            state = self.advance(state, tokens)
        return found


def log_probs_by_drawing(tree: SequenceTree, policy: RolloutPolicy) -> FloatArray:
    """(S, T) float64, from draws with evenly spaced uniforms at every prefix, step by step."""
    grid = (torch.arange(_GRID, dtype=torch.float32) + 0.5) / _GRID
    found = np.zeros(tree.tokens.shape)
    state = policy.initial_state(1)
    numbers = np.zeros(1, dtype=np.int64)
    for t in range(tree.tokens.shape[1]):
        rows = np.flatnonzero(tree.real[:, t])
        if not len(rows):
            break
        before, (numbers, first) = numbers, np.unique(tree.prefix[rows, t], return_index=True)  # one row per prefix
        if t:
            parents = np.searchsorted(before, tree.prefix[rows[first], t - 1])
            tokens = torch.from_numpy(tree.tokens[rows[first], t - 1])
            index = torch.from_numpy(parents).to(state[0].device)
            state = policy.advance(tuple(part[index] for part in state), tokens.to(state[0].device))
        shares = _shares_of_draws(policy, state, grid)
        found[rows, t] = log_or_minus_infinity(
            shares[np.searchsorted(numbers, tree.prefix[rows, t]), tree.tokens[rows, t]]
        )
    return found


def _shares_of_draws(policy: RolloutPolicy, state: State, grid: Tensor) -> FloatArray:
    """How often each token is drawn after each of R prefixes, (R, V) float64."""
    shares = []
    grid = grid.to(state[0].device)
    block = max(1, _GRID_CELLS // len(grid))
    for start in range(0, len(state[0]), block):
        some = tuple(part[start : start + block] for part in state)
        drawn = policy.draw(some, grid.expand(len(some[0]), -1).contiguous()).cpu().numpy()
        shares.append(np.stack([(drawn == token).mean(axis=1) for token in range(policy.vocab_size)], axis=1))
    return np.concatenate(shares)


def log_or_minus_infinity(values: FloatArray) -> FloatArray:
    """Natural logarithm, -inf for 0, without a warning."""
    with np.errstate(divide="ignore"):
        return np.log(values)
