"""`bleu`: agreement with nltk and sacrebleu, clipping, brevity, what no match counts as, and time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu, sentence_bleu
from sacrebleu.metrics import BLEU as SacreBLEU

from seqgan_env.measures.bleu import BLEU, Smoothing, self_bleu, self_bleu_by_order
from tests.marks import examples

pytestmark = pytest.mark.filterwarnings(r"ignore:\s*The hypothesis contains 0 counts")


def matched_orders_alone(precisions: list[Any], **_: Any) -> list[Any]:
    """What nltk did up to 3.2 without a smoothing function."""
    return [precision if precision.numerator else 1 for precision in precisions]


NLTK: dict[Smoothing, Callable | None] = {
    "none": None,
    "epsilon": SmoothingFunction().method1,
    "skip": matched_orders_alone,
}


@dataclass
class Case:
    """Few tokens and short sequences, so that n-grams repeat, match, and are longer than a sequence."""

    vocab_size: int
    max_order: int
    references: list[list[int]]
    hypotheses: list[list[int]]

    @property
    def weights(self) -> tuple[float, ...]:
        return (1 / self.max_order,) * self.max_order

    def bleu(self, smoothing: Smoothing = "none") -> BLEU:
        return BLEU(padded(self.references, self.vocab_size), self.vocab_size, self.max_order, smoothing)

    def padded_hypotheses(self) -> np.ndarray:
        return padded(self.hypotheses, self.vocab_size)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    vocab_size, max_order = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    sequences = st.lists(st.lists(st.integers(0, vocab_size - 1), max_size=9), min_size=1, max_size=6)
    return Case(vocab_size, max_order, draw(sequences), draw(sequences))


def padded(sequences: list[list[int]], pad: int) -> np.ndarray:
    """(R, T) int64, T one more than the longest."""
    length = max(map(len, sequences)) + 1
    return np.array([[*sequence, *[pad] * (length - len(sequence))] for sequence in sequences], dtype=np.int64)


def text(sequence: list[int]) -> str:
    return " ".join(f"t{token}" for token in sequence)


def sacrebleu_corpus(case: Case, smoothing: str) -> float:
    metric = SacreBLEU(tokenize="none", smooth_method=smoothing, max_ngram_order=case.max_order, force=True)
    references = [[text(reference)] * len(case.hypotheses) for reference in case.references]
    return metric.corpus_score([text(hypothesis) for hypothesis in case.hypotheses], references).score / 100


# Agreement with nltk and sacrebleu.


@pytest.mark.parametrize("smoothing", ["none", "epsilon", "skip"])
@given(case=cases())
@examples(150)
def test_sentence_bleu_is_nltks(case: Case, smoothing: Smoothing) -> None:
    expected = [
        sentence_bleu(case.references, hypothesis, case.weights, NLTK[smoothing]) for hypothesis in case.hypotheses
    ]
    np.testing.assert_allclose(case.bleu(smoothing).sentences(case.padded_hypotheses()), expected, rtol=0, atol=1e-9)


@given(case=cases())
@examples(200)
def test_corpus_bleu_is_sacrebleus(case: Case) -> None:
    got = case.bleu().corpus(case.padded_hypotheses())
    assert got == pytest.approx(sacrebleu_corpus(case, "none"), rel=0, abs=1e-9)
    if max(map(len, case.hypotheses)) >= case.max_order:  # where no hypothesis has an n-gram, sacrebleu smooths nothing
        got = case.bleu("epsilon").corpus(case.padded_hypotheses())
        assert got == pytest.approx(sacrebleu_corpus(case, "floor"), rel=0, abs=1e-9)


@given(case=cases())
@examples(200)
def test_corpus_bleu_is_nltks_where_every_hypothesis_has_an_n_gram(case: Case) -> None:
    case.hypotheses = [hypothesis + [0] * (case.max_order - len(hypothesis)) for hypothesis in case.hypotheses]
    got = case.bleu().corpus(case.padded_hypotheses())
    expected = corpus_bleu([case.references] * len(case.hypotheses), case.hypotheses, case.weights)
    assert got == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize("smoothing", ["none", "epsilon", "skip"])
@given(case=cases())
@examples(100)
def test_self_bleu_is_nltks_sentence_bleu_against_all_others(case: Case, smoothing: Smoothing) -> None:
    sequences = case.hypotheses + case.references  # at least two
    expected = [
        sentence_bleu(sequences[:i] + sequences[i + 1 :], sequence, case.weights, NLTK[smoothing])
        for i, sequence in enumerate(sequences)
    ]
    got = self_bleu(padded(sequences, case.vocab_size), case.vocab_size, case.max_order, smoothing)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)


def test_nltk_agrees_on_sequences_of_the_papers_size() -> None:
    """V = 5,000 and T = 20, with a token distribution that makes n-grams of all orders match."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 5001) ** 1.5
    references, hypotheses = (rng.choice(5000, (n, 20), p=shares / shares.sum()) for n in (200, 50))
    got = BLEU(references, 5000, 4, "epsilon").sentences(hypotheses)
    expected = [
        sentence_bleu(references.tolist(), hypothesis, smoothing_function=SmoothingFunction().method1)
        for hypothesis in hypotheses.tolist()
    ]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)
    assert (BLEU(references, 5000, 4).sentences(hypotheses) > 0).any()


