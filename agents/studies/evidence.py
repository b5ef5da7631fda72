"""Evaluates measurements of several seeds: means, tests, curves, verdicts. Pure functions of numbers.

The unit of evidence is the seed: the standard error of one generator's samples says nothing about the method. The rules
of the verdicts are written here once, and are printed with every table that uses them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np

from seqgan_env.measures.likelihood import Estimate, estimate

Verdict = Literal["reproduced", "not reproduced", "not specified by the paper"]


def _short(alpha: float) -> str:
    """A power of ten in short form, such as 1e-6."""
    return f"{alpha:g}".replace("e-0", "e-")


ALPHA = 0.05
PAPER_ALPHA = 1e-6  # the paper's claim for SeqGAN against each rival
LEVEL_TOLERANCE = 0.05  # nats per token
CONFIDENCE = 0.95

ORDER_RULE = (
    f"order: reproduced if the mean NLL_oracle over seeds is lower than the rival's with p < {ALPHA} "
    f"(Welch's t-test, two-sided; one seed is no evidence)"
)
HEADLINE_RULE = f"SeqGAN against each rival: the same with p < {_short(PAPER_ALPHA)}, as the paper claims"
LEVEL_RULE = (
    f"level: reproduced if the mean NLL_oracle is within {LEVEL_TOLERANCE} of the paper's value, SeqGAN's if it is at "
    "most the paper's; judged only on the authors' oracle, since another oracle has other levels"
)
DISTINCT_LEAST = 0.99  # share of different sequences; the oracle and MLE have 1.0000 in 100,000 samples
CURVE_RULE = (
    f"a point lies below an MLE curve if, at its NLL_test, its {CONFIDENCE:.0%} interval over seeds of NLL_oracle ends "
    f"below where the curve's begins; it does not count if under {DISTINCT_LEAST:.0%} of its samples are unique, since "
    "repeating one likely sequence with probability p lowers NLL_oracle linearly and raises NLL_test by -log(1 - p) / T"
)

PAIRED_RULE = (
    f"a method that starts from the runs of an MLE curve lies below its own curve if the {CONFIDENCE:.0%} interval "
    "over seeds of its gain, its seed's curve minus its point, lies above 0; pairing by seed removes the "
    "variance between seeds, so smaller gains are detected"
)


def scipy(module: str) -> Any:
    """A module of SciPy.

    Raises:
        ImportError: if it is not installed; the message names the extra.
    """
    try:
        return import_module(f"scipy.{module}")
    except ImportError as error:
        raise ImportError('tests and intervals need SciPy: pip install "seqgan-gym[reproduce]"') from error


def over_seeds(values: Sequence[float]) -> Estimate:
    """Mean and standard error over seeds; the error of one seed is NaN."""
    return estimate(np.asarray(values, dtype=np.float64))


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's t interval of the mean over seeds; infinite for one seed."""
    mean = over_seeds(values)
    if len(values) < 2:
        return -math.inf, math.inf
    half = scipy("stats").t.ppf((1 + confidence) / 2, len(values) - 1) * mean.standard_error
    return mean.mean - float(half), mean.mean + float(half)


def half_interval(values: Sequence[float]) -> float:
    """Half the length of the interval of the mean over seeds; NaN for one seed."""
    low, high = interval(values)
    return (high - low) / 2 if math.isfinite(high) else math.nan


@dataclass(frozen=True)
class WelchTest:
    """Welch's t-test of two means.

    Attributes:
        difference: mean of the first minus mean of the second, nats per token.
        t: the statistic. All three are NaN if either has only one seed, or if nothing varies.
        degrees: degrees of freedom.
        p: two-sided p-value.
    """

    difference: float
    t: float
    degrees: float
    p: float

    def is_lower(self, alpha: float = ALPHA) -> bool:
        """Whether the first mean is lower, with p below alpha."""
        return self.difference < 0 and self.p < alpha  # False if p is NaN


