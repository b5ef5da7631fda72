"""Recomputes the rewards in a replay buffer, which come from old discriminators and old roll-out policies.

A stored transition is enough for this: observation Y_{1:t-1} and action y_t are the prefix Y_{1:t}. The rewards are
those of `mdp` in the same mode, with the current reward model and G_beta:

- "terminal": R(Y) where the sequence ends, and 0 elsewhere. It is exact, and needs one batch of scores.
- "action_value": Q(Y_{1:t-1}, y_t) of Eq. 4, by the same search with N completions. The distribution is that of the
  environment's rewards now.
- "potential": Q_t - Q_{t-1}. A prefix has one value, however many transitions share it, so the rewards of every stored
  sequence sum to R(Y) exactly.

In: a buffer of SB3. Out: the same buffer with new rewards. Each different prefix is searched once, in blocks. With a
search the work is as large as that of collecting the different prefixes again. So a small buffer is best. Old sequences
of a generator that has changed since teach little anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

from seqgan_env.mdp import FloatArray, IntArray, RewardMode, is_finished, needs_value, rewards_of
from seqgan_env.monte_carlo import action_values
from seqgan_env.rewards import RewardModel
from seqgan_env.rollout_policies import RolloutPolicy, replay
from seqgan_env.tasks.task import Task

_COMPLETIONS = 16_384  # completions in one block


@dataclass(frozen=True)
class RewardSource:
    """The parts that rewards depend on, taken from the current environment.

    Attributes:
        task: horizon, vocabulary, end of sequence.
        reward_mode: "action_value", "potential" or "terminal".
        reward_model: R(Y).
        rollout_policy: G_beta.
        n_rollouts: N.
    """

    task: Task
    reward_mode: RewardMode
    reward_model: RewardModel
    rollout_policy: RolloutPolicy
    n_rollouts: int

    def rewards(self, observations: IntArray, actions: IntArray, rng: np.random.Generator) -> FloatArray:
        """Rewards of transitions, as the environment would give them now.

        Args:
            observations: (M, T) int64, prefixes Y_{1:t-1}, PAD after their end.
            actions: (M,) int64, the tokens y_t.
            rng: draws the completions.

        Returns:
            (M,) float64.
        """
        transitions = np.arange(len(observations))
        before = (observations < self.task.vocab_size).sum(axis=1)
        prefixes = observations.copy()
        prefixes[transitions, before] = actions
        finished = is_finished(self.task, before + 1, actions)
        scored = needs_value(self.reward_mode, finished)
        begun = (before > self.task.prompt_length) & (
            self.reward_mode == "potential"
        )  # the other modes do not need Q_{t-1}; Q_0 = 0
        needed = np.concatenate([prefixes[scored], observations[begun]])
        found = self._values(needed, np.concatenate([finished[scored], np.zeros(begun.sum(), dtype=bool)]), rng)
        values, previous = np.zeros(len(observations)), np.zeros(len(observations))
        values[scored], previous[begun] = found[: scored.sum()], found[scored.sum() :]
        return rewards_of(self.reward_mode, values, previous)

    def _values(self, prefixes: IntArray, finished: npt.NDArray[np.bool_], rng: np.random.Generator) -> FloatArray:
        """Eq. 4 of (M, T) prefixes of at least one token; equal prefixes share one search. (M,) float64."""
        different, first, place = np.unique(prefixes, axis=0, return_index=True, return_inverse=True)
        ended = finished[first]
        values = np.empty(len(different))
        for kind, block in ((ended, _COMPLETIONS), (~ended, max(_COMPLETIONS // self.n_rollouts, 1))):
            which = np.flatnonzero(kind)
            for start in range(0, len(which), block):
                rows = which[start : start + block]
                values[rows] = self._search(different[rows], ended[rows], rng)
        return values[place.reshape(-1)]

    def _search(self, prefixes: IntArray, finished: npt.NDArray[np.bool_], rng: np.random.Generator) -> FloatArray:
        lengths = (prefixes < self.task.vocab_size).sum(axis=1)
        state = None
        if not finished.all():
            state = replay(self.rollout_policy, torch.from_numpy(prefixes), torch.from_numpy(lengths))
        return action_values(
            self.rollout_policy,
            state,
            prefixes,
            lengths,
            finished,
            self.reward_model,
            self.n_rollouts,
            [rng] * len(prefixes),
            self.task.eos_token,
        )


def check_can_relabel(buffer: ReplayBuffer, task: Task) -> None:
    """Check that a buffer's rewards can be recomputed.

    Raises:
        ValueError: if its observations are not the task's prefixes, or if its rewards are not the environment's (HER).
    """
    remedy = "pass relabel_replay=False to keep the rewards as they were when they were collected"
    if isinstance(buffer, DictReplayBuffer):  # HerReplayBuffer is one
        raise ValueError(f"relabel_replay=True cannot recompute the rewards of a {type(buffer).__name__}; {remedy}")
    shape = (task.sequence_length,)
    if buffer.obs_shape != shape:
        raise ValueError(
            f"relabel_replay=True needs the environment's own observations of shape {shape}, but the replay buffer "
            f"holds {buffer.obs_shape}; remove the wrapper, or {remedy}"
        )


def relabel(buffer: ReplayBuffer, source: RewardSource, rng: np.random.Generator) -> int:
    """Replace the reward of each transition in a buffer, and return how many there are.

    Args:
        buffer: of an off-policy learner, rewards not normalised, as SB3 stores them.
        source: the parts that rewards depend on.
        rng: draws the completions.
    """
    steps = np.arange(buffer.size())
    if buffer.full and buffer.optimize_memory_usage:
        steps = np.delete(steps, buffer.pos)  # it holds the newest next observation; never sampled
    if not len(steps):
        return 0
    observations = buffer.observations[steps].reshape(-1, *buffer.obs_shape).astype(np.int64)
    actions = buffer.actions[steps].reshape(-1).astype(np.int64)
    rewards = source.rewards(observations, actions, rng)
    buffer.rewards[steps] = rewards.reshape(len(steps), buffer.n_envs)
    return rewards.size
