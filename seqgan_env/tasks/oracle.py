"""The paper's synthetic task: real sequences are drawn from an LSTM with random parameters, the oracle.

The oracle's parameters come from N(0, 1), either from a seed (the same numbers on every platform) or from the authors'
file. Its likelihood is known exactly, so a generator can be measured by NLL_oracle (Eq. 13).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from seqgan_env.models.sequence_models import LSTMSequenceModel, SequenceModel
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.oracle_file import load_oracle
from seqgan_env.tasks.task import Split, Task

DEFAULT_ORACLE_SEED = 0
# Streams of the splits. Never renumber them: the data of a given seed would change.
_SPLIT_STREAMS: dict[Split, int] = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True)
class OracleOptions:
    """The source of the real sequences. The fields' docstrings are the help texts of the command line."""

    task_class: ClassVar[type[Task]] = Task
    PAGE: ClassVar[str] = """SeqGAN's synthetic task as a Gymnasium environment.

    ## Description
    Generate a sequence of T tokens that cannot be told from sequences of an oracle, an LSTM with N(0, 1) parameters
    (Yu et al., AAAI 2017, section 4). Every action appends one token; the transition is deterministic.

    ## Action Space
    `Discrete(V)`: the next token.

    ## Observation Space
    `Box(0, V, (T,), int64)`: the prefix, padded with PAD = V. An id is not a magnitude: use an embedding.

    ## Rewards
    By `reward_mode`: "action_value" (default), Q of Eq. 4 at each step, to be learned from with discount 0;
    "potential", its differences, for learners of discount 1; "terminal", R(Y) at the end only.

    ## Starting State
    The empty prefix.

    ## Episode End
    Terminated after T tokens. Never truncated.

    ## Information
    At the end: `sequence` (T,) int64, and `oracle_nll`, the sequence's NLL under the oracle in nats per token. It
    enters the reward only with `reward_model="oracle"`.

    ## Arguments
    - `vocab_size` (5000), `sequence_length` (20);
    - `oracle`: None or an int, the seed of its parameters; or a path, the authors' `.npz` or pickle;
    - `data_seed` (0), `train_sequences` (10000): of the real sequences that the oracle draws;
    - `reward_model`, `reward_mode`, `rollout_policy`, `n_rollouts` (16), `render_mode`: see `SequenceEnv`.

    ## Version History
    - v0: first version.
    """

    vocab_size: int | None = None
    """V; None takes the oracle file's, or 5,000 [2016, 2018: 5,000]."""
    sequence_length: int = 20
    """T, tokens in a sequence [P: 20]."""
    oracle: int | str | None = None
    """Oracle: None or a number seeds N(0, 1) parameters; a path loads the authors' .npz or pickle."""
    data_seed: int = 0
    """Seed of the real sequences that the oracle draws."""
    train_sequences: int = 10_000
    """Real training sequences [P: 10,000; code: 9,984 of them]; validation and test have equally many."""

    def __post_init__(self) -> None:
        check_draws(self.train_sequences, self.data_seed)

    def task(self) -> Task:
        """Draw or read the oracle; raises as `oracle_task`."""
        return oracle_task(
            self.vocab_size,
            self.sequence_length,
            seed_or_path(self.oracle),
            n_sequences=self.train_sequences,
            data_seed=self.data_seed,
        )


def check_draws(train_sequences: int, data_seed: int) -> None:
    """Raise ValueError or TypeError for a wrong number of real sequences, or a wrong seed."""
    for name, value, least in (("train_sequences", train_sequences, 1), ("data_seed", data_seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name}={value!r} must be an int")
        if value < least:
            raise ValueError(f"{name}={value} must be at least {least}")


def seed_or_path(oracle: int | str | None) -> int | str | None:
    """The meaning of `oracle=`: on the command line, digits are a seed."""
    return int(oracle) if isinstance(oracle, str) and oracle.isdigit() else oracle


def oracle_task(
    vocab_size: int | None = None,
    sequence_length: int = 20,
    oracle: int | str | Path | SequenceModel | None = None,
    *,
    n_sequences: dict[Split, int] | int = 10_000,
    data_seed: int = 0,
    hidden_size: int = 32,
    name: str = "oracle",
) -> Task:
    """The synthetic task of the paper: V = 5,000, T = 20, 10,000 training sequences.

    Args:
        vocab_size: V; None takes the oracle file's, or 5,000.
        sequence_length: T.
        oracle: an int seeds its parameters, None is seed 0, and a path loads the authors' `.npz` or pickle. Your own
            sequence model is copied and frozen.
        n_sequences: sequences in each split.
        data_seed: seed of the draws of real sequences.
        hidden_size: E and H of a seeded oracle (paper's code: 32).
        name: name of the task.

    Raises:
        ValueError: if the file does not hold an oracle, or its vocabulary is not `vocab_size`.
    """
    if isinstance(oracle, SequenceModel):
        model = copy.deepcopy(oracle)  # the caller's model does not change, and may learn
    elif isinstance(oracle, str | Path):
        model = load_oracle(oracle)
    else:
        seed = DEFAULT_ORACLE_SEED if oracle is None else oracle
        model = seeded_oracle(seed, 5000 if vocab_size is None else vocab_size, hidden_size)
    model.requires_grad_(False)
    if vocab_size is not None and model.vocab_size != vocab_size:
        raise ValueError(
            f"vocab_size={vocab_size}, but oracle={str(oracle)!r} has {model.vocab_size} tokens; "
            f"leave vocab_size out or set it to {model.vocab_size}"
        )

    drawn = DrawnSequences(model, sequence_length, n_sequences, data_seed)
    return Task(name, model.vocab_size, sequence_length, drawn, oracle=model)


def split_stream(split: Split, seed: int) -> np.random.Generator:
    """The random stream that draws the real sequences of a split."""
    return np.random.default_rng([seed, _SPLIT_STREAMS[split]])


@dataclass(frozen=True)
class DrawnSequences:
    """Real sequences that a model draws; each split has its own random stream.

    Attributes:
        model: the oracle.
        sequence_length: T.
        n_sequences: sequences in each split, or a number for each split.
        seed: seed of the draws.
        eos_token: ends a sequence early, or None.
    """

    model: SequenceModel
    sequence_length: int
    n_sequences: dict[Split, int] | int
    seed: int = 0
    eos_token: int | None = None

    def __call__(self, split: Split) -> Tensor:
        """(M, T) int64, PAD after EOS; the same at each call."""
        count = self.n_sequences if isinstance(self.n_sequences, int) else self.n_sequences[split]
        rng = split_stream(split, self.seed)
        return sample_sequences(self.model, count, self.sequence_length, rng, self.eos_token)


def seeded_oracle(seed: int, vocab_size: int, hidden_size: int = 32) -> LSTMSequenceModel:
    """An oracle with parameters from N(0, 1), the same on every platform and NumPy version.

    NumPy's legacy RandomState is frozen by its compatibility policy; its newer generators and torch's are not.

    Raises:
        ValueError: if seed is not in 0..2^32-1, or a size is below 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"oracle={seed!r} must be None, an int (a seed) or a path")
    if not 0 <= seed < 2**32:
        raise ValueError(f"oracle={seed} must be a seed in 0..2^32-1")
    model = LSTMSequenceModel(vocab_size, hidden_size, hidden_size)
    random_state = np.random.RandomState(seed)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            parameter.copy_(torch.from_numpy(random_state.standard_normal(tuple(parameter.shape)).astype(np.float32)))
    return model
