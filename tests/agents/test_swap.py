"""Any learner: learner x reward mode x face plays the game through the unchanged trainer, with its own settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env

from agents.discriminator_trainer import DiscriminatorTrainer, generator_of
from agents.learners import LEARNERS, LearnerName
from seqgan_env.mdp import RewardMode
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.rewards import OracleReward, score_sequences
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.toy import enumerate_sequences
from tests.marks import slow

MODES: tuple[RewardMode, ...] = ("terminal", "potential", "action_value")
ENVIRONMENTS = 2
UPDATES = 3


def skip_without(name: LearnerName) -> None:
    """Skip the test, with the reason, where the learner's library is not installed."""
    pytest.importorskip(LEARNERS[name].module, reason=f"{LEARNERS[name].label} needs seqgan-gym[contrib]")


def tiny(name: LearnerName) -> dict[str, Any]:
    """What makes a learner's settings small: six steps of two environments an update."""
    changes: dict[str, Any] = {"n_envs": ENVIRONMENTS}
    if not LEARNERS[name].is_on_policy:
        return changes | {"buffer_size": 40, "learning_starts": 6, "batch_size": 6, "train_freq": 6}
    changes["n_steps"] = 6
    if "batch_size" in LEARNERS[name].settings("toy"):
        changes["batch_size"] = 12
    return changes


@pytest.mark.parametrize("face", ["vector", slow("single")])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_plays_the_adversarial_game(name: LearnerName, mode: RewardMode, face: str) -> None:
    skip_without(name)
    agent = LEARNERS[name].make("toy", 0, mode, {"n_rollouts": 2, "reward_model": "constant"}, **tiny(name))
    if face == "single":
        keywords = {"n_rollouts": 2, "reward_mode": mode}
        env: Any = make_vec_env("SeqGAN-Toy-v0", ENVIRONMENTS, seed=0, env_kwargs=keywords)
        agent.set_env(env)
    env = agent.get_env()
    assert env.get_attr("reward_mode") == [mode] * ENVIRONMENTS
    discriminator = CNNDiscriminator(3, 3, ((1, 4), (2, 4)))
    before = [torch.nn.utils.parameters_to_vector(one.parameters()).clone() for one in (agent.policy, discriminator)]
    trainer = DiscriminatorTrainer(discriminator, d_steps=1, k_epochs=1, sample_size=16, batch_size=16)
    agent.learn(UPDATES * 12, trainer)
    assert trainer.rounds == UPDATES
    assert trainer.last_report is not None
    assert np.isfinite(trainer.last_report.loss)
    for module, old in zip((agent.policy, discriminator), before, strict=True):
        new = torch.nn.utils.parameters_to_vector(module.parameters())
        assert torch.isfinite(new).all()
        assert not torch.equal(new, old)
    (mdp, *_) = env.get_attr("mdp")
    assert mdp.rollout_policy is trainer.rollout_policy  # G_beta is a copy of the learner's policy
    assert mdp.reward_model.discriminator is discriminator
    played = generator_of(agent)
    assert played is not None
    sequences = sample_sequences(played, 5, 3, np.random.default_rng(0))
    beta = trainer.rollout_policy
    assert beta is not None
    assert torch.equal(sequences, sample_sequences(beta, 5, 3, np.random.default_rng(0)))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_finds_nine_tenths_of_what_can_be_won(name: LearnerName, mode: RewardMode) -> None:
    """Of the toy's enumerated optimum, above uniform noise, on the mean over seeds 0 to 2."""
    skip_without(name)
    fractions = []
    for seed in (0, 1, 2):
        agent = LEARNERS[name].make("toy", seed, mode)
        env = agent.get_env()
        assert env is not None
        task = env.get_attr("task")[0]
        reward = OracleReward(task.oracle)
        agent.learn(LEARNERS[name].settings("toy")["n_timesteps"], DiscriminatorTrainer(None, task))
        everything = score_sequences(reward, enumerate_sequences(3, 3))
        played = generator_of(agent)
        assert played is not None
        won = score_sequences(reward, sample_sequences(played, 2000, 3, np.random.default_rng(seed))).mean()
        fractions.append((won - everything.mean()) / (everything.max() - everything.mean()))
    assert np.mean(fractions) >= 0.9, fractions
