"""`replay_rewards`: stored experience gets the rewards that the environment would give today, in all three modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.discriminator_trainer import DiscriminatorTrainer
from agents.policies import TokenPrefixExtractor
from agents.replay_rewards import RewardSource, check_can_relabel, relabel
from agents.vec_env import SequenceVecEnv
from seqgan_env.envs import SequenceEnv, SequenceVectorEnv, action_space, observation_space
from seqgan_env.mdp import RewardMode, SequenceMDP
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.rewards import ConstantReward, DiscriminatorReward, OracleReward, RewardModel
from seqgan_env.rollout_policies import RolloutPolicy, UniformPolicy
from seqgan_env.tasks.task import Task
from tests.toy_world import DigitsReward, SuccessorPolicy, TableReward

MODES: tuple[RewardMode, ...] = ("terminal", "potential", "action_value")
# Sequences that were played, and their rewards by hand: digits as a number, completed with successors modulo 3.
PLAYED = np.array([[2, 0, 1], [1, 1, 1]])
VALUES = np.array([[201.0, 201.0, 201.0], [120.0, 112.0, 111.0]])
EXPECTED = {
    "terminal": [[0, 0, 201], [0, 0, 111]],
    "potential": [[201, 0, 0], [120, -8, -1]],
    "action_value": VALUES.tolist(),
}


def source_of(
    task: Task, mode: RewardMode, reward: RewardModel, policy: RolloutPolicy | None = None, n_rollouts: int = 2
) -> RewardSource:
    return RewardSource(task, mode, reward, policy or SuccessorPolicy(task.vocab_size), n_rollouts)


def buffer_of(task: Task, size: int, n_envs: int = 2, kind: type[ReplayBuffer] = ReplayBuffer, **keywords: Any) -> Any:
    return kind(size * n_envs, observation_space(task), action_space(task), "cpu", n_envs, **keywords)


def play(buffer: ReplayBuffer, task: Task, sequences: np.ndarray) -> None:
    """Store what playing these sequences gives, one an environment, with the reward -1 that no model gives."""
    horizon, pad = task.sequence_length, task.pad_token
    for t in range(horizon):
        prefixes = np.where(np.arange(horizon) < t, sequences, pad)
        longer = np.where(np.arange(horizon) <= t, sequences, pad)
        done = np.full(len(sequences), t == horizon - 1)
        buffer.add(prefixes, longer, sequences[:, t], np.full(len(sequences), -1.0), done, [{}] * len(sequences))


@pytest.mark.parametrize("mode", MODES)
def test_rewards_are_computed_anew_to_the_last_digit(task: Task, mode: RewardMode) -> None:
    buffer = buffer_of(task, 10)
    play(buffer, task, PLAYED)
    assert relabel(buffer, source_of(task, mode, DigitsReward()), np.random.default_rng(0)) == 6
    assert buffer.rewards[:3].T.tolist() == EXPECTED[mode]
    assert (buffer.rewards[3:] == 0).all()  # what was never written stays


@pytest.mark.parametrize("mode", MODES)
def test_they_are_those_that_the_environment_gives_today(task: Task, mode: RewardMode) -> None:
    """The same transitions through the MDP; SuccessorPolicy leaves nothing to chance."""
    reward = TableReward()
    mdp = SequenceMDP(task, 2, reward_model=reward, reward_mode=mode, rollout_policy=SuccessorPolicy(3), n_rollouts=2)
    rngs = [np.random.default_rng(0), np.random.default_rng(1)]
    wanted = np.stack([mdp.step(PLAYED[:, t], rngs) for t in range(3)])
    buffer = buffer_of(task, 10)
    play(buffer, task, PLAYED)
    relabel(buffer, source_of(task, mode, reward), np.random.default_rng(0))
    np.testing.assert_array_equal(buffer.rewards[:3], wanted.astype(np.float32))


def test_potential_rewards_of_every_stored_sequence_sum_to_its_reward(task: Task) -> None:
    """Also with completions by chance: equal prefixes share one value."""
    sequences = np.random.default_rng(0).integers(3, size=(50, 3))
    buffer = buffer_of(task, 3, n_envs=50)
    play(buffer, task, sequences)
    reward = TableReward()
    relabel(buffer, source_of(task, "potential", reward, UniformPolicy(3), 3), np.random.default_rng(0))
    np.testing.assert_allclose(buffer.rewards.sum(axis=0), reward(torch.from_numpy(sequences)).numpy(), atol=1e-6)
    first_rewards = {}
    for token, value in zip(sequences[:, 0], buffer.rewards[0], strict=True):
        assert first_rewards.setdefault(int(token), value) == value
    assert len(set(first_rewards.values())) == 3


@pytest.mark.parametrize("mode", MODES)
def test_each_different_prefix_is_scored_once(task: Task, mode: RewardMode) -> None:
    buffer = buffer_of(task, 12)
    for _ in range(4):
        play(buffer, task, PLAYED)
    reward = TableReward()
    relabel(buffer, source_of(task, mode, reward), np.random.default_rng(0))
    scored = torch.cat(reward.batches)
    assert len(scored) == {"terminal": 2, "potential": 2 + 4 * 2, "action_value": 2 + 4 * 2}[mode]


def test_a_search_in_blocks_is_the_same_search(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for block in (16_384, 5):
        monkeypatch.setattr("agents.replay_rewards._COMPLETIONS", block)
        buffer = buffer_of(task, 10)
        play(buffer, task, PLAYED)
        relabel(buffer, source_of(task, "action_value", DigitsReward()), np.random.default_rng(0))
        found.append(buffer.rewards.copy())
    np.testing.assert_array_equal(*found)


def test_a_buffer_that_has_wrapped_around_is_relabelled_whole(task: Task) -> None:
    """Seven steps in a buffer of five: positions 0 and 1 hold the newest."""
    buffer = buffer_of(task, 5)
    for sequences in (PLAYED, PLAYED[::-1], np.array([[0, 0, 0], [2, 2, 2]])):
        play(buffer, task, sequences)
    assert buffer.full
    assert buffer.pos == 4
    relabel(buffer, source_of(task, "terminal", DigitsReward()), np.random.default_rng(0))
    assert buffer.rewards.T.tolist() == [[111, 0, 0, 0, 0], [201, 0, 0, 222, 0]]


def test_an_optimised_buffer_is_relabelled_but_for_the_place_that_is_never_sampled(task: Task) -> None:
    """There the next observation of the newest transition stands, which may be a finished sequence."""
    buffer = buffer_of(task, 5, optimize_memory_usage=True, handle_timeout_termination=False)
    for sequences in (PLAYED, PLAYED[::-1], np.array([[0, 0, 0], [2, 2, 2]])):
        play(buffer, task, sequences)
    assert buffer.observations[buffer.pos].tolist() == [[0, 0, 0], [2, 2, 2]]
    assert relabel(buffer, source_of(task, "action_value", DigitsReward()), np.random.default_rng(0)) == 8
    assert buffer.rewards.T.tolist() == [[111, 12, 1, 0, -1], [201, 201, 220, 222, -1]]


def test_a_sequence_that_ends_early_is_scored_where_it_ends(eos_task: Task) -> None:
    observations = np.array([[4, 4, 4, 4, 4], [0, 4, 4, 4, 4], [0, 1, 4, 4, 4], [2, 2, 2, 2, 4]])
    actions = np.array([3, 3, 1, 0])
    for mode, expected in {
        "terminal": [34444, 3444, 0, 22220],
        "action_value": [34444, 3444, 1123, 22220],
    }.items():
        source = source_of(eos_task, mode, DigitsReward())  # type: ignore[arg-type]
        assert source.rewards(observations, actions, np.random.default_rng(0)).tolist() == expected


def test_nothing_stored_is_nothing_to_do(task: Task) -> None:
    assert relabel(buffer_of(task, 5), source_of(task, "terminal", DigitsReward()), np.random.default_rng(0)) == 0


def test_a_buffer_of_n_step_returns_sums_the_new_rewards(task: Task) -> None:
    buffer = buffer_of(task, 10, n_envs=1, kind=NStepReplayBuffer, n_steps=3, gamma=1.0)
    play(buffer, task, PLAYED[:1])
    relabel(buffer, source_of(task, "terminal", DigitsReward()), np.random.default_rng(0))
    assert buffer._get_samples(np.array([0, 1, 2])).rewards.flatten().tolist() == [201.0, 201.0, 201.0]


def test_other_observations_and_goals_are_refused_with_the_remedy(task: Task) -> None:
    box: Any = spaces.Box(0, 3, (6,), np.int64)
    with pytest.raises(ValueError, match=r"holds \(6,\).*relabel_replay=False"):
        check_can_relabel(ReplayBuffer(4, box, action_space(task)), task)
    space = spaces.Dict(dict.fromkeys(("observation", "achieved_goal", "desired_goal"), box))
    env: Any = DummyVecEnv([lambda: SequenceEnv(task, reward_model=ConstantReward())])
    her = HerReplayBuffer(4, space, action_space(task), env)
    with pytest.raises(ValueError, match=r"HerReplayBuffer; pass relabel_replay=False"):
        check_can_relabel(her, task)


# Through the trainer.


def dqn(env: Any, **keywords: Any) -> DQN:
    policy_kwargs = {"features_extractor_class": TokenPrefixExtractor, "net_arch": [8]}
    defaults = {"learning_starts": 0, "train_freq": 3, "batch_size": 4, "buffer_size": 40, "gamma": 1.0}
    return DQN("MlpPolicy", env, policy_kwargs=policy_kwargs, seed=0, device="cpu", **defaults | keywords)


@pytest.mark.parametrize("single", [False, True])
def test_after_each_round_a_buffer_holds_the_new_discriminators_rewards(task: Task, single: bool) -> None:
    discriminator = CNNDiscriminator(3, 3, ((1, 4), (2, 4)))
    keywords: dict[str, Any] = {"reward_mode": "terminal"}
    if single:
        env: Any = DummyVecEnv([lambda: SequenceEnv(task, **keywords) for _ in range(4)])
    else:
        env = SequenceVecEnv(SequenceVectorEnv(task, 4, **keywords))
    trainer = DiscriminatorTrainer(discriminator, task, d_steps=1, k_epochs=1, sample_size=40, learning_rate=0.1)
    agent = dqn(env)
    stale = []

    def compare(_: int) -> None:
        buffer = agent.replay_buffer
        assert buffer is not None
        steps = buffer.size()
        finished = buffer.next_observations[:steps].reshape(-1, 3)
        ended = buffer.dones[:steps].reshape(-1) == 1
        wanted = DiscriminatorReward(discriminator)(torch.from_numpy(finished)).numpy() * ended
        np.testing.assert_allclose(buffer.rewards[:steps].reshape(-1), wanted, atol=1e-6)
        stale.append(ended.sum())

    trainer.on_round = compare
    agent.learn(4 * 3 * 3, trainer)
    assert stale == [4, 8, 12]
    assert agent.logger.name_to_value["replay/relabelled"] == 36


def test_without_relabelling_the_rewards_of_old_discriminators_stay(task: Task) -> None:
    collected, kept = [], []
    env = SequenceVecEnv(SequenceVectorEnv(task, 4, reward_mode="terminal"))
    trainer = DiscriminatorTrainer(
        CNNDiscriminator(3, 3, ((1, 4),)), task, d_steps=1, k_epochs=1, learning_rate=0.1, relabel_replay=False
    )
    agent = dqn(env)
    trainer.on_round = lambda _: kept.append(agent.replay_buffer.rewards[2].copy())  # type: ignore[union-attr]
    step = env.step_wait

    def spied() -> Any:
        returned = step()
        collected.append(returned[1])
        return returned

    env.step_wait = spied  # type: ignore[method-assign]
    agent.learn(4 * 3 * 3, trainer)
    for row in kept:
        np.testing.assert_array_equal(row, collected[2])


def test_a_fixed_reward_is_searched_again_for_a_new_g_beta_and_left_alone_where_none_is_searched(task: Task) -> None:
    assert task.oracle is not None
    for mode, logged in (("terminal", False), ("action_value", True)):
        env = SequenceVecEnv(
            SequenceVectorEnv(task, 4, reward_mode=mode, reward_model=OracleReward(task.oracle))  # type: ignore[arg-type]
        )
        agent = dqn(env, gamma=0.0)
        agent.learn(12, DiscriminatorTrainer(None, task))
        assert ("replay/relabelled" in agent.logger.name_to_value) == logged


def test_a_large_buffer_with_a_search_is_warned_of(task: Task) -> None:
    for mode, warned in (("potential", True), ("terminal", False)):
        env = SequenceVecEnv(
            SequenceVectorEnv(task, 4, reward_mode=mode, reward_model=ConstantReward())  # type: ignore[arg-type]
        )
        trainer = DiscriminatorTrainer(CNNDiscriminator(3, 3, ((1, 4),)), task, d_steps=1, k_epochs=1, sample_size=20)
        agent = dqn(env, buffer_size=200_000)
        if warned:
            with pytest.warns(UserWarning, match=r"buffer_size=200000 .*smaller buffer.*relabel_replay=False"):
                agent.learn(12, trainer)
        else:
            agent.learn(12, trainer)
