"""`envs`: Gymnasium's contracts, and that the single and the vector face give the same numbers."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import seqgan_env  # noqa: F401  (registers the environments)
from seqgan_env import envs as envs_module
from seqgan_env.envs import OracleVectorEnv, SequenceEnv, SequenceVectorEnv, ToyEnv, ToyVectorEnv
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rewards import ConstantReward, RandomReward
from seqgan_env.rollout_policies import UniformPolicy
from seqgan_env.task_files import environment_id, title
from seqgan_env.tasks import TASKS
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import toy_task
from tests.marks import examples
from tests.toy_world import DigitsReward, PointPolicy, SuccessorPolicy, TableReward, eos_task

REWARD_MODES = ["action_value", "potential", "terminal"]
SMALL = {"SeqGAN-Oracle-v0": {"vocab_size": 50, "sequence_length": 6}, "SeqGAN-Toy-v0": {}}
IDS = sorted(SMALL)


def episode(env: gym.Env, actions: list[int], seed: int) -> list[tuple]:
    env.reset(seed=seed)
    return [env.step(action) for action in actions]


def assert_same(actual: Any, expected: Any) -> None:
    """Equal in keys, types, shapes, masks and values; floats to rounding."""
    if isinstance(expected, dict):
        assert set(actual) == set(expected)
        for key, value in expected.items():
            assert_same(actual[key], value)
    elif isinstance(expected, np.ndarray) and expected.dtype == object:
        assert actual.dtype == object
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            assert_same(a, b)
    elif isinstance(expected, np.ndarray):
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    elif isinstance(expected, float):
        assert actual == pytest.approx(expected, rel=1e-5, abs=1e-6)
    else:
        assert type(actual) is type(expected)
        assert actual == expected


# --- Gymnasium's and SB3's contracts ---------------------------------------------------------------------------------


def test_the_tasks_are_registered() -> None:
    assert {*IDS, "SeqGAN-Text-v0"} <= set(gym.registry)


@pytest.mark.parametrize("reward_mode", REWARD_MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_check_env_passes(env_id: str, reward_mode: str) -> None:
    env = gym.make(env_id, reward_mode=reward_mode, **SMALL[env_id]).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check_env(env)


@pytest.mark.parametrize("reward_model", ["random", "shuffled", "shuffled:logit", "bleu"])
def test_gymnasiums_check_env_passes_with_a_reward_that_draws(reward_model: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check_env(gym.make("SeqGAN-Toy-v0", reward_model=reward_model).unwrapped)


@pytest.mark.parametrize("env_class", [SequenceEnv, SequenceVectorEnv])
def test_a_seed_winds_back_the_stream_of_a_reward_given_by_name_alone(env_class: Any, task: Task) -> None:
    def rewards(env: Any, seed: int | None) -> list[float]:
        env.reset(seed=seed)
        action = np.zeros(env.action_space.shape, dtype=np.int64)
        return [float(np.sum(env.step(action)[1])) for _ in range(3)]

    named = env_class(task, reward_model="random")
    first = rewards(named, 1)
    assert rewards(named, None) != first  # an unseeded reset goes on
    assert rewards(named, 2) != first
    assert rewards(named, 1) == first
    of_the_caller = env_class(task, reward_model=RandomReward(np.random.default_rng(0)))
    assert rewards(of_the_caller, 1) != rewards(of_the_caller, 1)


def test_seeding_a_reward_does_not_move_the_stream_of_the_search(task: Task) -> None:
    env = SequenceEnv(task, reward_model="random")
    env.reset(seed=5)
    assert env.np_random.bit_generator.state == np_random(5)[0].bit_generator.state


@pytest.mark.parametrize("reward_mode", REWARD_MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_sb3s_check_env_passes(env_id: str, reward_mode: str) -> None:
    sb3_check_env(gym.make(env_id, reward_mode=reward_mode, **SMALL[env_id]))


def test_the_default_oracle_environment_has_the_papers_sizes() -> None:
    env = gym.make("SeqGAN-Oracle-v0")
    assert env.observation_space == gym.spaces.Box(0, 5000, (20,), np.int64)
    assert env.action_space == gym.spaces.Discrete(5000)
    assert env.unwrapped.mdp.n_rollouts == 16
    assert env.spec.max_episode_steps is None
    observation, info = env.reset(seed=0)
    assert observation.tolist() == [5000] * 20
    assert info == {}


def test_the_toy_environment_has_27_sequences() -> None:
    env = gym.make("seqgan_env:SeqGAN-Toy-v0")
    assert env.observation_space == gym.spaces.Box(0, 3, (3,), np.int64)
    assert env.action_space == gym.spaces.Discrete(3)


@pytest.mark.parametrize("env_id", ["SeqGAN-Toy-v0", "seqgan_env:SeqGAN-Toy-v0"])
def test_make_vec_gives_the_native_vector_environment(env_id: str) -> None:
    envs = gym.make_vec(env_id, num_envs=4, vocab_size=5, autoreset_mode="SameStep", reward_model="constant")
    assert type(envs) is ToyVectorEnv
    assert envs.num_envs == 4
    assert envs.observation_space.shape == (4, 3)
    assert envs.action_space == gym.spaces.MultiDiscrete([5] * 4)
    assert envs.reset(seed=0)[0].tolist() == [[5, 5, 5]] * 4


def test_make_vec_also_gives_gymnasiums_own_vector_environment() -> None:
    envs = gym.make_vec("SeqGAN-Toy-v0", num_envs=2, vectorization_mode="sync", reward_model="constant")
    assert isinstance(envs, SyncVectorEnv)
    envs.reset(seed=0)
    assert envs.step(np.array([0, 1]))[1].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("env_id", IDS)
def test_a_spec_built_from_plain_values_survives_json(env_id: str) -> None:
    keywords = SMALL[env_id] | {
        "reward_model": "constant:0.3",
        "reward_mode": "potential",
        "n_rollouts": 2,
        "oracle": 1,
    }
    env = gym.make(env_id, **keywords)
    text = env.spec.to_json()
    assert json.loads(text)["kwargs"]["reward_model"] == "constant:0.3"
    again = gym.make(EnvSpec.from_json(text))
    steps = [episode(made, [0, 2, 1], seed=3) for made in (env, again)]
    for first, second in zip(*steps, strict=True):
        assert first[0].tolist() == second[0].tolist()
        assert first[1:4] == second[1:4]
    assert again.unwrapped.mdp.n_rollouts == 2


def test_an_episode_of_the_toy_environment() -> None:
    env = gym.make("SeqGAN-Toy-v0", reward_model=DigitsReward(), rollout_policy=SuccessorPolicy(3))
    steps = episode(env, [1, 1, 0], seed=0)
    assert [step[0].tolist() for step in steps] == [[1, 3, 3], [1, 1, 3], [1, 1, 0]]
    assert [step[1] for step in steps] == [120, 112, 110]
    assert [step[2] for step in steps] == [False, False, True]
    assert not any(step[3] for step in steps)
    assert [sorted(step[4]) for step in steps] == [[], [], ["oracle_nll", "sequence", "text"]]
    info = steps[-1][4]
    assert info["sequence"].tolist() == [1, 1, 0]
    assert info["text"] == "b b a"
    oracle = env.unwrapped.task.oracle
    assert info["oracle_nll"] == pytest.approx(-oracle.log_probs(torch.tensor([[1, 1, 0]])).mean().item(), rel=1e-5)


@pytest.mark.parametrize("reward_model", ["constant", None])
def test_the_oracle_stays_out_of_the_reward_unless_asked_for(reward_model: str | None) -> None:
    rewards = [
        [step[1] for step in episode(ToyEnv(oracle=oracle, reward_model=reward_model), [0, 1, 2], seed=0)]
        for oracle in (0, 1)
    ]
    assert rewards[0] == rewards[1]


def test_the_oracles_reward_is_its_likelihood_when_asked_for() -> None:
    (*_, (_, reward, _, _, info)) = episode(ToyEnv(reward_model="oracle"), [0, 1, 2], seed=0)
    assert reward == pytest.approx(np.exp(-info["oracle_nll"]), rel=1e-5)


@pytest.mark.parametrize("reward_mode", REWARD_MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_a_seed_reproduces_an_episode_bit_for_bit(env_id: str, reward_mode: str) -> None:
    length = SMALL[env_id].get("sequence_length", 3)
    actions = [1, 2, 0, 2, 1, 1][:length]
    runs = []
    for seed in (5, 5, 6):
        torch.manual_seed(len(runs))  # the global generators do not matter
        np.random.seed(len(runs))
        env = gym.make(env_id, reward_mode=reward_mode, **SMALL[env_id])
        runs.append([step[1] for step in episode(env, actions, seed)])
    assert runs[0] == runs[1]
    assert (runs[0] != runs[2]) is (reward_mode != "terminal")


def test_a_reset_without_a_seed_goes_on_with_the_stream() -> None:
    env = ToyEnv()
    first = [step[1] for step in episode(env, [1, 2, 0], seed=5)]
    env.reset()
    second = [env.step(action)[1] for action in [1, 2, 0]]
    assert first[0] != second[0]
    assert first[2] == pytest.approx(second[2])


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_returned_arrays_are_fresh_copies(mode: AutoresetMode) -> None:
    def spoil(value: Any) -> None:
        for item in value.values() if isinstance(value, dict) else [value]:
            if isinstance(item, dict):
                spoil(item)
            elif isinstance(item, np.ndarray) and item.dtype == object:
                for part in item:
                    if isinstance(part, np.ndarray):
                        part[:] = 77
            elif isinstance(item, np.ndarray):
                item[...] = 1

    def run(spoiled: bool) -> list:
        envs = ToyVectorEnv(2, reward_model=DigitsReward(), rollout_policy=SuccessorPolicy(3), autoreset_mode=mode)
        observations, infos = envs.reset(seed=0)
        seen = [observations.copy()]
        for t in range(7):
            if mode is AutoresetMode.DISABLED and t in (3, 6):
                observations, infos = envs.reset(options={"reset_mask": np.ones(2, dtype=bool)})
            returned = envs.step(np.array([t % 3, 1]))
            seen.append([array.tolist() for array in returned[:4]])
            if spoiled:
                for value in (observations, infos, *returned):
                    spoil(value)
        return [np.asarray(entry).tolist() if isinstance(entry, np.ndarray) else entry for entry in seen]

    assert run(spoiled=True) == run(spoiled=False)


def test_single_environments_return_fresh_copies() -> None:
    env = ToyEnv(reward_model="constant")
    observation, _ = env.reset(seed=0)
    for action in (0, 1):
        observation[:] = 9
        observation = env.step(action)[0]
    observation, _, _, _, info = env.step(2)
    assert observation.tolist() == [0, 1, 2]
    info["sequence"][:] = 9
    assert observation.tolist() == [0, 1, 2]
    observation[:] = 8
    assert env.mdp.tokens.tolist() == [[0, 1, 2]]


def test_all_tokens_may_come_next() -> None:
    assert ToyEnv().action_masks().tolist() == [True] * 3
    assert ToyVectorEnv(2).action_masks().tolist() == [[True] * 3] * 2
    assert ToyEnv().action_masks().dtype == np.bool_


# --- one face or many: the same numbers ------------------------------------------------------------------------------


@examples(40)
@given(
    vocab_size=st.integers(1, 5),
    horizon=st.integers(1, 4),
    n_rollouts=st.integers(1, 3),
    rows=st.integers(1, 4),
    seed=st.integers(0, 2**31 - 10),
    reward_mode=st.sampled_from(REWARD_MODES),
    policy=st.sampled_from(["uniform", "oracle"]),
    data=st.data(),
)
def test_single_and_vector_faces_agree_step_by_step(
    vocab_size: int,
    horizon: int,
    n_rollouts: int,
    rows: int,
    seed: int,
    reward_mode: str,
    policy: str,
    data: st.DataObject,
) -> None:
    task = toy_task(vocab_size, horizon)
    keywords: dict[str, Any] = {
        "reward_model": TableReward(vocab_size, horizon),
        "reward_mode": reward_mode,
        "rollout_policy": policy,
        "n_rollouts": n_rollouts,
    }
    singles = [SequenceEnv(task, **keywords) for _ in range(rows)]
    together = SequenceVectorEnv(task, rows, autoreset_mode="Disabled", **keywords)
    first_observations = [env.reset(seed=seed + row)[0] for row, env in enumerate(singles)]
    np.testing.assert_array_equal(together.reset(seed=seed)[0], first_observations)
    tokens = st.lists(st.integers(0, vocab_size - 1), min_size=rows, max_size=rows)
    for _ in range(horizon):
        actions = np.array(data.draw(tokens))
        observations, rewards, terminations, truncations, infos = together.step(actions)
        for row, env in enumerate(singles):
            observation, reward, terminated, truncated, info = env.step(actions[row])
            assert observations[row].tolist() == observation.tolist()
            assert rewards[row] == reward
            assert (terminations[row], truncations[row]) == (terminated, truncated)
            for key, value in info.items():
                assert infos[f"_{key}"][row]
                assert_same(infos[key][row : row + 1].tolist()[0], np.asarray(value).tolist())
    assert terminations.all()


def test_faces_agree_on_the_default_discriminators_reward() -> None:
    together = ToyVectorEnv(3, vocab_size=6, sequence_length=4, autoreset_mode="Disabled")
    singles = [ToyEnv(6, 4) for _ in range(3)]
    together.reset(seed=9)
    for row, env in enumerate(singles):
        env.reset(seed=9 + row)
    for actions in ([0, 5, 2], [1, 1, 1], [4, 0, 3], [2, 2, 5]):
        rewards = together.step(np.array(actions))[1]
        expected = [env.step(action)[1] for env, action in zip(singles, actions, strict=True)]
        np.testing.assert_allclose(rewards, expected, rtol=1e-5)


def native_and_synchronous(
    mode: AutoresetMode, rows: int = 3, reward_mode: str = "action_value"
) -> tuple[SequenceVectorEnv, SyncVectorEnv]:
    """The native vector environment, and Gymnasium's of single ones, on the task where rows end at different steps."""
    keywords: dict[str, Any] = {
        "reward_model": TableReward(4, 5),
        "rollout_policy": "oracle",
        "n_rollouts": 3,
        "reward_mode": reward_mode,
    }
    native = SequenceVectorEnv(eos_task(), rows, autoreset_mode=mode, **keywords)
    makers: list[Callable[[], SequenceEnv]] = [lambda: SequenceEnv(eos_task(), **keywords) for _ in range(rows)]
    return native, SyncVectorEnv(makers, autoreset_mode=mode)


