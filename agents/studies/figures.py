"""The results of the paper, with their cells, tables and claims: Table 1, Fig. 2, Fig. 3, and the missing curves.

Each result is a class. It has the cells to compute, the measured rows (its CSV), and the findings: further CSVs and the
printed text. Findings are computed once, only from the CSV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from rich.table import Table

from agents.studies import evidence
from agents.studies.cells import Cell
from agents.studies.evidence import Claim, CurveComparison, level_claim, order_claim
from agents.studies.methods import CONTROLS, IMPROVED, METHODS, PAPER_ORDER, RIVALS, SCHEDULES, Method, continued
from agents.studies.study import Study
from agents.studies.tables import (
    Row,
    claim_rows,
    claims_table,
    last_values,
    mean_and_error,
    means_and_errors,
    new_table,
    number,
    values_of,
)

if TYPE_CHECKING:
    from pandas import DataFrame

_MEASURES = ("nll_oracle", "nll_test", "entropy", "kl_from_oracle", "kl_to_oracle", "distinct")
_MLE_CURVES = ("mle", "mle_held_out", "mle_regularised")
Comparisons = dict[str, dict[tuple[str, float], CurveComparison]]  # curve -> (method, temperature) -> comparison


@dataclass(frozen=True)
class Findings:
    """The results that follow from the measured rows of a figure.

    Attributes:
        csvs: ending of a CSV's name -> its rows.
        printed: tables and sentences to print.
    """

    csvs: dict[str, DataFrame | list[Row]]
    printed: list[Table | str]


class Figure(Protocol):
    """A result of the paper."""

    @property
    def study(self) -> Study:
        """The shared part of its cells."""

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules of its verdicts."""

    def cells(self) -> list[Cell]:
        """The cells to compute."""

    def rows(self) -> list[Row]:
        """The measured rows; all cells must be done."""

    def findings(self, measured: DataFrame) -> Findings:
        """The findings from the CSV of these rows."""


def schedule_sentence(study: Study) -> str:
    """A sentence about the schedule of a result."""
    config = study.config
    seeds = " ".join(map(str, study.seeds))
    return (
        f"Schedule {study.preset}: {config.pretraining.epochs} MLE epochs, then {config.game.rounds} rounds of g = "
        f"{config.game.g_steps}, d = {config.game.d_steps}, k = {config.game.k_epochs}; seeds {seeds}; "
        f"{study.samples:,} samples per measurement."
    )


def scheduled_sampling_sentence(epochs: int) -> str:
    """A sentence about the end of the curriculum: the rate falls by 0.002 per epoch; a short schedule is almost MLE."""
    step = METHODS["scheduled_sampling"].settings["pretraining.curriculum_rate_step"]
    rate = max(0.0, 1 - step * (epochs - 1))
    falls = f"it falls by {step} per epoch"
    return f"Scheduled sampling fed the real token with probability {rate:.3f} in its last epoch ({falls})."


