"""`evidence`: tests, intervals, curves and verdicts on numbers that can be worked out by hand."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from agents.studies.evidence import (
    Claim,
    CurveComparison,
    Verdict,
    WelchTest,
    compare_with_curve,
    curve_sentence,
    falling_branch,
    interval,
    level_claim,
    level_verdict,
    order_claim,
    order_verdict,
    over_seeds,
    paired_sentence,
    value_at,
    welch_test,
)

stats = pytest.importorskip("scipy.stats")
NAN = math.nan


def test_mean_and_standard_error_are_over_seeds() -> None:
    found = over_seeds([1.0, 2.0, 3.0])
    assert found.mean == 2
    assert found.standard_error == pytest.approx(1 / math.sqrt(3))
    assert math.isnan(over_seeds([4.0]).standard_error)


def test_the_interval_is_students() -> None:
    """t(0.975) is 4.302653 with two degrees of freedom."""
    half = 4.302653 / math.sqrt(3)
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2 - half, 2 + half), abs=1e-5)
    assert interval([5.0, 5.0]) == (5, 5)


def test_one_seed_bounds_nothing() -> None:
    assert interval([4.0]) == (-math.inf, math.inf)


def test_welchs_test_by_hand() -> None:
    """Means 2 and 5, squared errors 1/3 and 5/3: t = -3 / sqrt(2), degrees 2^2 / ((1/3)^2 / 2 + (5/3)^2 / 3)."""
    test = welch_test([1.0, 2.0, 3.0], [2.0, 4.0, 6.0, 8.0])
    assert test.difference == -3
    assert test.t == pytest.approx(-3 / math.sqrt(2))
    assert test.degrees == pytest.approx(4 / (1 / 18 + 25 / 27))
    assert test.p == pytest.approx(2 * stats.t.cdf(test.t, test.degrees))


def test_welchs_test_agrees_with_scipy(rng: np.random.Generator) -> None:
    for sizes in ((2, 2), (5, 5), (3, 9)):
        first, second = rng.normal(8.7, 0.05, sizes[0]), rng.normal(9.0, 0.01, sizes[1])
        expected = stats.ttest_ind(first, second, equal_var=False)
        assert welch_test(first.tolist(), second.tolist()).p == pytest.approx(expected.pvalue, rel=1e-12)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(("first", "second"), [([1.0], [2.0, 3.0]), ([1.0, 2.0], [3.0]), ([1.0, 1.0], [2.0, 2.0])])
def test_a_test_of_one_seed_or_of_what_does_not_vary_shows_nothing(first: list[float], second: list[float]) -> None:
    test = welch_test(first, second)
    assert test.difference < 0
    assert math.isnan(test.p)
    assert not test.is_lower()


# Verdicts.


@pytest.mark.parametrize(
    ("difference", "p", "alpha", "verdict"),
    [
        (-0.1, 0.049, 0.05, "reproduced"),
        (-0.1, 0.05, 0.05, "not reproduced"),
        (0.1, 0.001, 0.05, "not reproduced"),  # the wrong way round
        (-0.1, NAN, 0.05, "not reproduced"),
        (-0.1, 1e-5, 1e-6, "not reproduced"),
        (-0.1, 9e-7, 1e-6, "reproduced"),
    ],
)
def test_an_order_holds_with_sign_and_p(difference: float, p: float, alpha: float, verdict: Verdict) -> None:
    assert order_verdict(WelchTest(difference, -1.0, 8.0, p), alpha) == verdict


@pytest.mark.parametrize(
    ("values", "paper", "is_headline", "is_authors", "verdict"),
    [
        ([9.0, 9.1], 9.038, False, True, "reproduced"),  # 9.05
        ([9.08, 9.1], 9.038, False, True, "not reproduced"),  # 9.09
        ([8.9, 8.96], 9.038, False, True, "not reproduced"),  # a rival far better than the paper's is not its rival
        ([8.5], 8.736, True, True, "reproduced"),
        ([8.736], 8.736, True, True, "reproduced"),
        ([8.74], 8.736, True, True, "not reproduced"),
        ([8.5], 8.736, True, False, "not specified by the paper"),
        ([8.5], None, False, True, "not specified by the paper"),
    ],
)
def test_a_level_is_judged_within_the_tolerance_and_on_the_authors_oracle_alone(
    values: list[float], paper: float | None, is_headline: bool, is_authors: bool, verdict: Verdict
) -> None:
    assert level_verdict(values, paper, is_headline, is_authors) == verdict


def test_claims_hold_ours_beside_the_papers() -> None:
    values = {"A": [8.0, 8.1, 8.2], "B": [9.0, 9.1, 9.2]}
    p = welch_test(values["A"], values["B"]).p
    assert 1e-6 < p < 0.05
    difference = pytest.approx(-1.0)
    assert order_claim("A", "B", values, paper=-0.3) == Claim("A < B", difference, -0.3, p, "reproduced")
    assert order_claim("A", "B", values, alpha=1e-6) == Claim("A < B (p<1e-6)", difference, None, p, "not reproduced")
    assert order_claim("A", "B", values, is_the_papers=False).verdict == "not specified by the paper"
    assert order_claim("B", "A", values).verdict == "not reproduced"
    assert level_claim("A", values["A"], 8.12, False, True) == Claim(
        "A: level", pytest.approx(8.1), 8.12, None, "reproduced"
    )


# NLL_oracle against NLL_test.


def test_the_falling_branch_begins_at_the_lowest_nll_test() -> None:
    curve = [(7.8, 9.9), (7.6, 9.6), (7.7, 9.3), (7.65, 9.2), (8.0, 9.0)]
    assert falling_branch(curve) == [(7.6, 9.6), (7.7, 9.3), (8.0, 9.0)]
    assert falling_branch(curve[:2]) == [(7.6, 9.6)]


def test_a_curve_is_met_exactly_at_its_points_and_between_them() -> None:
    line = [(7.0, 3.0), (8.0, 2.0), (9.5, 0.5)]
    for x, y in (*line, (7.25, 2.75), (9.0, 1.0)):
        assert value_at(line, x) == pytest.approx(y)


def test_interpolation_of_a_convex_curve_does_not_flatter_what_is_compared() -> None:
    """y = 1 / x from four points: a chord would lie far above it."""
    branch = [(x, 1 / x) for x in (1.0, 2.0, 3.0, 4.0)]
    for x in (1.5, 2.5, 3.5):
        chord = (1 / (x - 0.5) + 1 / (x + 0.5)) / 2
        assert abs(value_at(branch, x) - 1 / x) < 0.6 * (chord - 1 / x)


def test_left_of_a_curve_its_beginning_counts_and_right_of_it_nothing() -> None:
    branch = [(7.0, 3.0), (8.0, 2.0)]
    assert value_at(branch, 6.0) == 3.0
    assert math.isnan(value_at(branch, 8.001))
    assert value_at([(7.0, 3.0)], 7.0) == 3.0


def curves(*heights: float) -> list[list[tuple[float, float]]]:
    """NLL_oracle = 10 - NLL_test + height, one curve a seed, from 7 to 9."""
    return [[(x, 10 - x + height) for x in (7.0, 8.0, 9.0)] for height in heights]


@pytest.mark.parametrize(
    ("points", "place"),
    [
        ([(8.0, 1.7), (8.0, 1.71), (8.0, 1.69)], "below"),
        ([(8.0, 1.9), (8.0, 1.4), (8.0, 1.8)], "not below"),  # on average, but the seeds disagree
        ([(8.0, 2.3), (8.0, 2.31), (8.0, 2.29)], "not below"),
        ([(6.5, 2.7), (6.5, 2.71), (6.5, 2.69)], "below"),  # lower in both than anything on the curve
        ([(6.5, 3.7), (6.5, 3.71), (6.5, 3.69)], "beyond"),  # no MLE reaches its NLL_test
        ([(9.5, 0.1), (9.5, 0.11), (9.5, 0.09)], "beyond"),  # MLE was not drawn that sharply
    ],
)
def test_a_point_is_below_a_curve_if_the_intervals_say_so(points: Sequence[tuple[float, float]], place: str) -> None:
    assert compare_with_curve(points, curves(0.0, 0.01, -0.01), [1.0] * 3).place == place


def test_a_comparison_holds_means_intervals_and_the_gain_within_seeds() -> None:
    """The seeds' heights differ far more than their gains: the paired interval is the narrower one."""
    heights = (0.0, 0.5, -0.5)
    points = [(8.0, 2 + height - gain) for height, gain in zip(heights, (0.1, 0.11, 0.12), strict=True)]
    found = compare_with_curve(points, curves(*heights), [1.0] * 3)
    assert found.nll_test == 8
    assert found.nll_oracle[0] == pytest.approx(1.89)
    assert found.curve == pytest.approx((2.0, *interval([2.0, 2.5, 1.5])))
    assert found.gain == pytest.approx((0.11, *interval([0.1, 0.11, 0.12])))
    assert found.place == "not below"
    assert found.gain[1] > 0