@pytest.mark.parametrize("reward_mode", REWARD_MODES)
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_autoreset_mode_behaves_as_gymnasiums_vector_of_single_environments(
    mode: AutoresetMode, reward_mode: str
) -> None:
    native, synchronous = native_and_synchronous(mode, reward_mode=reward_mode)
    rng = np.random.default_rng(1)
    assert_same(native.reset(seed=4)[0], synchronous.reset(seed=4)[0])
    lengths_at_once, endings = set(), 0
    for _ in range(40):
        actions = rng.integers(0, 4, size=3)
        step, expected = native.step(actions), synchronous.step(actions)
        for part, expected_part in zip(step, expected, strict=True):
            assert_same(part, expected_part)
        ended = step[2]
        endings += int(ended.sum())
        lengths_at_once.add(tuple(native.mdp.lengths))
        if mode is AutoresetMode.DISABLED and ended.any():
            reset = native.reset(options={"reset_mask": ended})
            expected_reset = synchronous.reset(options={"reset_mask": ended.copy()})
            assert_same(reset[0], expected_reset[0])
            assert_same(reset[1], expected_reset[1])
    assert endings > 10
    assert any(len(set(lengths)) == 3 for lengths in lengths_at_once)  # rows did stand at different steps


@pytest.mark.parametrize("reward_mode", REWARD_MODES)
def test_next_step_ignores_the_action_that_resets_a_row(reward_mode: str) -> None:
    envs, _ = native_and_synchronous(AutoresetMode.NEXT_STEP, 2, reward_mode)
    envs.reset(seed=0)
    _, _, ended, _, infos = envs.step(np.array([3, 0]))  # row 0 ends at EOS
    assert ended.tolist() == [True, False]
    assert infos["_sequence"].tolist() == [True, False]
    assert infos["sequence"][0].tolist() == [3, 4, 4, 4, 4]
    observations, rewards, ended, _, infos = envs.step(np.array([2, 1]))
    assert observations.tolist() == [[4, 4, 4, 4, 4], [0, 1, 4, 4, 4]]
    assert rewards[0] == 0
    assert ended.tolist() == [False, False]
    assert infos == {}
    assert envs.step(np.array([2, 1]))[0].tolist() == [[2, 4, 4, 4, 4], [0, 1, 1, 4, 4]]


