"""For each sample, finds the most similar training sequence, to detect copying.

The similarity is a mean over n = 1 to 4. For each n it is the share of the sample's different n-grams that also occur
in the other sequence. It is 1 if all occur, as in a copy, and 0 if no token is shared.
In: sequences (R, T) int64, PAD = V after the end, in NumPy arrays. Out: for each sample, a row of the training set and
the similarity.
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
    """For each sample, find the most similar real sequence, the first one of several.

    Time grows with the number of samples times the number of real sequences. Memory does not grow with the latter.

    Args:
        samples: (R, T) int64, PAD after the end.
        real: (M, T') int64, PAD after the end.
        vocab_size: V.
        eos_token: this token is left out everywhere, because every sequence has it; None: no such token.

    Returns:
        Rows of `real`, (R,) int64, and the similarity, (R,) float64 in [0, 1]; 0 for a sample without tokens.

    Raises:
        TypeError, ValueError: if there are no real sequences, or if an array is not (R, T) or not of this vocabulary.
    """
    samples, real = checked_sequences("samples", samples, vocab_size), np.asarray(real)
    if not len(real):
        raise ValueError("real is empty; a sample is compared with at least one sequence")
    tables: list[IntArray] = []
    of_samples = _different(_without(eos_token, samples, vocab_size), vocab_size, tables)
    sizes = [np.bincount(rows, minlength=len(samples)) for rows, _ in of_samples]
    orders = np.maximum(sum((size > 0).astype(np.int64) for size in sizes), 1)  # a short sample has no long n-grams
    nearest = np.zeros(len(samples), dtype=np.int64)
    similarity = np.full(len(samples), -1.0)
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
        better = value > similarity
        nearest[better], similarity[better] = best[better] + start, value[better]
    return nearest, similarity


def _without(eos_token: int | None, tokens: IntArray, vocab_size: int) -> IntArray:
    return tokens if eos_token is None else np.where(tokens == eos_token, vocab_size, tokens)


def _different(tokens: IntArray, vocab_size: int, tables: list[IntArray]) -> list[tuple[IntArray, IntArray]]:
    """For each n: row and number of each row's different n-grams in the n-th table, which is made if missing."""
    found = []
    for rows, numbers in numbered_ngrams(tokens, vocab_size, _MAX_ORDER, tables):
        size = int(numbers.max(initial=0)) + 1
        pairs = np.unique(rows * size + numbers)
        found.append((pairs // size, pairs % size))
    return found