def test_the_example_of_nltks_documentation_keeps_its_score() -> None:
    sentences = [
        "It is a guide to action that ensures that the military will forever heed Party commands",
        "It is the guiding principle which guarantees the military forces always being under the command of the Party",
        "It is the practical guide for the army always to heed the directions of the party",
        "It is a guide to action which ensures that the military always obeys the commands of the party",
    ]
    words = sorted({word for sentence in sentences for word in sentence.split()})
    ids = [[words.index(word) for word in sentence.split()] for sentence in sentences]
    bleu = BLEU(padded(ids[:3], len(words)), len(words))
    assert bleu.sentences([ids[3]]) == pytest.approx([0.5045666840058485])
    assert bleu.corpus([ids[3]]) == pytest.approx(0.5045666840058485)


# By hand. V = 4: PAD is 4.

REFERENCES = [[0, 1, 2, 4, 4], [0, 0, 4, 4, 4]]


@pytest.mark.parametrize(
    ("hypothesis", "max_order", "smoothing", "expected"),
    [
        ([0, 1, 2, 4, 4], 3, "none", 1.0),
        ([0, 0, 4, 4, 4], 2, "none", 1.0),
        ([0, 0, 0, 4, 4], 1, "none", 2 / 3),  # the second reference has token 0 twice, and none has it three times
        ([0, 0, 1, 4, 4], 2, "none", 1.0),  # its bigrams stand in different references
        ([1, 1, 1, 4, 4], 1, "none", 1 / 3),
        ([2, 1, 0, 4, 4], 2, "none", 0.0),
        ([2, 1, 0, 4, 4], 3, "epsilon", (1 * 0.1 / 2 * 0.1 / 1) ** (1 / 3)),
        ([2, 1, 0, 4, 4], 3, "skip", 1.0),
        ([0, 1, 0, 4, 4], 3, "skip", (1 * 1 / 2) ** (1 / 3)),  # a match more, and a lower score
        ([0, 4, 4, 4, 4], 1, "none", np.exp(1 - 2 / 1)),  # brevity, against the closest length 2
        ([0, 4, 4, 4, 4], 2, "none", 0.0),
        ([0, 4, 4, 4, 4], 2, "epsilon", 0.1**0.5 * np.exp(1 - 2 / 1)),  # order 2: one n-gram that does not match
        ([3, 3, 3, 4, 4], 2, "epsilon", 0.0),  # no token in common
        ([3, 3, 3, 4, 4], 2, "skip", 0.0),
        ([4, 4, 4, 4, 4], 2, "epsilon", 0.0),  # empty
        ([0, 1, 2, 3, 3], 1, "none", 3 / 5),  # longer than all: no reward for it, and no penalty
    ],
)
def test_scores_by_hand(hypothesis: list[int], max_order: int, smoothing: Smoothing, expected: float) -> None:
    bleu = BLEU(REFERENCES, 4, max_order, smoothing)
    assert bleu.sentences([hypothesis]) == pytest.approx([expected], abs=1e-15)
    assert bleu.corpus([hypothesis]) == pytest.approx(expected, abs=1e-15)


