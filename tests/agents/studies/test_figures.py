"""`figures`: what is computed for each result, and what follows from rows that are given."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from agents.studies.evidence import Claim
from agents.studies.figures import (
    Curves,
    Fig2,
    Fig3,
    Figure,
    Findings,
    Table1,
    curve_sentences,
    schedule_sentence,
    scheduled_sampling_sentence,
)
from agents.studies.methods import IMPROVED, METHODS, PAPER_ORDER, RIVALS
from agents.studies.study import Study
from agents.studies.tables import Row
from tests.agents.conftest import tiny_config
from tests.agents.studies.measured import measured

pytest.importorskip("scipy")
pandas = pytest.importorskip("pandas")

OURS = {
    "random": 11.42,
    "mle": 9.05,
    "scheduled_sampling": 9.00,
    "pg_bleu": 9.10,
    "seqgan": 8.70,
    "shuffled_reward": 8.75,
    "random_reward": 8.80,
    "constant_reward": 8.69,
    "mle_held_out": 9.50,
    "oracle": 5.74,
}
SPREAD = (-0.001, 0.0, 0.001)  # of three seeds


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study("toy", "toy", tiny_config(), (0, 1, 2), 60, tmp_path)


def point(method: str, seed: int, temperature: float, nll_oracle: float, nll_test: float) -> Row:
    numbers = {"nll_oracle": nll_oracle, "nll_test": nll_test, "entropy": 6.0, "kl_from_oracle": 3.0}
    numbers |= {"kl_to_oracle": 2.5, "distinct": 1.0}
    where = {"method": method, "seed": str(seed), "temperature": str(temperature)}
    return where | {name: str(value) for name, value in numbers.items()}


def table_rows() -> list[Row]:
    return [point(name, seed, 1.0, OURS[name] + SPREAD[seed], 8.5) for name in OURS for seed in range(3)]


def by_text(claims: list[Claim]) -> dict[str, Claim]:
    return {claim.text: claim for claim in claims}


def findings(figure: Figure, rows: list[Row]) -> Findings:
    return figure.findings(measured(rows))


def text_of(found: Findings) -> str:
    """What is printed on a terminal of 80 columns."""
    console = Console(file=io.StringIO(), width=80)
    for shown in found.printed:
        console.print(shown, highlight=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# Table 1.


def test_table1_measures_every_method_once_a_seed(study: Study) -> None:
    cells = Table1(study).cells()
    trained = {cell.name for cell in cells if "config" in cell.settings}
    shown = [name for name in METHODS if name not in (*IMPROVED, *RIVALS)]
    assert trained == {f"{name}-seed{seed}" for name in shown if METHODS[name].is_trained for seed in range(3)}
    measured = {(cell.settings["method"], cell.settings["seed"]) for cell in cells if "temperature" in cell.settings}
    assert measured == {(name, seed) for name in shown for seed in range(3)}
    assert {cell.settings["temperature"] for cell in cells if "temperature" in cell.settings} == {1.0}


def test_table1_gives_each_cell_of_the_paper_a_verdict(study: Study) -> None:
    claims = by_text(Table1(study, is_authors_oracle=True).claims(measured(table_rows())))
    assert {text: claim.verdict for text, claim in claims.items()} == {
        "random: level": "not reproduced",
        "MLE: level": "reproduced",
        "scheduled sampling: level": "reproduced",
        "PG-BLEU: level": "not reproduced",
        "SeqGAN: level": "reproduced",
        "MLE < random": "reproduced",
        "scheduled sampling < MLE": "reproduced",
        "PG-BLEU < scheduled sampling": "not reproduced",
        "SeqGAN < PG-BLEU": "reproduced",
        "SeqGAN < random (p<1e-6)": "reproduced",
        "SeqGAN < MLE (p<1e-6)": "reproduced",
        "SeqGAN < scheduled sampling (p<1e-6)": "reproduced",
        "SeqGAN < PG-BLEU (p<1e-6)": "reproduced",
        "SeqGAN < shuffled reward": "not specified by the paper",
        "SeqGAN < random reward": "not specified by the paper",
        "SeqGAN < constant reward": "not specified by the paper",
    }
    assert claims["SeqGAN < MLE (p<1e-6)"].ours == pytest.approx(-0.35)
    assert claims["SeqGAN < MLE (p<1e-6)"].paper == -0.302
    assert claims["SeqGAN < constant reward"].ours == pytest.approx(0.01)
    assert claims["SeqGAN < constant reward"].p is not None


def test_table1_of_some_methods_claims_what_these_can_show(study: Study) -> None:
    table = Table1(study, ("seqgan", "mle", "constant_reward"), is_authors_oracle=True)
    rows = measured([row for row in table_rows() if row["method"] in ("seqgan", "mle", "constant_reward")])
    assert list(by_text(table.claims(rows))) == [
        "MLE: level",
        "SeqGAN: level",
        "SeqGAN < MLE",
        "SeqGAN < MLE (p<1e-6)",
        "SeqGAN < constant reward",
    ]
    assert table.summary(rows)["method"].tolist() == ["seqgan", "mle", "constant_reward"]
    assert list(by_text(Table1(study, ("mle",)).claims(rows))) == ["MLE: level"]


def test_on_another_oracle_orders_are_judged_and_levels_are_not(study: Study) -> None:
    for text, claim in by_text(Table1(study).claims(measured(table_rows()))).items():
        is_specified = "level" not in text and "reward" not in text
        assert (claim.verdict == "not specified by the paper") is not is_specified, text


def test_table1s_summary_has_means_errors_and_the_papers_value(study: Study) -> None:
    csvs = findings(Table1(study, is_authors_oracle=True), table_rows()).csvs
    assert list(csvs) == ["summary", "claims"]
    summary = {row["method"]: row for row in pandas.DataFrame(csvs["summary"]).to_dict("records")}
    assert list(summary) == [name for name in METHODS if name not in (*IMPROVED, *RIVALS)]
    seqgan = summary["seqgan"]
    assert (seqgan["nll_oracle"], seqgan["paper_nll_oracle"], seqgan["seeds"]) == (pytest.approx(8.7), "8.736000", 3)
    assert seqgan["nll_oracle_se"] == pytest.approx(0.001 / 3**0.5, abs=1e-6)
    assert (seqgan["nll_test"], seqgan["nll_test_se"], seqgan["verdict"]) == (8.5, 0, "reproduced")
    assert summary["constant_reward"]["paper_nll_oracle"] == ""
    assert summary["constant_reward"]["verdict"] == "not specified by the paper"


def test_table1_is_printed_with_both_nlls_the_rules_and_the_schedule_in_80_columns(study: Study) -> None:
    text = text_of(findings(Table1(study, is_authors_oracle=True), table_rows()))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "SeqGAN 8.700 ±0.001 8.736 8.500 ±0.000 3.000 2.500" in lines
    assert "constant reward 8.690 ±0.001 8.500 ±0.000 3.000 2.500" in lines
    for words in (*Table1.rules, schedule_sentence(study), "with probability 0.998"):
        assert words in " ".join(" ".join(lines).split())
    assert "…" not in text


def test_sentences_say_what_was_scheduled(study: Study) -> None:
    assert schedule_sentence(study) == (
        "Schedule toy: 2 MLE epochs, then 3 rounds of g = 1, d = 1, k = 1; seeds 0 1 2; 60 samples per measurement."
    )
    assert "with probability 0.922 " in scheduled_sampling_sentence(40)
    assert "with probability 0.000 " in scheduled_sampling_sentence(1000)


# Figure 2.


def curve_rows(ends: dict[str, float]) -> list[Row]:
    rows = []
    for method, end in ends.items():
        for seed in range(3):
            for epoch, value in ((5, 9.5), (10, end + SPREAD[seed])):
                row = {"method": method, "seed": str(seed), "stage": "mle", "epoch": str(epoch)}
                rows.append(row | {"nll_oracle": str(value), "nll_test": "8"})
    return rows


def test_fig2_trains_all_that_learns_and_lets_mle_go_on(study: Study) -> None:
    cells = Fig2(study).cells()
    names = {cell.name.removesuffix("-seed0") for cell in cells if cell.name.endswith("-seed0")}
    assert names == {
        *("mle", "mle_continued", "scheduled_sampling_continued", "pg_bleu", "seqgan"),
        *("shuffled_reward", "random_reward", "constant_reward"),
    }
    epochs = {cell.name: cell.settings["config"]["pretraining"]["epochs"] for cell in cells}
    assert (epochs["mle-seed1"], epochs["mle_continued-seed1"]) == (2, 5)


def test_fig2_judges_where_the_curves_end(study: Study) -> None:
    ends = {name: OURS[name] for name in OURS if name not in ("random", "oracle", "mle_held_out")}
    figure = Fig2(study)
    claims = by_text(figure.claims(measured(curve_rows(ends))))
    assert {text: claim.verdict for text, claim in claims.items() if "reward" not in text} == {
        "scheduled sampling < MLE": "reproduced",
        "PG-BLEU < scheduled sampling": "not reproduced",
        "SeqGAN < PG-BLEU": "reproduced",
    }
    assert claims["SeqGAN < PG-BLEU"].ours == pytest.approx(-0.4)
    assert claims["SeqGAN < constant reward"].verdict == "not specified by the paper"
    found = findings(figure, curve_rows(ends))
    assert "with probability 0.992 " in " ".join(text_of(found).split())  # five epochs, not two
    assert pandas.DataFrame(found.csvs["claims"])["claim"].tolist() == list(claims)


# Figure 3.


def test_fig3_has_four_schedules_of_equal_updates_and_judges_their_ends(study: Study) -> None:
    figure = Fig3(study, updates=60, is_authors_oracle=True)
    configs = {cell.name: cell.settings["config"] for cell in figure.cells() if cell.name.endswith("seed0")}
    assert {name: config["game"]["rounds"] * config["game"]["g_steps"] for name, config in configs.items()} == {
        "mle-seed0": 0,
        "seqgan_g100_d1_k10-seed0": 100,
        "seqgan_g30_d1_k30-seed0": 60,
        "seqgan_g1_d1_k10-seed0": 60,
        "seqgan_g1_d5_k3-seed0": 60,
    }
    ends = {("100", "1", "10"): 8.94, ("30", "1", "30"): 8.80, ("1", "1", "10"): 8.90, ("1", "5", "3"): 8.70}
    rows = [
        {"g_steps": g, "d_steps": d, "k_epochs": k, "seed": str(seed), "updates": updates, "nll_oracle": str(value)}
        for (g, d, k), end in ends.items()
        for seed in range(3)
        for updates, value in (("0", 9.05), ("60", end + SPREAD[seed]))
    ]
    claims = figure.claims(measured(rows))
    assert {claim.text: claim.verdict for claim in claims} == {
        "(100, 1, 10): level": "reproduced",
        "(30, 1, 30): level": "not reproduced",
        "(1, 1, 10): level": "not reproduced",
        "(1, 5, 3): level": "reproduced",
        "(30, 1, 30) < (100, 1, 10)": "reproduced",
        "(1, 1, 10) < (30, 1, 30)": "not reproduced",
        "(1, 5, 3) < (1, 1, 10)": "reproduced",
    }
    text = " ".join(text_of(findings(figure, rows)).split())
    assert "about 60 generator updates in whole rounds (1 of g = 100, 2 of g = 30, 60 of g = 1, 60 of g = 1)" in text
    assert "…" not in text


# Curves.


@pytest.mark.parametrize(("task", "left_out"), [("oracle", RIVALS), ("toy", (*IMPROVED, *RIVALS))])
def test_curves_measure_all_that_is_trained_at_its_temperatures(
    study: Study, task: str, left_out: tuple[str, ...]
) -> None:
    cells = [cell for cell in Curves(replace(study, task=task)).cells() if "temperature" in cell.settings]
    assert {(cell.settings["method"], cell.settings["temperature"]) for cell in cells} == {
        (name, temperature)
        for name in METHODS
        if METHODS[name].is_trained and name not in left_out
        for temperature in METHODS[name].temperatures
    }


def test_curves_of_some_methods_measure_those_alone(study: Study) -> None:
    figure = Curves(study, ("best", "mle_regularised"))
    trained = {cell.settings["method"] for cell in figure.cells() if "temperature" in cell.settings}
    assert trained == {"mle_regularised", "best"}
    rows = [point("mle_regularised", seed, t, 9.0 + t, 7.5 - t) for seed in range(3) for t in (1.0, 0.9, 0.8)]
    rows += [point("best", seed, 1.0, 9.8, 6.55) for seed in range(3)]
    assert set(figure.comparisons(measured(rows))) == {"mle_regularised"}


def points_of_curves(seqgan: float) -> list[Row]:
    """Both MLE curves are lines of slope -1, the held-out one half a nat to the left; SeqGAN has one point."""
    rows = []
    for seed in range(3):
        for temperature, x in ((1.0, 8.5), (0.9, 8.7), (0.8, 9.0)):
            rows.append(point("mle", seed, temperature, 17.5 - x + SPREAD[seed], x))
            rows.append(point("mle_held_out", seed, temperature, 17.0 - x + SPREAD[seed], x - 0.5))
        rows.append(point("seqgan", seed, 1.0, seqgan + SPREAD[seed], 8.6))
    return rows


@pytest.mark.parametrize(
    ("seqgan", "below"), [(8.95, []), (8.7, ["mle"]), (8.1, ["mle"]), (7.8, ["mle", "mle_held_out"])]
)
def test_curves_say_whether_a_point_is_below(study: Study, seqgan: float, below: list[str]) -> None:
    """At NLL_test 8.6 the curve of MLE is at 8.9, that of MLE stopped by held-out NLL ends at 8.5."""
    figure, rows = Curves(study), points_of_curves(seqgan)
    rows = [row for row in rows if not (row["method"] == "seqgan" and below == ["mle", "mle_held_out"])]
    if below == ["mle", "mle_held_out"]:
        rows += [point("seqgan", seed, 1.0, seqgan + SPREAD[seed], 8.4) for seed in range(3)]
    found = findings(figure, rows)
    summary = pandas.DataFrame(found.csvs["summary"]).to_dict("records")
    places = {row["curve"]: row["place"] for row in summary if row["method"] == "seqgan"}
    assert [curve for curve, place in places.items() if place == "below"] == below
    said = curve_sentences(figure.comparisons(measured(rows)))
    assert len(said) == 2
    for curve, text in zip(("mle", "mle_held_out"), said, strict=True):
        assert text.startswith(f"Below the curve of {METHODS[curve].label}: ")
        assert ("SeqGAN at temperature 1.0 (by " in text) is (curve in below)
    printed = " ".join(text_of(found).split())
    for text in said:
        assert text in printed
    for rule in Curves.rules:
        assert rule in printed
    assert "Below its own seeds' curve of MLE: " in printed


def test_a_point_beside_its_own_curve_is_not_compared_with_it(study: Study) -> None:
    summary = pandas.DataFrame(findings(Curves(study), points_of_curves(8.9)).csvs["summary"]).to_dict("records")
    assert {(row["curve"], row["method"]) for row in summary} == {
        *(("mle", "mle_held_out"), ("mle", "seqgan")),
        *(("mle_held_out", "mle"), ("mle_held_out", "seqgan")),
    }
    seqgan = next(row for row in summary if (row["curve"], row["method"]) == ("mle", "seqgan"))
    assert (seqgan["nll_test"], seqgan["nll_oracle"], seqgan["curve_nll_oracle"]) == (
        "8.600000",
        "8.900000",
        "8.900000",
    )
    assert float(seqgan["gain"]) == pytest.approx(0, abs=1e-6)
    assert float(seqgan["gain_low"]) == pytest.approx(0, abs=1e-6)


def test_every_name_in_the_papers_order_is_a_method() -> None:
    assert set(PAPER_ORDER) <= set(METHODS)
