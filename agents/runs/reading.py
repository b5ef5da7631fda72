"""The closing table in one sentence: did the game help?

A colder MLE has a lower NLL_oracle at a higher NLL_test, or a higher BLEU at a higher self-BLEU, without any game. So a
game has helped only if its generator lies below the line through the table's MLE rows.
In: the rows. Out: a sentence. It speaks of one run: its errors are those of sampling, and seeds differ by more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from seqgan_env.measures.likelihood import Estimate
from seqgan_env.measures.measurement import TableRow

_ERRORS = 2.0  # standard errors that a difference must exceed
_ONE_RUN = "This is one run: seqgan reproduce compares seeds."


@dataclass(frozen=True)
class Point:
    """A generator as cost against loss of diversity; of both, less is better.

    Attributes:
        method: its name.
        cost: NLL_oracle, or minus BLEU-2.
        spent: NLL_test, or self-BLEU-2. It rises as the temperature falls.
    """

    method: str
    cost: Estimate
    spent: Estimate


def reading(rows: Sequence[TableRow], name: str) -> str | None:
    """Compare what the game made with the MLE of the same table.

    Args:
        rows: of the closing table, with "MLE" and "MLE, temp. ..." among them.
        name: the row that the game made.

    Returns:
        A sentence or two; None if there was no game, if the table has no MLE, or if it lacks one of the two numbers.
    """
    points = {row.method: _point(row) for row in rows}
    game = points.get(name)
    curve = [point for method, point in points.items() if point is not None and method.split(",")[0] == "MLE"]
    if game is None or game in curve or len(curve) < 2:
        return None
    is_corpus = rows[0].corpus is not None
    words = ("BLEU-2", "self-BLEU-2") if is_corpus else ("NLL_oracle", "NLL_test")
    return f"{_compared(game, sorted(curve, key=lambda point: point.spent.mean), words, is_corpus)} {_ONE_RUN}"


def _point(row: TableRow) -> Point | None:
    metrics, corpus = row.metrics, row.corpus
    if corpus is not None:
        bleu = corpus.bleu[2]
        return Point(row.method, Estimate(-bleu.mean, bleu.standard_error), corpus.self_bleu[2])
    if metrics.nll_oracle is None or metrics.nll_test is None:
        return None
    # All rows are measured on the same test sequences, so that the error of NLL_test is common to them.
    return Point(row.method, metrics.nll_oracle, Estimate(metrics.nll_test.mean, 0.0))


def _compared(game: Point, curve: Sequence[Point], words: tuple[str, str], is_corpus: bool) -> str:
    cost, spent = words
    most, least, name = curve[-1], curve[0], game.method
    if game.spent.mean > most.spent.mean:
        if game.cost.mean - most.cost.mean > -_ERRORS * _error(game.cost, most.cost):
            return f"{name} is worse than MLE: {most.method!r} is better in {spent}, and not worse in {cost}."
        return (
            f"{name} cannot be judged: its {spent} is above that of all MLE rows. Compare it with MLE at lower "
            "temperatures."
        )
    if game.spent.mean < least.spent.mean:
        if game.cost.mean - least.cost.mean < _ERRORS * _error(game.cost, least.cost):
            return f"{name} is better than MLE: better in {spent} than all MLE rows, and not worse in {cost}."
        return f"{name} cannot be judged: it is better than {least.method!r} in {spent}, and worse in {cost}."
    of_mle, slope = _interpolated(curve, game.spent.mean)
    error = math.hypot(_error(game.cost, of_mle), slope * game.spent.standard_error)
    difference = game.cost.mean - of_mle.mean
    sign = -1 if is_corpus else 1
    verdict = "is not shown to be better than MLE"
    if abs(difference) > _ERRORS * error:
        verdict = "is better than MLE" if difference < 0 else "is worse than MLE"
    return (
        f"{name} {verdict}: its {cost} is {sign * game.cost.mean:.3f}. MLE at a temperature with the same {spent}, "
        f"{game.spent.mean:.3f}, has {sign * of_mle.mean:.3f} (difference {sign * difference:+.3f} ±{error:.3f})."
    )


def _interpolated(curve: Sequence[Point], spent: float) -> tuple[Estimate, float]:
    """The cost of the line through MLE's points at a place between them, and its slope there."""
    for left, right in itertools.pairwise(curve):
        if left.spent.mean <= spent <= right.spent.mean:
            break
    width = right.spent.mean - left.spent.mean
    share = 0.0 if width == 0 else (spent - left.spent.mean) / width
    mean = (1 - share) * left.cost.mean + share * right.cost.mean
    error = math.hypot((1 - share) * left.cost.standard_error, share * right.cost.standard_error)
    slope = 0.0 if width == 0 else (right.cost.mean - left.cost.mean) / width
    return Estimate(mean, error), slope


def _error(first: Estimate, second: Estimate) -> float:
    return math.hypot(first.standard_error, second.standard_error)