def welch_test(first: Sequence[float], second: Sequence[float]) -> WelchTest:
    """Welch's t-test, which allows different variances."""
    difference = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < 2 or (np.ptp(first) == 0 and np.ptp(second) == 0):
        return WelchTest(difference, math.nan, math.nan, math.nan)
    result = scipy("stats").ttest_ind(first, second, equal_var=False)
    return WelchTest(difference, float(result.statistic), float(result.df), float(result.pvalue))


# Verdicts.


def order_verdict(test: WelchTest, alpha: float = ALPHA) -> Verdict:
    """The verdict of ORDER_RULE. The test's first method is the one that is lower in the paper."""
    return "reproduced" if test.is_lower(alpha) else "not reproduced"


def level_verdict(values: Sequence[float], paper: float | None, is_headline: bool, is_authors_oracle: bool) -> Verdict:
    """The verdict of LEVEL_RULE.

    Args:
        values: NLL_oracle of each seed, nats per token.
        paper: the paper's value, or None if it gives none.
        is_headline: whether a value below the paper's also counts as reproduced, as for SeqGAN.
        is_authors_oracle: whether the oracle is that of the paper's values.
    """
    if paper is None or not is_authors_oracle:
        return "not specified by the paper"
    excess = float(np.mean(values)) - paper
    reached = excess <= 0 if is_headline else abs(excess) <= LEVEL_TOLERANCE
    return "reproduced" if reached else "not reproduced"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and our result; values in nats per token.

    Attributes:
        text: the claim.
        ours: our level, or our difference of means.
        paper: the paper's value of it.
        p: p-value of the test, if there is one.
        verdict: by the rule for this kind of claim.
    """

    text: str
    ours: float
    paper: float | None
    p: float | None
    verdict: Verdict


def level_claim(label: str, values: Sequence[float], paper: float, is_headline: bool, is_authors_oracle: bool) -> Claim:
    """Compare a method's NLL_oracle with the paper's, by LEVEL_RULE."""
    verdict = level_verdict(values, paper, is_headline, is_authors_oracle)
    return Claim(f"{label}: level", over_seeds(values).mean, paper, None, verdict)


def order_claim(
    first: str,
    second: str,
    values: Mapping[str, Sequence[float]],
    *,
    paper: float | None = None,
    alpha: float = ALPHA,
    is_the_papers: bool = True,
) -> Claim:
    """The claim that the first method has the lower NLL_oracle, by ORDER_RULE.

    Args:
        first: label of the lower method.
        second: label of its rival.
        values: label -> NLL_oracle of each seed.
        paper: the paper's difference, if it gives one.
        alpha: p must be below this.
        is_the_papers: whether this is a claim of the paper.
    """
    test = welch_test(values[first], values[second])
    verdict = order_verdict(test, alpha) if is_the_papers else "not specified by the paper"
    threshold = "" if alpha == ALPHA else f" (p<{_short(alpha)})"
    return Claim(f"{first} < {second}{threshold}", test.difference, paper, test.p, verdict)


# NLL_oracle against NLL_test.

Point = tuple[float, float]  # NLL_test, NLL_oracle, in nats per token


def falling_branch(curve: Sequence[Point]) -> list[Point]:
    """The part of a temperature curve from the lowest NLL_test on: there a lower NLL_oracle costs a higher NLL_test.

    The part before it, at temperatures above the best one, is worse in both.

    Args:
        curve: points in the order of falling temperature.
    """
    start = min(range(len(curve)), key=lambda index: curve[index])
    branch = [curve[start]]
    for point in curve[start + 1 :]:
        if point[0] > branch[-1][0]:
            branch.append(point)
    return branch


def value_at(branch: Sequence[Point], nll_test: float) -> float:
    """NLL_oracle of a falling branch at some NLL_test, by monotone cubic interpolation.

    Straight lines would lie above a convex curve, and so favour the point that is compared with it. To the left of the
    branch this is the value at its beginning: a point with a lower NLL_test only has to beat this. To the right it is
    NaN.
    """
    x, y = (np.array(column) for column in zip(*branch, strict=True))
    if nll_test > x[-1]:
        return math.nan
    if nll_test <= x[0]:
        return float(y[0])
    return float(scipy("interpolate").PchipInterpolator(x, y)(nll_test))


@dataclass(frozen=True)
class CurveComparison:
    """Comparison of a method's point with a curve; NLLs in nats per token, intervals over seeds.

    Attributes:
        nll_test: the point's mean.
        nll_oracle: the point's mean and interval.
        curve: the curve's NLL_oracle at this NLL_test, mean and interval; NaN beyond its right end.
        gain: the distance of the point below its own seed's curve (curve minus point), mean and interval.
        distinct: share of different sequences among its samples, mean.
        place: "below"; "not below"; "repeats": below, but by repeating itself; "beyond": beyond an end of the curve, so
            nothing can be said.
    """

    nll_test: float
    nll_oracle: tuple[float, float, float]
    curve: tuple[float, float, float]
    gain: tuple[float, float, float]
    distinct: float
    place: Literal["below", "not below", "repeats", "beyond"]


def compare_with_curve(
    points: Sequence[Point], curves: Sequence[Sequence[Point]], distinct: Sequence[float]
) -> CurveComparison:
    """The place of a method's point by CURVE_RULE.

    Args:
        points: points of the method at one temperature, one per seed.
        curves: curves of MLE, one per seed in the same order, each in the order of falling temperature.
        distinct: share of different sequences among the method's samples, one per seed.
    """
    branches = [falling_branch(curve) for curve in curves]
    nll_test = float(np.mean([x for x, _ in points]))
    own = [y for _, y in points]
    there = [value_at(branch, nll_test) for branch in branches]
    gains = [value_at(branch, x) - y for branch, (x, y) in zip(branches, points, strict=True)]
    point, curve, gain = ((float(np.mean(values)), *interval(values)) for values in (own, there, gains))
    below = point[2] < curve[1]
    left_of_all = nll_test < min(branch[0][0] for branch in branches)
    unique = float(np.mean(distinct))
    place: Literal["below", "not below", "repeats", "beyond"] = "not below"
    if math.isnan(curve[0]) or (left_of_all and not below):
        place = "beyond"
    elif below:
        place = "below" if unique >= DISTINCT_LEAST else "repeats"
    return CurveComparison(nll_test, point, curve, gain, unique, place)


def curve_sentence(curve: str, comparisons: Mapping[str, CurveComparison]) -> str:
    """One sentence: whether any point lies below an MLE curve.

    Args:
        curve: the curve's label.
        comparisons: label of a point -> its comparison with the curve.
    """
    below = {label: found for label, found in comparisons.items() if found.place == "below"}
    counts = f"of {len(comparisons)} points, {len(below)} below"
    for place in ("repeats", "not below", "beyond"):
        said = "below by repeating themselves" if place == "repeats" else place
        counts += f", {sum(found.place == place for found in comparisons.values())} {said}"
    if not below:
        return f"Below the curve of {curve}: no point ({counts} its ends)."
    named = "; ".join(
        f"{label} (by {found.gain[0]:.3f} nats per token, {CONFIDENCE:.0%} interval {found.gain[1]:.3f} to "
        f"{found.gain[2]:.3f})"
        for label, found in below.items()
    )
    return f"Below the curve of {curve}: {named} ({counts} its ends)."


def paired_sentence(curve: str, comparisons: Mapping[str, CurveComparison]) -> str:
    """One sentence: which points lie below the curve that their method started from, by PAIRED_RULE.

    Args:
        curve: the curve's label.
        comparisons: label of a point -> its comparison, for methods that start from the curve's runs.
    """
    below = {
        label: found
        for label, found in comparisons.items()
        if found.gain[1] > 0 and math.isfinite(found.gain[1]) and found.distinct >= DISTINCT_LEAST
    }
    if not below:
        return f"Below its own seeds' curve of {curve}: no point of {len(comparisons)} that start from it."
    named = "; ".join(
        f"{label} (by {found.gain[0]:.3f}, {found.gain[1]:.3f} to {found.gain[2]:.3f})"
        for label, found in below.items()
    )
    return (
        f"Below its own seeds' curve of {curve}: {named}; {len(below)} of {len(comparisons)} points that start from it."
    )
