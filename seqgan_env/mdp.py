"""Eq. 1: sequence generation as a Markov decision process, for B sequences at once.

State: the prefix Y_{1:t-1}. Action: the next token y_t. Transition: deterministic, delta(s' = Y_{1:t}). An episode ends
at the horizon T, or at EOS where the task has one. It begins with the empty prefix, or with a prompt of P tokens where
the task has prompts; then the first action is y_{P+1}. Reward, by `reward_mode`:

- "action_value": r_t = Q(Y_{1:t-1}, y_t) of Eq. 4. It is the weight of the policy gradient at step t (Eq. 7): learn
  from it with discount 0. A sum of these rewards would count the future many times.
- "potential": r_t = Q_t - Q_{t-1} with Q_0 = 0. The sum is R(Y), so a learner with discount 1 keeps the objective.
- "terminal": 0, ..., 0, R(Y). The MDP as the paper states it; no search is run.

In: actions (B,) int64 and B random generators. Out: rewards (B,) float64. The classes in `envs` are thin layers over
this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from seqgan_env.arguments import check_count
from seqgan_env.components import build_reward_model, build_rollout_policy
from seqgan_env.models.sequence_models import State
from seqgan_env.monte_carlo import action_values
from seqgan_env.rewards import RewardModel
from seqgan_env.rollout_policies import RolloutPolicy, replay, select_rows, state_after
from seqgan_env.tasks.task import Task

RewardMode = Literal["action_value", "potential", "terminal"]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def is_finished(task: Task, lengths: IntArray, last_tokens: IntArray) -> BoolArray:
    """Which prefixes are whole sequences, (B,) bool; `lengths` and `last_tokens` are (B,) int64."""
    finished = lengths == task.sequence_length
    return finished if task.eos_token is None else finished | (last_tokens == task.eos_token)


def needs_value(mode: RewardMode, finished: BoolArray) -> BoolArray:
    """Which rewards depend on Q(Y_{1:t-1}, y_t), (B,) bool; `finished` marks the steps that end a sequence."""
    return finished.copy() if mode == "terminal" else np.ones_like(finished)


def rewards_of(mode: RewardMode, values: FloatArray, previous: FloatArray) -> FloatArray:
    """Rewards of steps, (B,).

    Args:
        mode: the reward mode.
        values: (B,) Q_t, 0 where `needs_value` is False.
        previous: (B,) Q_{t-1}, 0 at the first step.
    """
    return values - previous if mode == "potential" else values


class SequenceMDP:
    """B parallel episodes of the sequence MDP; rows are independent and may be at different steps.

    Args:
        task: vocabulary, horizon, end of sequence.
        num_sequences: B.
        reward_model: scores whole sequences, see `components.build_reward_model`; None is a new CNN.
        reward_mode: "action_value", "potential" or "terminal".
        rollout_policy: G_beta, see `components.build_rollout_policy`; None is uniform.
        n_rollouts: N, completions per prefix (paper: 16).

    Attributes:
        tokens: (B, T) int64, the prefixes, PAD after their end; a prompt is the beginning of its prefix.
        lengths: (B,) int64, tokens in each prefix, with the prompt.
        finished: (B,) bool.
        values: (B, T) float64, Q of each token so far; NaN where none was computed.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        task: Task,
        num_sequences: int,
        *,
        reward_model: Any = None,
        reward_mode: RewardMode = "action_value",
        rollout_policy: Any = None,
        n_rollouts: int = 16,
    ) -> None:
        check_count("num_envs", num_sequences)
        check_count("n_rollouts", n_rollouts)
        if reward_mode not in get_args(RewardMode):
            raise ValueError(f"reward_mode={reward_mode!r} must be one of {get_args(RewardMode)}")
        self.task = task
        self.num_sequences = num_sequences
        self.reward_mode = reward_mode
        self.n_rollouts = n_rollouts
        self.tokens = np.full((num_sequences, task.sequence_length), task.pad_token, dtype=np.int64)
        self.lengths = np.zeros(num_sequences, dtype=np.int64)
        self.finished = np.full(num_sequences, task.prompt_length > 0)  # before the first reset there is no prompt
        self.values = np.full((num_sequences, task.sequence_length), np.nan)
        self._reward_model: RewardModel | None = None  # the default CNN is built when first needed
        self._seeds_reward_model = False
        if reward_model is not None:
            self.set_reward_model(reward_model)
        self.set_rollout_policy(rollout_policy)

    @property
    def reward_model(self) -> RewardModel:
        """The reward model, which scores whole sequences."""
        if self._reward_model is None:
            self._reward_model = build_reward_model(None, self.task)
        return self._reward_model

    def set_reward_model(self, reward_model: Any) -> None:
        """Swap the reward model, also in the middle of an episode."""
        self._reward_model = build_reward_model(reward_model, self.task)
        self._seeds_reward_model = isinstance(reward_model, str)  # an object's random stream belongs to its owner

    def seed_reward_model(self, rng: np.random.Generator) -> None:
        """Restart the random stream of a reward model that was given by name. `rng` only gives the seed."""
        own = getattr(self._reward_model, "rng", None)
        if self._seeds_reward_model and own is not None:
            seeds: Any = rng.bit_generator.seed_seq
            own.bit_generator.state = type(own.bit_generator)(seeds.spawn(1)[0]).state

    def set_rollout_policy(self, rollout_policy: Any) -> None:
        """Swap G_beta, or announce that its parameters changed. Its states of all prefixes are then computed again."""
        self.rollout_policy: RolloutPolicy = build_rollout_policy(rollout_policy, self.task)
        self._state: State | None = None

    def reset(
        self,
        rows: BoolArray | None = None,
        rngs: Sequence[np.random.Generator] = (),
        prompts: Sequence[Any] | str | None = None,
    ) -> None:
        """Begin new episodes in the rows of a (B,) bool mask, or in all.

        Args:
            rows: which rows begin.
            rngs: B generators, which draw the prompts; used only where the task has prompts.
            prompts: B prompts, see `Task.checked_prompt`, or a text for all rows. A row whose prompt is None draws one.
                None: all draw.

        Raises:
            TypeError, ValueError: for a prompt that the task does not have. Nothing has begun then.
        """
        rows = np.ones(self.num_sequences, dtype=bool) if rows is None else rows
        given = self._new_prompts(rows, rngs, prompts)
        self.tokens[rows] = self.task.pad_token
        self.tokens[rows, : self.task.prompt_length] = given
        self.lengths[rows] = self.task.prompt_length
        self.finished[rows] = False
        self.values[rows] = np.nan
        if self._state is not None:
            mask = torch.from_numpy(rows).to(self._state[0].device)
            self._state = select_rows(mask, self._begun_state(), self._state)

    def _new_prompts(
        self, rows: BoolArray, rngs: Sequence[np.random.Generator], prompts: Sequence[Any] | str | None
    ) -> IntArray:
        """The prompts of the rows that begin, (rows, P) int64."""
        began: list[int] = np.flatnonzero(rows).tolist()
        if prompts is None or isinstance(prompts, str):
            prompts = [prompts] * self.num_sequences
        if len(prompts) != self.num_sequences:
            raise ValueError(
                f"prompt has {len(prompts)} entries for num_envs={self.num_sequences}; give one per row, or a text for "
                "all rows"
            )
        wanted = [prompts[row] for row in began]
        if not self.task.prompt_length and all(prompt is None for prompt in wanted):
            return np.empty((len(began), 0), dtype=np.int64)
        found = [
            self.task.draw_prompt(rngs[row]) if prompt is None else self.task.checked_prompt(prompt)
            for row, prompt in zip(began, wanted, strict=True)
        ]
        return np.stack(found) if found else np.empty((0, self.task.prompt_length), dtype=np.int64)

    def _begun_state(self) -> State:
        """G_beta's state at the beginning of an episode: after each row's prompt, or of the empty prefix."""
        if not self.task.prompt_length:
            return self.rollout_policy.initial_state(self.num_sequences)
        prompts = torch.from_numpy(self.tokens[:, : self.task.prompt_length].copy())
        return state_after(self.rollout_policy, prompts)

    @property
    def reset_options(self) -> tuple[str, ...]:
        """The options of an environment's `reset` that this task has: "prompt", or none."""
        return ("prompt",) if self.task.prompt_length else ()

    @property
    def begins(self) -> BoolArray:
        """Which rows have only their prompt, or nothing, so that no step was made yet, (B,) bool."""
        return self.lengths <= self.task.prompt_length

    def step(self, actions: Any, rngs: Sequence[np.random.Generator], rows: BoolArray | None = None) -> FloatArray:
        """Append one token to each row of a (B,) bool mask (None: all) and return the rewards (B,), 0 elsewhere.

        Args:
            actions: (B,) integers in 0..V-1; ignored outside the mask.
            rngs: B generators, one per row: all randomness of the search.
            rows: which rows step.

        Raises:
            TypeError: if actions are not integers.
            ValueError: if an action is out of range, the shape is wrong, or a row is finished.

        An error of the reward model passes through. The prefixes are then the same as before the step.
        """
        rows = np.ones(self.num_sequences, dtype=bool) if rows is None else rows
        actions = self._checked_actions(actions, rows)
        if (self.finished & rows).any():
            row = int(np.flatnonzero(self.finished & rows)[0])
            raise ValueError(f"environment {row} has finished its sequence; call reset() before the next step")
        stepped = np.flatnonzero(rows)
        before, state_before = self._previous_values(stepped), self._state
        self.tokens[stepped, self.lengths[stepped]] = actions[stepped]
        self.lengths[stepped] += 1
        self.finished |= is_finished(self.task, self.lengths, actions) & rows
        rewards = np.zeros(self.num_sequences)
        scored = stepped[needs_value(self.reward_mode, self.finished[stepped])]
        if self.reward_mode != "terminal":
            self._advance_state(actions, rows)
        if len(scored):
            try:
                values = self._search(scored, rngs)
            except BaseException:  # a faulty reward model, Ctrl-C: the step did not happen
                self.lengths[stepped] -= 1
                self.tokens[stepped, self.lengths[stepped]] = self.task.pad_token
                self.finished[stepped] = False
                self._state = state_before
                raise
            self.values[scored, self.lengths[scored] - 1] = values
            rewards[scored] = values
        rewards[stepped] = rewards_of(self.reward_mode, rewards[stepped], before)
        return rewards

    def end_info(self, rows: BoolArray) -> dict[str, list[Any]]:
        """The `info` of finished rows, one list per key: sequence, oracle_nll (nats per token), text, prompt.

        With prompts, `text` and `oracle_nll` are those of the response, and `prompt` is the text of the prompt.
        """
        ended = np.flatnonzero(rows)
        sequences = self.tokens[ended]  # a copy: fancy indexing
        info: dict[str, list[Any]] = {"sequence": list(sequences)}
        if self.task.oracle is not None and len(ended):
            log_probs = self.task.oracle.log_probs(torch.from_numpy(sequences)).to("cpu", torch.float64).numpy()
            written = self.lengths[ended] - self.task.prompt_length
            info["oracle_nll"] = (-log_probs.sum(axis=1) / written).tolist()
        if self.task.vocabulary is not None:
            info["text"] = [self.task.vocabulary.decode(row) for row in sequences[:, self.task.prompt_length :]]
            if self.task.prompt_length:
                prompts = sequences[:, : self.task.prompt_length]
                info["prompt"] = [self.task.vocabulary.decode(prompt) for prompt in prompts]
        return info

    def _search(self, rows: IntArray, rngs: Sequence[np.random.Generator]) -> FloatArray:
        """Eq. 4 for the last token of some rows."""
        everything = len(rows) == self.num_sequences
        state = self._state
        if state is not None and not everything:
            index = torch.from_numpy(rows).to(state[0].device)
            state = tuple(part[index] for part in state)
        return action_values(
            self.rollout_policy,
            state,
            self.tokens[rows],
            self.lengths[rows],
            self.finished[rows],
            self.reward_model,
            self.n_rollouts,
            [rngs[row] for row in rows],
            self.task.eos_token,
        )

    def _advance_state(self, actions: IntArray, rows: BoolArray) -> None:
        """Update G_beta's state of every prefix by one token, so that the search never recomputes a prefix."""
        if self._state is None:
            self._state = replay(self.rollout_policy, torch.from_numpy(self.tokens), torch.from_numpy(self.lengths))
            return
        device = self._state[0].device
        advanced = self.rollout_policy.advance(self._state, torch.from_numpy(np.where(rows, actions, 0)).to(device))
        self._state = advanced if rows.all() else select_rows(torch.from_numpy(rows).to(device), advanced, self._state)

    def _previous_values(self, rows: IntArray) -> FloatArray:
        """Q_{t-1} of each row, 0 at the first step and where none was computed."""
        last = np.maximum(self.lengths[rows] - 1, 0)
        return np.where(self.lengths[rows] > 0, np.nan_to_num(self.values[rows, last]), 0.0)  # a prompt has no values

    def _checked_actions(self, actions: Any, rows: BoolArray) -> IntArray:
        array = np.asarray(actions)
        if array.dtype.kind not in "iu":
            raise TypeError(
                f"actions have dtype {array.dtype}; expected integer token ids in 0..{self.task.vocab_size - 1}"
            )
        if array.shape != (self.num_sequences,):
            raise ValueError(
                f"actions have shape {array.shape}, expected ({self.num_sequences},), one token per sequence"
            )
        wrong = rows & ((array < 0) | (array >= self.task.vocab_size))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ValueError(f"action {array[row]} of environment {row} is out of range 0..{self.task.vocab_size - 1}")
        return array.astype(np.int64)
