"""The paper's real sequences beside ours: quatrains, speeches, tunes, or a corpus of your own (Tables 2-4).

In: a corpus and seeds. Out, as for every figure: cells, measured rows, what follows from them, and what is printed. MLE
is measured over temperatures, because lowering the temperature raises BLEU for free: a method that beats MLE must beat
it at the temperature at which MLE is as little diverse, that is, has the same self-BLEU. Departures from the paper: its
splits, vocabularies, lengths, BLEU smoothing and pairing of melodies are not stated, so orders are judged, not levels.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.table import Table

from agents.runs.checkpoints import write_atomically
from agents.runs.run_folder import RunFolder
from agents.studies import evidence
from agents.studies.cells import Cell
from agents.studies.evidence import ALPHA, CONFIDENCE, Claim, interval, over_seeds, welch_test
from agents.studies.figures import schedule_sentence
from agents.studies.methods import METHODS, Method
from agents.studies.study import Study, train_run
from agents.studies.tables import Row, claim_rows, claims_table, new_table, number
from seqgan_env.tasks.music import music_task
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.text import text_task

CorpusKind = Literal["text", "music"]
SAMPLES, FAST_SAMPLES = 10_000, 2_000  # drawn for each measurement
SEEDS = (0, 1, 2)

REAL = Method("real", "real data", is_trained=False, temperatures=(1.0,))
MATCHED = "mle_matched"
_MATCHED_LABEL = "MLE, matched"
RIVALS = ("pg_bleu", "seqgan", "constant_reward")
_TRAIN, _MEASURE = f"{__name__}:train_cell", f"{__name__}:measure_cell"
_WHERE = ("method", "seed", "temperature")

ORDER_RULE = (
    f"order: reproduced if the mean over seeds is higher than the rival's with p < {ALPHA} (Welch's t-test, two-sided; "
    "one seed shows nothing)"
)
MATCHED_RULE = (
    "at the same self-BLEU: each seed's BLEU minus that of its own MLE, at the temperature at which MLE has the same "
    f"self-BLEU (linear between measured temperatures); above if the {CONFIDENCE:.0%} interval over seeds lies above 0"
)
LEVEL_RULE = "levels are not judged: the paper's split, vocabulary, smoothing and pairing are not stated"


@dataclass(frozen=True)
class RealData:
    """What the paper has measured on real sequences of a kind.

    Attributes:
        name: of the result.
        title: for people.
        kind: which task makes sequences of a corpus.
        is_bundled: whether that task brings along a corpus of this kind.
        orders: of BLEU that the paper gives; the first one is that of the curve and of matched self-BLEU.
        paper: method -> column -> the paper's value.
        options: of the task, beside those that are asked for.
        differs: what is known to differ from the paper's experiment.
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
        """n of the BLEU that comes first."""
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
            {"split_block": 50},  # stanzas of one long poem stand next to each other
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


# What is computed.


@dataclass(frozen=True)
class CorpusStudy(Study):
    """A study whose real sequences come from files.

    Attributes:
        corpus: file, folder or data set, as the task takes it; None is what the task brings along.
        options: further options of the task, `test_corpus` among them.
    """

    corpus: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def sources(self) -> dict[str, Any]:
        """The files and what they hold: a cell that was computed with other content is not taken for this one."""
        paths = {"corpus": self.corpus, "test_corpus": self.options.get("test_corpus")}
        found: dict[str, Any] = {"corpus": self.corpus, "corpus_options": self.options}
        return found | {f"{name}_sha256": fingerprint(path) for name, path in paths.items()}

    def make_task(self) -> Task:
        """Real sequences of the corpus."""
        return corpus_task(self.task, self.corpus, self.options)

    def training(self, method: Method, seed: int) -> Cell:
        """The cell that trains a method on the corpus."""
        cell = super().training(method, seed)
        return replace(cell, function=_TRAIN, settings=cell.settings | self.sources)

    def measuring(self, method: Method, seed: int, temperature: float) -> Cell:
        """The cell that measures a method, or the real data, against the test set."""
        return replace(super().measuring(method, seed, temperature), function=_MEASURE)


