"""Worlds whose answers are known: tables instead of networks, and policies that can be read off.

In the toy world (V = 3, T = 3) every sequence has its own reward, so a reward on the wrong sentence or step shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from seqgan_env.exact import ExactWorld
from seqgan_env.models.sequence_models import SequenceModel, State
from seqgan_env.rollout_policies import UniformPolicy, sample_sequences
from seqgan_env.tasks.oracle import seeded_oracle
from seqgan_env.tasks.task import Split, Task
from seqgan_env.vocabulary import Vocabulary

WORLD = ExactWorld(3, 3)


class TableReward:
    """A different reward in (0, 1) for every sequence; remembers the batches that it was asked to score."""

    def __init__(self, vocab_size: int = 3, sequence_length: int = 3, seed: int = 0) -> None:
        self.base = vocab_size + 1
        rewards = np.random.RandomState(seed).uniform(0.01, 1.0, self.base**sequence_length)
        self.table = torch.from_numpy(rewards**2)  # squared: far from its geometric mean
        self.batches: list[Tensor] = []

    def __call__(self, sequences: Tensor, /) -> Tensor:
        self.batches.append(sequences.clone())
        index = torch.zeros(len(sequences), dtype=torch.int64)
        for column in sequences.unbind(1):
            index = index * self.base + column
        return self.table[index]


class DigitsReward:
    """The sequence read as a decimal number, so that a reward tells which tokens stood where."""

    def __call__(self, sequences: Tensor, /) -> Tensor:
        total = torch.zeros(len(sequences), dtype=torch.float64)
        for column in sequences.unbind(1):
            total = 10 * total + column
        return total


class PointPolicy:
    """Always draws the same token."""

    def __init__(self, vocab_size: int, token: int) -> None:
        self.vocab_size = vocab_size
        self.token = token

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, 0),)

    def advance(self, state: State, tokens: Tensor) -> State:
        return state

    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        return torch.full(uniforms.shape, self.token)


class SuccessorPolicy:
    """Draws the token after the last one, modulo V; its state is the last token, so a wrong state shows."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.advanced_rows: list[int] = []

    def initial_state(self, batch_size: int) -> State:
        return (torch.full((batch_size,), -1),)

    def advance(self, state: State, tokens: Tensor) -> State:
        self.advanced_rows.append(len(tokens))
        return (tokens.clone(),)

    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        return ((state[0] + 1) % self.vocab_size).unsqueeze(1).expand(uniforms.shape).clone()


def eos_task() -> Task:
    """V = 4, T = 5, readable tokens; token 3 ("." in text) ends a sequence early."""
    oracle = seeded_oracle(0, 4, 4)

    def draw_split(split: str) -> Tensor:
        return torch.tensor([[0, 1, 3, 4, 4], [2, 2, 2, 2, 2]])

    return Task("eos", 4, 5, draw_split, eos_token=3, vocabulary=Vocabulary("abc.", eos="."), oracle=oracle)


def mixed_length_task(n_sequences: int = 64) -> Task:
    """V = 6, T = 7; token 5 ends a sequence, after any number of tokens from none on, or not at all.

    Every split has sequences of all lengths, and is another one.
    """
    oracle = seeded_oracle(3, 6, 4)

    def draw_split(split: Split) -> Tensor:
        rng = np.random.default_rng(get_args(Split).index(split))
        sequences = sample_sequences(UniformPolicy(6), n_sequences, 7, rng, eos_token=5)
        lengths = (sequences < 6).sum(dim=1)
        assert set(lengths.tolist()) == set(range(1, 8)), "take more sequences"
        return sequences

    return Task("mixed", 6, 7, draw_split, eos_token=5, vocabulary=Vocabulary("abcde.", eos="."), oracle=oracle)


def cut_to_length(sequences: Tensor, vocab_size: int) -> list[Tensor]:
    """Each sequence alone and without its PAD, (1, its length)."""
    return [row[row < vocab_size].unsqueeze(0) for row in sequences]


def sequence_probabilities(model: SequenceModel, sequences: Tensor) -> np.ndarray:
    """p(Y) of each sequence, float64."""
    return model.log_probs(sequences).double().sum(dim=1).exp().numpy()


def exact_action_value(
    model: SequenceModel | None, reward: Callable[[Tensor], Tensor], prefix: tuple[int, ...]
) -> tuple[float, float]:
    """Mean and standard deviation of R(Y) over the toy world's completions of a prefix; a model of None is uniform."""
    value = WORLD.action_value(prefix, reward, UniformPolicy(3) if model is None else model)
    return value.mean, value.deviation


def exact_next_token(model: SequenceModel, prefix: Tensor) -> np.ndarray:
    """p(y | prefix) for all y by a plain softmax over all logits, (V,) float64. `prefix`: (t,) int64."""
    state = model.initial_state(1)
    for token in prefix:
        state = model.advance(state, token.view(1))
    logits = model.output(model.features(state)) / model.temperature
    return torch.softmax(logits.double(), dim=1)[0].detach().numpy()
