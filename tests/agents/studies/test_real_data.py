"""`real_data`: what is computed on a corpus, what follows from rows that are given, and the command from end to end."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from agents.command import main as cli
from agents.runs.presets import TEXT
from agents.studies import real_data, reproduction
from agents.studies.cells import Outcome, compute
from agents.studies.methods import METHODS
from agents.studies.plots import plot_csv
from agents.studies.real_data import (
    MATCHED,
    REAL_DATA,
    RIVALS,
    RealTable,
    markdown_table,
    match,
    matched_row,
    matched_rows,
)
from agents.studies.record import file_fingerprint
from agents.studies.reproduction import ReproductionOptions
from agents.studies.study import Study
from agents.studies.tables import Row
from seqgan_env.measures.sample_measures import SampleMeasures
from tests.agents.conftest import tiny_config
from tests.agents.studies.measured import measured

pytest.importorskip("scipy")
pandas = pytest.importorskip("pandas")

WORDS = ("the", "cat", "dog", "sat", "on", "a", "mat", "ran", "to", "hill", "red", "blue")
SPREAD = (-0.001, 0.0, 0.001)  # of three seeds


def write_lines(path: Path, count: int = 200) -> Path:
    """Lines of three to six words, of which some repeat."""
    draw = random.Random(0)
    lines = [" ".join(draw.choices(WORDS, range(1, 13), k=draw.randint(3, 6))) for _ in range(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_tunes(path: Path, count: int = 80) -> Path:
    """Tunes of four keys, as numbers."""
    draw = random.Random(0)
    lines = [" ".join(str(draw.choice((40, 42, 44, 47))) for _ in range(8)) for _ in range(count)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def study_of(folder: Path, corpus: Path | None = None, seeds: tuple[int, ...] = (0, 1, 2), **options: Any) -> Study:
    source = None if corpus is None else str(corpus)
    return Study("text", "toy", tiny_config(), seeds, 40, folder, corpus=source, corpus_options=options)


def table(folder: Path, name: str = "poems", **changes: Any) -> RealTable:
    return RealTable(study_of(folder, **changes), REAL_DATA[name])


def row(method: str, seed: int, temperature: float, bleu: float, self_bleu: float, **more: float) -> Row:
    """A measurement whose orders of BLEU are all alike."""
    numbers: dict[str, float] = {"nll_test": 5.0, "nll_test_se": 0.1, "perplexity": 148.4, "distinct": 1.0}
    numbers |= {f"bleu{n}": bleu for n in (2, 3, 4, 5)} | {f"self_bleu{n}": self_bleu for n in (2, 3, 4, 5)}
    numbers |= {"copied": 0.01, "distinct2": 0.8, "divergence1": 0.1, "divergence2": 0.5, "seen_ngrams4": 0.3}
    numbers |= {"references": 1600, "compared": 1600} | more
    where = {"method": method, "seed": str(seed), "temperature": str(temperature)}
    return where | {name: str(value) for name, value in numbers.items()}


def rows_of(seqgan: float = 0.72, self_bleu: float = 0.55, **more: float) -> list[Row]:
    """MLE's BLEU rises from 0.66 to 0.76 as its self-BLEU does from 0.5 to 0.7; SeqGAN has one point."""
    found = []
    for seed in range(3):
        for temperature, x in ((1.0, 0.5), (0.9, 0.6), (0.8, 0.7)):
            found.append(row("mle", seed, temperature, 0.41 + 0.5 * x + SPREAD[seed], x, **more))
        for name, bleu in (("pg_bleu", 0.68), ("seqgan", seqgan), ("constant_reward", 0.67)):
            found.append(row(name, seed, 1.0, bleu + SPREAD[seed], self_bleu, **more))
            found.append(row(name, seed, 0.9, 0.99, 0.99, **more))
    found.append(row("real", 0, 1.0, 0.74, 0.52, **more) | {"nll_test": "", "nll_test_se": "", "perplexity": ""})
    return found


