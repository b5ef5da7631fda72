# python examples/01_environment_by_hand.py
"""The environment by hand: writes a sequence token by token, and prints the action value of each token.

The reward model is our own function (the share of a's), so you can check every number below yourself. After "a" the
first of three tokens is right. The other two are right with probability 1/3 each, so Q is near 5/9.
"""

import argparse

import gymnasium as gym
import torch

import seqgan_env  # noqa: F401  (registers the environments)

argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()


def share_of_a(sequences: torch.Tensor) -> torch.Tensor:
    """(R, T) int64 tokens -> (R,) rewards in [0, 1]."""
    return (sequences == 0).float().mean(dim=1)


env = gym.make("SeqGAN-Toy-v0", reward_model=share_of_a, n_rollouts=1000, render_mode="ansi")
observation, info = env.reset(seed=0)
print("empty prefix:", observation, "- 3 is PAD, for tokens to come")

values = []
for action in (0, 0, 1):  # a, a, b
    observation, reward, terminated, truncated, info = env.step(action)
    values.append(float(reward))
print(env.render())
print("sequence:", info["text"], "- NLL under the oracle:", round(info["oracle_nll"], 3), "nats per token")
print("Q after 'a', 'a a', 'a a b':", [round(value, 2) for value in values], "- expected [5/9, 7/9, 2/3]")
print(f"the last reward is R(Y) itself: {values[-1]:.4f} (expected 0.6667)")
