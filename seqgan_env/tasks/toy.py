"""The toy task: an oracle over V = 3 tokens and T = 3 steps, so small that all 27 sequences can be enumerated.

For teaching and for tests: exact action values, exact gradients, exact optima.
"""

from __future__ import annotations

import itertools
import string
from pathlib import Path

import torch
from torch import Tensor

from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.tasks.oracle import oracle_task
from seqgan_env.tasks.task import Split, Task
from seqgan_env.vocabulary import Vocabulary


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
        data_seed: of the draws of real sequences.
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
        ValueError: beyond a million of them.
    """
    if vocab_size**sequence_length > 1_000_000:
        raise ValueError(f"vocab_size={vocab_size} and sequence_length={sequence_length} make over a million sequences")
    return torch.tensor(
        list(itertools.product(range(vocab_size), repeat=sequence_length)), dtype=torch.int64, device="cpu"
    )
