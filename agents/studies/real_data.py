"""The paper's results on real sequences, and ours: quatrains, speeches, tunes, or your own corpus (Tables 2-4).

In: a corpus and seeds. Out, as for every figure: cells, measured rows, findings, and printed text. MLE is measured over
temperatures, because a lower temperature alone raises BLEU. So a method must beat MLE at the temperature at which MLE
has the same diversity, that is, the same self-BLEU.
Departures from the paper: it does not state its splits, vocabularies, lengths, BLEU smoothing and pairing of melodies.
So orders are judged, but not levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rich.table import Table

from agents.studies import evidence
from agents.studies.cells import Cell
from agents.studies.evidence import ALPHA, CONFIDENCE, Claim, interval, welch_test
from agents.studies.figures import Findings, schedule_sentence
from agents.studies.methods import METHODS, REAL
from agents.studies.study import Study
from agents.studies.tables import Row, claim_rows, claims_table, mean_and_error, means_and_errors, new_table, pandas

if TYPE_CHECKING:
    from pandas import DataFrame

CorpusKind = Literal["text", "music"]
SAMPLES, FAST_SAMPLES = 10_000, 2_000  # drawn for each measurement
SEEDS = (0, 1, 2)

MATCHED = "mle_matched"
_MATCHED_LABEL = "MLE, matched"
RIVALS = ("pg_bleu", "seqgan", "constant_reward")
_WHERE = ("method", "seed", "temperature")

ORDER_RULE = (
    f"order: reproduced if the mean over seeds is higher than the rival's with p < {ALPHA} (Welch's t-test, two-sided; "
    "one seed is no evidence)"
)
MATCHED_RULE = (
    "at the same self-BLEU: each seed's BLEU minus that of its own MLE, at the temperature at which MLE has the same "
    f"self-BLEU (linear between measured temperatures); above if the {CONFIDENCE:.0%} interval over seeds lies above 0"
)
LEVEL_RULE = "levels are not judged: the paper does not state its split, vocabulary, smoothing and pairing"


@dataclass(frozen=True)
class RealData:
    """The paper's results on one kind of real sequences.

    Attributes:
        name: name of the result.
        title: title of its table.
        kind: the task that makes sequences from a corpus.
        is_bundled: whether the task has a bundled corpus of this kind.
        orders: orders of BLEU in the paper; the first one is used for the curve and for matched self-BLEU.
        paper: method -> column -> the paper's value.
        options: options of the task, in addition to those of the command.
        differs: known differences from the paper's experiment.
    """

    name: str
    title: str
    kind: CorpusKind
    is_bundled: bool
    orders: tuple[int, ...]
    paper: dict[str, dict[str, float]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    differs: str = ""

    @property
    def order(self) -> int:
        """n of the first BLEU."""
        return self.orders[0]


_UNSTATED = (
    "The paper does not state its split, vocabulary, number of references, BLEU smoothing, model sizes or schedule"
)
REAL_DATA: dict[str, RealData] = {
    data.name: data
    for data in (
        RealData(
            "poems",
            "Table 2: Chinese quatrains",
            "text",
            False,
            (2,),
            {"mle": {"bleu2": 0.6670}, "seqgan": {"bleu2": 0.7389}, "real": {"bleu2": 0.746}},
            {"split_block": 50},  # stanzas of one long poem are neighbours
            f"{_UNSTATED} for its 16,394 quatrains; BLEU grows with the number of references.",
        ),
        RealData(
            "speeches",
            "Table 3: political speeches",
            "text",
            False,
            (3, 4),
            {"mle": {"bleu3": 0.519, "bleu4": 0.416}, "seqgan": {"bleu3": 0.556, "bleu4": 0.427}},
            {},
            f"{_UNSTATED} for its 11,092 paragraphs, nor how it cut them.",
        ),
        RealData(
            "music",
            "Table 4: folk tunes",
            "music",
            True,
            (4,),
            {"mle": {"bleu4": 0.9210, "mse": 22.38}, "seqgan": {"bleu4": 0.9406, "mse": 20.62}},
            {},
            f"{_UNSTATED} for its 695 tunes, nor which melodies its mean squared error compares.",
        ),
        RealData("text", "A text of your own", "text", True, (4, 2)),
    )
}


# Findings from the rows.


def numeric_columns(measured: DataFrame) -> list[str]:
    """The measured columns, without the standard errors of single measurements."""
    return [name for name in measured if name not in _WHERE and not name.endswith("_se")]


def matched_row(curve: DataFrame, target: float, order: int) -> dict[str, Any] | None:
    """MLE of one seed at the temperature with a given self-BLEU, by linear interpolation between measurements.

    Args:
        curve: MLE's rows of the seed.
        target: the self-BLEU.
        order: n of this self-BLEU.

    Returns:
        A row with method `MATCHED` and the interpolated temperature, without standard errors; None beyond the curve.
    """
    rising = curve.sort_values(f"self_bleu{order}", kind="stable")
    x = rising[f"self_bleu{order}"]
    if not x.iloc[0] <= target <= x.iloc[-1]:
        return None
    found = {
        column: round(float(np.interp(target, x, rising[column])), 6)
        for column in ("temperature", *numeric_columns(curve))
    }
    return {"method": MATCHED, "seed": curve["seed"].iloc[0]} | found


def matched_rows(measured: DataFrame, method: str, order: int) -> DataFrame:
    """MLE at the self-BLEU of a method at temperature 1, for each seed; no rows if one lies beyond its curve."""
    found = []
    for _, row in at_temperature_one(measured, method).iterrows():
        curve = measured[(measured["method"] == "mle") & (measured["seed"] == row["seed"])]
        found.append(matched_row(curve, row[f"self_bleu{order}"], order))
    if None in found:
        found.clear()
    matched: DataFrame = pandas().DataFrame(found, columns=list(measured))
    return matched


def at_temperature_one(measured: DataFrame, method: str) -> DataFrame:
    """A method's rows at temperature 1, one per seed."""
    own = measured[measured["method"] == method]
    return own if method == MATCHED else own[own["temperature"] == 1]