def test_same_step_hands_over_the_final_observation_and_info() -> None:
    envs, _ = native_and_synchronous(AutoresetMode.SAME_STEP, 2)
    envs.reset(seed=0)
    envs.step(np.array([2, 0]))
    observations, _, ended, _, infos = envs.step(np.array([3, 0]))
    assert observations.tolist() == [[4, 4, 4, 4, 4], [0, 0, 4, 4, 4]]
    assert ended.tolist() == [True, False]
    assert sorted(infos) == ["_final_info", "_final_obs", "final_info", "final_obs"]
    assert infos["final_obs"][0].tolist() == [2, 3, 4, 4, 4]
    assert infos["final_obs"][1] is None
    assert infos["_final_obs"].tolist() == infos["_final_info"].tolist() == [True, False]
    assert infos["final_info"]["sequence"][0].tolist() == [2, 3, 4, 4, 4]
    assert infos["final_info"]["_text"].tolist() == [True, False]


def test_a_reset_mask_resets_its_rows_and_seeds_them_alone() -> None:
    envs = ToyVectorEnv(3, autoreset_mode="Disabled", reward_model=TableReward())
    envs.reset(seed=0)
    envs.step(np.array([0, 1, 2]))
    observations, _ = envs.reset(seed=[None, 50, None], options={"reset_mask": np.array([False, True, False])})
    assert observations.tolist() == [[0, 3, 3], [3, 3, 3], [2, 3, 3]]
    rewards = envs.step(np.array([1, 1, 1]))[1]
    alone = ToyEnv(reward_model=TableReward())
    assert rewards[1] == episode(alone, [1], seed=50)[0][1]
    assert rewards[2] == episode(alone, [2, 1], seed=2)[1][1]


