"""What every task provides: vocabulary, horizon T, real sequences in three splits, an oracle where one is known.

A task of your own is a `Task` with other contents. Splits: "train" is what the generator and discriminator learn from,
"validation" chooses (early stopping, held-out accuracy of D), "test" measures NLL_test and chooses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from seqgan_env.corpora.corpus import CorpusStatistics
from seqgan_env.corpora.corpus import Split as Split
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.vocabulary import Vocabulary


@dataclass
class Task:
    """A source of real sequences over 0..V-1 with horizon T.

    Attributes:
        name: for messages.
        vocab_size: V.
        sequence_length: T.
        draw_split: makes the (M, T) int64 sequences of a split; called once a split, when first asked for.
        eos_token: the token that ends a sequence early, or None for fixed length.
        vocabulary: readable tokens, or None where ids are all there is.
        oracle: the known distribution of real sequences, or None.
        statistics: what the corpus holds that the real sequences come from, or None where there is no corpus.
    """

    name: str
    vocab_size: int
    sequence_length: int
    draw_split: Callable[[Split], Tensor]
    eos_token: int | None = None
    vocabulary: Vocabulary | None = None
    oracle: SequenceModel | None = None
    statistics: CorpusStatistics | None = None
    _splits: dict[Split, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name, size in (("vocab_size", self.vocab_size), ("sequence_length", self.sequence_length)):
            if isinstance(size, bool) or not isinstance(size, int):
                raise TypeError(f"{name}={size!r} must be an int")
            if size < 1:
                raise ValueError(f"{name}={size} must be at least 1")
        if self.eos_token is not None and not 0 <= self.eos_token < self.vocab_size:
            raise ValueError(f"eos_token={self.eos_token} must lie in 0..{self.vocab_size - 1}")

    @property
    def pad_token(self) -> int:
        """PAD = V; stands in observations only, never an action."""
        return self.vocab_size

    def real_sequences(self, split: Split) -> Tensor:
        """Real sequences of a split, (M, T) int64, PAD after EOS.

        Raises:
            ValueError: for another split.
        """
        if split not in get_args(Split):
            raise ValueError(f"split={split!r} must be one of {get_args(Split)}")
        if split not in self._splits:
            self._splits[split] = self.draw_split(split)
        return self._splits[split]

    def some_sequences(self, split: Split, at_most: int | None) -> Tensor:
        """The real sequences of a split, or, of a larger one, always the same random `at_most` of them, in order."""
        sequences = self.real_sequences(split)
        if at_most is None or len(sequences) <= at_most:
            return sequences
        chosen = np.random.default_rng(0).permutation(len(sequences))[:at_most]
        return sequences[torch.from_numpy(np.sort(chosen))]