def fingerprint(source: str | None) -> str | None:
    """SHA-256 of a file, or of names and contents of all files in a folder; None for what is neither."""
    path = Path(source or "")
    if source is None or not path.exists():
        return None
    digest = hashlib.sha256()
    files = sorted(inner for inner in path.rglob("*") if inner.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as content:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def train_cell(settings: dict[str, Any], folder: Path, device: str) -> None:
    """Train what is left of a cell's run on a corpus."""
    train_run(
        settings,
        folder,
        device,
        lambda config: corpus_task(settings["task"], settings["corpus"], settings["corpus_options"]),
    )


def measure_cell(settings: dict[str, Any], folder: Path, device: str) -> None:
    """Measure a generator, or held-out real sequences as if they were samples; the numbers go to row.json."""
    run = RunFolder(folder.parent / settings["of"] / "run")
    measures = run.task().measures()
    stream = zlib.crc32(f"{settings['method']} at temperature {settings['temperature']}".encode())
    rng = np.random.default_rng([settings["seed"], stream])
    if settings["method"] == REAL.name:
        found = measures.real_data(settings["samples"], rng)
    else:
        generator = run.generator().to(device).at_temperature(settings["temperature"])
        found = measures.measure(generator, settings["samples"], rng)
    write_atomically(folder / "row.json", json.dumps(found.columns(), indent=2).encode())


def corpus_task(kind: str, corpus: str | None, options: dict[str, Any]) -> Task:
    """The task that makes sequences of a corpus.

    Args:
        kind: "text" or "music".
        corpus: file, folder or data set.
        options: of the task.

    Raises:
        ValueError: if the corpus cannot be used.
    """
    return (text_task if kind == "text" else music_task)(corpus, **options)


# What follows from the rows.


def numeric_columns(rows: Sequence[Row]) -> list[str]:
    """What was measured, without the standard errors of single measurements."""
    return [name for name in rows[0] if name not in _WHERE and not name.endswith("_se")]


def matched_row(curve: Sequence[Row], target: float, order: int) -> Row | None:
    """MLE of one seed at the temperature at which it has some self-BLEU, linear between the two measured nearest to it.

    Args:
        curve: MLE's rows of the seed.
        target: the self-BLEU.
        order: n of that self-BLEU.

    Returns:
        A row with method `MATCHED`, empty standard errors, and the interpolated temperature; None beyond the curve.
    """
    name = f"self_bleu{order}"
    rising = sorted(curve, key=lambda row: float(row[name]))
    x = [float(row[name]) for row in rising]
    if not x[0] <= target <= x[-1]:
        return None
    found = dict.fromkeys(curve[0], "") | {"method": MATCHED, "seed": curve[0]["seed"]}
    for column in ("temperature", *numeric_columns(curve)):
        values = [float(row[column]) if row[column] else math.nan for row in rising]
        found[column] = number(float(np.interp(target, x, values)))
    return found


def matched_rows(rows: Sequence[Row], method: str, order: int) -> list[Row]:
    """MLE at the self-BLEU that a method has at temperature 1, seed by seed; none if one lies beyond its curve."""
    found = []
    for row in at_temperature_one(rows, method):
        curve = [one for one in rows if one["method"] == "mle" and one["seed"] == row["seed"]]
        matched = matched_row(curve, float(row[f"self_bleu{order}"]), order)
        if matched is None:
            return []
        found.append(matched)
    return found


def at_temperature_one(rows: Sequence[Row], method: str) -> list[Row]:
    """A method's rows as it was trained, one a seed."""
    return [row for row in rows if row["method"] == method and (method == MATCHED or float(row["temperature"]) == 1)]


@dataclass(frozen=True)
class Match:
    """A method against MLE at the same self-BLEU.

    Attributes:
        method: its name.
        self_bleu: of the method, mean over seeds.
        temperature: at which MLE has it, mean over seeds; not a number beyond the curve.
        bleu: of the method; `mle_bleu`: of MLE there.
        gain: of each seed, BLEU minus MLE's; empty beyond the curve.
        place: "above", "not above", or "beyond": beyond MLE's measured temperatures, where nothing can be said.
    """

    method: str
    self_bleu: float
    temperature: float
    bleu: float
    mle_bleu: float
    gain: tuple[float, ...]
    place: Literal["above", "not above", "beyond"]


def match(rows: Sequence[Row], method: str, order: int) -> Match:
    """MATCHED_RULE."""
    bleu, self_bleu = f"bleu{order}", f"self_bleu{order}"
    own, matched = at_temperature_one(rows, method), matched_rows(rows, method, order)
    means = [float(np.mean([float(row[column]) for row in own])) for column in (self_bleu, bleu)]
    if not matched:
        return Match(method, means[0], math.nan, means[1], math.nan, (), "beyond")
    gain = tuple(float(row[bleu]) - float(there[bleu]) for row, there in zip(own, matched, strict=True))
    temperature, mle_bleu = (float(np.mean([float(row[name]) for row in matched])) for name in ("temperature", bleu))
    above = interval(gain)[0] > 0
    return Match(method, means[0], temperature, means[1], mle_bleu, gain, "above" if above else "not above")


def higher_claim(
    first: str, second: str, measure: str, values: dict[str, list[float]], paper: float | None = None
) -> Claim:
    """The claim that the first has the higher value of a measure, by ORDER_RULE; judged where the paper makes it.

    Args:
        first: label of the higher one.
        second: label of its rival.
        measure: for people.
        values: label -> value of each seed.
        paper: the paper's difference; None where it makes no such claim.
    """
    test = welch_test(values[second], values[first])
    verdict = evidence.order_verdict(test) if paper is not None else "not specified by the paper"
    return Claim(f"{first} > {second} in {measure}", -test.difference, paper, test.p, verdict)


class RealTable:
    """Tables 2-4 with what they do not show: diversity, likelihood, copies, a null reward, and MLE sampled sharper."""

    rules = (ORDER_RULE, MATCHED_RULE, LEVEL_RULE)

    def __init__(self, study: CorpusStudy, data: RealData) -> None:
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

    def derived(self, rows: Sequence[Row], is_authors_oracle: bool) -> dict[str, list[Row]]:
        """The table, the methods against MLE at the same self-BLEU, and the claims."""
        return {
            "summary": self.summary(rows),
            "matched": [self._match_row(one) for one in self.matches(rows)],
            "claims": claim_rows(self.claims(rows)),
        }

    def summary(self, rows: Sequence[Row]) -> list[Row]:
        """Means and errors over seeds: each method at temperature 1, MLE at SeqGAN's self-BLEU, the real data."""
        measured = numeric_columns(rows)
        summary = []
        everything = [*rows, *matched_rows(rows, "seqgan", self.data.order)]
        for name, label in self._lines().items():
            own = at_temperature_one(everything, name)
            if not own:
                continue
            line: Row = {"method": name, "label": label, "seeds": str(len(own))}
            for column in ("temperature", *measured):
                values = [float(row[column]) for row in own if row[column]]
                mean = over_seeds(values) if values else None
                line |= {
                    column: number(None if mean is None else mean.mean),
                    f"{column}_se": number(None if mean is None else mean.standard_error),
                }
            paper = self.data.paper.get(name, {})
            columns = sorted({column for values in self.data.paper.values() for column in values})
            summary.append(line | {f"paper_{column}": number(paper.get(column)) for column in columns})
        return summary

    def _lines(self) -> dict[str, str]:
        """Method -> label of the table's lines, in their order."""
        labels = {method.name: method.label for method in self.methods}
        return {"mle": labels.pop("mle"), MATCHED: _MATCHED_LABEL} | labels | {REAL.name: REAL.label}

    def matches(self, rows: Sequence[Row]) -> list[Match]:
        """Each rival of MLE against MLE at the same self-BLEU."""
        return [match(rows, name, self.data.order) for name in RIVALS]

    def _match_row(self, found: Match) -> Row:
        row = {"method": found.method, "order": str(self.data.order)}
        for name in ("self_bleu", "temperature", "bleu", "mle_bleu"):
            row[name] = number(getattr(found, name))
        gain = (float(np.mean(found.gain)), *interval(found.gain)) if found.gain else (math.nan,) * 3
        for name, value in zip(("gain", "gain_low", "gain_high"), gain, strict=True):
            row[name] = number(value)
        return row | {"place": found.place}

    def claims(self, rows: Sequence[Row]) -> list[Claim]:
        """SeqGAN above MLE in the paper's BLEU (judged), and above PG-BLEU and the constant reward (not its claims)."""
        claims = []
        seqgan = METHODS["seqgan"]
        for order in self.data.orders:
            column = f"bleu{order}"
            values = {
                method.label: [float(row[column]) for row in at_temperature_one(rows, method.name)]
                for method in self.methods
            }
            paper = [self.data.paper.get(name, {}).get(column) for name in ("seqgan", "mle")]
            difference = None if paper[0] is None or paper[1] is None else round(paper[0] - paper[1], 4)
            for method in self.methods:
                if method is not seqgan:
                    theirs = difference if method.name == "mle" else None
                    claims.append(higher_claim(seqgan.label, method.label, f"BLEU-{order}", values, theirs))
        return claims

    def answers(self, rows: Sequence[Row]) -> list[str]:
        """Each rival against MLE at the same self-BLEU, a sentence each."""
        answers = []
        order = self.data.order
        for found in self.matches(rows):
            label = METHODS[found.method].label
            start = f"{label} at self-BLEU-{order} {found.self_bleu:.3f}: BLEU-{order} {found.bleu:.3f}"
            if found.place == "beyond":
                answers.append(f"{start}; MLE has no such self-BLEU at the temperatures that were measured.")
                continue
            low, high = interval(found.gain)
            bounds = f", {CONFIDENCE:.0%} interval {low:+.3f} to {high:+.3f}" if math.isfinite(low) else ""
            answers.append(
                f"{start}, MLE at temperature {found.temperature:.2f} {found.mle_bleu:.3f} "
                f"({float(np.mean(found.gain)):+.3f}{bounds}): {found.place} MLE."
            )
        return answers

    def printed(self, rows: Sequence[Row], is_authors_oracle: bool) -> list[Table | str]:
        """Both tables, the answers, the claims, what differs from the paper, the schedule."""
        summary = self.summary(rows)
        real = summary[-1]
        return [
            self._quality_table(summary),
            self._diversity_table(summary),
            *self.answers(rows),
            claims_table(self.claims(rows), self.rules),
            *([f"What differs: {self.data.differs}"] if self.data.differs else []),
            f"BLEU is the mean of sentence BLEU against {int(float(real['references'])):,} test sequences; self-BLEU "
            f"and what counts n-grams take {int(float(real['compared'])):,} samples; real data are held-out sequences, "
            "measured as if they were samples.",
            schedule_sentence(self.study),
        ]

    def _quality_table(self, summary: Sequence[Row]) -> Table:
        order = self.data.order
        table = new_table(
            f"{self.data.title}: mean over seeds ± standard error, temperature 1",
            "BLEU alone rises when a generator repeats itself, and self-BLEU shows it. The last line is what real "
            "sequences score; NLL_test in nats per token. MLE, matched: at the temperature at which MLE repeats itself "
            "as much as SeqGAN.",
        )
        table.add_column("method", no_wrap=True)
        has_paper = bool(self.data.paper)
        headings = [f"BLEU-{order}", *(["paper"] if has_paper else []), *(f"BLEU-{n}" for n in self.data.orders[1:])]
        for heading in (*headings, f"self-{order}", "NLL_test", "perpl.", "copied"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in summary:
            cells = [_mean(row, f"bleu{order}", with_error=True)]
            if has_paper:
                cells.append(_mean(row, f"paper_bleu{order}"))
            cells += [_mean(row, f"bleu{n}") for n in self.data.orders[1:]]
            cells += [_mean(row, f"self_bleu{order}"), _mean(row, "nll_test"), _mean(row, "perplexity", 1)]
            table.add_row(row["label"], *cells, f"{float(row['copied']):.1%}")
        return table

    def _diversity_table(self, summary: Sequence[Row]) -> Table:
        is_music = "mse_nearest" in summary[0]
        columns = {f"bleu{n}": f"B-{n}" for n in (2, 3, 4, 5)}
        columns |= {"distinct2": "dist-2", "divergence1": "JSD-1", "divergence2": "JSD-2", "seen_ngrams4": "seen-4"}
        if is_music:
            columns |= {"mse_nearest": "MSE", "mse_coverage": "cover", "mse_random_pair": "random"}
            for name in ("bleu3", "bleu5", "divergence1", "seen_ngrams4"):
                del columns[name]
        caption = (
            "dist-2: different bigrams by all; JSD: divergence of n-gram shares from the test set's, bits; seen-4: "
            "share of 4-grams that stand in the training set."
        )
        if is_music:
            paper = ", ".join(f"{METHODS[name].label} {values['mse']}" for name, values in self.data.paper.items())
            caption += (
                " MSE: squared semitones to the nearest test melody; cover: of each test melody to the nearest sample; "
                f"random: to a random one. The paper, which does not say which: {paper}."
            )
        table = new_table("The same measurements from other sides", caption)
        table.add_column("method", no_wrap=True)
        for heading in columns.values():
            table.add_column(heading, justify="right", no_wrap=True)
        for row in summary:
            table.add_row(row["label"], *(_mean(row, name, 1 if name.startswith("mse") else 3) for name in columns))
        return table


def _mean(row: Row, column: str, digits: int = 3, with_error: bool = False) -> str:
    """Such as 0.739 ±0.002; empty where nothing was measured."""
    if not row.get(column):
        return ""
    error = row.get(f"{column}_se") if with_error else ""
    return f"{float(row[column]):.{digits}f}" + (f" ±{float(error):.{digits}f}" if error else "")


def markdown_table(summary: Sequence[Row]) -> str:
    """A summary as the table of `docs/real-data.md`, from its CSV alone.

    Args:
        summary: the lines of a `*_summary.csv`.
    """
    shown = {f"bleu{n}": f"BLEU-{n}" for n in (2, 3, 4, 5)}
    papers = {
        name: f"paper's {name.removeprefix('paper_').replace('bleu', 'BLEU-').replace('mse', 'MSE')}"
        for name in summary[0]
        if name.startswith("paper_")
    }
    shown |= {f"self_bleu{n}": f"self-BLEU-{n}" for n in (2, 4)}
    shown |= {"nll_test": "NLL_test", "perplexity": "perplexity", "distinct2": "distinct-2", "divergence1": "JSD-1"}
    shown |= {"divergence2": "JSD-2", "seen_ngrams4": "seen 4-grams", "copied": "copied"}
    if "mse_nearest" in summary[0]:
        shown |= {"mse_nearest": "MSE, nearest", "mse_coverage": "MSE, coverage", "mse_random_pair": "MSE, random pair"}
    shown |= papers
    lines = [["method", "temperature", *shown.values()], ["---"] * (len(shown) + 2)]
    for row in summary:
        temperature = "" if row["method"] == REAL.name else _mean(row, "temperature", 2)
        cells = []
        for name in shown:
            digits = 1 if name == "perplexity" else 2 if "mse" in name else 4 if name in ("copied", *papers) else 3
            cells.append(_mean(row, name, digits, with_error=name.startswith(("bleu", "self_bleu", "nll"))))
        lines.append([row["label"], temperature, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
