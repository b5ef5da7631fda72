"""`corpus_metrics`: agreement with nltk and with counts by hand, what each measure sees and what it does not, time."""

from __future__ import annotations

import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from nltk.util import ngrams
from scipy.spatial.distance import cdist, jensenshannon

from seqgan_env.measures import samples as corpus_metrics
from seqgan_env.measures.bleu import BLEU
from seqgan_env.measures.sample_measures import SampleMeasures
from seqgan_env.measures.samples import (
    BLEU_ORDERS,
    CorpusMetrics,
    CorpusReference,
    distinct_ngrams,
    melodies,
    ngram_divergence,
    squared_differences,
)
from seqgan_env.tasks.task import Split, Task
from tests.marks import examples

V, EOS = 6, 5  # PAD is 6

Sentences = list[list[int]]
sentences = st.lists(st.lists(st.integers(0, 4), max_size=7), min_size=2, max_size=8)


def padded(rows: Sentences, *, end: bool = False, width: int = 9) -> np.ndarray:
    """(R, width) int64; with `end`, EOS after the last token."""
    ended = [[*row, EOS] if end else row for row in rows]
    return np.array([[*row, *[V] * (width - len(row))] for row in ended], dtype=np.int64).reshape(-1, width)


def reference(train: Sentences, test: Sentences, **options: Any) -> CorpusReference:
    options = {"eos_token": EOS, "rng": np.random.default_rng(0)} | options
    return CorpusReference(padded(train, end=True), padded(test, end=True), V, **options)


def close(first: CorpusMetrics, second: CorpusMetrics) -> bool:
    one, two = first.columns(), second.columns()
    return list(one) == list(two) and all(one[name] == pytest.approx(two[name], nan_ok=True) for name in one)


def all_ngrams(rows: Sentences, n: int) -> list[tuple[int, ...]]:
    return [ngram for row in rows for ngram in ngrams(row, n)]


# Agreement with nltk, SciPy and counts.


@given(train=sentences, test=sentences, samples=sentences)
@examples(60)
@pytest.mark.filterwarnings(r"ignore:\s*The hypothesis contains 0 counts")
def test_bleu_and_self_bleu_are_the_means_of_nltks_sentence_bleu(
    train: Sentences, test: Sentences, samples: Sentences
) -> None:
    found = reference(train, test).measure(padded(samples, end=True), compared=len(samples))
    smoothing = SmoothingFunction().method1
    for n in BLEU_ORDERS:
        weights = (1 / n,) * n
        scores = [sentence_bleu(test, sample, weights, smoothing) for sample in samples]
        assert found.bleu[n].mean == pytest.approx(np.mean(scores))
        assert found.bleu[n].standard_error == pytest.approx(np.std(scores, ddof=1) / len(scores) ** 0.5)
        of_others = [
            sentence_bleu(samples[:i] + samples[i + 1 :], sample, weights, smoothing)
            for i, sample in enumerate(samples)
        ]
        assert found.self_bleu[n].mean == pytest.approx(np.mean(of_others))


@given(train=sentences, test=sentences, samples=sentences)
@examples(60)
def test_n_grams_are_counted_as_nltk_and_a_counter_count_them(
    train: Sentences, test: Sentences, samples: Sentences
) -> None:
    found = reference(train, test).measure(padded(samples, end=True), compared=len(samples))
    for n, share in found.distinct.items():
        own = all_ngrams(samples, n)
        assert share == pytest.approx(len(set(own)) / len(own) if own else math.nan, nan_ok=True)
    for n, share in found.seen_ngrams.items():
        own, learnt = all_ngrams(samples, n), set(all_ngrams(train, n))
        expected = sum(ngram in learnt for ngram in own) / len(own) if own else math.nan
        assert share == pytest.approx(expected, nan_ok=True)
    for n, divergence in found.divergence.items():
        counts = [Counter(all_ngrams(rows, n)) for rows in (samples, test)]
        shares = [[one[ngram] for ngram in counts[0] | counts[1]] for one in counts]
        expected = jensenshannon(*shares, base=2) ** 2 if all(map(sum, shares)) else math.nan  # its square root
        assert divergence == pytest.approx(expected, nan_ok=True, abs=1e-12)
    assert found.copied.mean == pytest.approx(np.mean([sample in train for sample in samples]))
    assert found.length.mean == pytest.approx(np.mean([len(sample) for sample in samples]))
    shares = np.array(list(Counter(token for sample in samples for token in sample).values()), dtype=float)
    shares /= shares.sum()
    assert found.unigram_entropy == pytest.approx(-(shares * np.log(shares)).sum(), abs=1e-12)