@pytest.mark.filterwarnings("error")
def test_an_order_without_a_match_is_scored_without_a_warning() -> None:
    assert BLEU(REFERENCES, 4, 2).sentences([[2, 1, 0, 4, 4]]).tolist() == [0.0]


def test_of_two_reference_lengths_as_close_the_shorter_counts() -> None:
    assert BLEU([[0, 4, 4], [0, 0, 0]], 4, 1).sentences([[0, 0, 4]]) == pytest.approx([1.0])
    assert BLEU([[4, 4, 4], [0, 0, 0]], 4, 1).sentences([[0, 0, 4]]) == pytest.approx([np.exp(1 - 3 / 2)])


def test_corpus_bleu_sums_before_it_divides() -> None:
    bleu = BLEU(REFERENCES, 4, 1)
    hypotheses = [[0, 1, 2, 4, 4], [3, 4, 4, 4, 4]]
    assert bleu.sentences(hypotheses).tolist() == [1.0, 0.0]
    assert bleu.corpus(hypotheses) == pytest.approx(np.exp(1 - 5 / 4) * 3 / 4)  # lengths 3 + 1 against 3 + 2


def test_a_hypothesis_score_does_not_depend_on_the_others_in_its_batch() -> None:
    rng = np.random.default_rng(0)
    bleu = BLEU(rng.integers(0, 5, (30, 6)), 5, 3, "epsilon")
    hypotheses = rng.integers(0, 5, (40, 6))
    alone = [bleu.sentences(hypothesis[None])[0] for hypothesis in hypotheses]
    assert bleu.sentences(hypotheses).tolist() == alone


def test_equal_n_grams_of_large_ids_are_never_confused() -> None:
    """With V = 2^31 four tokens do not fit a 64-bit key; ranks do."""
    big = 2**31
    references = [[big - 1, big - 2, big - 3, big - 4]]
    bleu = BLEU(references, big, 4)
    assert bleu.sentences([references[0], [big - 1, big - 2, big - 3, 0]]).tolist() == [1.0, 0.0]


def test_eos_counts_as_a_token_and_pad_does_not() -> None:
    """Token 3 ends a sequence."""
    bleu = BLEU([[0, 3, 4, 4]], 4, 2)
    assert bleu.sentences([[0, 3, 4, 4], [0, 1, 3, 4]]).tolist() == pytest.approx([1.0, 0.0])
    assert bleu.sentences([[0, 3, 4, 4, 4, 4], [0, 3, 4, 4, 4, 4]]).tolist() == [1.0, 1.0]


def test_duplicates_have_self_bleu_one_and_strangers_zero() -> None:
    assert self_bleu([[0, 1, 2], [0, 1, 2]], 8, 3).tolist() == pytest.approx([1.0, 1.0])
    assert self_bleu([[0, 1, 2], [3, 4, 5]], 8, 3, "epsilon").tolist() == [0.0, 0.0]
    # Token 0 occurs three times in the first alone: there the second largest count, 1, is the clip.
    assert self_bleu([[0, 0, 0], [0, 1, 2], [3, 4, 5]], 8, 1) == pytest.approx([1 / 3, 1 / 3, 0])


def test_self_bleu_compares_lengths_with_the_others() -> None:
    assert self_bleu([[0, 0, 4], [0, 0, 0]], 4, 1) == pytest.approx([np.exp(1 - 3 / 2), 2 / 3])


@pytest.mark.parametrize("smoothing", ["none", "epsilon", "skip"])
@given(case=cases())
@examples(25)
def test_the_scores_of_each_order_are_those_of_a_bleu_that_ends_there(case: Case, smoothing: Smoothing) -> None:
    hypotheses = case.padded_hypotheses()
    by_order = case.bleu(smoothing).sentences_by_order(hypotheses)
    sequences = padded(case.hypotheses + case.references, case.vocab_size)
    self_by_order = self_bleu_by_order(sequences, case.vocab_size, case.max_order, smoothing)
    for order in range(1, case.max_order + 1):
        bleu = BLEU(padded(case.references, case.vocab_size), case.vocab_size, order, smoothing)
        assert by_order[:, order - 1].tolist() == bleu.sentences(hypotheses).tolist()
        alone = self_bleu(sequences, case.vocab_size, order, smoothing)
        assert self_by_order[:, order - 1].tolist() == alone.tolist()
    assert by_order.shape == (len(hypotheses), case.max_order)
    assert self_by_order.shape == (len(sequences), case.max_order)


