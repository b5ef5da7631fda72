"""What a generator may have copied: to each sample the training sequence that is most like it.

Likeness is the mean over n = 1 to 4 of the share of the sample's different n-grams that the other sequence has too: 1
where it holds all of them, as a copy does, 0 where it shares no token. In: sequences (R, T) int64, PAD = V after the
end, in NumPy arrays. Out: a row of the training set and the likeness of each sample.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from seqgan_env.measures.bleu import FloatArray, IntArray, checked_sequences, numbered_ngrams

_MAX_ORDER = 4
_BLOCK = 20_000  # training sequences whose n-grams are in memory at once


def nearest_sequences(
    samples: npt.ArrayLike, real: npt.ArrayLike, vocab_size: int, eos_token: int | None = None
) -> tuple[IntArray, FloatArray]:
    """To each sample the real sequence that is most like it, the first of several.

    Time grows with the samples times the real sequences; memory does not grow with the real sequences.

    Args:
        samples: (R, T) int64, PAD after the end.
        real: (M, T') int64, likewise.
        vocab_size: V.
        eos_token: left out wherever it stands, or None: all sequences end.

    Returns:
        Rows of `real`, (R,) int64, and the likeness, (R,) float64 in [0, 1]; 0 for a sample without tokens.

    Raises:
        TypeError, ValueError: if there are no real sequences, or either is not (R, T) of this vocabulary.
    """
    samples, real = checked_sequences("samples", samples, vocab_size), np.asarray(real)
    if not len(real):
        raise ValueError("real is empty; a sample is compared with at least one sequence")
    tables: list[IntArray] = []
    of_samples = _different(_without(eos_token, samples, vocab_size), vocab_size, tables)
    sizes = [np.bincount(rows, minlength=len(samples)) for rows, _ in of_samples]
    orders = np.maximum(sum((size > 0).astype(np.int64) for size in sizes), 1)  # a short sample has no long n-grams
    nearest = np.zeros(len(samples), dtype=np.int64)
    likeness = np.full(len(samples), -1.0)
    for start in range(0, len(real), _BLOCK):
        block = _without(eos_token, checked_sequences("real", real[start : start + _BLOCK], vocab_size), vocab_size)
        found = np.zeros((len(samples), len(block)))
        for (rows, numbers), size, (theirs, their_numbers) in zip(
            of_samples, sizes, _different(block, vocab_size, tables), strict=True
        ):
            for row in np.flatnonzero(size):
                own = np.zeros(their_numbers.max(initial=0) + 1, dtype=bool)
                mine = numbers[rows == row]
                own[mine[mine < len(own)]] = True
                found[row] += np.bincount(theirs[own[their_numbers]], minlength=len(block)) / size[row]
        best = found.argmax(axis=1)
        value = found[np.arange(len(samples)), best] / orders
        better = value > likeness
        nearest[better], likeness[better] = best[better] + start, value[better]
    return nearest, likeness


def _without(eos_token: int | None, tokens: IntArray, vocab_size: int) -> IntArray:
    return tokens if eos_token is None else np.where(tokens == eos_token, vocab_size, tokens)


def _different(tokens: IntArray, vocab_size: int, tables: list[IntArray]) -> list[tuple[IntArray, IntArray]]:
    """For each n: row and number of the different n-grams of each row that are in the n-th table (or make it)."""
    found = []
    for rows, numbers in numbered_ngrams(tokens, vocab_size, _MAX_ORDER, tables):
        size = int(numbers.max(initial=0)) + 1
        pairs = np.unique(rows * size + numbers)
        found.append((pairs // size, pairs % size))
    return found