def text_of(figure: RealTable, rows: list[Row]) -> str:
    """What is printed on a terminal of 80 columns."""
    console = Console(file=io.StringIO(), width=80)
    for shown in figure.findings(measured(rows)).printed:
        console.print(shown, highlight=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# MLE at the same self-BLEU.


def test_mle_at_a_self_bleu_lies_on_the_line_between_two_temperatures() -> None:
    curve = [row("mle", 4, t, bleu, x) for t, bleu, x in ((1.0, 0.60, 0.50), (0.8, 0.70, 0.70), (0.9, 0.66, 0.60))]
    found = matched_row(measured(curve), 0.625, order=2)
    assert found is not None
    assert (found["method"], found["seed"]) == (MATCHED, 4)
    assert "nll_test_se" not in found
    assert float(found["temperature"]) == pytest.approx(0.875)
    assert float(found["bleu2"]) == pytest.approx(0.67)
    assert float(found["self_bleu2"]) == pytest.approx(0.625)
    assert float(found["nll_test"]) == 5.0


@pytest.mark.parametrize("target", [0.499, 0.701])
def test_beyond_the_measured_temperatures_nothing_is_said(target: float) -> None:
    curve = [row("mle", 0, t, 0.6, x) for t, x in ((1.0, 0.5), (0.8, 0.7))]
    assert matched_row(measured(curve), target, order=2) is None
    found = match(measured(rows_of(self_bleu=target)), "seqgan", 2)
    assert (found.place, found.gain) == ("beyond", ())
    assert math.isnan(found.temperature)
    assert matched_rows(measured(rows_of(self_bleu=target)), "seqgan", 2).empty


@pytest.mark.parametrize(("seqgan", "place"), [(0.70, "above"), (0.685, "not above"), (0.60, "not above")])
def test_a_method_is_above_mle_if_its_interval_over_seeds_is(seqgan: float, place: str) -> None:
    """At self-BLEU 0.55 MLE has BLEU 0.685, each seed its own."""
    found = match(measured(rows_of(seqgan)), "seqgan", 2)
    assert found.place == place
    assert found.mle_bleu == pytest.approx(0.685)
    assert found.temperature == pytest.approx(0.95)
    assert found.gain == pytest.approx([seqgan - 0.685] * 3)


def test_a_seed_is_compared_with_its_own_mle() -> None:
    rows = rows_of(0.70)
    noisy = [
        one | {"bleu2": str(float(one["bleu2"]) + 0.2 * int(one["seed"]))} if one["method"] != "real" else one
        for one in rows
    ]
    assert match(measured(noisy), "seqgan", 2).gain == pytest.approx([0.015] * 3)
    assert match(measured(noisy), "seqgan", 2).place == "above"


def test_one_seed_is_above_nothing() -> None:
    assert match(measured([one for one in rows_of(0.9) if one["seed"] == "0"]), "seqgan", 2).place == "not above"


# The table, the claims, the answers.


def test_every_method_is_measured_at_its_temperatures_and_the_real_data_once(tmp_path: Path) -> None:
    cells = table(tmp_path, corpus=write_lines(tmp_path / "c.txt")).cells()
    assert {cell.name for cell in cells if "config" in cell.settings} == {
        f"{name}-seed{seed}" for name in ("mle", *RIVALS) for seed in range(3)
    }
    measured = [
        (cell.settings["method"], cell.settings["seed"], cell.settings["temperature"])
        for cell in cells
        if "temperature" in cell.settings
    ]
    assert len(measured) == len(set(measured))
    assert set(measured) == {("real", 0, 1.0)} | {
        (name, seed, temperature)
        for name in ("mle", *RIVALS)
        for seed in range(3)
        for temperature in METHODS[name].temperatures
    }
    assert len({cell.name for cell in cells}) == len(cells)


def test_the_summary_has_a_line_a_method_mle_at_seqgans_self_bleu_and_the_real_data(tmp_path: Path) -> None:
    summary = table(tmp_path).findings(measured(rows_of())).csvs["summary"]
    lines = {line["method"]: line for line in pandas.DataFrame(summary).to_dict("records")}
    assert list(lines) == ["mle", MATCHED, "pg_bleu", "seqgan", "constant_reward", "real"]
    assert lines["seqgan"]["bleu2"] == pytest.approx(0.72)  # not 0.99, which it has at temperature 0.9
    assert lines["seqgan"]["bleu2_se"] == pytest.approx(0.001 / 3**0.5, abs=1e-6)
    assert lines[MATCHED]["bleu2"] == pytest.approx(0.685)
    assert lines[MATCHED]["temperature"] == pytest.approx(0.95)
    assert [lines[name]["paper_bleu2"] for name in ("mle", "seqgan", "real")] == [0.667, 0.7389, 0.746]
    assert math.isnan(lines["pg_bleu"]["paper_bleu2"])
    assert lines["real"]["seeds"] == 1
    assert math.isnan(lines["real"]["nll_test"])
    assert math.isnan(lines["real"]["bleu2_se"])


def test_without_a_common_self_bleu_there_is_no_such_line(tmp_path: Path) -> None:
    found = table(tmp_path).findings(measured(rows_of(self_bleu=0.9)))
    assert MATCHED not in pandas.DataFrame(found.csvs["summary"])["method"].tolist()
    (answer,) = [text for text in found.printed if isinstance(text, str) and text.startswith("SeqGAN at")]
    assert "MLE does not have this self-BLEU at any measured temperature" in answer


def test_the_papers_claim_is_judged_and_no_other(tmp_path: Path) -> None:
    claims = {claim.text: claim for claim in table(tmp_path).claims(measured(rows_of()))}
    assert {text: claim.verdict for text, claim in claims.items()} == {
        "SeqGAN > MLE in BLEU-2": "reproduced",
        "SeqGAN > PG-BLEU in BLEU-2": "not specified by the paper",
        "SeqGAN > constant reward in BLEU-2": "not specified by the paper",
    }
    claim = claims["SeqGAN > MLE in BLEU-2"]
    assert (claim.ours, claim.paper) == (pytest.approx(0.06), 0.0719)
    for seqgan in (0.66, 0.6605):  # equal, and higher by less than the seeds' spread
        judged = {claim.text: claim.verdict for claim in table(tmp_path).claims(measured(rows_of(seqgan)))}
        assert judged["SeqGAN > MLE in BLEU-2"] == "not reproduced"
    own = table(tmp_path, "text").claims(measured(rows_of()))
    assert {claim.verdict for claim in own} == {"not specified by the paper"}
    assert [claim.text for claim in table(tmp_path, "speeches").claims(measured(rows_of())) if claim.paper] == [
        "SeqGAN > MLE in BLEU-3",
        "SeqGAN > MLE in BLEU-4",
    ]


def test_answers_give_gain_interval_and_place(tmp_path: Path) -> None:
    figure = table(tmp_path)
    answers = [figure.match_sentence(found) for found in figure.matches(measured(rows_of(0.70)))]
    assert answers[1] == (
        "SeqGAN at self-BLEU-2 0.550: BLEU-2 0.700, MLE at temperature 0.95 0.685 (+0.015, 95% interval +0.015 to "
        "+0.015): above MLE."
    )
    assert answers[2].startswith("constant reward at self-BLEU-2 0.550")
    assert answers[2].endswith(": not above MLE.")


@pytest.mark.parametrize("name", REAL_DATA)
def test_all_is_printed_in_80_columns_with_rules_and_what_differs(tmp_path: Path, name: str) -> None:
    music = {"mse_nearest": 11.0, "mse_coverage": 10.9, "mse_random_pair": 45.8} if name == "music" else {}
    text = text_of(table(tmp_path, name), rows_of(**music))
    assert "…" not in text
    words = " ".join(text.split())
    for rule in (*RealTable.rules, REAL_DATA[name].differs, "against 1,600 test sequences", "Schedule toy"):
        assert rule in words
    lines = [" ".join(line.split()) for line in text.splitlines()]
    if name == "poems":
        assert "SeqGAN 0.720 ±0.001 0.739 0.550 5.000 148.4 1.0%" in lines
        assert "real data 0.740 0.746 0.520 1.0%" in lines
    if name == "music":
        assert any(line.startswith("SeqGAN 0.720") and line.endswith("11.0 10.9 45.8") for line in lines)
        assert "MLE 22.38, SeqGAN 20.62" in words


def test_the_page_table_comes_from_the_summary_alone(tmp_path: Path) -> None:
    lines = markdown_table(table(tmp_path).summary(measured(rows_of()))).splitlines()
    assert lines[0].startswith("| method | temperature | BLEU-2 | BLEU-3 ")
    assert len({line.count("|") for line in lines}) == 1
    assert "| SeqGAN | 1.00 | 0.720 ±0.001 |" in "\n".join(lines)
    assert lines[0].endswith("| paper's BLEU-2 |")
    assert lines[-1].startswith("| real data |  | 0.740 |")


# Cells.


def test_a_cell_knows_what_its_corpus_holds(tmp_path: Path) -> None:
    corpus = write_lines(tmp_path / "c.txt")
    cell = study_of(tmp_path, corpus).training(METHODS["mle"], 0)
    assert cell.settings["corpus"] == str(corpus)
    before = cell.settings["corpus_sha256"]
    with corpus.open("a", encoding="utf-8") as file:
        file.write("one more line\n")
    after = study_of(tmp_path, corpus, test_corpus=str(corpus)).training(METHODS["mle"], 0).settings
    assert after["corpus_sha256"] != before
    assert after["test_corpus_sha256"] == after["corpus_sha256"]
    assert after["corpus_options"] == {"test_corpus": str(corpus)}


def test_a_folder_is_known_by_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    first = file_fingerprint(str(folder))
    (folder / "a.txt").rename(folder / "b.txt")
    assert file_fingerprint(str(folder)) != first
    assert file_fingerprint("hf:some/name") is None
    assert file_fingerprint(None) is None


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RealTable:
    """A table on lines of words, of one seed and few temperatures, whose cells are computed; not to be changed."""
    folder = tmp_path_factory.mktemp("real")
    study = study_of(folder / "cells", write_lines(folder / "c.txt"), seeds=(0,))
    learns = tiny_config(mle_epochs=8, mle_learning_rate=0.03)
    figure = RealTable(replace(study, config=learns), REAL_DATA["text"])
    figure.methods = [replace(METHODS[name], temperatures=(1.0, 0.5)) for name in ("mle", "constant_reward")]
    for cell in figure.cells():
        assert compute(cell, figure.study.folder) == Outcome("done")
    return figure


def test_real_data_are_held_out_sequences_measured_as_samples(done: RealTable) -> None:
    task = done.study.made_task
    (real,) = [one for one in done.rows() if one["method"] == "real"]
    held_out = task.real_sequences("validation")
    expected = SampleMeasures(task).reference.measure(held_out)
    assert float(real["bleu4"]) == pytest.approx(expected.bleu[4].mean, abs=1e-6)
    assert float(real["length"]) == pytest.approx(expected.length.mean, abs=1e-6)
    assert (real["nll_test"], real["perplexity"]) == ("", "")
    assert int(real["references"]) == len(task.real_sequences("test"))


def test_all_that_is_compared_has_one_size(done: RealTable) -> None:
    assert len({(one["references"], one["compared"]) for one in done.rows()}) == 1
    assert len({tuple(one) for one in done.rows()}) == 1


def test_samples_are_those_of_the_temperature(done: RealTable) -> None:
    own = {one["temperature"]: one for one in done.rows() if one["method"] == "mle"}
    for column in ("entropy", "unigram_entropy"):
        assert float(own["0.5"][column]) < float(own["1.0"][column])
    assert float(own["1.0"]["perplexity"]) == pytest.approx(math.exp(float(own["1.0"]["nll_test"])), rel=1e-5)


def test_melodies_are_measured_by_their_pitches(tmp_path: Path) -> None:
    options = {"sequence_length": 8}
    tunes = write_tunes(tmp_path / "t.txt")
    study = replace(study_of(tmp_path / "cells", tunes, seeds=(0,), **options), task="music")
    figure = RealTable(study, REAL_DATA["music"])
    figure.methods = [replace(METHODS["mle"], temperatures=())]
    for cell in figure.cells():
        assert compute(cell, study.folder) == Outcome("done")
    (real,) = figure.rows()
    melodies = [study.made_task.real_sequences(split) for split in ("validation", "test")]
    notes = [np.array([60.0, 62.0, 64.0, 67.0])[part.numpy()] for part in melodies]
    distances = ((notes[0][:, None] - notes[1][None]) ** 2).mean(axis=2)
    assert float(real["mse_nearest"]) == pytest.approx(distances.min(axis=1).mean(), abs=1e-5)
    assert float(real["mse_random_pair"]) == pytest.approx(distances.mean(), abs=1e-5)


# From end to end.


def call(line: str) -> int:
    """The exit status of a command line."""
    try:
        cli.main(shlex.split(line))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def test_the_command_makes_csvs_picture_and_record_and_computes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(reproduction.CORPUS_SETTINGS, "text", tiny_config())
    monkeypatch.setitem(METHODS, "mle", replace(METHODS["mle"], temperatures=(1.0, 0.8)))
    monkeypatch.setattr(real_data, "RIVALS", ("seqgan",))
    corpus, out = write_lines(tmp_path / "c.txt"), tmp_path / "out"
    line = f"reproduce text --corpus {corpus} --seeds 0 1 --samples 40 --workers 0 --no-progress --out {out}"
    assert call(line) == 0
    printed = capsys.readouterr().out
    for words in ("sequences: train", "vocabulary V: 1", "BLEU-4", "real data", "results: "):
        assert words in printed
    assert {path.name for path in out.iterdir()} == {
        *("cells", "text.csv", "text_summary.csv", "text_matched.csv", "text_claims.csv", "text.png", "text.json"),
    }
    record = json.loads((out / "text.json").read_text())
    assert record["corpus"]["sequences"]["train"] == 160
    assert str(corpus) in record["command"]
    assert record["rules"] == list(RealTable.rules)
    before = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/done.json")}
    assert len(before) == 2 * 2 + 2 * (2 + len(METHODS["seqgan"].temperatures)) + 1
    assert call(line) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("cells/*/done.json")} == before
    with corpus.open("a", encoding="utf-8") as file:
        file.write("the corpus has changed\n")
    assert call(line) == 2
    assert "corpus_sha256" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("reproduce poems", "corpus is not given; poems needs one: --corpus FILE"),
        (
            "reproduce table1 --corpus x.txt",
            "corpus='x.txt' cannot be used for table1, only for one of poems",
        ),
        ("reproduce fig2 --too-long cut", "too_long='cut' cannot be used for fig2"),
        ("reproduce music --too-long cut", "too_long='cut' cannot be used for music"),
        ("reproduce text --preset paper", "preset='paper' cannot be used for text, which has its own"),
        ("reproduce text --task toy", "task='toy' cannot be used for text"),
        ("reproduce text --corpus absent.txt", "absent.txt"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_one_line(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(f"{line} --workers 0") == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_settings_of_real_sequences_come_from_options_and_kind(tmp_path: Path) -> None:
    corpus = write_lines(tmp_path / "c.txt")
    options = ReproductionOptions(corpus=str(corpus), test_corpus=str(corpus), sequence_length=9, too_long="cut")
    figure = options.figure("poems")
    assert isinstance(figure, RealTable)
    assert (figure.study.seeds, figure.study.samples, figure.study.task) == ((0, 1, 2), 10_000, "text")
    asked = {"split_block": 50, "test_corpus": str(corpus), "sequence_length": 9, "too_long": "cut"}
    assert figure.study.corpus_options == asked
    assert options.folder("poems").name == "reproduce-poems-c"
    assert figure.study.folder.parent == options.folder("poems")
    assert (figure.study.preset, figure.study.config) == ("text", TEXT)
    fast = replace(options, fast=True).figure("poems").study
    assert (fast.seeds, fast.samples) == ((0, 1), 2_000)


def test_the_picture_has_quality_against_diversity_a_panel_an_order_with_real_data_as_a_star(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    saved: list[Any] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *arguments, **keywords: saved.append(self))
    path = tmp_path / "poems.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows_of()[0]))
        writer.writeheader()
        writer.writerows(rows_of())
    plot_csv(path, tmp_path / "poems.png")
    panels = saved[0].axes
    assert [axes.get_ylabel().split()[0] for axes in panels] == ["BLEU-2", "BLEU-3", "BLEU-4", "BLEU-5"]
    by_label = {line.get_label(): line for line in panels[0].lines}
    assert by_label["MLE"].get_xdata().tolist() == pytest.approx([0.5, 0.6, 0.7])
    assert by_label["MLE"].get_ydata().tolist() == pytest.approx([0.66, 0.71, 0.76])
    assert by_label["real data"].get_marker() == "*"
    assert by_label["real data"].get_ydata()[0] == pytest.approx(0.74)
    assert by_label["constant reward"].get_linestyle() == "--"