class Table1:
    """Table 1, with more than the paper shows: NLL_test, entropy, both KLs, and the controls.

    Args:
        study: the shared part of the cells.
        methods: names of the methods to show; if empty, the paper's and the controls.
        is_authors_oracle: whether to judge levels, which are known only for the authors' oracle.
    """

    rules = (evidence.ORDER_RULE, evidence.HEADLINE_RULE, evidence.LEVEL_RULE)

    def __init__(self, study: Study, methods: Sequence[str] = (), is_authors_oracle: bool = False) -> None:
        self.study = study
        self.is_authors_oracle = is_authors_oracle
        self.methods = [METHODS[name] for name in methods or METHODS if methods or name not in (*IMPROVED, *RIVALS)]

    def cells(self) -> list[Cell]:
        """Every method, measured at temperature 1."""
        return self.study.cells(self.methods, (1.0,))

    def rows(self) -> list[Row]:
        """A row for each method and seed."""
        return self.study.measurements(self.methods, (1.0,))

    def findings(self, measured: DataFrame) -> Findings:
        """The table and the claims."""
        summary, claims = self.summary(measured), self.claims(measured)
        printed: list[Table | str] = [
            self._table(summary),
            claims_table(claims, self.rules),
            schedule_sentence(self.study),
            scheduled_sampling_sentence(self.study.config.pretraining.epochs),
        ]
        return Findings({"summary": summary, "claims": claim_rows(claims)}, printed)

    def summary(self, measured: DataFrame) -> DataFrame:
        """A row for each method: means and standard errors over seeds, and the verdict on its level."""
        summary = means_and_errors(measured, [method.name for method in self.methods], _MEASURES)
        summary["paper_nll_oracle"] = [number(method.paper_nll_oracle) for method in self.methods]
        summary["verdict"] = [
            evidence.level_verdict(
                values_of(measured, method.name),
                method.paper_nll_oracle,
                method.name == "seqgan",
                self.is_authors_oracle,
            )
            for method in self.methods
        ]
        return summary

    def claims(self, measured: DataFrame) -> list[Claim]:
        """For the shown methods: levels, the paper's order, its p-values for SeqGAN, and SeqGAN against controls."""
        values = {method.label: values_of(measured, method.name) for method in self.methods}
        order = [METHODS[name] for name in PAPER_ORDER if METHODS[name] in self.methods]
        seqgan = METHODS["seqgan"]
        paper = {method.label: method.paper_nll_oracle or float("nan") for method in order}
        claims = [
            level_claim(one.label, values[one.label], paper[one.label], one is seqgan, self.is_authors_oracle)
            for one in order
        ]
        pairs = [(lower, higher, evidence.ALPHA) for higher, lower in pairwise(order)]
        if seqgan in order:
            pairs += [(seqgan, rival, evidence.PAPER_ALPHA) for rival in order[:-1]]
        for lower, higher, alpha in pairs:
            difference = round(paper[lower.label] - paper[higher.label], 3)
            claims.append(order_claim(lower.label, higher.label, values, paper=difference, alpha=alpha))
        for name in CONTROLS:
            if {seqgan.label, METHODS[name].label} <= values.keys():
                claims.append(order_claim(seqgan.label, METHODS[name].label, values, is_the_papers=False))
        return claims

    def _table(self, summary: DataFrame) -> Table:
        table = new_table(
            "Table 1: nats per token, mean over seeds ± standard error; o is the oracle",
            "NLL_oracle alone falls when a generator loses diversity: better means lower at equal or lower "
            "NLL_test. The paper gives only NLL_oracle, and no controls.",
        )
        table.add_column("method", no_wrap=True)
        for column in ("NLL_oracle", "paper", "NLL_test", "KL(G‖o)", "KL(o‖G)"):
            table.add_column(column, justify="right", no_wrap=True)
        for row, method in zip(summary.to_dict("records"), self.methods, strict=True):
            cells = [mean_and_error(row, one) for one in ("nll_oracle", "nll_test")]
            cells.insert(1, f"{method.paper_nll_oracle:.3f}" if method.paper_nll_oracle else "")
            cells += [f"{row[one]:.3f}" for one in ("kl_from_oracle", "kl_to_oracle")]
            table.add_row(method.label, *cells)
        return table