@pytest.mark.parametrize("seed", [7, [7, 8, 9], np.int64(7)])
def test_a_seed_gives_row_i_the_seed_plus_i(seed: Any) -> None:
    envs = ToyVectorEnv(3, reward_model=TableReward())
    envs.reset(seed=seed)
    rewards = envs.step(np.array([1, 1, 1]))[1]
    expected = [episode(ToyEnv(reward_model=TableReward()), [1], seed=7 + row)[0][1] for row in range(3)]
    assert rewards.tolist() == expected


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("as_type", [lambda mode: mode, lambda mode: mode.value, lambda mode: mode.name])
def test_the_autoreset_mode_is_an_enum_in_attribute_and_metadata_however_it_was_given(
    mode: AutoresetMode, as_type: Callable
) -> None:
    envs = gym.make_vec("SeqGAN-Toy-v0", num_envs=1, autoreset_mode=as_type(mode))
    assert envs.autoreset_mode is mode
    assert envs.metadata["autoreset_mode"] is mode
    assert "autoreset_mode" not in type(envs).metadata


# --- live swaps ------------------------------------------------------------------------------------------------------


def test_models_are_swapped_through_wrappers() -> None:
    env = gym.make("SeqGAN-Toy-v0", vocab_size=10, reward_model="constant:0.2")
    env.reset(seed=0)
    assert env.step(1)[1] == pytest.approx(0.2)
    env.get_wrapper_attr("set_reward_model")(DigitsReward())
    env.get_wrapper_attr("set_rollout_policy")(PointPolicy(10, 7))
    assert env.step(2)[1] == 127


