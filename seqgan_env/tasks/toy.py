"""The toy task: an oracle over V = 3 tokens and T = 3 steps, so small that all 27 sequences can be enumerated.

For teaching and for tests: exact action values, exact gradients, exact optima.
"""

from __future__ import annotations

import itertools
import string
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.tasks.oracle import check_draws, oracle_task, seed_or_path
from seqgan_env.tasks.task import Split, Task
from seqgan_env.vocabulary import Vocabulary


@dataclass(frozen=True)
class ToyOptions:
    """The source of the real sequences. The fields' docstrings are the help texts of the command line."""

    task_class: ClassVar[type[Task]] = Task
    PAGE: ClassVar[str] = """A world of 27 sequences in which everything can be enumerated.

    ## Description
    The oracle task at V = 3 and T = 3, with tokens named a, b, c. For teaching, and for tests against exact values.

    ## Action Space
    `Discrete(V)`: the next token.

    ## Observation Space
    `Box(0, V, (T,), int64)`: the prefix, padded with PAD = V.

    ## Rewards
    As in `OracleEnv`.

    ## Starting State
    The empty prefix.

    ## Episode End
    Terminated after T tokens. Never truncated.

    ## Information
    At the end: `sequence` (T,) int64, `oracle_nll` in nats per token, `text`.

    ## Arguments
    As `OracleEnv`, with `vocab_size` (3), `sequence_length` (3), `train_sequences` (1000).

    ## Version History
    - v0: first version.
    """

    vocab_size: int | None = None
    """V; None takes the oracle file's, or 3."""
    sequence_length: int = 3
    """T, tokens in a sequence."""
    oracle: int | str | None = None
    """Oracle: None or a number seeds N(0, 1) parameters; a path loads the authors' .npz or pickle."""
    data_seed: int = 0
    """Seed of the real sequences that the oracle draws."""
    train_sequences: int = 1_000
    """Real training sequences; validation and test have equally many."""

    def __post_init__(self) -> None:
        check_draws(self.train_sequences, self.data_seed)

    def task(self) -> Task:
        """Draw or read the oracle; raises as `toy_task`."""
        return toy_task(
            self.vocab_size,
            self.sequence_length,
            seed_or_path(self.oracle),
            n_sequences=self.train_sequences,
            data_seed=self.data_seed,
        )


def toy_task(
    vocab_size: int | None = None,
    sequence_length: int = 3,
    oracle: int | str | Path | SequenceModel | None = None,
    *,
    n_sequences: dict[Split, int] | int = 1_000,
    data_seed: int = 0,
) -> Task:
    """A small oracle task with readable tokens a, b, c, ...

    Args:
        vocab_size: V; None takes the oracle file's, or 3.
        sequence_length: T.
        oracle: as in `oracle_task`; a seeded one has E = H = 4.
        n_sequences: sequences in each split.
        data_seed: seed of the draws of real sequences.
    """
    if vocab_size is None and not isinstance(oracle, str | Path | SequenceModel):
        vocab_size = 3
    task = oracle_task(
        vocab_size, sequence_length, oracle, n_sequences=n_sequences, data_seed=data_seed, hidden_size=4, name="toy"
    )
    letters = string.ascii_lowercase
    names = letters if task.vocab_size <= len(letters) else [f"t{token}" for token in range(task.vocab_size)]
    task.vocabulary = Vocabulary(names[: task.vocab_size])
    return task


def enumerate_sequences(vocab_size: int, sequence_length: int) -> Tensor:
    """All V^T sequences in lexicographic order, (V^T, T) int64.

    Raises:
        ValueError: for more than a million sequences.
    """
    if vocab_size**sequence_length > 1_000_000:
        raise ValueError(f"vocab_size={vocab_size} and sequence_length={sequence_length} make over a million sequences")
    return torch.tensor(
        list(itertools.product(range(vocab_size), repeat=sequence_length)), dtype=torch.int64, device="cpu"
    )