@given(train=sentences, test=sentences, samples=sentences, seed=st.integers(0, 99))
@examples(60)
def test_order_pads_and_eos_change_nothing(train: Sentences, test: Sentences, samples: Sentences, seed: int) -> None:
    found = reference(train, test).measure(padded(samples, end=True), compared=len(samples))
    rng = np.random.default_rng(seed)
    shuffled = [[rows[i] for i in rng.permutation(len(rows))] for rows in (train, test, samples)]
    again = CorpusReference(padded(shuffled[0], width=12), padded(shuffled[1], width=8), V, rng=rng)
    assert close(again.measure(padded(shuffled[2], width=10), compared=len(samples)), found)


@given(tokens=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=6))
@examples(50)
def test_divergence_is_zero_for_equal_shares_symmetric_and_one_for_strangers(tokens: Sentences) -> None:
    some, twice, strangers = padded(tokens), padded(tokens * 2), padded([[5] * 3])
    assert ngram_divergence(some, twice, V)[1] == pytest.approx(0.0, abs=1e-12)
    assert ngram_divergence(some, strangers, V)[1] == pytest.approx(1.0)
    other = padded([[0, 1, 2]])
    assert ngram_divergence(some, other, V)[1] == pytest.approx(ngram_divergence(other, some, V)[1])


def test_divergence_by_hand() -> None:
    """Shares (1/2, 1/2) and (1, 0): 0.311 bits."""
    expected = (2 - 0.75 * math.log2(3)) - 0.5
    assert ngram_divergence(padded([[0, 1]]), padded([[0], [0]]), V)[1] == pytest.approx(expected)
    assert math.isnan(ngram_divergence(padded([[0, 1]]), padded([[0], [0]]), V)[2])


def test_distinct_n_by_hand() -> None:
    assert distinct_ngrams(padded([[0, 1, 0, 1], [0, 1]]), V) == {1: 2 / 6, 2: 2 / 4, 3: 2 / 2, 4: 1.0}


def test_a_copy_is_a_whole_sequence_and_nothing_less() -> None:
    found = reference([[0, 1, 2], [3]], [[0]]).measure(padded([[0, 1, 2], [0, 1], [3, 3], [3], []], end=True))
    assert found.copied.mean == pytest.approx(2 / 5)


def test_unknown_words_are_counted() -> None:
    found = reference([[0, 1]], [[0]], unknown_token=4).measure(padded([[4, 1, 4], [0, 4]], end=True))
    assert found.unknown == 3 / 5
    assert reference([[0, 1]], [[0]]).measure(padded([[4, 1], [0]], end=True)).unknown == 0


def test_orders_of_bleu_are_those_of_separate_scores() -> None:
    rng = np.random.default_rng(0)
    references, hypotheses = rng.integers(0, 4, (20, 7)), rng.integers(0, 4, (30, 7))
    by_order = BLEU(references, 4, 5, "epsilon").sentences_by_order(hypotheses)
    for n in range(1, 6):
        assert by_order[:, n - 1].tolist() == BLEU(references, 4, n, "epsilon").sentences(hypotheses).tolist()


# What the measures see.


def test_repeating_one_real_sentence_has_the_best_bleu_and_every_other_measure_tells() -> None:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 5, (300, 7)).tolist()
    known = reference(real[:100], real[100:200])
    collapsed = known.measure(padded([real[100]] * 100, end=True))
    honest = known.measure(padded(real[200:], end=True))
    assert collapsed.bleu[5].mean == pytest.approx(1.0)
    assert honest.bleu[5].mean < 0.8
    assert collapsed.self_bleu[5].mean == pytest.approx(1.0)
    assert honest.self_bleu[5].mean < 0.8
    for n in (1, 2):
        assert collapsed.divergence[n] > honest.divergence[n]
    assert collapsed.distinct[2] < honest.distinct[2]
    assert collapsed.unigram_entropy < honest.unigram_entropy