def test_models_of_all_rows_are_swapped_at_once() -> None:
    envs = gym.make_vec("SeqGAN-Toy-v0", num_envs=2, vocab_size=10, reward_model="constant:0.2")
    envs.reset(seed=0)
    envs.step(np.array([1, 4]))
    envs.set_reward_model(DigitsReward())
    envs.set_rollout_policy(SuccessorPolicy(10))
    assert envs.step(np.array([2, 5]))[1].tolist() == [123, 456]


def test_a_generators_copy_lets_the_generator_go_on_training(model: LSTMSequenceModel) -> None:
    env = ToyEnv(reward_model=TableReward(), rollout_policy=model)
    first = episode(env, [1, 2], seed=0)
    with torch.no_grad():
        model.output.bias.copy_(torch.tensor([0.0, 0.0, 80.0]))
    again = episode(env, [1, 2], seed=0)
    assert [step[1] for step in first] == [step[1] for step in again]


# --- render ----------------------------------------------------------------------------------------------------------


def test_ansi_shows_tokens_and_values() -> None:
    env = gym.make("SeqGAN-Toy-v0", render_mode="ansi", reward_model="constant:0.25")
    env.reset(seed=0)
    env.step(2)
    assert env.render() == "t = 1/3\ntoken       c\nQ       0.250\n"


