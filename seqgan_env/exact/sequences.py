"""All sequences of a small world, and the tree of their prefixes.

In: V, T, EOS, prompts. Out: (S, T) int64 in lexicographic order, PAD = V after the end; each prefix has a number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MOST_SEQUENCES = 200_000


class SequenceTree:
    """Sequences as paths from the empty prefix, number 0.

    Args:
        vocab_size: V.
        sequence_length: T.
        eos_token: the token that ends a sequence early, or None.
        prompts: (K, P) int64, different prompts in lexicographic order; every sequence begins with one. None: there are
            no prompts.

    Attributes:
        tokens: (S, T) int64, PAD after the end.
        real: (S, T) bool, False at PAD.
        prefix: (S, T) int64, the number of the prefix before each token; 0 at PAD.
        edge: (S, T) int64, the number of a prefix together with its next token, V * prefix + token; -1 at PAD.
        children: (P, V) int64, the number of the prefix that follows each prefix with each token; 0 where it has ended.

    Raises:
        ValueError: if a size is below 1, EOS is not a token, or S is above 200,000.
    """

    def __init__(
        self, vocab_size: int, sequence_length: int, eos_token: int | None = None, prompts: IntArray | None = None
    ) -> None:
        prompts = np.empty((1, 0), dtype=np.int64) if prompts is None else prompts
        count = len(prompts) * count_sequences(vocab_size, sequence_length - prompts.shape[1], eos_token)
        if count > MOST_SEQUENCES:
            raise ValueError(
                f"vocab_size={vocab_size} and sequence_length={sequence_length} make {_readable(count)} sequences; "
                f"at most {MOST_SEQUENCES:,} can be enumerated. Take fewer tokens or steps."
            )
        self.tokens = _enumerate(vocab_size, sequence_length, eos_token, prompts)
        self.real = self.tokens < vocab_size
        self.prefix = _number_prefixes(self.tokens, self.real)
        self.edge = np.where(self.real, self.prefix * vocab_size + self.tokens, -1)
        self.children = np.zeros((int(self.prefix.max()) + 1, vocab_size), dtype=np.int64)
        inner = self.real[:, 1:]
        self.children[self.prefix[:, :-1][inner], self.tokens[:, :-1][inner]] = self.prefix[:, 1:][inner]

    def edge_sums(self, values: FloatArray) -> FloatArray:
        """Sums of (S, T) values over the sequences that share a prefix and its next token, (P * V,) float64."""
        sums = np.bincount(self.edge[self.real], values[self.real], minlength=self.children.size)
        return sums.astype(np.float64)


def count_sequences(vocab_size: int, sequence_length: int, eos_token: int | None = None) -> int:
    """The number of sequences: V^T, or with EOS n_1 = V, n_T = 1 + (V - 1) n_{T-1}.

    Raises:
        ValueError: if a size is below 1, or EOS is not a token.
    """
    for name, size in (("vocab_size", vocab_size), ("sequence_length", sequence_length)):
        if size < 1:
            raise ValueError(f"{name}={size} must be at least 1")
    if eos_token is None:
        return vocab_size**sequence_length
    if not 0 <= eos_token < vocab_size:
        raise ValueError(f"eos_token={eos_token} must lie in 0..{vocab_size - 1}")
    count = vocab_size
    for _ in range(sequence_length - 1):
        count = 1 + (vocab_size - 1) * count
    return count


def _enumerate(vocab_size: int, sequence_length: int, eos_token: int | None, prompts: IntArray) -> IntArray:
    """(S, T) int64 in lexicographic order, PAD = V after EOS; step by step, each open sequence gets V successors."""
    sequences, given = prompts, prompts.shape[1]
    for _ in range(sequence_length - given):
        ended = np.zeros(len(sequences), dtype=bool)
        if eos_token is not None:
            ended = (sequences[:, given:] == eos_token).any(axis=1)
        copies = np.where(ended, 1, vocab_size)
        place = np.arange(int(copies.sum())) - np.repeat(copies.cumsum() - copies, copies)
        column = np.where(np.repeat(ended, copies), vocab_size, place)
        sequences = np.concatenate([np.repeat(sequences, copies, axis=0), column[:, None]], axis=1)
    return sequences


def _number_prefixes(tokens: IntArray, real: npt.NDArray[np.bool_]) -> IntArray:
    """For each token the number of the prefix before it, (S, T) int64. 0 is the empty prefix, and the value at PAD."""
    numbers = np.zeros(tokens.shape, dtype=np.int64)
    count = 1
    for t in range(1, tokens.shape[1]):
        rows = np.flatnonzero(real[:, t])
        if not len(rows):
            break
        prefixes = tokens[rows, :t]
        begins = np.ones(len(rows), dtype=bool)  # in lexicographic order, equal prefixes are neighbours
        begins[1:] = (prefixes[1:] != prefixes[:-1]).any(axis=1)
        numbers[rows, t] = begins.cumsum() - 1 + count
        count += int(begins.sum())
    return numbers


def _readable(count: int) -> str:
    return f"{count:,}" if count < 10**15 else f"about 10^{len(str(count)) - 1}"
