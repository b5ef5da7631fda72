"""The conditional toy task: a response depends on a prompt, and all sequences can be enumerated.

The oracle is an LSTM with N(0, 1) parameters, as in the toy task. It reads the prompt and draws the response. Prompts
are uniform. With V = 3, one token of prompt and three of response there are 3 * 27 sequences. For teaching and for
tests: exact action values, gradients and KLs of a task with prompts.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.oracle import DEFAULT_ORACLE_SEED, check_draws, seeded_oracle, split_stream
from seqgan_env.tasks.task import Split, Task, check_prompt_length
from seqgan_env.vocabulary import Vocabulary


@dataclass(frozen=True)
class ConditionalOptions:
    """The source of the real sequences. The fields' docstrings are the help texts of the command line."""

    task_class: ClassVar[type[Task]] = Task
    PAGE: ClassVar[str] = """A toy with prompts, in which everything can be enumerated.

    ## Description
    Answer a prompt: append T - P tokens, so that prompt and response cannot be told from those of an oracle. The
    oracle is a small LSTM with N(0, 1) parameters, so the response depends on the prompt. With V = 3, P = 1 and T = 4
    there are 81 sequences. For teaching, and for tests against exact values.

    ## Action Space
    `Discrete(V)`: the next token of the response.

    ## Observation Space
    `Box(0, V, (T,), int64)`: the prompt, then the tokens so far, padded with PAD = V.

    ## Rewards
    As in `OracleEnv`. The reward model sees prompt and response.

    ## Starting State
    A prompt of P tokens: that of a random training sequence, or `reset(options={"prompt": "b"})`.

    ## Episode End
    Terminated after T - P steps. Never truncated.

    ## Information
    At the end: `sequence` (T,) int64, `prompt` and `text` (the response) with tokens named a, b, c, and `oracle_nll` of
    the response in nats per token.

    ## Arguments
    As `OracleEnv`, with `vocab_size` (3), `sequence_length` (4), `train_sequences` (1000); and `prompt_length` (1), P.
    `oracle` is None or an int, the seed of its parameters.

    ## Version History
    - v0: first version.
    """

    vocab_size: int = 3
    """V."""
    sequence_length: int = 4
    """T, tokens of a prompt and its response."""
    prompt_length: int = 1
    """P, tokens of a prompt, below T."""
    oracle: int | None = None
    """Seed of the oracle's N(0, 1) parameters; None: 0."""
    data_seed: int = 0
    """Seed of the prompts, and of the responses that the oracle draws."""
    train_sequences: int = 1_000
    """Real training sequences; validation and test have equally many."""

    def __post_init__(self) -> None:
        check_draws(self.train_sequences, self.data_seed)
        check_prompt_length(self.prompt_length, self.sequence_length)

    def task(self) -> Task:
        """Make the oracle; raises as `conditional_task`."""
        return conditional_task(
            self.vocab_size,
            self.sequence_length,
            self.prompt_length,
            self.oracle,
            n_sequences=self.train_sequences,
            data_seed=self.data_seed,
        )


def conditional_task(
    vocab_size: int = 3,
    sequence_length: int = 4,
    prompt_length: int = 1,
    oracle: int | None = None,
    *,
    n_sequences: int = 1_000,
    data_seed: int = 0,
) -> Task:
    """A small oracle task with prompts, and with readable tokens a, b, c, ...

    Args:
        vocab_size: V.
        sequence_length: T, tokens of a prompt and its response.
        prompt_length: P, in 0..T-1; with 0 there are no prompts.
        oracle: seed of the oracle's parameters; None is 0.
        n_sequences: sequences in each split.
        data_seed: seed of the draws of real sequences.

    Raises:
        ValueError, TypeError: for an argument out of range.
    """
    model = seeded_oracle(DEFAULT_ORACLE_SEED if oracle is None else oracle, vocab_size, hidden_size=4)
    model.requires_grad_(False)
    letters = string.ascii_lowercase
    names = letters if vocab_size <= len(letters) else [f"t{token}" for token in range(vocab_size)]
    return Task(
        "conditional",
        vocab_size,
        sequence_length,
        DrawnResponses(model, sequence_length, prompt_length, n_sequences, data_seed),
        vocabulary=Vocabulary(names[:vocab_size]),
        oracle=model,
        prompt_length=prompt_length,
    )


@dataclass(frozen=True)
class DrawnResponses:
    """Uniform prompts with responses of a model; each split has its own random stream.

    Attributes:
        model: draws the responses.
        sequence_length: T.
        prompt_length: P.
        n_sequences: sequences in each split.
        seed: seed of the draws.
    """

    model: SequenceModel
    sequence_length: int
    prompt_length: int
    n_sequences: int
    seed: int = 0

    def __call__(self, split: Split) -> Tensor:
        """(M, T) int64; the same at each call."""
        rng = split_stream(split, self.seed)
        shape = (self.n_sequences, self.prompt_length)
        prompts = torch.from_numpy(rng.integers(self.model.vocab_size, size=shape, dtype=np.int64))
        return sample_sequences(self.model, self.n_sequences, self.sequence_length, rng, prompts=prompts)