def test_what_depends_on_the_number_takes_as_many_samples_as_references() -> None:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 5, (50, 7)).tolist()
    known = reference(real, real[:10])
    many = known.measure(padded(real, end=True))
    assert (many.samples, many.references, many.compared) == (50, 10, 10)
    few = known.measure(padded(real[:10], end=True))
    assert (many.self_bleu, many.distinct, many.divergence) == (few.self_bleu, few.distinct, few.divergence)
    assert many.bleu != few.bleu
    assert known.measure(padded(real, end=True), compared=20).compared == 20


def test_a_large_test_set_is_drawn_from_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = [[a, b, c, d] for a in range(5) for b in range(5) for c in range(5) for d in range(5)]
    options = {"max_references": 30}
    drawn = [reference(real, real, **options, rng=np.random.default_rng(seed)).references for seed in (0, 0, 1)]
    assert drawn[0].shape == (30, 9)
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert len({tuple(row) for row in drawn[0].tolist()}) == 30
    monkeypatch.setattr(corpus_metrics, "MAX_TRAINING_NGRAM_SEQUENCES", 20)
    found = reference(real, real).measure(padded(real, end=True))
    assert found.copied.mean == 1.0  # copies are looked for in all
    assert found.seen_ngrams[4] == pytest.approx(20 / 625)


def test_columns_name_every_mean_with_its_error() -> None:
    columns = reference([[0, 1]], [[0, 1], [1]]).measure(padded([[0, 1], [1, 0]])).columns()
    for name in ("bleu2", "bleu5", "self_bleu2", "self_bleu5", "copied", "length"):
        assert {name, f"{name}_se"} <= set(columns)
    assert {"distinct1", "distinct4", "divergence1", "divergence2", "seen_ngrams2", "unigram_entropy"} <= set(columns)
    assert "mse_nearest" not in columns
    assert (columns["samples"], columns["references"], columns["compared"]) == (2, 2, 2)


def test_a_task_is_measured_with_its_own_splits_and_end() -> None:
    splits: dict[Split, Sentences] = {"train": [[0, 1]], "validation": [[2]], "test": [[0, 2], [1]]}

    def draw(split: Split) -> torch.Tensor:
        return torch.from_numpy(padded(splits[split], end=True))

    task = Task("words", V, 9, draw, eos_token=EOS)
    samples = torch.from_numpy(padded([[0, 1], [0, 2], [4]], end=True))
    found = SampleMeasures(task).reference.measure(samples)
    assert close(found, reference(splits["train"], splits["test"]).measure(samples))
    assert found.copied.mean == pytest.approx(1 / 3)


# Melodies. Tokens 0 to 3 are notes, 4 is a hold or rest, 5 ends.

NAN = math.nan
PITCHES = (60.0, 62.0, 64.0, 72.0, NAN, NAN)


def test_a_melody_holds_its_pitch_and_ends_where_it_ends() -> None:
    tokens = padded([[4, 1, 4, 4, 2], [0], [4, 4], []], width=6)
    expected = [[62, 62, 62, 62, 64, NAN], [60, *[NAN] * 5], [NAN] * 6, [NAN] * 6]
    np.testing.assert_array_equal(melodies(tokens, np.array(PITCHES)), expected)


def test_squared_differences_are_scipys_where_all_have_one_length() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(40, 90, (n, 32)).astype(np.float64) for n in (50, 40))
    expected = cdist(first, second, "sqeuclidean") / 32
    np.testing.assert_allclose(squared_differences(first, second), expected, rtol=1e-14)


def test_melodies_are_compared_where_both_sound() -> None:
    first = np.array([[60.0, 62, NAN], [NAN, NAN, NAN]])
    second = np.array([[61.0, 60, 50, 50]])
    assert squared_differences(first, second).tolist() == [[(1 + 4) / 2], [math.inf]]


