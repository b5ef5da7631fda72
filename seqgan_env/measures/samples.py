"""Compares samples with real sequences: quality, diversity and memory, always together.

BLEU against the whole test set as references (Tables 2-4) rewards only quality: one real sentence, repeated for ever,
scores 1. So there are further measures:
- self-BLEU and distinct-n show lost diversity;
- the Jensen-Shannon divergence of n-gram shares is high both for junk and for repetition;
- copies show which samples, or which of their n-grams, occur in the training set;
- for music, the mean squared error of pitches (Table 4) is given in three pairings, because the paper states none.

In: sequences (R, T) int64, PAD = V after the end. EOS and PAD are always left out: they are not part of the text.
`<unk>`, rests and holds are tokens like any other (two unknown words match), except in the squared error. Out:
`CorpusMetrics`. NLL_test and its exponential, the perplexity, are in `likelihood`.

Distinct-n, self-BLEU, divergence and coverage depend on the number of sequences. So they take as many samples as there
are references (or a given number), the first ones. Held-out real sequences, measured like samples, show the value of
each measure for real data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from seqgan_env.measures.bleu import (
    BLEU,
    FloatArray,
    IntArray,
    Smoothing,
    checked_sequences,
    numbered_ngrams,
    self_bleu_by_order,
)
from seqgan_env.measures.likelihood import Estimate, estimate

BLEU_ORDERS = (2, 3, 4, 5)
DISTINCT_ORDERS = (1, 2, 3, 4)
DIVERGENCE_ORDERS = (1, 2)
MAX_REFERENCES = 10_000
MAX_TRAINING_NGRAM_SEQUENCES = 100_000
_BLOCK = 256  # samples whose distances to all references are in memory at once
_LONGEST = max(BLEU_ORDERS)


@dataclass(frozen=True)
class MelodyMetrics:
    """Mean squared differences of pitch, in semitones squared, averaged over the steps at which both melodies sound.

    The paper gives an MSE but does not say which melodies it compares. None of the three measures quality: compare each
    with its value for real melodies, not with 0.

    Attributes:
        nearest: of each sample to the nearest reference. A melody that stays on one note is near to some reference.
        coverage: of each reference to the nearest sample. It is high if samples lack something that the references
            have.
        random_pair: of each sample to a random reference, in expectation. It depends only on mean and variance of the
            pitch at each step. It is smallest for a melody that stays on the mean pitch.
        silent: share of the samples without any pitch; they are left out of the other three.
    """

    nearest: Estimate
    coverage: Estimate
    random_pair: Estimate
    silent: float


@dataclass(frozen=True)
class CorpusMetrics:
    """Measurements of samples; errors are standard errors over sequences.

    Attributes:
        bleu: order n of `BLEU_ORDERS` -> mean sentence BLEU-n against all references, in [0, 1].
        self_bleu: the same against all other samples. These scores share their references, so the error is only rough.
        distinct: n -> number of different n-grams divided by that of all n-grams, in (0, 1]; NaN if there are none.
        divergence: n -> Jensen-Shannon divergence of the n-gram shares of samples and references, in bits, 0 to 1.
        seen_ngrams: n -> share of the n-grams that occur in the training set; NaN if there are none.
        copied: share of the samples that occur in the training set as a whole.
        unknown: share of the tokens that are <unk>.
        unigram_entropy: entropy of the shares of tokens, in nats.
        length: tokens without EOS.
        melody: for music; None if tokens have no pitch.
        samples: number of measured samples.
        references: number of references.
        compared: number of samples in the measures that depend on this number.
    """

    bleu: dict[int, Estimate]
    self_bleu: dict[int, Estimate]
    distinct: dict[int, float]
    divergence: dict[int, float]
    seen_ngrams: dict[int, float]
    copied: Estimate
    unknown: float
    unigram_entropy: float
    length: Estimate
    melody: MelodyMetrics | None
    samples: int
    references: int
    compared: int

    def columns(self) -> dict[str, float | int]:
        """Name -> value of every mean and standard error, in a fixed order: a line of a CSV."""
        found: dict[str, float | int] = {}
        estimates = {f"bleu{n}": one for n, one in self.bleu.items()}
        estimates |= {f"self_bleu{n}": one for n, one in self.self_bleu.items()}
        estimates |= {"copied": self.copied, "length": self.length}
        if self.melody is not None:
            melody = self.melody
            estimates |= {"mse_nearest": melody.nearest, "mse_coverage": melody.coverage}
            estimates |= {"mse_random_pair": melody.random_pair}
        for name, one in estimates.items():
            found |= {name: one.mean, f"{name}_se": one.standard_error}
        for name, values in (
            ("distinct", self.distinct),
            ("divergence", self.divergence),
            ("seen_ngrams", self.seen_ngrams),
        ):
            found |= {f"{name}{n}": value for n, value in values.items()}
        found |= {"unknown": self.unknown, "unigram_entropy": self.unigram_entropy}
        if self.melody is not None:
            found |= {"silent": self.melody.silent}
        return found | {"samples": self.samples, "references": self.references, "compared": self.compared}


class CorpusReference:
    """Real sequences, prepared once, for the comparison with any number of sample sets.

    Args:
        train: (M, T) int64, PAD after the end; the generator's training sequences.
        test: (K, T) int64, the references.
        vocab_size: V.
        eos_token: this token is left out everywhere; None: no such token.
        unknown_token: <unk>, or None if there is none.
        pitches: (V,) the MIDI note of each token, NaN for tokens without a note (rests, holds, EOS); None if this is
            not music.
        smoothing: of BLEU, see `measures.bleu.Smoothing`. The paper names none. "epsilon" (nltk's method1) is used by
            Texygen and its successors, and separates sequences whose longest n-grams do not match.
        max_references: from a larger test set so many are drawn.
        rng: draws them, and the training sequences whose n-grams are stored (at most `MAX_TRAINING_NGRAM_SEQUENCES`;
            copies are searched in all).

    Raises:
        TypeError, ValueError: if `BLEU` does not accept the sequences, if a set is empty, or if `pitches` does not have
            V entries.
    """

    def __init__(
        self,
        train: npt.ArrayLike | Tensor,
        test: npt.ArrayLike | Tensor,
        vocab_size: int,
        *,
        eos_token: int | None = None,
        unknown_token: int | None = None,
        pitches: Sequence[float] | None = None,
        smoothing: Smoothing = "epsilon",
        max_references: int = MAX_REFERENCES,
        rng: np.random.Generator,
    ) -> None:
        if max_references < 2:
            raise ValueError(f"max_references={max_references} must be at least 2")
        self.vocab_size = vocab_size
        self.eos_token = eos_token
        self.unknown_token = unknown_token
        self.smoothing: Smoothing = smoothing
        self._train = self._text("train", train)
        test = self._text("test", test)
        for name, tokens in (("train", self._train), ("test", test)):
            if not len(tokens):
                raise ValueError(f"{name} is empty; samples are compared with at least one real sequence")
        self.references = _drawn(test, max_references, rng)
        self._bleu = BLEU(self.references, vocab_size, _LONGEST, smoothing)
        self._training_tables: list[IntArray] = []
        learnt = _drawn(self._train, MAX_TRAINING_NGRAM_SEQUENCES, rng)
        for _ in numbered_ngrams(learnt, vocab_size, _LONGEST, self._training_tables):
            pass
        self._pitches: FloatArray | None = None
        if pitches is not None:
            self._pitches = np.asarray(pitches, dtype=np.float64)
            if self._pitches.shape != (vocab_size,):
                raise ValueError(
                    f"pitches has shape {self._pitches.shape}, expected ({vocab_size},): one MIDI note or nan per token"
                )

    def measure(self, samples: npt.ArrayLike | Tensor, compared: int | None = None) -> CorpusMetrics:
        """Measure samples.

        Args:
            samples: (R, T) int64, PAD after the end, in random order.
            compared: how many of them to use in measures that depend on this number; None takes as many as there are
                references, or all if there are fewer.

        Raises:
            TypeError, ValueError: for samples that are not sequences of this vocabulary, for fewer than two samples, or
                for `compared` outside of 2..R.
        """
        tokens = self._text("samples", samples)
        if len(tokens) < 2:
            raise ValueError(
                f"samples has {len(tokens)} rows; self-BLEU compares each with others and needs at least 2"
            )
        compared = min(len(tokens), max(2, len(self.references))) if compared is None else compared
        if not 2 <= compared <= len(tokens):
            raise ValueError(f"compared={compared} must lie in 2..{len(tokens)}, the number of samples")
        few = tokens[:compared]
        bleu = self._bleu.sentences_by_order(tokens)
        self_bleu = self_bleu_by_order(few, self.vocab_size, _LONGEST, self.smoothing)
        return CorpusMetrics(
            bleu={n: estimate(bleu[:, n - 1]) for n in BLEU_ORDERS},
            self_bleu={n: estimate(self_bleu[:, n - 1]) for n in BLEU_ORDERS},
            distinct=distinct_ngrams(few, self.vocab_size),
            divergence=ngram_divergence(few, self.references, self.vocab_size),
            seen_ngrams=self._seen_ngrams(tokens),
            copied=estimate(self._is_copied(tokens).astype(np.float64)),
            unknown=_share(int((tokens == self.unknown_token).sum()), int(self._lengths(tokens).sum())),
            unigram_entropy=_entropy(np.bincount(tokens[tokens < self.vocab_size], minlength=1)),
            length=estimate(self._lengths(tokens).astype(np.float64)),
            melody=None if self._pitches is None else self._melody(tokens, compared, self._pitches),
            samples=len(tokens),
            references=len(self.references),
            compared=compared,
        )

    def _text(self, name: str, sequences: npt.ArrayLike | Tensor) -> IntArray:
        """Sequences (R, T) int64 as text: EOS becomes PAD."""
        array = sequences.cpu().numpy() if isinstance(sequences, Tensor) else sequences
        tokens = checked_sequences(name, array, self.vocab_size)
        return tokens if self.eos_token is None else np.where(tokens == self.eos_token, self.vocab_size, tokens)

    def _lengths(self, tokens: IntArray) -> IntArray:
        lengths: IntArray = (tokens < self.vocab_size).sum(axis=1)
        return lengths

    def _is_copied(self, tokens: IntArray) -> npt.NDArray[np.bool_]:
        """Whether each sample occurs in the training set; rows are compared by hash, then byte by byte."""
        width = max(tokens.shape[1], self._train.shape[1])
        keys = [row.tobytes() for row in _widened(tokens, width, self.vocab_size)]
        wanted = set(keys)
        found: set[bytes] = set()
        for start in range(0, len(self._train), 10_000):  # so that a large training set is not in memory twice
            block = _widened(self._train[start : start + 10_000], width, self.vocab_size)
            found.update(key for row in block if (key := row.tobytes()) in wanted)
        return np.array([key in found for key in keys])

    def _seen_ngrams(self, tokens: IntArray) -> dict[int, float]:
        known = numbered_ngrams(tokens, self.vocab_size, _LONGEST, self._training_tables)
        counts = {n: len(rows) for n, (rows, _) in enumerate(known, 1)}
        lengths = self._lengths(tokens)
        return {n: _share(counts[n], int(np.maximum(lengths - n + 1, 0).sum())) for n in BLEU_ORDERS}

    def _melody(self, tokens: IntArray, compared: int, pitches: FloatArray) -> MelodyMetrics:
        samples, references = melodies(tokens, pitches), melodies(self.references, pitches)
        sounds = ~np.isnan(samples[:, 0]) if samples.shape[1] else np.zeros(len(samples), dtype=bool)
        nearest, random_pair = [], []
        coverage = np.full(len(references), np.inf)
        for start in range(0, len(samples), _BLOCK):
            distances = squared_differences(samples[start : start + _BLOCK], references)
            coverage = np.minimum(coverage, distances[: max(0, compared - start)].min(axis=0, initial=np.inf))
            comparable = np.isfinite(distances)
            nearest.append(distances.min(axis=1))
            with np.errstate(invalid="ignore"):
                random_pair.append(np.where(comparable, distances, 0).sum(axis=1) / comparable.sum(axis=1))
        return MelodyMetrics(
            nearest=_estimate_of_finite(np.concatenate(nearest)),
            coverage=_estimate_of_finite(coverage),
            random_pair=_estimate_of_finite(np.concatenate(random_pair)),
            silent=float(1 - sounds.mean()),
        )


def _estimate_of_finite(values: FloatArray) -> Estimate:
    """The estimate without NaN, the values of silent melodies; NaN if all are silent."""
    finite = values[np.isfinite(values)]
    return estimate(finite) if len(finite) else Estimate(math.nan, math.nan)


# N-grams.


def distinct_ngrams(tokens: IntArray, vocab_size: int) -> dict[int, float]:
    """Distinct-n (Li et al. 2016) for n in `DISTINCT_ORDERS`: different n-grams divided by all n-grams.

    Args:
        tokens: (R, T) int64, PAD = V after the end.
        vocab_size: V.
    """
    tables: list[IntArray] = []
    totals = [len(rows) for rows, _ in numbered_ngrams(tokens, vocab_size, max(DISTINCT_ORDERS), tables)]
    return {n: _share(len(tables[n - 1]) - 1, totals[n - 1]) for n in DISTINCT_ORDERS}


def ngram_divergence(first: IntArray, second: IntArray, vocab_size: int) -> dict[int, float]:
    """Jensen-Shannon divergence of the n-gram shares of two sets, for n in `DIVERGENCE_ORDERS`.

    H((p + q) / 2) - (H(p) + H(q)) / 2 with entropies in bits: 0 if all shares are equal, 1 if no n-gram is in both.
    Two finite samples of one distribution have a value above 0. It is larger for fewer and for longer n-grams.

    Args:
        first: (R, T) int64, PAD = V after the end.
        second: (K, T') int64, PAD = V after the end.
        vocab_size: V.

    Returns:
        n -> bits; NaN if a set has no n-gram.
    """
    width = max(first.shape[1], second.shape[1])
    both = np.concatenate([_widened(part, width, vocab_size) for part in (first, second)])
    found = {}
    for n, (rows, numbers) in enumerate(numbered_ngrams(both, vocab_size, max(DIVERGENCE_ORDERS), []), 1):
        size = int(numbers.max(initial=0)) + 1
        of_first = rows < len(first)
        counts = [np.bincount(numbers[which], minlength=size) for which in (of_first, ~of_first)]
        if n in DIVERGENCE_ORDERS:
            found[n] = _jensen_shannon(*counts)
    return found


def _jensen_shannon(first: IntArray, second: IntArray) -> float:
    """Jensen-Shannon divergence in bits, of two arrays of counts over the same items."""
    if not first.sum() or not second.sum():
        return math.nan
    p, q = first / first.sum(), second / second.sum()
    nats = _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2
    return min(1.0, max(0.0, nats / math.log(2)))  # only rounding can leave the interval


def _entropy(weights: IntArray | FloatArray) -> float:
    """Entropy in nats of shares proportional to `weights`; 0 if there are none."""
    positive = weights[weights > 0]
    shares = positive / positive.sum()
    return float(-(shares * np.log(shares)).sum()) + 0.0  # not -0


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _drawn(tokens: IntArray, most: int, rng: np.random.Generator) -> IntArray:
    """All rows, or at most `most` of them, drawn without replacement, in their original order."""
    if len(tokens) <= most:
        return tokens
    return tokens[np.sort(rng.choice(len(tokens), most, replace=False))]


def _widened(tokens: IntArray, width: int, pad: int) -> IntArray:
    return np.pad(tokens, ((0, 0), (0, width - tokens.shape[1])), constant_values=pad)


# Melodies.


def melodies(tokens: IntArray, pitches: FloatArray) -> FloatArray:
    """Pitch at each step, (R, T) float64; NaN from the end on, and everywhere in a sequence without any pitch.

    A token without a pitch (rest, hold) keeps the pitch before it. Such tokens at the beginning take the first pitch.

    Args:
        tokens: (R, T) int64, PAD = V after the end.
        pitches: (V,) MIDI notes; NaN for tokens without a note.
    """
    sounding = np.append(pitches, np.nan)[tokens]
    has_pitch = ~np.isnan(sounding)
    steps = np.where(has_pitch, np.arange(tokens.shape[1]), 0)
    first = has_pitch.argmax(axis=1)[:, None] if tokens.shape[1] else np.zeros((len(tokens), 1), dtype=np.int64)
    latest = np.maximum(np.maximum.accumulate(steps, axis=1), first)
    carried = np.take_along_axis(sounding, latest, axis=1)
    return np.where(tokens < len(pitches), carried, np.nan)


def squared_differences(first: FloatArray, second: FloatArray) -> FloatArray:
    """Mean squared difference of pitch of every pair over their common steps, (R, K) float64, semitones squared.

    Infinite for a pair without a common step. Pitches are whole numbers, so all sums are exact.

    Args:
        first: (R, T), made by `melodies`.
        second: (K, T'), made by `melodies`.
    """
    width = min(first.shape[1], second.shape[1])
    a, b = np.nan_to_num(first[:, :width]), np.nan_to_num(second[:, :width])
    in_a, in_b = (1.0 - np.isnan(part[:, :width]) for part in (first, second))
    sums = (a * a) @ in_b.T + in_a @ (b * b).T - 2 * (a @ b.T)
    steps = in_a @ in_b.T
    return np.where(steps > 0, sums / np.maximum(steps, 1), np.inf)
