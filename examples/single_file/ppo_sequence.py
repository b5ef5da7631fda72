# python examples/single_file/ppo_sequence.py
"""PPO on sequences in one file, in CleanRL's style: Gymnasium, PyTorch and NumPy, no Stable-Baselines3, no `agents`.

PPO maximises a sum of rewards, so the environment gives "potential" rewards, which sum to R(Y), the reward of the whole
sequence. Here R(Y) is fixed: the geometric mean of an oracle's token probabilities. Enumeration gives the best sequence
of this small world. `reinforce_sequence.py` plays against a discriminator instead.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.distributions import Categorical

import seqgan_env  # noqa: F401  (registers the environments)
from seqgan_env.tasks.toy import enumerate_sequences


@dataclass
class Args:
    """PPO (Schulman et al. 2017) on a toy world of sequences."""

    seed: int = 0
    """Seed of parameters, actions, minibatches and environments."""
    vocab_size: int = 4
    """V: tokens to choose from."""
    sequence_length: int = 6
    """T: steps of an episode, and of each environment between updates."""
    n_rollouts: int = 4
    """N: completions that the search uses to value an unfinished sequence."""
    num_envs: int = 64
    """Sequences generated side by side."""
    num_updates: int = 30
    """Batches of num_envs sequences to learn from."""
    learning_rate: float = 5e-3
    """Of Adam."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation; the discount is 1, as "potential" rewards need it."""
    update_epochs: int = 4
    """Passes over each batch."""
    num_minibatches: int = 4
    """Parts of a pass."""
    clip_coef: float = 0.2
    """Largest relative change of an action's probability in an update."""
    ent_coef: float = 0.01
    """Weight of the entropy (nats) in the objective."""
    vf_coef: float = 0.5
    """Weight of the value's squared error in the loss."""
    max_grad_norm: float = 0.5
    """Global norm to which gradients are clipped."""


class Agent(nn.Module):
    """Actor and critic on one GRU. A token's id is not a magnitude: prefixes are read through an embedding."""

    def __init__(self, vocab_size: int, hidden_size: int = 32) -> None:
        super().__init__()
        self.pad_token = vocab_size
        self.embedding = nn.Embedding(vocab_size + 1, hidden_size)  # row PAD is the start symbol
        self.gru = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.actor = nn.Linear(hidden_size, vocab_size)
        self.critic = nn.Linear(hidden_size, 1)

    def forward(self, obs: Tensor) -> tuple[Categorical, Tensor]:
        """(B, T) int64 prefixes, PAD after them -> distributions of the next token, and values (B,)."""
        start = torch.full_like(obs[:, :1], self.pad_token)
        outputs, _ = self.gru(self.embedding(torch.cat([start, obs], dim=1)))  # (B, T + 1, H)
        hidden = outputs[torch.arange(len(obs)), (obs != self.pad_token).sum(dim=1)]  # after the last token
        return Categorical(logits=self.actor(hidden)), self.critic(hidden).squeeze(1)


def main(args: Args) -> None:
    """Train and compare the mean return with the best one."""
    torch.manual_seed(args.seed)
    envs = gym.make_vec(
        "SeqGAN-Toy-v0",
        num_envs=args.num_envs,
        vectorization_mode="vector_entry_point",
        autoreset_mode="SameStep",  # a finished row shows the next episode's first observation at once
        vocab_size=args.vocab_size,
        sequence_length=args.sequence_length,
        reward_model="oracle",
        reward_mode="potential",
        n_rollouts=args.n_rollouts,
    )
    agent = Agent(args.vocab_size)
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    shape = (args.sequence_length, args.num_envs)
    obs = torch.zeros((*shape, args.sequence_length), dtype=torch.int64)
    actions = torch.zeros(shape, dtype=torch.int64)
    log_probs, rewards, dones, values = (torch.zeros(shape) for _ in range(4))

    first_obs, _ = envs.reset(seed=args.seed)
    next_obs = torch.from_numpy(first_obs)
    start = time.time()
    for update in range(1, args.num_updates + 1):
        # Experience: one sequence of each environment.
        for step in range(args.sequence_length):
            obs[step] = next_obs
            with torch.no_grad():
                distribution, values[step] = agent(next_obs)
            actions[step] = distribution.sample()
            log_probs[step] = distribution.log_prob(actions[step])
            observation, reward, terminations, truncations, _ = envs.step(actions[step].numpy())
            next_obs = torch.from_numpy(observation)
            rewards[step] = torch.from_numpy(reward)
            dones[step] = torch.from_numpy(np.logical_or(terminations, truncations))

        # Generalised advantage estimation, discount 1.
        with torch.no_grad():
            next_value, advantage = agent(next_obs)[1], torch.zeros(args.num_envs)
            advantages = torch.zeros(shape)
            for step in reversed(range(args.sequence_length)):
                goes_on = 1 - dones[step]
                delta = rewards[step] + next_value * goes_on - values[step]
                advantage = advantages[step] = delta + args.gae_lambda * goes_on * advantage
                next_value = values[step]
            returns = advantages + values

        # The clipped objective, in minibatches.
        batch = [part.flatten(0, 1) for part in (obs, actions, log_probs, advantages, returns)]
        size = args.sequence_length * args.num_envs
        for _ in range(args.update_epochs):
            for rows in torch.randperm(size).chunk(args.num_minibatches):
                b_obs, b_actions, b_log_probs, b_advantages, b_returns = (part[rows] for part in batch)
                distribution, value = agent(b_obs)
                ratio = (distribution.log_prob(b_actions) - b_log_probs).exp()
                weight = (b_advantages - b_advantages.mean()) / (b_advantages.std() + 1e-8)
                clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
                policy_loss = -torch.min(weight * ratio, weight * clipped).mean()
                value_loss = 0.5 * (value - b_returns).square().mean()
                loss = policy_loss + args.vf_coef * value_loss - args.ent_coef * distribution.entropy().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()

        mean_return = float(rewards.sum(dim=0).mean())  # an episode is a column
        if update == 1 or update % 10 == 0:
            speed = update * size / (time.time() - start)
            print(f"update {update:3}  mean return {mean_return:.3f}  {speed:,.0f} steps per second")

    everything = enumerate_sequences(args.vocab_size, args.sequence_length)
    best = float(envs.unwrapped.mdp.reward_model(everything).max())  # type: ignore[attr-defined]
    envs.close()
    print(f"mean return {mean_return:.3f} of at most {best:.3f}: {mean_return / best:.2f} (expected about 0.99)")


if __name__ == "__main__":
    main(tyro.cli(Args))
