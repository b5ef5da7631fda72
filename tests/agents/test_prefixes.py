"""Observations are read only if they are prefixes of token ids; else the message names the wrapper to leave out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

from agents.policies import LastTokenExtractor, SequencePolicy, TokenPrefixExtractor
from agents.prefixes import longest_prefixes, prefix_length, prefix_tokens
from agents.reinforce import REINFORCE, whole_sequences
from agents.vec_env import make_sequence_vec_env

V, T = 3, 3


def env() -> Any:
    return make_sequence_vec_env("SeqGAN-Toy-v0", 4, seed=0, reward_mode="terminal")


def ppo(policy: Any, **policy_kwargs: Any) -> Callable[[Any], Any]:
    return lambda wrapped: PPO(policy, wrapped, n_steps=8, batch_size=8, policy_kwargs=policy_kwargs, device="cpu")


LEARNERS: dict[str, Callable[[Any], Any]] = {
    "REINFORCE": lambda wrapped: REINFORCE("LSTMPolicy", wrapped, device="cpu"),
    "PPO with SequencePolicy": ppo(SequencePolicy),
    "PPO with TokenPrefixExtractor": ppo("MlpPolicy", features_extractor_class=TokenPrefixExtractor),
    "PPO with LastTokenExtractor": ppo("MlpPolicy", features_extractor_class=LastTokenExtractor),
    "DQN with TokenPrefixExtractor": lambda wrapped: DQN(
        *("MlpPolicy", wrapped), learning_starts=4, device="cpu",
        policy_kwargs={"features_extractor_class": TokenPrefixExtractor},
    ),
}  # fmt: skip


@pytest.mark.parametrize("learner", LEARNERS)
def test_normalised_observations_are_refused_with_the_switch_to_turn(learner: str) -> None:
    with pytest.raises(ValueError, match=r"expected token ids.*VecNormalize\(norm_obs=False\)"):
        LEARNERS[learner](VecNormalize(env(), norm_obs=True)).learn(200)
    LEARNERS[learner](VecNormalize(env(), norm_obs=False)).learn(16)


@pytest.mark.parametrize("learner", LEARNERS)
def test_stacked_observations_are_refused_with_the_wrapper_to_leave_out(learner: str) -> None:
    with pytest.raises(ValueError, match=r"VecFrameStack"):
        LEARNERS[learner](VecFrameStack(env(), 2)).learn(200)


def test_reinforce_refuses_a_stack_before_it_trains() -> None:
    with pytest.raises(
        ValueError, match=r"VecFrameStack gives observations of shape \(6,\), the environment within \(3,\)"
    ):
        LEARNERS["REINFORCE"](VecFrameStack(env(), 2))


@pytest.mark.parametrize("learner", [name for name in LEARNERS if name != "DQN with TokenPrefixExtractor"])
@pytest.mark.parametrize("prefix", [[3, 1, 3], [0, 3, 1], [3, 3, 0]])
def test_predict_refuses_a_token_after_pad(learner: str, prefix: list[int]) -> None:
    agent = LEARNERS[learner](env())
    with pytest.raises(ValueError, match=r"has a token after PAD = 3"):
        agent.predict(np.array([prefix]))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.float32, torch.float64])
def test_prefixes_of_any_dtype_are_read(dtype: torch.dtype) -> None:
    rows = [[3, 3, 3], [0, 3, 3], [2, 0, 3], [1, 1, 1]]
    tokens = prefix_tokens(torch.tensor(rows, dtype=dtype), V, T)
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == rows
    assert prefix_tokens(torch.empty(0, T, dtype=dtype), V, T).shape == (0, T)


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        ([[0.5, 3, 3]], r"hold 0\.5, expected token ids"),
        ([[-1.0, 3, 3]], r"hold -1\.0"),
        ([[4.0, 3, 3]], r"hold 4\.0, expected token ids: whole numbers in 0\.\.3, where 3 is PAD"),
        ([[float("nan"), 3, 3]], "hold nan"),
        ([[float("inf"), 3, 3]], "hold inf"),
        ([[0, -7, 3]], "hold -7"),
        ([[0, 3]], r"shape \(1, 2\), expected \(B, 3\)"),
        ([0, 3, 3], r"shape \(3,\)"),
    ],
)
def test_what_is_no_prefix_is_refused(observations: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prefix_tokens(torch.tensor(observations), V, T)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 3, (2, 3), np.int64),
        spaces.Box(-10, 10, (3,), np.float32),
        spaces.Box(0, 2.5, (3,), np.float32),
        spaces.Box(np.array([0, 0]), np.array([3, 4]), dtype=np.int64),
    ],
)
def test_a_space_that_holds_no_prefixes_is_refused_when_a_policy_is_built(space: spaces.Box) -> None:
    for build in (prefix_length, TokenPrefixExtractor, LastTokenExtractor):
        with pytest.raises(ValueError, match="observation_space="):
            build(space)
    with pytest.raises(ValueError, match="observation_space="):
        SequencePolicy(space, spaces.Discrete(3), lambda _: 1e-3)


def test_experience_that_holds_no_prefixes_is_refused() -> None:
    observations = np.full((2, 1, 3), 3.0)
    observations[1, 0, 0] = 0.25
    with pytest.raises(ValueError, match=r"hold 0\.25"):
        whole_sequences(observations, np.zeros((2, 1)), np.zeros((2, 1)), V)


# Nested prefixes are read together.


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_a_prefix_of_its_longest_one_and_no_longest_one_of_another(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = torch.from_numpy(rng.integers(0, V, (60, T)))
    rows[torch.arange(T) >= torch.from_numpy(rng.integers(0, T + 1, (60, 1)))] = V
    longest, places = longest_prefixes(rows, V)
    assert bool(((longest[places] == rows) | (rows == V)).all())
    kept, again = longest_prefixes(longest, V)
    assert len(kept) == len(longest)
    assert sorted(again.tolist()) == list(range(len(longest)))


@pytest.mark.parametrize("seed", range(3))
def test_prefixes_of_whole_sequences_are_read_once_and_give_the_values_of_single_ones(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = PPO(SequencePolicy, env(), n_steps=8, batch_size=8, seed=seed, device="cpu").policy
    assert isinstance(policy, SequencePolicy)
    whole = torch.randint(0, V, (20, T))
    prefixes = torch.cat([torch.where(torch.arange(T) < length, whole, V) for length in range(T)])
    prefixes, actions = prefixes[torch.randperm(len(prefixes))], torch.randint(0, V, (20 * T,))
    alone = [policy.evaluate_actions(row[None], action[None]) for row, action in zip(prefixes, actions, strict=True)]
    read, hidden_states = [], policy.generator.hidden_states
    monkeypatch.setattr(policy.generator, "hidden_states", lambda rows: read.append(len(rows)) or hidden_states(rows))
    together = policy.evaluate_actions(prefixes, actions)
    assert read == [len(torch.unique(whole[:, : T - 1], dim=0))]
    for ours, single in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(ours, torch.cat(single))
