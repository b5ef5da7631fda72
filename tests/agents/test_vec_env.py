"""`vec_env`: the Stable-Baselines3 face."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize, is_vecenv_wrapped

from agents.vec_env import SequenceVecEnv, make_sequence_vec_env
from seqgan_env.rewards import ConstantReward
from tests.toy_world import DigitsReward, PointPolicy


@pytest.fixture
def env() -> SequenceVecEnv:
    """Two rows; the reward spells the sequence, the search completes with zeros."""
    return make_sequence_vec_env(
        "SeqGAN-Toy-v0", 2, seed=0, reward_model=DigitsReward(), rollout_policy=PointPolicy(3, 0), n_rollouts=2
    )


def test_the_last_step_of_an_episode_reports_it_and_starts_the_next(env: SequenceVecEnv) -> None:
    env.reset()
    for token in (1, 2):
        observations, rewards, dones, infos = env.step(np.array([token, 0]))
        assert not dones.any()
        assert infos == [{}, {}]
    assert rewards.tolist() == [120.0, 0.0]
    assert rewards.dtype == np.float32
    observations, rewards, dones, infos = env.step(np.array([2, 1]))
    assert dones.tolist() == [True, True]
    assert observations.tolist() == [[3, 3, 3], [3, 3, 3]]
    assert rewards.tolist() == [122.0, 1.0]
    assert [info["terminal_observation"].tolist() for info in infos] == [[1, 2, 2], [0, 0, 1]]
    assert [info["sequence"].tolist() for info in infos] == [[1, 2, 2], [0, 0, 1]]
    assert [info["text"] for info in infos] == ["b c c", "a a b"]
    assert [info["TimeLimit.truncated"] for info in infos] == [False, False]
    assert infos[0]["episode"]["r"] == 100 + 120 + 122
    assert [info["episode"]["l"] for info in infos] == [3, 3]
    assert infos[0]["episode"]["t"] >= 0


def test_the_return_of_an_episode_does_not_leak_into_the_next(env: SequenceVecEnv) -> None:
    env.reset()
    for _ in range(5):
        env.step(np.array([1, 0]))
    *_, infos = env.step(np.array([1, 0]))
    assert infos[0]["episode"]["r"] == 100 + 110 + 111
    for _ in range(2):
        env.step(np.array([1, 0]))
    env.reset()
    for token in (0, 0, 2):
        *_, infos = env.step(np.array([token, 0]))
    assert infos[0]["episode"]["r"] == 2


@pytest.mark.parametrize("options", [{"foo": 1}, [{}, {"foo": 1}]])
def test_an_unknown_option_of_a_reset_is_an_error(env: SequenceVecEnv, options: Any) -> None:
    env.set_options(options)
    with pytest.raises(TypeError, match="reset option 'foo' is unknown; there are none"):
        env.reset()
    env.set_options()
    env.reset()


def test_observations_and_infos_are_copies(env: SequenceVecEnv) -> None:
    observations = env.reset()
    observations[:] = 1
    observations, *_ = env.step(np.array([2, 2]))
    assert observations.tolist() == [[2, 3, 3], [2, 3, 3]]
    env.step(np.array([2, 2]))
    *_, infos = env.step(np.array([2, 2]))
    env.step(np.array([0, 0]))
    assert infos[0]["sequence"].tolist() == [2, 2, 2]


def test_a_seed_holds_for_one_reset(env: SequenceVecEnv) -> None:
    def first_rewards() -> list[float]:
        env.reset()
        return env.step(np.array([0, 1]))[1].tolist()

    env.env_method("set_rollout_policy", "uniform")
    env.seed(5)
    first, second = first_rewards(), first_rewards()
    env.seed(5)
    assert first_rewards() == first
    assert first != second


def test_get_attr_gives_one_value_a_row(env: SequenceVecEnv) -> None:
    assert env.get_attr("reward_mode") == ["action_value", "action_value"]
    assert env.get_attr("reward_mode", indices=[1]) == ["action_value"]
    assert env.get_attr("task")[0].name == "toy"
    with pytest.raises(AttributeError):
        env.get_attr("nothing")


def test_env_method_swaps_the_reward_model_and_the_rollout_policy_of_all_rows(env: SequenceVecEnv) -> None:
    assert env.env_method("set_reward_model", ConstantReward(0.25)) == [None, None]
    env.reset()
    assert env.step(np.array([1, 2]))[1].tolist() == [0.25, 0.25]
    env.env_method("set_reward_model", DigitsReward(), indices=[0, 1])
    env.env_method("set_rollout_policy", PointPolicy(3, 2), indices=range(2))
    env.reset()
    assert env.step(np.array([1, 2]))[1].tolist() == [122.0, 222.0]


def test_action_masks_come_a_row_each_also_for_some_rows(env: SequenceVecEnv) -> None:
    assert np.stack(env.env_method("action_masks")).tolist() == [[True] * 3] * 2
    assert np.stack(env.env_method("action_masks", indices=[1])).tolist() == [[True] * 3]


@pytest.mark.parametrize("call", ["env_method", "set_attr"])
def test_what_changes_the_shared_mdp_takes_all_rows_or_none(env: SequenceVecEnv, call: str) -> None:
    argument = ("set_reward_model", ConstantReward()) if call == "env_method" else ("render_mode", "ansi")
    with pytest.raises(ValueError, match=rf"{call}\(indices=.*leave indices out"):
        getattr(env, call)(*argument, indices=[0])
    with pytest.raises(ValueError, match="leave indices out"):
        getattr(env, call)(*argument, indices=1)


def test_set_attr_reaches_the_environment(env: SequenceVecEnv) -> None:
    env.set_attr("render_mode", "rgb_array")
    env.reset()
    images = env.get_images()
    assert len(images) == 2
    assert images[0] is not None
    assert images[0].ndim == 3


def test_without_a_render_mode_there_are_no_images(env: SequenceVecEnv) -> None:
    assert env.get_images() == []


def test_it_counts_as_unwrapped_and_can_be_monitored(env: SequenceVecEnv) -> None:
    assert env.env_is_wrapped(Monitor) == [False, False]
    monitored = VecMonitor(env)
    assert is_vecenv_wrapped(monitored, VecMonitor)
    monitored.reset()
    for _ in range(3):
        *_, infos = monitored.step(np.array([1, 0]))
    assert [info["episode"]["r"] for info in infos] == [100 + 110 + 111, 0]
    assert monitored.get_attr("reward_mode") == ["action_value"] * 2
    normalised = VecNormalize(env, norm_obs=False)
    normalised.reset()
    assert normalised.step(np.array([1, 0]))[1].shape == (2,)


@pytest.mark.parametrize(
    ("action", "error", "match"),
    [
        (np.array([3, 0]), ValueError, "action 3 of environment 0 is out of range 0..2"),
        (np.array([0.0, 1.0]), TypeError, "dtype float64"),
        (np.array([0]), ValueError, r"shape \(1,\), expected \(2,\)"),
    ],
)
def test_wrong_actions_are_refused_and_leave_the_episode_as_it_is(
    env: SequenceVecEnv, action: np.ndarray, error: type[Exception], match: str
) -> None:
    env.reset()
    with pytest.raises(error, match=match):
        env.step(action)
    assert env.step(np.array([1, 2]))[0].tolist() == [[1, 3, 3], [2, 3, 3]]


def test_an_id_of_another_environment_is_refused() -> None:
    with pytest.raises(TypeError, match=r"env_id='CartPole-v1' makes a .*; give an id of seqgan_env"):
        make_sequence_vec_env("CartPole-v1", 2)


def test_make_passes_keywords_on_and_numbers_the_rows() -> None:
    env = make_sequence_vec_env("SeqGAN-Oracle-v0", 4, vocab_size=7, sequence_length=5, reward_mode="terminal")
    assert env.num_envs == 4
    assert env.observation_space == gym.spaces.Box(0, 7, (5,), dtype=np.int64)
    assert env.action_space == gym.spaces.Discrete(7)
    assert env.get_attr("reward_mode") == ["terminal"] * 4
    env.close()