class Fig2:
    """Fig. 2: learning curves of all methods. MLE and scheduled sampling continue to train while the others play."""

    rules = (evidence.ORDER_RULE,)
    _ORDER = PAPER_ORDER[1:]  # without random tokens, which do not learn

    def __init__(self, study: Study) -> None:
        self.study = study
        self.methods: dict[str, Method] = {}
        for name in (*self._ORDER, *CONTROLS):
            method = METHODS[name]
            has_game = method.starts_from is not None
            self.methods[name] = method if has_game else continued(method, study.config)

    def cells(self) -> list[Cell]:
        """Only training cells."""
        return self.study.cells(list(self.methods.values()), ())

    def rows(self) -> list[Row]:
        """A row for each method, seed and measured epoch."""
        columns = ("stage", "epoch", "nll_oracle", "nll_oracle_se", "nll_test", "nll_test_se", "entropy", "distinct")
        return [
            {"method": name, "seed": str(seed)} | {column: row[column] for column in columns}
            for name, method in self.methods.items()
            for seed in self.study.seeds
            for row in self.study.learning_curve(method, seed)
        ]

    def claims(self, measured: DataFrame) -> list[Claim]:
        """The order of the curves at their ends, and SeqGAN against the controls."""
        values = {METHODS[name].label: last_values(measured, method=name) for name in self.methods}
        labels = [METHODS[name].label for name in self._ORDER]
        claims = [order_claim(lower, higher, values) for higher, lower in pairwise(labels)]
        controls = [METHODS[name].label for name in CONTROLS]
        return claims + [order_claim(labels[-1], control, values, is_the_papers=False) for control in controls]

    def findings(self, measured: DataFrame) -> Findings:
        """The claims."""
        claims = self.claims(measured)
        title = "Fig. 2: the ends of the curves, NLL_oracle in nats per token"
        epochs = self.study.config.pretraining.epochs + self.study.config.game.rounds
        printed: list[Table | str] = [
            claims_table(claims, self.rules, title),
            schedule_sentence(self.study),
            scheduled_sampling_sentence(epochs),
        ]
        return Findings({"claims": claim_rows(claims)}, printed)


class Fig3:
    """Fig. 3: four schedules (g, d, k).

    Args:
        study: the shared part of the cells.
        updates: generator updates of each schedule, in whole rounds.
        is_authors_oracle: whether to judge levels, which are known only for the authors' oracle.
    """

    rules = (evidence.ORDER_RULE, evidence.LEVEL_RULE)

    def __init__(self, study: Study, updates: int, is_authors_oracle: bool = False) -> None:
        self.study = study
        self.is_authors_oracle = is_authors_oracle
        self.updates = updates

    def cells(self) -> list[Cell]:
        """Only training cells."""
        return self.study.cells([schedule.method(self.updates) for schedule in SCHEDULES], ())

    def rows(self) -> list[Row]:
        """A row for each schedule, seed and measured round; update 0 is the end of MLE."""
        columns = ("nll_oracle", "nll_oracle_se", "nll_test", "nll_test_se", "entropy", "distinct")
        rows = []
        for schedule in SCHEDULES:
            gdk = {"g_steps": str(schedule.g), "d_steps": str(schedule.d), "k_epochs": str(schedule.k)}
            for seed in self.study.seeds:
                for row in self.study.learning_curve(schedule.method(self.updates), seed):
                    updates = schedule.g * int(row["index"]) if row["stage"] == "adversarial" else 0
                    found = {column: row[column] for column in columns}
                    rows.append(gdk | {"seed": str(seed), "updates": str(updates)} | found)
        return rows

    def claims(self, measured: DataFrame) -> list[Claim]:
        """Levels and order at the end."""
        values = {one.label: last_values(measured, g_steps=one.g, d_steps=one.d, k_epochs=one.k) for one in SCHEDULES}
        claims = [
            level_claim(one.label, values[one.label], one.paper_nll_oracle, False, self.is_authors_oracle)
            for one in SCHEDULES
        ]
        for higher, lower in pairwise(SCHEDULES):
            difference = round(lower.paper_nll_oracle - higher.paper_nll_oracle, 2)
            claims.append(order_claim(lower.label, higher.label, values, paper=difference))
        return claims

    def findings(self, measured: DataFrame) -> Findings:
        """The claims."""
        claims = self.claims(measured)
        title = "Fig. 3: the end of each (g, d, k), NLL_oracle in nats per token; the paper's are read off its axes"
        rounds = ", ".join(f"{one.method(self.updates).settings['game.rounds']} of g = {one.g}" for one in SCHEDULES)
        printed: list[Table | str] = [
            claims_table(claims, self.rules, title),
            f"Each (g, d, k) has about {self.updates} generator updates in whole rounds ({rounds}), after "
            f"{self.study.config.pretraining.epochs} MLE epochs; the paper gives no number.",
            f"Preset {self.study.preset}; seeds {' '.join(map(str, self.study.seeds))}.",
        ]
        return Findings({"claims": claim_rows(claims)}, printed)


