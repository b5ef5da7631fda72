"""Learner x seed from one pretraining: does another learner do better than REINFORCE in SeqGAN's own game?

In: a study and learners. All learners of a seed start from the same generator after MLE, play against the same initial
discriminator, and have the same rounds, sequences and discriminator steps. Each has a twin whose reward is constant.
Out, as for every figure: cells, measured rows, findings. A learner is judged by its distance from the temperature curve
of its seed's MLE, because NLL_oracle and BLEU alone also improve when a generator loses diversity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from rich.table import Table

from agents.learner_options import expect_learner
from agents.runs.presets import LEARNER_RATES, NO_GAME, with_learner
from agents.seqgan import SeqGANConfig
from agents.setting_paths import changed
from agents.studies import evidence
from agents.studies.cells import Cell, processor_minutes_of
from agents.studies.evidence import ALPHA, CONFIDENCE, falling_branch, interval, value_at
from agents.studies.figures import Findings, schedule_sentence
from agents.studies.methods import METHODS, Method
from agents.studies.real_data import RealData, matched_row, numeric_columns
from agents.studies.study import Study
from agents.studies.tables import Row, means_and_errors, new_table, number, pandas

if TYPE_CHECKING:
    from pandas import DataFrame

RIVAL = "reinforce"  # the paper's learner, which the others are compared with
# Name in the CSVs -> learner, and settings that differ from its own.
_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "reinforce_baseline": ("reinforce", {"learner.baseline": "step_mean"}),
}
COMPARED = ("reinforce", "reinforce_baseline", "rloo", "grpo", "ppo", "a2c", "trpo")
LABELS = {
    "reinforce": "REINFORCE",
    "reinforce_baseline": "REINFORCE, mean",
    "rloo": "RLOO",
    "grpo": "GRPO",
    "ppo": "PPO",
    "a2c": "A2C",
    "trpo": "TRPO",
}
TWIN = "_constant_reward"
PretrainingName = Literal["mle", "mle_held_out", "mle_regularised"]

Verdict = Literal["better", "not shown", "worse"]
VERDICT_RULE = (
    f"a learner is better or worse than REINFORCE if its seeds' differences from it differ from 0 with p < {ALPHA} "
    "(t-test within seeds, two-sided, Holm's correction for the number of learners); Welch's test, which forgets the "
    "pairs, and one seed are no verdict"
)


def expect_compared(names: Sequence[str]) -> None:
    """Check names of learners.

    Raises:
        ValueError: for a name that is neither a learner's nor a variant's, or that occurs twice.
    """
    if len(set(names)) < len(names):
        raise ValueError(f"learners={tuple(names)} must differ")
    for name in names:
        expect_learner(_VARIANTS.get(name, (name,))[0])


def label_of(method: str) -> str:
    """Label of a learner or of its twin in tables and pictures."""
    name = method.removesuffix(TWIN)
    label = LABELS.get(name, name)
    return f"{label}, constant reward" if method.endswith(TWIN) else label


def learner_method(
    name: str, base: SeqGANConfig, preset: str, starts_from: PretrainingName = "mle", is_twin: bool = False
) -> Method:
    """The game of one learner as a method of a study.

    Args:
        name: a learner as `--learner` names it, or one of our variants of it.
        base: settings of the study.
        preset: name of the preset that they come from.
        starts_from: the method whose pretraining it shares.
        is_twin: whether the reward is constant instead of the discriminator's.
    """
    learner, changes = _VARIANTS.get(name, (name, {}))
    if (rate := LEARNER_RATES.get(preset, {}).get(name)) is not None:
        changes = changes | {"learner.learning_rate": rate}
    other = changed(with_learner(base, learner, preset), changes)
    settings = {path: value for path, value in METHODS[starts_from].settings.items() if path not in NO_GAME}
    settings["learner"] = other.learner
    settings |= {f"game.{name}": getattr(other.game, name) for name in ("reward_mode", "reward_model", "anchor_weight")}
    if is_twin:
        settings["game.reward_model"] = "constant"
    temperatures = (1.0,) if is_twin else (1.1, 1.0, 0.9, 0.8)
    return Method(f"{name}{TWIN * is_twin}", label_of(name), settings, starts_from, temperatures=temperatures)


@dataclass(frozen=True)
class Score:
    """A measure by which learners are judged.

    Attributes:
        name: column of the CSVs.
        label: heading of tables.
        is_higher_better: its direction.
    """

    name: str
    label: str
    is_higher_better: bool


@dataclass(frozen=True)
class Difference:
    """A learner's score minus REINFORCE's.

    Attributes:
        learner: its name.
        score: name of the score.
        mean: mean over seeds.
        low, high: interval of the mean, from the seeds' differences.
        p_within: t-test of these differences; NaN with one seed.
        p_welch: Welch's test, which takes the two learners' seeds as independent.
        verdict: VERDICT_RULE.
    """

    learner: str
    score: str
    mean: float
    low: float
    high: float
    p_within: float
    p_welch: float
    verdict: Verdict


def differences(scores: Mapping[str, Sequence[float]], score: Score) -> list[Difference]:
    """Every learner compared with REINFORCE.

    Args:
        scores: learner -> score of each seed, in the same order.
        score: which.
    """
    rival = np.asarray(scores[RIVAL], dtype=np.float64)
    found = []
    for learner, own in scores.items():
        if learner == RIVAL:
            continue
        gap = np.asarray(own, dtype=np.float64) - rival
        low, high = interval(list(gap))
        welch = evidence.welch_test(own, list(rival)).p
        found.append(Difference(learner, score.name, float(gap.mean()), low, high, _p(gap), welch, "not shown"))
    adjusted = holm([one.p_within for one in found])
    return [
        replace(one, verdict=_verdict(one.mean, p, score.is_higher_better))
        for one, p in zip(found, adjusted, strict=True)
    ]


def _p(gap: np.ndarray) -> float:
    if len(gap) < 2 or np.ptp(gap) == 0 or not np.isfinite(gap).all():
        return math.nan
    return float(evidence.scipy("stats").ttest_1samp(gap, 0.0).pvalue)


def _verdict(mean: float, p: float, is_higher_better: bool) -> Verdict:
    if not p < ALPHA:  # also if it is NaN
        return "not shown"
    return "better" if (mean > 0) == is_higher_better else "worse"


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values that allow for their number: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    Args:
        p_values: of several tests; NaN stays NaN and is not counted.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        adjusted[place] = least
    return adjusted


class LearnerGrid:
    """The games of several learners, judged against REINFORCE.

    Args:
        study: the shared part of the cells.
        learners: names as in `COMPARED`; if empty, all of these. REINFORCE is always played.
        starts_from: the pretraining that all of them start from.
        data: the real sequences, for tasks with a corpus; None for an oracle.
    """

    rules = (VERDICT_RULE,)

    def __init__(
        self,
        study: Study,
        learners: Sequence[str] = (),
        starts_from: PretrainingName = "mle",
        data: RealData | None = None,
    ) -> None:
        self.study = study
        self.data = data
        self.learners = list(dict.fromkeys((RIVAL, *(learners or COMPARED))))
        self.pretraining = METHODS[starts_from]
        self.games, self.twins = (
            [learner_method(name, study.config, study.preset, starts_from, is_twin) for name in self.learners]
            for is_twin in (False, True)
        )
        self.scores = (
            Score("gain", "gain", is_higher_better=True),
            Score("nll_test", "NLL_test", is_higher_better=False),
        )

    @property
    def methods(self) -> list[Method]:
        """MLE, the learners, and their twins."""
        return [self.pretraining, *self.games, *self.twins]

    def cells(self) -> list[Cell]:
        """MLE over its temperatures, each learner over some, each twin at temperature 1."""
        return self.study.cells(self.methods)

    def rows(self) -> list[Row]:
        """A row for each method, seed and temperature, with the minutes of its training after MLE."""
        study = self.study
        minutes = {
            (method.name, str(seed)): processor_minutes_of(study.training(method, seed).folder(study.folder))
            for method in self.methods
            for seed in study.seeds
        }
        rows = study.measurements(self.methods)
        for row, gain in zip(rows, self._gains(rows), strict=True):
            row |= {"minutes": f"{minutes[row['method'], row['seed']]:.3f}", "gain": number(gain)}
            if self.data is not None:
                row["gain_order"] = str(self.data.order)
        return rows

    def _gains(self, rows: Sequence[Row]) -> list[float]:
        """The distance of every row at temperature 1 from the MLE curve of its seed; NaN for the curve itself.

        With an oracle: NLL_oracle of MLE at the same NLL_test, minus that of the learner. With a corpus: BLEU minus
        that of MLE at the same self-BLEU. NaN beyond the end of the curve.
        """
        frame = pandas().DataFrame(rows)
        columns = ["temperature", *(name for name in frame if name.startswith(("nll", "bleu", "self_bleu")))]
        frame = frame.astype(dict.fromkeys(columns, float))
        is_curve = frame["method"] == self.pretraining.name
        gains = []
        for _, row in frame.iterrows():
            own = is_curve & (frame["seed"] == row["seed"])
            is_point = row["temperature"] == 1 and row["method"] != self.pretraining.name
            gains.append(self._gain(row, frame.loc[own, ["method", "seed", *columns]]) if is_point else math.nan)
        return gains

    def _gain(self, point: Any, curve: DataFrame) -> float:
        if self.data is None:
            falling = curve.sort_values("temperature", ascending=False)
            branch = falling_branch(list(zip(falling["nll_test"], falling["nll_oracle"], strict=True)))
            return value_at(branch, float(point["nll_test"])) - float(point["nll_oracle"])
        order = self.data.order
        found = matched_row(curve, point[f"self_bleu{order}"], order)
        return math.nan if found is None else float(point[f"bleu{order}"] - found[f"bleu{order}"])

    def findings(self, measured: DataFrame) -> Findings:
        """The learners, the verdicts, and at which cost."""
        is_game = (measured["temperature"] == 1) & (measured["method"] != self.pretraining.name)
        scored = measured[is_game]
        summary = self.summary(scored)
        compared = self.compared(scored)
        printed: list[Table | str] = [
            self._table(summary),
            self._verdict_table(compared),
            *self._sentences(summary, compared),
            *(f"Rule: {rule}." for rule in self.rules),
            schedule_sentence(self.study),
        ]
        verdicts = pandas().DataFrame([asdict(one) for one in compared])
        return Findings({"summary": summary, "verdicts": verdicts}, printed)

    def summary(self, scored: DataFrame) -> DataFrame:
        """A row for each learner and twin: means and standard errors over seeds, and intervals of the gains.

        "over_twin" is the gain of a learner minus that of its twin, seed by seed.
        """
        columns = [name for name in numeric_columns(scored) if not name.endswith("_se")]
        names = [method.name for method in (*self.games, *self.twins)]
        summary = means_and_errors(scored, names, columns)
        summary.insert(1, "label", [label_of(name) for name in names])
        for name in ("gain", "over_twin"):
            values = [self._paired(scored, method, name) for method in names]
            bounds = [(float(np.mean(own)), *interval(own)) if own else (math.nan,) * 3 for own in values]
            for place, column in enumerate((name, f"{name}_low", f"{name}_high")):
                summary[column] = [found[place] for found in bounds]
        return summary

    def _paired(self, scored: DataFrame, method: str, column: str) -> list[float]:
        """A learner's gain in each seed, or what it has more than its twin; nothing for the latter of a twin."""
        own = _values(scored, method, "gain")
        if column == "gain":
            return own
        twin = _values(scored, f"{method}{TWIN}", "gain")
        return [one - other for one, other in zip(own, twin, strict=True)] if twin else []

    def compared(self, scored: DataFrame) -> list[Difference]:
        """Every learner against REINFORCE, in every score."""
        return [
            one
            for score in self.scores
            for one in differences({name: _values(scored, name, score.name) for name in self.learners}, score)
        ]

    @property
    def _measures(self) -> tuple[tuple[str, str], ...]:
        """Columns of the table, and their headings."""
        if self.data is None:
            return ("nll_oracle", "NLL_oracle"), ("nll_test", "NLL_test"), ("entropy", "H(G)")
        order = self.data.order
        return (f"bleu{order}", f"BLEU-{order}"), (f"self_bleu{order}", f"self-{order}"), ("nll_test", "NLL_test")

    @property
    def _gain_is(self) -> str:
        if self.data is None:
            return "nats per token of NLL_oracle below the temperature curve of the same seed's MLE, at equal NLL_test"
        return f"BLEU-{self.data.order} above the same seed's MLE at equal self-BLEU"

    def _table(self, summary: DataFrame) -> Table:
        table = new_table(
            f"Learners in the game, after the same MLE: means of {len(self.study.seeds)} seeds",
            f"gain: {self._gain_is}, with its {CONFIDENCE:.0%} interval. over twin: more than the same learner gains "
            "with a constant reward. min: of one core, for the game without MLE.",
        )
        table.add_column("learner", no_wrap=True)
        for heading in (*(heading for _, heading in self._measures), "gain", "over twin", "min"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in summary.to_dict("records"):
            if row["method"] not in self.learners:
                continue
            cells = [f"{row[name]:.3f}" for name, _ in self._measures]
            gains = [_with_bounds(row, name) for name in ("gain", "over_twin")]
            table.add_row(row["label"], *cells, *gains, f"{row['minutes']:.1f}")
        return table

    def _verdict_table(self, compared: Sequence[Difference]) -> Table:
        table = new_table(
            "Each learner minus REINFORCE, within seeds",
            f"{CONFIDENCE:.0%} intervals and p-values before Holm's correction; Welch: the p-value without pairs.",
        )
        table.add_column("learner", no_wrap=True)
        table.add_column("score", no_wrap=True)
        for heading in ("difference", "p", "Welch"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        labels = {score.name: score.label for score in self.scores}
        for one in compared:
            p_values = ["" if math.isnan(p) else f"{p:.1g}" for p in (one.p_within, one.p_welch)]
            difference = _bounds_text(one.mean, one.low, one.high)
            table.add_row(label_of(one.learner), labels[one.score], difference, *p_values, one.verdict)
        return table

    def _sentences(self, summary: DataFrame, compared: Sequence[Difference]) -> list[str]:
        """For each learner: its verdicts, and its minutes as a share of REINFORCE's."""
        minutes = dict(zip(summary["method"], summary["minutes"], strict=True))
        found = []
        for name in self.learners:
            own = {one.score: one.verdict for one in compared if one.learner == name}
            if own:
                verdicts = " and ".join(f"{own[score.name]} in {score.label}" for score in self.scores)
                share = minutes[name] / minutes[RIVAL] if minutes[RIVAL] else math.nan
                found.append(f"{label_of(name)} against REINFORCE: {verdicts}, in {share:.2f} times its minutes.")
        return found


def _values(scored: DataFrame, method: str, column: str) -> list[float]:
    return [float(value) for value in scored.loc[scored["method"] == method, column]]


def _with_bounds(row: Mapping[str, Any], column: str) -> str:
    return _bounds_text(*(row[name] for name in (column, f"{column}_low", f"{column}_high")))


def _bounds_text(mean: float, low: float, high: float) -> str:
    """ "+0.123±0.023"; only the mean for one seed; empty beyond the end of a curve."""
    if math.isnan(mean):
        return ""
    return f"{mean:+.3f}" + (f"±{(high - low) / 2:.3f}" if math.isfinite(low) else "")