def test_the_three_pairings_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances: sample 0 is (0, 16), sample 1 is (4, 4), sample 2 is (16, 0) from the references; the fourth rests."""
    monkeypatch.setattr(corpus_metrics, "_BLOCK", 2)
    known = reference([[0]], [[0, 0], [2, 2]], pitches=PITCHES)
    found = known.measure(padded([[0, 0], [1, 1], [2, 2], [4, 4]], end=True), compared=2).melody
    assert found is not None
    assert found.nearest.mean == pytest.approx((0 + 4 + 0) / 3)
    assert found.coverage.mean == pytest.approx((0 + 4) / 2)  # the third sample is not among those compared
    assert found.random_pair.mean == pytest.approx((8 + 4 + 8) / 3)
    assert found.silent == 0.25


def test_samples_that_are_all_silent_have_no_error_rather_than_none() -> None:
    found = reference([[0]], [[0]], pitches=PITCHES).measure(padded([[4], []], end=True)).melody
    assert found is not None
    assert found.silent == 1.0
    assert all(math.isnan(one.mean) for one in (found.nearest, found.coverage, found.random_pair))


def test_a_monotone_beats_real_melodies_in_two_of_the_three_pairings_and_loses_in_coverage() -> None:
    """Why no pairing stands alone: holding one note is nearer to random melodies than they are to each other."""
    rng = np.random.default_rng(0)
    real = rng.choice(4, (600, 7)).tolist()
    known = reference(real[:200], real[200:400], pitches=PITCHES)
    held, honest = (known.measure(padded(rows, end=True)).melody for rows in ([[2] * 7] * 200, real[400:]))
    assert held is not None
    assert honest is not None
    assert held.random_pair.mean < honest.random_pair.mean
    assert held.coverage.mean > honest.coverage.mean


# What is refused, and time.


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: reference([], [[0]]), ValueError, "train is empty; samples are compared with at least one"),
        (lambda: reference([[0]], []), ValueError, "test is empty"),
        (lambda: reference([[0]], [[0]], max_references=1), ValueError, "max_references=1 must be at least 2"),
        (lambda: reference([[0]], [[0]], pitches=(60.0,)), ValueError, r"pitches has shape \(1,\), expected \(6,\)"),
        (lambda: reference([[0]], [[0]]).measure(padded([[0]])), ValueError, "samples has 1 rows; self-BLEU"),
        (lambda: reference([[0]], [[0]]).measure([[0, 7], [0, 0]]), ValueError, "samples has tokens from 0 to 7"),
        (lambda: reference([[0]], [[0]]).measure([[0.5], [1.0]]), TypeError, "samples has dtype float64"),
        (
            lambda: reference([[0]], [[0]]).measure(padded([[0], [1]]), compared=3),
            ValueError,
            r"compared=3 must lie in 2\.\.2, the number of samples",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_ten_thousand_samples_against_1600_references_take_seconds() -> None:
    """About one second; nltk takes hours."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 5001)
    tokens = rng.choice(5000, (26_000, 20), p=shares / shares.sum())
    start = time.process_time()
    CorpusReference(tokens[:14_400], tokens[14_400:16_000], 5000, rng=rng).measure(tokens[16_000:])
    assert time.process_time() - start < 10


def test_real_quatrains_have_the_bleu_that_the_page_tells(data_folder: Path) -> None:
    """Training quatrains as samples: the paper's .746 belongs to another split."""
    folder = data_folder / "corpora" / "chinese_poems"
    if not folder.is_dir():
        pytest.skip(f"no quatrains at {folder}")
    lines = [
        [line.split() for line in (folder / name).read_text(encoding="utf-8").splitlines()]
        for name in ("train.txt", "test.txt")
    ]
    ids = {token: i for i, token in enumerate(sorted({token for part in lines for line in part for token in line}))}
    train, test = (np.array([[ids[token] for token in line] for line in part]) for part in lines)
    order = np.random.default_rng(0).permutation(len(train))
    found = CorpusReference(train, test, len(ids), rng=np.random.default_rng(0)).measure(train[order][:2000])
    assert found.bleu[2].mean == pytest.approx(0.465, abs=0.01)