def test_tokens_without_a_vocabulary_are_shown_by_their_ids() -> None:
    env = gym.make("SeqGAN-Oracle-v0", vocab_size=40, render_mode="ansi", reward_model="constant:0.25")
    env.reset(seed=0)
    env.step(37)
    assert "37" in env.render()


def test_rgb_arrays_are_pictures_of_each_row() -> None:
    env = gym.make("SeqGAN-Toy-v0", render_mode="rgb_array", reward_model="constant")
    env.reset(seed=0)
    assert env.render().shape == (216, 680, 3)
    assert env.render().dtype == np.uint8
    envs = ToyVectorEnv(2, render_mode="rgb_array", reward_model="constant")
    envs.reset(seed=0)
    envs.step(np.array([0, 1]))
    frames = envs.render()
    assert len(frames) == 2
    assert (frames[0] != frames[1]).any()


def test_human_prints_at_reset_and_at_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    env = gym.make("SeqGAN-Toy-v0", render_mode="human", reward_model="constant")
    env.reset(seed=0)
    assert capsys.readouterr().out.startswith("t = 0/3")
    env.step(1)
    assert "token       b" in capsys.readouterr().out
    envs = ToyVectorEnv(2, render_mode="human", reward_model="constant")
    envs.reset(seed=0)
    assert capsys.readouterr().out.count("t = 0/3") == 2
    envs.step(np.array([0, 1]))
    assert envs.render() is None
    assert capsys.readouterr().out.count("t = 1/3") == 4


@pytest.mark.parametrize("env", [ToyEnv(), ToyVectorEnv(1)], ids=["single", "vector"])
def test_rendering_without_a_mode_warns_and_shows_nothing(env: Any) -> None:
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


# --- mistakes --------------------------------------------------------------------------------------------------------


class Misshapen:
    def __call__(self, sequences: torch.Tensor, /) -> torch.Tensor:
        return torch.zeros(len(sequences) + 1)