@dataclass(frozen=True)
class Match:
    """Comparison of a method with MLE at the same self-BLEU.

    Attributes:
        method: its name.
        self_bleu: self-BLEU of the method, mean over seeds.
        temperature: the temperature at which MLE has it, mean over seeds; NaN beyond the curve.
        bleu: BLEU of the method.
        mle_bleu: BLEU of MLE at this temperature.
        gain: BLEU minus that of MLE, for each seed; empty beyond the curve.
        place: "above"; "not above"; "beyond": beyond MLE's measured temperatures, so nothing can be said.
    """

    method: str
    self_bleu: float
    temperature: float
    bleu: float
    mle_bleu: float
    gain: tuple[float, ...]
    place: Literal["above", "not above", "beyond"]


def match(measured: DataFrame, method: str, order: int) -> Match:
    """MATCHED_RULE."""
    bleu, self_bleu = f"bleu{order}", f"self_bleu{order}"
    own, matched = at_temperature_one(measured, method), matched_rows(measured, method, order)
    means = [float(np.mean(own[column])) for column in (self_bleu, bleu)]
    if not len(matched):
        return Match(method, means[0], math.nan, means[1], math.nan, (), "beyond")
    gain = tuple(float(ours - theirs) for ours, theirs in zip(own[bleu], matched[bleu], strict=True))
    temperature, mle_bleu = (float(np.mean(matched[name])) for name in ("temperature", bleu))
    above = interval(gain)[0] > 0
    return Match(method, means[0], temperature, means[1], mle_bleu, gain, "above" if above else "not above")


def higher_claim(
    first: str, second: str, measure: str, values: dict[str, list[float]], paper: float | None = None
) -> Claim:
    """The claim that the first method is higher in a measure, by ORDER_RULE; judged only if the paper makes it.

    Args:
        first: label of the higher method.
        second: label of its rival.
        measure: name of the measure.
        values: label -> value of each seed.
        paper: the paper's difference; None if it makes no such claim.
    """
    test = welch_test(values[second], values[first])
    verdict = evidence.order_verdict(test) if paper is not None else "not specified by the paper"
    return Claim(f"{first} > {second} in {measure}", -test.difference, paper, test.p, verdict)


