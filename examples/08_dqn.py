# python examples/08_dqn.py
"""DQN: a value-based, off-policy learner plays the game. New here: replayed experience, with rewards that get old.

The discriminator changes, so a reward in the replay buffer comes from an older one. The trainer recomputes all of them
after each round, but not with --stale. The last lines compare the buffer with the current discriminator.
"""

import argparse

import numpy as np
import torch
from stable_baselines3 import DQN

from agents.discriminator_trainer import DiscriminatorTrainer
from agents.policies import TokenPrefixExtractor
from agents.vec_env import make_sequence_vec_env
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.rewards import DiscriminatorReward

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--fast", action="store_true", help="a tenth of the steps")
parser.add_argument("--stale", action="store_true", help="keep the rewards of old discriminators")
arguments = parser.parse_args()

env = make_sequence_vec_env("SeqGAN-Toy-v0", num_envs=8, seed=0, reward_mode="terminal")
task = env.get_attr("task")[0]
agent = DQN(
    "MlpPolicy",
    env,
    learning_rate=5e-3,
    buffer_size=2000,
    learning_starts=240,
    batch_size=64,
    train_freq=task.sequence_length,
    gradient_steps=4,
    target_update_interval=120,
    exploration_fraction=0.5,
    gamma=1.0,
    policy_kwargs={
        "features_extractor_class": TokenPrefixExtractor,
        "features_extractor_kwargs": {"features_dim": 16, "embedding_size": 16},
        "net_arch": [32],
    },
    seed=0,
    device="cpu",
)
discriminator = CNNDiscriminator(task.vocab_size, task.sequence_length, ((1, 16), (2, 16), (3, 16)), embedding_size=8)
trainer = DiscriminatorTrainer(
    discriminator,
    g_steps=8,
    d_steps=1,
    k_epochs=1,
    learning_rate=3e-3,
    sample_size=256,
    relabel_replay=not arguments.stale,
)
agent.learn(600 if arguments.fast else 6000, callback=trainer)

buffer = agent.replay_buffer
assert buffer is not None
ended = buffer.dones[: buffer.size()] == 1
finished = buffer.next_observations[: buffer.size()][ended]  # (M, T) whole sequences
today = DiscriminatorReward(discriminator)(torch.from_numpy(finished)).numpy()
error = np.abs(buffer.rewards[: buffer.size()][ended] - today)
print(trainer.last_report)
print(f"{trainer.rounds} rounds, {len(finished)} whole sequences in the buffer")
print(f"their rewards differ from the current discriminator by at most {error.max():.4f} (expected 0.0000)")