@pytest.mark.parametrize("make", [gym.make, gym.make_vec], ids=["make", "make_vec"])
@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"vocab_size": 0}, ValueError, "vocab_size=0"),
        ({"sequence_length": 0}, ValueError, "sequence_length=0"),
        ({"oracle": "no_such_file.npz"}, ValueError, "oracle='no_such_file.npz' is not a file"),
        ({"oracle": -1}, ValueError, "oracle=-1"),
        ({"oracle": 1.5}, TypeError, r"oracle=1\.5"),
        ({"reward_mode": "dense"}, ValueError, "reward_mode='dense'"),
        ({"reward_model": "blue"}, ValueError, "reward_model='blue'"),
        ({"reward_model": 1}, TypeError, "reward_model must be callable"),
        ({"rollout_policy": "lstm"}, ValueError, "rollout_policy='lstm'"),
        ({"rollout_policy": UniformPolicy(9)}, ValueError, "rollout_policy has vocab_size=9"),
        ({"rollout_policy": 1}, TypeError, "rollout_policy must have"),
        ({"n_rollouts": 0}, ValueError, "n_rollouts=0"),
        ({"n_rollouts": 1.0}, TypeError, r"n_rollouts=1\.0"),
    ],
)
@pytest.mark.parametrize("env_id", IDS)
def test_a_wrong_keyword_is_refused_by_name(
    make: Callable, env_id: str, keywords: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(env_id, **(SMALL[env_id] | keywords))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"render_mode": "ascii"}, ValueError, "render_mode='ascii' must be None or one of"),
        ({"autoreset_mode": "sometimes"}, ValueError, "autoreset_mode='sometimes' must be one of"),
        ({"autoreset_mode": None}, ValueError, "autoreset_mode=None"),
        ({"num_envs": 0}, ValueError, "num_envs=0"),
    ],
)
@pytest.mark.parametrize("vector_class", [ToyVectorEnv, OracleVectorEnv])
def test_a_wrong_argument_of_a_vector_environment_is_refused_by_name(
    vector_class: type, arguments: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        vector_class(**({"num_envs": 1, "vocab_size": 5} | arguments))


def test_a_wrong_render_mode_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="render_mode='ascii'"):
        ToyEnv(render_mode="ascii")


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (3, ValueError, r"action 3 of environment 0 is out of range 0\.\.2"),
        (-1, ValueError, "action -1"),
        (1.0, TypeError, "actions have dtype float64"),
        ("a", TypeError, "actions have dtype"),
        (True, TypeError, "actions have dtype bool"),
        (np.array([0, 1]), ValueError, r"action has shape \(2,\)"),
        (None, TypeError, "actions have dtype object"),
    ],
)
def test_a_wrong_action_is_refused_by_name(action: Any, error: type[Exception], message: str) -> None:
    env = ToyEnv(reward_model="constant")
    env.reset(seed=0)
    with pytest.raises(error, match=message):
        env.step(action)
    assert env.step(2)[0].tolist() == [2, 3, 3]  # nothing was lost


@pytest.mark.parametrize("action", [2, np.int64(2), np.array(2), np.array([2]), torch.tensor(2)])
def test_an_action_of_any_integer_form_is_a_token(action: Any) -> None:
    env = ToyEnv(reward_model="constant")
    env.reset(seed=0)
    assert env.step(action)[0].tolist() == [2, 3, 3]


def test_stepping_a_finished_environment_is_refused() -> None:
    env = ToyEnv(reward_model="constant")
    episode(env, [0, 1, 2], seed=0)
    with pytest.raises(ValueError, match=r"environment 0 has finished its sequence; call reset\(\)"):
        env.step(0)
    envs = SequenceVectorEnv(eos_task(), 2, autoreset_mode="Disabled", reward_model="constant")
    envs.reset(seed=0)
    envs.step(np.array([0, 3]))
    with pytest.raises(ValueError, match="environment 1 has finished"):
        envs.step(np.array([0, 0]))


def test_stepping_before_the_first_reset_is_refused() -> None:
    for env, action in ((gym.make("SeqGAN-Toy-v0"), 0), (ToyVectorEnv(1), np.array([0]))):
        with pytest.raises(gym.error.ResetNeeded):
            env.step(action)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        ([True, False], TypeError, r"reset_mask'\] must be a bool array, got list"),
        (np.array([1, 0]), TypeError, r"reset_mask'\] must be a bool array"),
        (np.array([True]), ValueError, r"reset_mask'\] must have shape \(2,\)"),
        (np.array([False, False]), ValueError, "at least one True"),
    ],
)
def test_a_wrong_reset_mask_is_refused_by_name(mask: Any, error: type[Exception], message: str) -> None:
    envs = ToyVectorEnv(2, autoreset_mode="Disabled", reward_model="constant")
    envs.reset(seed=0)
    envs.step(np.array([0, 1]))
    with pytest.raises(error, match=message):
        envs.reset(options={"reset_mask": mask})
    assert envs.step(np.array([1, 1]))[0].tolist() == [[0, 1, 3], [1, 1, 3]]  # nothing was reset


def test_seeds_of_another_number_than_rows_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="seed has 3 entries for num_envs=2"):
        ToyVectorEnv(2).reset(seed=[1, 2, 3])