def test_one_seed_is_never_below() -> None:
    assert compare_with_curve([(8.0, 0.5)], curves(0.0), [1.0]).place == "not below"


@pytest.mark.parametrize(("distinct", "place"), [((1.0, 1.0, 0.98), "below"), ((0.99, 0.99, 0.98), "repeats")])
def test_a_point_that_repeats_its_samples_is_no_answer(distinct: Sequence[float], place: str) -> None:
    points = [(8.0, 1.7), (8.0, 1.71), (8.0, 1.69)]
    found = compare_with_curve(points, curves(0.0, 0.01, -0.01), distinct)
    assert found.place == place
    assert found.distinct == pytest.approx(sum(distinct) / 3)


def comparison(place: str, gain: float = 0.0) -> CurveComparison:
    return CurveComparison(8.0, (1, 1, 1), (1, 1, 1), (gain, gain - 0.01, gain + 0.01), 1.0, place)  # type: ignore[arg-type]


def test_the_sentence_is_plain() -> None:
    places = {"A": comparison("not below"), "B": comparison("beyond"), "C": comparison("not below")}
    assert curve_sentence("MLE", places) == (
        "Below the curve of MLE: no point (of 3 points, 0 below, 0 below by repeating themselves, 2 not below, 1 "
        "beyond its ends)."
    )
    assert curve_sentence("MLE", places | {"D at temperature 0.9": comparison("below", 0.2)}) == (
        "Below the curve of MLE: D at temperature 0.9 (by 0.200 nats per token, 95% interval 0.190 to 0.210) "
        "(of 4 points, 1 below, 0 below by repeating themselves, 2 not below, 1 beyond its ends)."
    )


def test_the_paired_sentence_names_what_gains_on_every_seed_and_does_not_repeat() -> None:
    places = {"A": comparison("not below", 0.2), "B": comparison("not below", 0.005), "C": comparison("beyond", -0.2)}
    places["D"] = replace(comparison("not below", 0.3), distinct=0.9)
    places["E"] = replace(comparison("not below"), gain=(math.nan, math.nan, math.nan))
    assert paired_sentence("MLE", places) == (
        "Below its own seeds' curve of MLE: A (by 0.200, 0.190 to 0.210); 1 of 5 points that start from it."
    )
    assert paired_sentence("MLE", {"C": places["C"]}) == (
        "Below its own seeds' curve of MLE: no point of 1 that start from it."
    )


def test_without_scipy_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(ImportError, match=r'need SciPy: pip install "seqgan-gym\[reproduce\]"'):
        interval([1.0, 2.0])