def test_orders_one_to_four_without_smoothing_are_what_counts_unless_asked_otherwise() -> None:
    sequences = np.random.default_rng(0).integers(0, 3, (8, 9))
    expected = self_bleu(sequences, 3, 4, "none")
    assert 0 < (expected > 0).sum() < 8  # smoothing would show
    assert self_bleu(sequences, 3).tolist() == expected.tolist()
    assert self_bleu_by_order(sequences, 3).tolist() == self_bleu_by_order(sequences, 3, 4, "none").tolist()
    four = BLEU(sequences[:4], 3, 4, "none").sentences(sequences[4:])
    assert BLEU(sequences[:4], 3).sentences(sequences[4:]).tolist() == four.tolist()


# What is refused, and time.


@pytest.mark.parametrize(
    ("hypotheses", "error", "message"),
    [
        ([[0, 4, 1]], ValueError, r"hypotheses\[0\] = \[0, 4, 1\] has tokens after PAD"),
        ([[0, 1, 4], [0, 4, 1]], ValueError, r"hypotheses\[1\] = \[0, 4, 1\] has tokens after PAD"),
        ([[0, 5]], ValueError, r"hypotheses has tokens from 0 to 5; expected 0\.\.3 or PAD 4"),
        ([[-1, 0]], ValueError, "hypotheses has tokens from -1 to 0"),
        ([0, 1], ValueError, r"hypotheses has shape \(2,\); expected \(R, T\)"),
        ([[0.0, 1.0]], TypeError, "hypotheses has dtype float64; expected integer token ids"),
        ([[True]], TypeError, "hypotheses has dtype bool"),
    ],
)
def test_what_is_not_a_batch_of_sequences_is_refused(hypotheses: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        BLEU(REFERENCES, 4).sentences(hypotheses)


def test_a_refusal_names_the_argument() -> None:
    bleu, flat = BLEU(REFERENCES, 4), [0, 1]
    for call, name in (
        (bleu.sentences, "hypotheses"),
        (bleu.sentences_by_order, "hypotheses"),
        (bleu.corpus, "hypotheses"),
        (lambda sequences: self_bleu(sequences, 4), "sequences"),
        (lambda sequences: BLEU(sequences, 4), "references"),
    ):
        with pytest.raises(ValueError, match=rf"^{name} has shape \(2,\); expected \(R, T\), padded with 4$"):
            call(flat)


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="references is empty"):
        BLEU(np.zeros((0, 3), dtype=np.int64), 4)
    with pytest.raises(ValueError, match=r"^vocab_size=0 must be at least 1"):
        BLEU(REFERENCES, 0)
    with pytest.raises(ValueError, match="max_order=0 must be at least 1"):
        BLEU(REFERENCES, 4, 0)
    with pytest.raises(ValueError, match=r"smoothing='exp' must be one of \('none', 'epsilon', 'skip'\)"):
        BLEU(REFERENCES, 4, smoothing="exp")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sequences has 1 rows; self-BLEU compares each with others"):
        self_bleu([[0, 1]], 4)
    with pytest.raises(ValueError, match="hypotheses is empty"):
        BLEU(REFERENCES, 4).corpus(np.zeros((0, 5), dtype=np.int64))
    assert BLEU(REFERENCES, 4).sentences(np.zeros((0, 5), dtype=np.int64)).shape == (0,)


def test_two_thousand_sequences_against_ten_thousand_references_take_a_fraction_of_a_second() -> None:
    """About 10 ms, so that BLEU can be a reward; nltk takes minutes."""
    rng = np.random.default_rng(0)
    bleu = BLEU(rng.integers(0, 5000, (10_000, 20)), 5000, 3, "epsilon")
    hypotheses = rng.integers(0, 5000, (2_000, 20))
    start = time.process_time()
    bleu.sentences(hypotheses)
    assert time.process_time() - start < 0.5