@pytest.mark.parametrize("make", [lambda **k: ToyEnv(**k), lambda **k: ToyVectorEnv(1, **k)], ids=["single", "vector"])
@pytest.mark.parametrize(
    ("reward_model", "error", "message"),
    [
        (lambda sequences: torch.full((len(sequences),), float("nan")), ValueError, "reward_model returned nan"),
        (Misshapen(), ValueError, "reward_model returned shape"),
        (lambda sequences: "good", TypeError, "reward_model must return a tensor"),
    ],
)
def test_a_bad_reward_is_refused_by_name(
    make: Callable, reward_model: Any, error: type[Exception], message: str
) -> None:
    env = make(reward_model=reward_model)
    env.reset(seed=0)
    with pytest.raises(error, match=message):
        env.step(np.array([0]))


def test_a_task_of_ones_own_is_an_environment(task: Task) -> None:
    env = SequenceEnv(task, reward_model="constant")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there is no spec to make further instances from
        gymnasium_check_env(env, skip_render_check=True)
    assert env.reward_mode == SequenceVectorEnv(task, 2).reward_mode == "action_value"


# --- keywords, options, and Gymnasium's calls through a vector environment -------------------------------------------


@pytest.mark.parametrize("name", list(TASKS))
@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_an_unknown_keyword_is_refused_with_the_known_ones(name: str, make: Callable) -> None:
    with pytest.raises(
        TypeError, match=r"'sequence_lenght' is unknown; did you mean 'sequence_length'\? known are"
    ) as e:
        make(environment_id(name), sequence_lenght=3)
    for known in [*(field.name for field in fields(TASKS[name])), "reward_model", "n_rollouts", "render_mode"]:
        assert known in str(e.value)


@pytest.mark.parametrize("name", list(TASKS))
def test_an_environment_class_has_the_tasks_page_and_signature(name: str) -> None:
    face = getattr(envs_module, f"{title(name)}Env")
    assert face is getattr(envs_module, f"{title(name)}Env")
    for heading in ("Description", "Action Space", "Observation Space", "Rewards", "Starting State", "Episode End",
                    "Information", "Arguments", "Version History"):  # fmt: skip
        assert f"## {heading}" in face.__doc__
    assert set(inspect.signature(face).parameters) == {field.name for field in fields(TASKS[name])} | {
        "reward_model",
        "reward_mode",
        "rollout_policy",
        "n_rollouts",
        "render_mode",
    }
    with pytest.raises(AttributeError, match="no attribute 'NoEnv'"):
        _ = envs_module.NoEnv


@pytest.mark.parametrize("env", [ToyEnv(reward_model="constant"), ToyVectorEnv(2, reward_model="constant")])
def test_an_unknown_reset_option_is_refused_and_resets_nothing(env: Any) -> None:
    env.reset(seed=0)
    action = 1 if isinstance(env, SequenceEnv) else np.array([1, 1])
    env.step(action)
    with pytest.raises(TypeError, match="reset option 'foo' is unknown"):
        env.reset(options={"foo": 1})
    assert env.mdp.lengths.tolist() == [1] * env.mdp.num_sequences
    env.reset(options={})
    if not isinstance(env, SequenceEnv):
        with pytest.raises(TypeError, match="did you mean 'reset_mask'"):
            env.reset(options={"reset_masks": np.array([True, False])})


def test_a_vector_environment_is_called_as_gymnasiums_are() -> None:
    envs = ToyVectorEnv(3, reward_model="constant")
    assert envs.get_attr("reward_mode") == ("action_value",) * 3
    assert envs.call("reward_mode") == envs.get_attr("reward_mode")
    assert [mask.tolist() for mask in envs.call("action_masks")] == [[True] * 3] * 3
    assert envs.get_attr("np_random") == tuple(envs.rngs)
    assert envs.call("set_reward_model", ConstantReward(0.125)) == (None,) * 3
    envs.reset(seed=0)
    assert envs.step(np.array([0, 1, 2]))[1].tolist() == [0.125] * 3
    envs.set_attr("render_mode", "ansi")
    assert len(envs.call("render")) == 3
    envs.set_attr("render_mode", [None, None, None])
    assert envs.render_mode is None
    with pytest.raises(ValueError, match="share one MDP"):
        envs.set_attr("render_mode", ["ansi", None, None])
    with pytest.raises(ValueError, match="values has 2 entries for num_envs=3"):
        envs.set_attr("render_mode", ["ansi", "ansi"])
    with pytest.raises(AttributeError):
        envs.get_attr("nothing")
