"""Single, native vector and SB3 faces are one environment: same seed, same actions, same numbers."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.vec_env import SequenceVecEnv
from seqgan_env.envs import SequenceEnv, SequenceVectorEnv
from seqgan_env.mdp import RewardMode
from seqgan_env.tasks.conditional import conditional_task
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import toy_task
from tests.marks import examples
from tests.toy_world import TableReward, eos_task

TASKS = {"toy": toy_task(), "eos": eos_task(), "prompts": conditional_task()}
ROWS = 3


def actions_of(steps: int) -> st.SearchStrategy[list[list[int]]]:
    return st.lists(st.lists(st.integers(0, 2), min_size=ROWS, max_size=ROWS), min_size=steps, max_size=steps)


def settings_of(task: Task, reward_mode: RewardMode) -> dict[str, Any]:
    reward = TableReward(task.vocab_size, task.sequence_length)
    return {"reward_model": reward, "reward_mode": reward_mode, "n_rollouts": 2}


@examples(20)
@given(
    name=st.sampled_from(sorted(TASKS)),
    reward_mode=st.sampled_from(get_args(RewardMode)),
    seed=st.integers(0, 2**31),
    actions=actions_of(8),  # two to eight episodes a row; token 3 ends rows of "eos" at different times
    ends=st.sets(st.tuples(st.integers(0, 7), st.integers(0, ROWS - 1))),
)
def test_the_three_faces_give_the_same_numbers_step_by_step_and_after_autoreset(
    name: str, reward_mode: RewardMode, seed: int, actions: list[list[int]], ends: set[tuple[int, int]]
) -> None:
    task = TASKS[name]
    singles = [SequenceEnv(task, **settings_of(task, reward_mode)) for _ in range(ROWS)]
    native = SequenceVectorEnv(task, ROWS, autoreset_mode="SAME_STEP", **settings_of(task, reward_mode))
    sb3 = SequenceVecEnv(SequenceVectorEnv(task, ROWS, **settings_of(task, reward_mode)))
    sb3.seed(seed)
    starts = np.stack([env.reset(seed=seed + row)[0] for row, env in enumerate(singles)])
    np.testing.assert_array_equal(native.reset(seed=seed)[0], starts)
    np.testing.assert_array_equal(sb3.reset(), starts)
    for t, tokens in enumerate(actions):
        if name == "eos":
            tokens = [3 if (t, row) in ends else token for row, token in enumerate(tokens)]
        native_observations, native_rewards, terminated, truncated, native_infos = native.step(np.array(tokens))
        observations, rewards, dones, infos = sb3.step(np.array(tokens))
        np.testing.assert_array_equal(observations, native_observations)
        np.testing.assert_array_equal(rewards, native_rewards.astype(np.float32))
        np.testing.assert_array_equal(dones, terminated)
        assert not truncated.any()
        for row, env in enumerate(singles):
            observation, reward, done, _, info = env.step(tokens[row])
            assert reward == native_rewards[row]
            assert done == dones[row]
            assert ("sequence" in infos[row]) is done
            if done:
                np.testing.assert_array_equal(infos[row]["terminal_observation"], observation)
                np.testing.assert_array_equal(native_infos["final_obs"][row], observation)
                np.testing.assert_array_equal(infos[row]["sequence"], info["sequence"])
                assert infos[row]["oracle_nll"] == pytest.approx(info["oracle_nll"], abs=1e-6)
                assert infos[row]["text"] == info["text"]
                observation, _ = env.reset()
            np.testing.assert_array_equal(observations[row], observation)


@pytest.mark.parametrize("reward_mode", ["action_value", "potential"])
def test_another_seed_gives_other_numbers(reward_mode: RewardMode) -> None:
    rewards = []
    for seed in (0, 1000):
        env = SequenceVecEnv(SequenceVectorEnv(TASKS["toy"], ROWS, **settings_of(TASKS["toy"], reward_mode)))
        env.seed(seed)
        env.reset()
        rewards.append(env.step(np.zeros(ROWS, dtype=int))[1])
    assert not np.array_equal(*rewards)