class Curves:
    """NLL_oracle against NLL_test over temperatures: does any method beat MLE at a lower temperature?

    Args:
        study: the shared part of the cells.
        methods: names of the methods to train; if empty, all that the task has sizes for, without the rivals.
    """

    rules = (evidence.CURVE_RULE, evidence.PAIRED_RULE)

    def __init__(self, study: Study, methods: Sequence[str] = ()) -> None:
        self.study = study
        # The sizes of the improved methods are for the paper's task.
        left_out = () if methods else (*IMPROVED, *RIVALS) if study.task == "toy" else RIVALS
        self.methods = [
            method
            for name, method in METHODS.items()
            if method.is_trained and name not in left_out and name in (methods or METHODS)
        ]

    def cells(self) -> list[Cell]:
        """Every trained method at each of its temperatures."""
        return self.study.cells(self.methods)

    def rows(self) -> list[Row]:
        """A row for each method, seed and temperature."""
        return self.study.measurements(self.methods)

    def comparisons(self, measured: DataFrame) -> Comparisons:
        """Curve of MLE -> (method, temperature) -> comparison of the point with the curve."""
        seeds = list(measured["seed"].unique())
        by_seed = {
            (str(method), float(temperature)): group.set_index("seed").loc[seeds]
            for (method, temperature), group in measured.groupby(["method", "temperature"], sort=False)
        }
        points = {key: list(zip(group["nll_test"], group["nll_oracle"], strict=True)) for key, group in by_seed.items()}
        found: Comparisons = {}
        for curve in (curve for curve in _MLE_CURVES if curve in set(measured["method"])):
            falling = sorted((key for key in points if key[0] == curve), key=lambda key: -key[1])
            curves = list(zip(*(points[key] for key in falling), strict=True))  # one for each seed
            found[curve] = {
                key: evidence.compare_with_curve(points[key], curves, list(by_seed[key]["distinct"]))
                for key in points
                if key[0] != curve
            }
        return found

    def findings(self, measured: DataFrame) -> Findings:
        """A row for each point and curve; sentences on whether any point is below, over all seeds and within seeds."""
        comparisons = self.comparisons(measured)
        summary = [
            {"curve": curve, "method": method, "temperature": str(temperature)} | _comparison_row(comparison)
            for curve, found in comparisons.items()
            for (method, temperature), comparison in found.items()
        ]
        rules = [f"Rule: {rule}." for rule in self.rules]
        printed: list[Table | str] = [
            *curve_sentences(comparisons),
            *paired_sentences(comparisons),
            *rules,
            schedule_sentence(self.study),
        ]
        return Findings({"summary": summary}, printed)


def curve_sentences(comparisons: Comparisons) -> list[str]:
    """A sentence for each curve of MLE: whether any point is below it."""
    return [evidence.curve_sentence(METHODS[curve].label, _labelled(found)) for curve, found in comparisons.items()]


def paired_sentences(comparisons: Comparisons) -> list[str]:
    """The same within seeds, for methods that start from the runs of a curve."""
    return [
        evidence.paired_sentence(
            METHODS[curve].label,
            _labelled({key: place for key, place in found.items() if METHODS[key[0]].starts_from == curve}),
        )
        for curve, found in comparisons.items()
    ]


def _labelled(found: dict[tuple[str, float], CurveComparison]) -> dict[str, CurveComparison]:
    return {f"{METHODS[method].label} at temperature {t}": place for (method, t), place in found.items()}


def _comparison_row(comparison: CurveComparison) -> Row:
    row = {"nll_test": number(comparison.nll_test)}
    for name, values in (
        ("nll_oracle", comparison.nll_oracle),
        ("curve_nll_oracle", comparison.curve),
        ("gain", comparison.gain),
    ):
        row |= {f"{name}{part}": number(value) for part, value in zip(("", "_low", "_high"), values, strict=True)}
    return row | {"distinct": number(comparison.distinct), "place": comparison.place}
