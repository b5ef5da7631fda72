"""Pickling and deep copies: a copy of an environment, a task or a part goes on with the same numbers."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

import seqgan_env  # noqa: F401  (registers the environments)
from seqgan_env.components import build_reward_model, build_rollout_policy
from seqgan_env.task_files import environment_id
from seqgan_env.tasks import TASKS
from seqgan_env.tasks.toy import toy_task
from tests.marks import slow


def pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


COPIES = pytest.mark.parametrize("duplicate", [slow(copy.deepcopy), pickled])  # one copies as the other does
SMALL = {
    "oracle": {"train_sequences": 300},
    "arithmetic": {"train_sequences": 300},
    "text": {"max_sequences": 120, "sequence_length": 8, "too_long": "cut"},
    "music": {"sequence_length": 8},
}


def walk(env: Any, steps: int, seed: int, actions_of: Callable[[np.random.Generator], Any]) -> list[Any]:
    """What an environment answers to random tokens; a single one is reset where an episode ends."""
    rng = np.random.default_rng(seed)
    seen: list[Any] = []
    for _ in range(steps):
        observation, reward, ended, _, info = env.step(actions_of(rng))
        seen += [observation.tolist(), np.asarray(reward).tolist(), np.asarray(ended).tolist(), sorted(info)]
        if isinstance(env.unwrapped, gym.Env) and ended:
            seen.append(env.reset()[0].tolist())
    return seen


@COPIES
@pytest.mark.parametrize("keywords", [{}, {"reward_model": "shuffled:logit", "rollout_policy": "ngram"}], ids=str)
@pytest.mark.parametrize("name", list(TASKS))
def test_a_copied_environment_goes_on_with_the_same_numbers(name: str, keywords: dict, duplicate: Callable) -> None:
    env = gym.make(environment_id(name), n_rollouts=2, **SMALL.get(name, {}), **keywords)
    last = env.action_space.n
    env.reset(seed=3)
    walk(env, 4, 0, lambda rng: rng.integers(last))  # into an episode, with a recurrent state and a drawn-on stream
    other = duplicate(env)
    assert walk(other, 12, 1, lambda rng: rng.integers(last)) == walk(env, 12, 1, lambda rng: rng.integers(last))
    assert other.unwrapped.mdp is not env.unwrapped.mdp


@COPIES
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("name", list(TASKS))
def test_a_copied_vector_environment_goes_on_with_the_same_numbers(
    name: str, mode: AutoresetMode, duplicate: Callable
) -> None:
    options = SMALL.get(name, {})
    envs = gym.make_vec(environment_id(name), num_envs=3, n_rollouts=2, autoreset_mode=mode, **options)
    last = envs.single_action_space.n

    def actions(rng: np.random.Generator) -> np.ndarray:
        return rng.integers(last, size=3)

    envs.reset(seed=3)
    walk(envs, 4, 0, actions)
    other = duplicate(envs)
    assert walk(other, 12, 1, actions) == walk(envs, 12, 1, actions)
    assert other.metadata["autoreset_mode"] is mode


@COPIES
@pytest.mark.parametrize("name", list(TASKS))
def test_a_copied_task_draws_the_same_splits(name: str, duplicate: Callable) -> None:
    task = TASKS[name](**SMALL.get(name, {})).task()
    fresh = duplicate(task)
    assert type(fresh) is type(task)
    for split in ("train", "validation", "test"):
        assert torch.equal(task.real_sequences(split), fresh.real_sequences(split))
        assert torch.equal(duplicate(task).real_sequences(split), task.real_sequences(split))


@COPIES
@pytest.mark.parametrize(
    "spec",
    [
        "discriminator",
        "logit",
        "relativistic",
        "shuffled",
        "shuffled:logit",
        "bleu",
        "bleu:skip",
        "random",
        "constant",
        "oracle",
    ],
)
def test_a_copied_reward_model_goes_on_with_the_same_numbers(spec: str, duplicate: Callable) -> None:
    task = toy_task()
    reward, sequences = build_reward_model(spec, task), task.real_sequences("test")[:30]
    reward(sequences)
    other = duplicate(reward)
    assert torch.equal(other(sequences), reward(sequences))


@COPIES
@pytest.mark.parametrize("spec", ["uniform", "ngram", "ngram:3", "oracle"])
def test_a_copied_rollout_policy_draws_the_same_tokens(spec: str, duplicate: Callable) -> None:
    policy = build_rollout_policy(spec, toy_task())
    uniforms = torch.from_numpy(np.random.default_rng(0).random((5, 40), dtype=np.float32))
    drawn = []
    for one in (policy, duplicate(policy)):
        state = one.advance(one.initial_state(5), torch.tensor([0, 1, 2, 2, 1]))
        drawn.append(one.draw(state, uniforms))
    assert torch.equal(*drawn)


def test_gymnasiums_asynchronous_vector_environment_gives_the_numbers_of_single_ones() -> None:
    keywords: dict[str, Any] = {"n_rollouts": 2, "rollout_policy": "oracle", "reward_model": "oracle"}
    envs = gym.make_vec("SeqGAN-Toy-v0", num_envs=2, vectorization_mode="async", **keywords)
    assert isinstance(envs, AsyncVectorEnv)
    try:
        envs.reset(seed=5)
        answers = [envs.step(np.array([token, 2]))[1].tolist() for token in (0, 1, 2)]
        envs.call("set_reward_model", "constant:0.25")
        envs.step(np.array([0, 0]))  # resets both
        assert envs.step(np.array([1, 1]))[1].tolist() == [0.25, 0.25]
        assert [task.name for task in envs.get_attr("task")] == ["toy", "toy"]
    finally:
        envs.close()
    singles = [gym.make("SeqGAN-Toy-v0", **keywords) for _ in range(2)]
    for row, env in enumerate(singles):
        env.reset(seed=5 + row)
    expected = [[env.step(token)[1] for env, token in zip(singles, (t, 2), strict=True)] for t in (0, 1, 2)]
    assert np.allclose(answers, expected, rtol=1e-6)
