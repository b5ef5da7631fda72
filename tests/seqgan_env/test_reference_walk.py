"""Random walks over everything that a vector environment can be asked for, beside a reference MDP of a few lines."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor

from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.tasks.task import Task
from tests.toy_world import PointPolicy, TableReward

V, T, EOS, PAD, ROWS = 4, 5, 3, 4, 3
TABLES = [TableReward(V, T, seed) for seed in range(3)]


def draw_split(split: str) -> Tensor:
    return torch.zeros((2, T), dtype=torch.int64)


def padded(tokens: list[int]) -> list[int]:
    return tokens + [PAD] * (T - len(tokens))


class Reference:
    """Eq. 1 and 4 with a roll-out policy that always draws the same token, so that Q is one reward."""

    def __init__(self, reward_mode: str) -> None:
        self.reward_mode, self.table, self.token = reward_mode, 0, 0
        self.rows: list[list[int]] = [[] for _ in range(ROWS)]
        self.value = [0.0] * ROWS

    def is_done(self, row: int) -> bool:
        return len(self.rows[row]) == T or EOS in self.rows[row]

    def reset(self, row: int) -> None:
        self.rows[row], self.value[row] = [], 0.0

    def action_value(self, row: int) -> float:
        tokens = list(self.rows[row])
        while len(tokens) < T and EOS not in tokens:
            tokens.append(self.token)
        return float(TABLES[self.table](torch.tensor([padded(tokens)]))[0])

    def step(self, row: int, action: int) -> float:
        self.rows[row].append(action)
        if self.reward_mode == "terminal" and not self.is_done(row):
            return 0.0
        before, self.value[row] = self.value[row], self.action_value(row)
        return self.value[row] - (before if self.reward_mode == "potential" else 0.0)


class Walk(RuleBasedStateMachine):
    """The environment and the reference, asked the same."""

    @initialize(
        mode=st.sampled_from(list(AutoresetMode)),
        reward_mode=st.sampled_from(["action_value", "potential", "terminal"]),
    )
    def begin(self, mode: AutoresetMode, reward_mode: Any) -> None:
        self.mode, self.reference = mode, Reference(reward_mode)
        self.env = SequenceVectorEnv(
            Task("walk", V, T, draw_split, eos_token=EOS),
            ROWS,
            autoreset_mode=mode,
            reward_model=TABLES[0],
            reward_mode=reward_mode,
            rollout_policy=PointPolicy(V, 0),
            n_rollouts=2,
        )
        self.observations, _ = self.env.reset(seed=0)

    def waits_for_a_reset(self) -> bool:
        return self.mode is AutoresetMode.DISABLED and any(map(self.reference.is_done, range(ROWS)))

    @precondition(lambda self: not self.waits_for_a_reset())
    @rule(actions=st.lists(st.integers(0, V - 1), min_size=ROWS, max_size=ROWS))
    def step(self, actions: list[int]) -> None:
        self.observations, rewards, ended, cut, infos = self.env.step(np.array(actions))
        assert not cut.any()
        for row, action in enumerate(actions):
            if self.mode is AutoresetMode.NEXT_STEP and self.reference.is_done(row):
                self.reference.reset(row)
                assert rewards[row] == 0
                assert not ended[row]
                continue
            np.testing.assert_allclose(rewards[row], self.reference.step(row, action), atol=1e-12)
            assert ended[row] == self.reference.is_done(row)
            if ended[row]:
                told = infos["final_info"] if self.mode is AutoresetMode.SAME_STEP else infos
                assert told["sequence"][row].tolist() == padded(self.reference.rows[row])
                if self.mode is AutoresetMode.SAME_STEP:
                    assert infos["final_obs"][row].tolist() == padded(self.reference.rows[row])
                    self.reference.reset(row)

    @rule(seed=st.none() | st.integers(0, 9))
    def reset(self, seed: int | None) -> None:
        self.observations, _ = self.env.reset(seed=seed)
        for row in range(ROWS):
            self.reference.reset(row)

    @precondition(lambda self: self.mode is AutoresetMode.DISABLED)
    @rule(mask=st.lists(st.booleans(), min_size=ROWS, max_size=ROWS).filter(any))
    def reset_some(self, mask: list[bool]) -> None:
        self.observations, _ = self.env.reset(options={"reset_mask": np.array(mask)})
        for row in np.flatnonzero(mask):
            self.reference.reset(int(row))

    @rule(table=st.integers(0, 2))
    def set_reward_model(self, table: int) -> None:
        self.env.set_reward_model(TABLES[table])
        self.reference.table = table

    @rule(token=st.integers(0, V - 1))
    def set_rollout_policy(self, token: int) -> None:
        self.env.set_rollout_policy(PointPolicy(V, token))
        self.reference.token = token

    @rule()
    def go_on_with_a_deep_copy(self) -> None:
        self.env = copy.deepcopy(self.env)

    @rule()
    def go_on_with_a_pickled_copy(self) -> None:
        self.env = pickle.loads(pickle.dumps(self.env))

    @invariant()
    def the_prefixes_agree(self) -> None:
        if hasattr(self, "env"):
            expected = [padded(row) for row in self.reference.rows]
            assert self.observations.tolist() == expected
            assert self.env.mdp.tokens.tolist() == expected


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=25, stateful_step_count=30, deadline=None, derandomize=True)
