"""Environments in processes of their own: SB3's `SubprocVecEnv` under PPO with a discriminator that is trained."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

import seqgan_env  # noqa: F401  (registers the environments)
from agents.discriminator_trainer import DiscriminatorTrainer
from agents.policies import SequencePolicy
from seqgan_env.models.discriminators import CNNDiscriminator


def make_toy() -> gym.Env:
    return gym.make("SeqGAN-Toy-v0", reward_mode="potential", n_rollouts=2)


def learned(env: VecEnv) -> list[torch.Tensor]:
    """The parameters of generator and discriminator after two rounds of the game."""
    discriminator = CNNDiscriminator(3, 3, seed=0)
    trainer = DiscriminatorTrainer(discriminator, sample_size=32, k_epochs=1, seed=0)
    agent = PPO(SequencePolicy, env, n_steps=12, batch_size=8, n_epochs=1, gamma=1.0, seed=0, device="cpu")
    agent.learn(48, callback=trainer)
    assert trainer.rounds >= 1
    return [parameter.detach().clone() for part in (agent.policy, discriminator) for parameter in part.parameters()]


@pytest.mark.parametrize(
    "start_method",
    ["fork", pytest.param("forkserver", marks=pytest.mark.slow), pytest.param("spawn", marks=pytest.mark.slow)],
)
def test_a_game_over_processes_learns_what_it_learns_in_one(start_method: str) -> None:
    env = SubprocVecEnv([make_toy, make_toy], start_method=start_method)
    try:
        assert [task.name for task in env.get_attr("task")] == ["toy", "toy"]
        apart = learned(env)
    finally:
        env.close()
    together = learned(DummyVecEnv([make_toy, make_toy]))
    for a, b in zip(apart, together, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
