"""BLEU on token ids (Papineni et al. 2002), fast enough for a reward; and self-BLEU, which shows lost diversity.

BLEU-N = BP * (p_1 * ... * p_N)^(1/N). p_n is the share of a hypothesis' n-grams that occur in some reference. Each
n-gram counts at most as often as in the reference that has it most often. BP = min(1, exp(1 - r / c)) for c tokens and
the closest reference length r (the shorter of two equally close ones).
In: sequences (R, T) int64, PAD = V after the end, in NumPy arrays; EOS is a token like any other. Out: scores in [0,
1].
How: an n-gram's number is the rank of (number of its first n - 1 tokens, last token) among those of the references. So
numbers are exact and fit 64 bits for any n. One binary search per order finds the numbers of a whole batch. An n-gram
with an unknown beginning is dropped before the search.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

Smoothing = Literal["none", "epsilon", "skip"]
"""How an order without any match is counted.

"none": 0, and so the score is 0 (BLEU's definition; sacrebleu's "none", nltk's default since 3.3). "epsilon": 0.1
matches (nltk's method1; sacrebleu's "floor"). "skip": the order is left out, as a factor of 1 (nltk's default up to
3.2, and so also in the authors' PG-BLEU; the first match in a new order then lowers the score). Without any matching
token a score is 0 for every smoothing.
"""

_EPSILON = 0.1  # matches; the constant of nltk and sacrebleu


@dataclass(frozen=True)
class _Clip:
    """How often each of U n-grams may match.

    Attributes:
        most: (U,) the largest count in one reference.
        owner: (U,) the reference with this count.
        second: (U,) the second largest count; 0 if no other reference has the n-gram.
    """

    most: IntArray
    owner: IntArray
    second: IntArray


@dataclass(frozen=True)
class _Statistics:
    """The counts for BLEU, for R hypotheses and N orders.

    Attributes:
        matches: (R, N) number of n-grams that occur in a reference, clipped.
        totals: (R, N) number of all n-grams.
        lengths: (R,) tokens.
        closest: (R,) tokens of the reference with the closest length.
    """

    matches: IntArray
    totals: IntArray
    lengths: IntArray
    closest: IntArray

    def up_to(self, order: int) -> _Statistics:
        """The same without the orders above `order`."""
        return _Statistics(self.matches[:, :order], self.totals[:, :order], self.lengths, self.closest)


class BLEU:
    """BLEU against one set of references, which is prepared once; orders 1 to N have equal weights.

    Args:
        references: (M, T) int64, PAD after the end.
        vocab_size: V.
        max_order: N, the longest n-grams that count.
        smoothing: see `Smoothing`.

    Raises:
        TypeError: if sequences are not integers.
        ValueError: if there are no references, tokens lie outside 0..V or follow PAD, or another argument is out of
            range.
    """

    def __init__(
        self, references: npt.ArrayLike, vocab_size: int, max_order: int = 4, smoothing: Smoothing = "none"
    ) -> None:
        for name, value in (("vocab_size", vocab_size), ("max_order", max_order)):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        if smoothing not in get_args(Smoothing):
            raise ValueError(f"smoothing={smoothing!r} must be one of {get_args(Smoothing)}")
        self.vocab_size = vocab_size
        self.max_order = max_order
        self.smoothing: Smoothing = smoothing
        tokens = checked_sequences("references", references, vocab_size)
        if not len(tokens):
            raise ValueError("references is empty; BLEU needs at least one reference")
        self._lengths = (tokens < vocab_size).sum(axis=1)
        self._tables: list[IntArray] = []
        self._clips = [
            _clip(rows, numbers) for rows, numbers in numbered_ngrams(tokens, vocab_size, max_order, self._tables)
        ]

    def sentences(self, hypotheses: npt.ArrayLike) -> FloatArray:
        """Sentence BLEU of each hypothesis, as nltk's `sentence_bleu`; an empty hypothesis scores 0.

        Args:
            hypotheses: (R, T) int64, PAD after the end; T may differ from that of the references. For a hypothesis with
                fewer than n tokens, order n counts as one n-gram without a match.

        Returns:
            (R,) float64 in [0, 1].
        """
        return self._score(self._statistics(checked_sequences("hypotheses", hypotheses, self.vocab_size)))

    def sentences_by_order(self, hypotheses: npt.ArrayLike) -> FloatArray:
        """Sentence BLEU-1 to BLEU-N of each hypothesis, from one count of its n-grams.

        Args:
            hypotheses: (R, T) int64, PAD after the end.

        Returns:
            (R, N) float64 in [0, 1]; the last column equals `sentences`.
        """
        return self._by_order(self._statistics(checked_sequences("hypotheses", hypotheses, self.vocab_size)))

    def corpus(self, hypotheses: npt.ArrayLike) -> float:
        """Corpus BLEU: matches, n-grams and lengths are summed over the hypotheses before the division.

        It equals sacrebleu's `corpus_bleu` (divided by 100). It also equals nltk's if no hypothesis has fewer than N
        tokens: for a shorter one nltk counts an n-gram that does not exist.

        Args:
            hypotheses: (R, T) int64, PAD after the end.

        Raises:
            ValueError: if there are no hypotheses.
        """
        tokens = checked_sequences("hypotheses", hypotheses, self.vocab_size)
        if not len(tokens):
            raise ValueError("hypotheses is empty; corpus BLEU needs at least one hypothesis")
        s = self._statistics(tokens)
        summed = [part.sum(axis=0, keepdims=True) for part in (s.matches, s.totals, s.lengths, s.closest)]
        return float(self._score(_Statistics(*summed))[0])

    def _statistics(self, tokens: IntArray, leave_own_out: bool = False) -> _Statistics:
        """Matches and lengths. With `leave_own_out`, hypothesis i is reference i and is not matched with itself."""
        lengths = (tokens < self.vocab_size).sum(axis=1)
        matches = np.empty((len(tokens), self.max_order), dtype=np.int64)
        ngrams = numbered_ngrams(tokens, self.vocab_size, self.max_order, self._tables)
        for n, (clip, (rows, numbers)) in enumerate(zip(self._clips, ngrams, strict=True)):
            rows, numbers, counts = _count(rows, numbers)
            most = clip.most[numbers]
            if leave_own_out:
                most = np.where(clip.owner[numbers] == rows, clip.second[numbers], most)
            matches[:, n] = np.bincount(rows, np.minimum(counts, most), minlength=len(tokens))
        totals = np.maximum(lengths[:, None] - np.arange(self.max_order), 0)
        return _Statistics(matches, totals, lengths, _closest_lengths(lengths, self._lengths, leave_own_out))

    def _by_order(self, statistics: _Statistics) -> FloatArray:
        """BLEU-1 to BLEU-N of each row of statistics, (R, N) float64."""
        return np.stack([self._score(statistics.up_to(order)) for order in range(1, self.max_order + 1)], axis=1)

    def _score(self, statistics: _Statistics) -> FloatArray:
        """BLEU of each row of statistics, (R,) float64."""
        counts = statistics.matches.astype(np.float64)
        unmatched = counts == 0
        if self.smoothing == "epsilon":
            counts[unmatched] = _EPSILON
        precisions = counts / np.maximum(statistics.totals, 1)
        if self.smoothing == "skip":
            precisions[unmatched] = 1.0
        log_brevity = np.minimum(0.0, 1 - statistics.closest / np.maximum(statistics.lengths, 1))
        with np.errstate(divide="ignore"):  # log 0 = -inf, and its exponential is 0, as it should be
            scores: FloatArray = np.exp(log_brevity + np.log(precisions).mean(axis=1))
        scores[unmatched[:, 0]] = 0.0
        return scores


def self_bleu(
    sequences: npt.ArrayLike, vocab_size: int, max_order: int = 4, smoothing: Smoothing = "none"
) -> FloatArray:
    """Self-BLEU (Zhu et al. 2018): sentence BLEU of each sequence against all others; high if diversity is low.

    The clip needs the largest count among the *other* sequences. This is the largest count of all, or the second
    largest for the sequence that has the largest. So time grows with R, not with its square.

    Args:
        sequences: (R, T) int64, PAD after the end.
        vocab_size: V.
        max_order: N.
        smoothing: see `Smoothing`; Texygen's self-BLEU takes "epsilon".

    Returns:
        (R,) float64; papers usually report the mean.

    Raises:
        TypeError, ValueError: as `BLEU`, and for fewer than two sequences.
    """
    return self_bleu_by_order(sequences, vocab_size, max_order, smoothing)[:, -1]


def self_bleu_by_order(
    sequences: npt.ArrayLike, vocab_size: int, max_order: int = 4, smoothing: Smoothing = "none"
) -> FloatArray:
    """Self-BLEU-1 to self-BLEU-N of each sequence, (R, N) float64; the last column is `self_bleu`."""
    tokens = checked_sequences("sequences", sequences, vocab_size)
    if len(tokens) < 2:
        raise ValueError(f"sequences has {len(tokens)} rows; self-BLEU compares each with others and needs at least 2")
    bleu = BLEU(tokens, vocab_size, max_order, smoothing)
    return bleu._by_order(bleu._statistics(tokens, leave_own_out=True))


def checked_sequences(name: str, sequences: npt.ArrayLike, vocab_size: int) -> IntArray:
    """Check sequences and return them as (R, T) int64.

    Raises:
        TypeError: if they are not integers.
        ValueError: if they are not (R, T), or tokens lie outside 0..V or follow PAD; the message names the argument
            `name`.
    """
    tokens = np.asarray(sequences)
    if tokens.ndim != 2:
        raise ValueError(f"{name} has shape {tokens.shape}; expected (R, T), padded with {vocab_size}")
    if tokens.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {tokens.dtype}; expected integer token ids")
    if tokens.size and not (tokens.min() >= 0 and tokens.max() <= vocab_size):
        raise ValueError(
            f"{name} has tokens from {tokens.min()} to {tokens.max()}; expected 0..{vocab_size - 1} or PAD {vocab_size}"
        )
    padded = tokens == vocab_size
    resumed = (padded[:, :-1] & ~padded[:, 1:]).any(axis=1)
    if resumed.any():
        row = int(np.flatnonzero(resumed)[0])
        raise ValueError(f"{name}[{row}] = {tokens[row].tolist()} has tokens after PAD; PAD comes only after the end")
    return tokens.astype(np.int64)


def numbered_ngrams(
    tokens: IntArray, vocab_size: int, max_order: int, tables: list[IntArray]
) -> Iterator[tuple[IntArray, IntArray]]:
    """For n = 1..N: row and number of each n-gram of the n-th table, in the order of numbers.

    Args:
        tokens: (R, T) int64, PAD = V after the end.
        vocab_size: V.
        max_order: N.
        tables: for each n the (U + 1,) keys V * number of the first n - 1 tokens + last token, in ascending order, and
            then a key that no n-gram has. Missing tables are made of all n-grams of `tokens` and appended.
    """
    width = tokens.shape[1] + 1
    flat = np.pad(tokens, ((0, 0), (0, 1)), constant_values=vocab_size).ravel()  # so that no n-gram crosses rows
    starts = np.arange(flat.size)
    numbers = np.zeros_like(starts)
    for n in range(max_order):
        last = flat[starts + n]
        inside = last < vocab_size
        starts, keys = starts[inside], numbers[inside] * vocab_size + last[inside]
        by_key = np.argsort(keys)  # the search below is several times faster if neighbours search in the same place
        starts, keys = starts[by_key], keys[by_key]
        if len(tables) == n:
            tables.append(np.append(np.unique(keys), np.iinfo(np.int64).max))
        numbers = np.searchsorted(tables[n], keys)
        known = tables[n][numbers] == keys
        starts, numbers = starts[known], numbers[known]
        yield starts // width, numbers


def _count(rows: IntArray, numbers: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Row, number and count of each different n-gram of each row, in the order of rows, then numbers."""
    size = int(numbers.max(initial=0)) + 1
    pairs, counts = np.unique(rows * size + numbers, return_counts=True)
    return pairs // size, pairs % size, counts


def _clip(rows: IntArray, numbers: IntArray) -> _Clip:
    """How often the references, one per row, have each n-gram; every number from 0 to U - 1 occurs."""
    rows, numbers, counts = _count(rows, numbers)
    by_count = np.lexsort((counts, numbers))
    rows, numbers, counts = rows[by_count], numbers[by_count], counts[by_count]
    last = np.flatnonzero(np.diff(numbers, append=-1))  # the largest count of each number
    has_other = np.diff(numbers, prepend=-1)[last] == 0
    return _Clip(counts[last], rows[last], np.where(has_other, counts[last - 1], 0))


def _closest_lengths(lengths: IntArray, reference_lengths: IntArray, leave_own_out: bool) -> IntArray:
    """For each hypothesis the closest reference length, the shorter of two equally close ones, (R,) int64.

    Args:
        lengths: (R,) lengths of the hypotheses.
        reference_lengths: (M,).
        leave_own_out: whether hypothesis i is reference i, so that its own length is left out.
    """
    own, inverse = np.unique(lengths, return_inverse=True)
    available, copies = np.unique(reference_lengths, return_counts=True)
    distances = np.abs(own[:, None] - available).astype(np.float64)
    if leave_own_out:
        distances[(distances == 0) & (copies == 1)] = np.inf
    return available[distances.argmin(axis=1)][inverse]  # of two minima argmin takes the first, the shorter one