class RealTable:
    """Tables 2-4, with more than they show: diversity, likelihood, copies, a null reward, MLE at lower temperatures."""

    rules = (ORDER_RULE, MATCHED_RULE, LEVEL_RULE)

    def __init__(self, study: Study, data: RealData) -> None:
        self.study = study
        self.data = data
        self.methods = [METHODS["mle"], *(METHODS[name] for name in RIVALS)]

    def cells(self) -> list[Cell]:
        """Every method at its temperatures, and the real data once."""
        cells = self.study.cells(self.methods)
        return [*cells, self.study.measuring(REAL, self.study.seeds[0], 1.0)]

    def rows(self) -> list[Row]:
        """A row for each method, seed and temperature, and one for the real data."""
        once = replace(self.study, seeds=self.study.seeds[:1])
        return self.study.measurements(self.methods) + once.measurements([REAL])

    def findings(self, measured: DataFrame) -> Findings:
        """The table, the methods against MLE at the same self-BLEU, and the claims."""
        summary, matches, claims = self.summary(measured), self.matches(measured), self.claims(measured)
        real = summary.iloc[-1]
        printed: list[Table | str] = [
            self._quality_table(summary),
            self._diversity_table(summary),
            *(self.match_sentence(one) for one in matches),
            claims_table(claims, self.rules),
            *([f"What differs: {self.data.differs}"] if self.data.differs else []),
            f"BLEU is the mean of sentence BLEU against {int(real['references']):,} test sequences; self-BLEU "
            f"and n-gram measures take {int(real['compared']):,} samples; real data are held-out sequences, "
            "measured like samples.",
            schedule_sentence(self.study),
        ]
        matched = pandas().DataFrame([self._match_row(one) for one in matches])
        return Findings({"summary": summary, "matched": matched, "claims": claim_rows(claims)}, printed)

    def summary(self, measured: DataFrame) -> DataFrame:
        """Means and errors over seeds: each method at temperature 1, MLE at SeqGAN's self-BLEU, the real data."""
        matched = matched_rows(measured, "seqgan", self.data.order)
        rows = {name: matched if name == MATCHED else at_temperature_one(measured, name) for name in self._lines()}
        shown = {name: own for name, own in rows.items() if len(own)}
        columns = ["temperature", *numeric_columns(measured)]
        summary = means_and_errors(pandas().concat(shown.values()), list(shown), columns)
        summary.insert(1, "label", [self._lines()[name] for name in shown])
        for column in sorted({column for values in self.data.paper.values() for column in values}):
            summary[f"paper_{column}"] = [self.data.paper.get(name, {}).get(column, math.nan) for name in shown]
        return summary

    def _lines(self) -> dict[str, str]:
        """Method -> label of the table's lines, in their order."""
        labels = {method.name: method.label for method in self.methods}
        return {"mle": labels.pop("mle"), MATCHED: _MATCHED_LABEL} | labels | {REAL.name: REAL.label}

    def matches(self, measured: DataFrame) -> list[Match]:
        """Comparison of each rival of MLE with MLE at the same self-BLEU."""
        return [match(measured, name, self.data.order) for name in RIVALS]

    def _match_row(self, found: Match) -> dict[str, Any]:
        row = {"method": found.method, "order": self.data.order}
        row |= {name: getattr(found, name) for name in ("self_bleu", "temperature", "bleu", "mle_bleu")}
        gain = (float(np.mean(found.gain)), *interval(found.gain)) if found.gain else (math.nan,) * 3
        return row | dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True)) | {"place": found.place}

    def claims(self, measured: DataFrame) -> list[Claim]:
        """SeqGAN above MLE in the paper's BLEU (judged), and above PG-BLEU and the constant reward (not judged)."""
        claims = []
        seqgan = METHODS["seqgan"]
        for order in self.data.orders:
            column = f"bleu{order}"
            values = {
                method.label: [float(value) for value in at_temperature_one(measured, method.name)[column]]
                for method in self.methods
            }
            paper = [self.data.paper.get(name, {}).get(column) for name in ("seqgan", "mle")]
            difference = None if paper[0] is None or paper[1] is None else round(paper[0] - paper[1], 4)
            for method in self.methods:
                if method is not seqgan:
                    theirs = difference if method.name == "mle" else None
                    claims.append(higher_claim(seqgan.label, method.label, f"BLEU-{order}", values, theirs))
        return claims

    def match_sentence(self, found: Match) -> str:
        """One sentence: a rival compared with MLE at the same self-BLEU."""
        order, label = self.data.order, METHODS[found.method].label
        start = f"{label} at self-BLEU-{order} {found.self_bleu:.3f}: BLEU-{order} {found.bleu:.3f}"
        if found.place == "beyond":
            return f"{start}; MLE does not have this self-BLEU at any measured temperature."
        low, high = interval(found.gain)
        bounds = f", {CONFIDENCE:.0%} interval {low:+.3f} to {high:+.3f}" if math.isfinite(low) else ""
        return (
            f"{start}, MLE at temperature {found.temperature:.2f} {found.mle_bleu:.3f} "
            f"({float(np.mean(found.gain)):+.3f}{bounds}): {found.place} MLE."
        )

    def _quality_table(self, summary: DataFrame) -> Table:
        order = self.data.order
        table = new_table(
            f"{self.data.title}: mean over seeds ± standard error, temperature 1",
            "BLEU alone rises when a generator repeats itself, and self-BLEU shows it. The last line is real "
            "sequences; NLL_test in nats per token. MLE, matched: at the temperature at which MLE repeats itself "
            "as much as SeqGAN.",
        )
        table.add_column("method", no_wrap=True)
        has_paper = bool(self.data.paper)
        headings = [f"BLEU-{order}", *(["paper"] if has_paper else []), *(f"BLEU-{n}" for n in self.data.orders[1:])]
        for heading in (*headings, f"self-{order}", "NLL_test", "perpl.", "copied"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in summary.to_dict("records"):
            cells = [_mean(row, f"bleu{order}", with_error=True)]
            if has_paper:
                cells.append(_mean(row, f"paper_bleu{order}"))
            cells += [_mean(row, f"bleu{n}") for n in self.data.orders[1:]]
            cells += [_mean(row, f"self_bleu{order}"), _mean(row, "nll_test"), _mean(row, "perplexity", 1)]
            table.add_row(row["label"], *cells, f"{row['copied']:.1%}")
        return table

    def _diversity_table(self, summary: DataFrame) -> Table:
        is_music = "mse_nearest" in summary
        columns = {f"bleu{n}": f"B-{n}" for n in (2, 3, 4, 5)}
        columns |= {"distinct2": "dist-2", "divergence1": "JSD-1", "divergence2": "JSD-2", "seen_ngrams4": "seen-4"}
        if is_music:
            columns |= {"mse_nearest": "MSE", "mse_coverage": "cover", "mse_random_pair": "random"}
            for name in ("bleu3", "bleu5", "divergence1", "seen_ngrams4"):
                del columns[name]
        caption = (
            "dist-2: different bigrams by all; JSD: divergence of n-gram shares from the test set's, bits; seen-4: "
            "share of 4-grams that occur in the training set."
        )
        if is_music:
            paper = ", ".join(f"{METHODS[name].label} {values['mse']}" for name, values in self.data.paper.items())
            caption += (
                " MSE: squared semitones to the nearest test melody; cover: of each test melody to the nearest sample; "
                f"random: to a random one. The paper does not say which it gives: {paper}."
            )
        table = new_table("Further measures of the same samples", caption)
        table.add_column("method", no_wrap=True)
        for heading in columns.values():
            table.add_column(heading, justify="right", no_wrap=True)
        for row in summary.to_dict("records"):
            table.add_row(row["label"], *(_mean(row, name, 1 if name.startswith("mse") else 3) for name in columns))
        return table


def _mean(row: Mapping[str, Any], column: str, digits: int = 3, with_error: bool = False) -> str:
    return mean_and_error(row, column, digits, with_error)


def markdown_table(summary: DataFrame) -> str:
    """A summary as the table of `docs/real-data.md`, only from its CSV.

    Args:
        summary: a `*_summary.csv`.
    """
    shown = {f"bleu{n}": f"BLEU-{n}" for n in (2, 3, 4, 5)}
    papers = {
        name: f"paper's {name.removeprefix('paper_').replace('bleu', 'BLEU-').replace('mse', 'MSE')}"
        for name in summary
        if name.startswith("paper_")
    }
    shown |= {f"self_bleu{n}": f"self-BLEU-{n}" for n in (2, 4)}
    shown |= {"nll_test": "NLL_test", "perplexity": "perplexity", "distinct2": "distinct-2", "divergence1": "JSD-1"}
    shown |= {"divergence2": "JSD-2", "seen_ngrams4": "seen 4-grams", "copied": "copied"}
    if "mse_nearest" in summary:
        shown |= {"mse_nearest": "MSE, nearest", "mse_coverage": "MSE, coverage", "mse_random_pair": "MSE, random pair"}
    shown |= papers
    lines = [["method", "temperature", *shown.values()], ["---"] * (len(shown) + 2)]
    for row in summary.to_dict("records"):
        temperature = "" if row["method"] == REAL.name else _mean(row, "temperature", 2)
        cells = []
        for name in shown:
            digits = 1 if name == "perplexity" else 2 if "mse" in name else 4 if name in ("copied", *papers) else 3
            cells.append(_mean(row, name, digits, with_error=name.startswith(("bleu", "self_bleu", "nll"))))
        lines.append([row["label"], temperature, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
