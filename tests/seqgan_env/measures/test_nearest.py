"""`nearest`: likeness by hand, by brute force, and over blocks."""

from __future__ import annotations

import numpy as np
import pytest

from seqgan_env.measures import nearest
from seqgan_env.measures.nearest import nearest_sequences

V, EOS = 9, 8


def plain_likeness(sample: list[int], other: list[int]) -> float:
    """The definition as it reads."""
    shares = []
    for n in range(1, 5):
        own, theirs = ({tuple(row[i : i + n]) for i in range(len(row) - n + 1)} for row in (sample, other))
        if own:
            shares.append(len(own & theirs) / len(own))
    return sum(shares) / len(shares) if shares else 0.0


def test_a_copy_has_likeness_1_and_a_stranger_0() -> None:
    real = np.array([[0, 1, 2, 3], [4, 4, 5, 6]])
    rows, likeness = nearest_sequences([[4, 4, 5, 6], [0, 1, 2, 3], [7, 7, 7, 7]], real, V)
    assert rows.tolist() == [1, 0, 0]
    assert likeness.tolist() == [1.0, 1.0, 0.0]


def test_likeness_by_hand() -> None:
    """Of 0 1 2 3 the sequence 9-free 0 1 2 7 has 3 of 4 tokens, 2 of 3 pairs, 1 of 2 triples and not the whole."""
    _, likeness = nearest_sequences([[0, 1, 2, 3]], [[0, 1, 2, 7]], V)
    assert likeness[0] == pytest.approx((3 / 4 + 2 / 3 + 1 / 2 + 0) / 4)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_it_equals_the_definition_for_sequences_of_any_length_in_blocks_of_any_size(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "_BLOCK", block)
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, 5, size=rng.integers(0, 9)).tolist() for _ in range(60)]
    padded = np.full((60, 9), V)
    for place, one in enumerate(lists):
        padded[place, : len(one) + 1] = [*one, EOS]
    samples, real = lists[:20], lists[20:]
    rows, likeness = nearest_sequences(padded[:20], padded[20:], V, EOS)
    for sample, row, value in zip(samples, rows, likeness, strict=True):
        expected = [plain_likeness(sample, other) for other in real]
        assert value == pytest.approx(max(expected))
        assert row == int(np.argmax(np.round(expected, 12)))


def test_nothing_to_compare_with_is_refused() -> None:
    with pytest.raises(ValueError, match="real is empty"):
        nearest_sequences([[0, 1]], np.zeros((0, 2), dtype=np.int64), V)
