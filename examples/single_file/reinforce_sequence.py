# python examples/single_file/reinforce_sequence.py
"""SeqGAN in one file, in CleanRL's style: Gymnasium, PyTorch and NumPy, no Stable-Baselines3, no `agents`.

REINFORCE learns from "action_value" rewards: each is Q of Eq. 4, which is the weight of the policy gradient at its step
(discount 0). Between updates the discriminator is trained (Eq. 5), and the generator becomes the roll-out policy of the
search. In the toy world all sequences are enumerated, so the generator's distance from the oracle is exact.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional as F

import seqgan_env  # noqa: F401  (registers the environments)
from seqgan_env.tasks.toy import enumerate_sequences


@dataclass
class Args:
    """SeqGAN (Yu et al. 2017, Algorithm 1) on a toy world of sequences."""

    seed: int = 0
    """Seed of parameters, actions, batches and environments."""
    vocab_size: int = 3
    """V: tokens to choose from."""
    sequence_length: int = 3
    """T: steps of an episode."""
    oracle: int = 1
    """Seed of the distribution of the real sequences."""
    n_rollouts: int = 4
    """N: completions that the search uses to value an unfinished sequence."""
    num_envs: int = 64
    """Sequences generated side by side."""
    num_updates: int = 200
    """Rounds of one generator update and `d_steps` of the discriminator."""
    learning_rate: float = 3e-3
    """Learning rate of the generator's Adam. It falls linearly to 0, so that the two players stop circling."""
    max_grad_norm: float = 5.0
    """Global norm to which its gradients are clipped."""
    d_steps: int = 4
    """Discriminator steps per round, each on 64 real and 64 generated sequences."""
    d_learning_rate: float = 3e-3
    """Learning rate of the discriminator's Adam."""


class Generator(nn.Module):
    """G(y_t | Y_{1:t-1}) on a GRU; `initial_state`, `advance` and `draw` make it a roll-out policy of the search."""

    def __init__(self, vocab_size: int, hidden_size: int = 32) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size + 1, hidden_size)  # row V is the start symbol
        self.cell = nn.GRUCell(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, vocab_size)

    def initial_state(self, batch_size: int) -> tuple[Tensor, ...]:
        zeros = torch.zeros(batch_size, self.cell.hidden_size)
        return self.advance((zeros,), torch.full((batch_size,), self.vocab_size))

    def advance(self, state: tuple[Tensor, ...], tokens: Tensor) -> tuple[Tensor, ...]:
        return (self.cell(self.embedding(tokens), state[0]),)

    @torch.no_grad()
    def draw(self, state: tuple[Tensor, ...], uniforms: Tensor) -> Tensor:
        """Next tokens by inverse CDF: (R, N) float32 in [0, 1) -> (R, N) int64."""
        cdf = torch.softmax(self.output(state[0]), dim=1).cumsum(dim=1)
        return torch.searchsorted(cdf, uniforms.contiguous(), right=True).clamp(max=self.vocab_size - 1)

    def log_probs(self, sequences: Tensor) -> Tensor:
        """log G(y_t | Y_{1:t-1}) of each token: (B, T) int64 -> (B, T) float32, nats."""
        state, columns = self.initial_state(len(sequences)), []
        for tokens in sequences.unbind(dim=1):
            columns.append(-F.cross_entropy(self.output(state[0]), tokens, reduction="none"))
            state = self.advance(state, tokens)
        return torch.stack(columns, dim=1)


class Discriminator(nn.Module):
    """Logits that a sequence is real, from its embedded tokens side by side: (B, T) int64 -> (B,) float32."""

    def __init__(self, vocab_size: int, sequence_length: int, hidden_size: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, hidden_size)
        self.layers = nn.Sequential(nn.Linear(sequence_length * hidden_size, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, sequences: Tensor) -> Tensor:
        return self.layers(self.embedding(sequences).flatten(1)).squeeze(1)


def main(args: Args) -> None:
    """Play Algorithm 1 and compare the generator with the oracle."""
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    generator = Generator(args.vocab_size)
    discriminator = Discriminator(args.vocab_size, args.sequence_length)
    optimizer = torch.optim.Adam(generator.parameters(), lr=args.learning_rate)
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=args.d_learning_rate)
    envs = gym.make_vec(
        "SeqGAN-Toy-v0",
        num_envs=args.num_envs,
        vectorization_mode="vector_entry_point",
        autoreset_mode="Disabled",  # every update begins with a reset of all rows
        vocab_size=args.vocab_size,
        sequence_length=args.sequence_length,
        oracle=args.oracle,
        reward_model=discriminator,
        reward_mode="action_value",
        n_rollouts=args.n_rollouts,
    )
    task = envs.unwrapped.task  # type: ignore[attr-defined]
    real_sequences = task.real_sequences("train")

    def generate() -> tuple[Tensor, Tensor]:
        """One sequence of each environment, (B, T) int64, and the rewards of its steps, (B, T) float32."""
        state, columns = generator.initial_state(args.num_envs), []
        for _ in range(args.sequence_length):
            tokens = generator.draw(state, torch.rand(args.num_envs, 1)).squeeze(1)
            state = generator.advance(state, tokens)
            obs, reward, *_ = envs.step(tokens.numpy())
            columns.append(torch.from_numpy(reward).float())
        return torch.from_numpy(obs), torch.stack(columns, dim=1)

    def distance() -> float:
        """Total variation between generator and oracle, in [0, 1]: half the sum of |G(Y) - oracle(Y)| over all Y."""
        everything = enumerate_sequences(args.vocab_size, args.sequence_length)
        with torch.no_grad():
            ours, real = (model.log_probs(everything).sum(dim=1).exp() for model in (generator, task.oracle))
        return float((ours - real).abs().sum()) / 2

    before = distance()
    envs.reset(seed=args.seed)
    for update in range(1, args.num_updates + 1):
        optimizer.param_groups[0]["lr"] = args.learning_rate * (1 - (update - 1) / args.num_updates)

        # Eq. 7-8: each step's log-probability, weighted with its Q. The baseline is the batch's mean at the step.
        envs.unwrapped.set_rollout_policy(copy.deepcopy(generator))  # type: ignore[attr-defined]
        envs.reset()
        sequences, action_values = generate()
        loss = -(generator.log_probs(sequences) * (action_values - action_values.mean(dim=0))).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(generator.parameters(), args.max_grad_norm)
        optimizer.step()

        # Eq. 5: real against newly generated sequences.
        for _ in range(args.d_steps):
            real = real_sequences[rng.choice(len(real_sequences), args.num_envs, replace=False)]
            state, columns = generator.initial_state(args.num_envs), []
            for _ in range(args.sequence_length):
                columns.append(generator.draw(state, torch.rand(args.num_envs, 1)).squeeze(1))
                state = generator.advance(state, columns[-1])
            logits = discriminator(torch.cat([real, torch.stack(columns, dim=1)]))
            labels_real_is_one = torch.arange(2 * args.num_envs) < args.num_envs
            d_loss = F.binary_cross_entropy_with_logits(logits, labels_real_is_one.float())
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()
        if update % 25 == 0:
            print(f"update {update:3}  distance from the oracle {distance():.3f}  loss of D {d_loss.item():.3f}")
    envs.close()
    print(f"distance from the oracle: from {before:.2f} to {distance():.2f} (expected from 0.42 to about 0.05)")


if __name__ == "__main__":
    main(tyro.cli(Args))
