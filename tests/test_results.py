"""The committed results hold what the pages say of them."""

import csv
import re
from pathlib import Path

import pytest

from agents.studies.real_data import REAL_DATA, markdown_table
from agents.studies.tables import read_csv
from benchmarks import models

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"


def rows(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_seqgan_on_the_authors_oracle_passes_the_papers_headline_and_shows_its_nll_test() -> None:
    (seqgan,) = [row for row in rows(RESULTS / "oracle_fast_seed0.csv") if row["method"] == "SeqGAN"]
    assert float(seqgan["nll_oracle"]) <= 8.75
    assert float(seqgan["nll_test"]) > 0


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_every_nll_pair_on_a_page_is_in_a_committed_csv(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    pairs = set(re.findall(r"(\d+\.\d{3}) ±0\.\d{3} +\|? *(\d+\.\d{3}) ±0\.\d{3}", text))
    assert pairs
    committed = {
        (f"{float(row['nll_oracle']):.3f}", f"{float(row['nll_test']):.3f}")
        for path in RESULTS.glob("*.csv")
        for row in rows(path)
        if row.get("nll_oracle")
    }
    assert pairs <= committed


def test_mle_of_the_2018_settings_follows_the_authors_curve(data_folder: Path) -> None:
    """The authors measure their epoch 5 after six passes over the data, so it is index 6 here."""
    reference = {
        int(row["epoch"]): float(row["nll"])
        for row in rows(data_folder / "oracle" / "reference_curve.csv")
        if row["phase"] == "pretrain"
    }
    ours = {int(row["index"]): float(row["nll_oracle"]) for row in rows(RESULTS / "repo2018_mle_metrics.csv")}
    for epoch in (5, 20, 40):
        assert ours[epoch + 1] == pytest.approx(reference[epoch], abs=0.1)
    for name, miss in (("repo2018_mle120", 0.05), ("repo2018_mle120_seed1", 0.07), ("repo2018_mle120_data1", 0.05)):
        (end,) = (row for row in rows(RESULTS / f"{name}.csv") if row["method"] == "MLE")
        assert float(end["nll_oracle"]) == pytest.approx(reference[115], abs=miss)


def test_the_table_of_fig_3_holds_the_means_of_its_last_points() -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    points = rows(RESULTS / "authors_oracle_fig3.csv")
    settings = {(row["g_steps"], row["d_steps"], row["k_epochs"]) for row in points}
    assert len(settings) == 4
    for setting in settings:
        own = [row for row in points if (row["g_steps"], row["d_steps"], row["k_epochs"]) == setting]
        last = max(int(row["updates"]) for row in own)
        ends = [row for row in own if int(row["updates"]) == last]
        assert len(ends) == 2
        means = [sum(float(row[name]) for row in ends) / len(ends) for name in ("nll_oracle", "nll_test", "entropy")]
        assert f"| {' | '.join((*setting, str(last), *(f'{mean:.3f}' for mean in means)))} |" in text


def test_the_performance_page_says_what_its_csv_says() -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    measured = rows(ROOT / "benchmarks" / "results" / "cpu.csv")
    assert {row["commit"][:7] for row in measured} == {re.search(r"cpu\.csv\), commit `(\w+)`", text).group(1)}
    for one, two in zip(measured[::2], measured[1::2], strict=True):
        ours, plain, faster = (float(one[name]) for name in ("ours_seconds", "plain_seconds", "ratio"))
        assert re.search(rf"\| {one['stage']} \| [^|]+ \| {ours:.3g} \| {plain:.3g} \| {faster:.1f} \|", text)
        if one["bound_seconds"]:
            gain = ours / float(two["ours_seconds"])
            assert f"| {one['stage']} | {ours:.3g} | {float(two['ours_seconds']):.3g} | {gain:.2f} |" in text
    for row in rows(ROOT / "benchmarks" / "results" / "scaling.csv"):
        if row["stage"] == "search" and row["axis"] != "base":
            assert f"| {row['axis']} | {int(row[row['axis']]):,} | {float(row['seconds']):.3g} |" in text


def test_the_performance_pages_models_are_those_of_their_csv() -> None:
    """Without the CSV, no number stands there."""
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    path = ROOT / "benchmarks" / "results" / "models.csv"
    between = text[text.index("<!-- models.csv -->") : text.index("<!-- end of models.csv -->")]
    if not path.is_file():
        assert between == "<!-- models.csv -->\n"
        return
    assert models.markdown(models.read_csv(path), "../benchmarks/results/models.csv") in between


@pytest.mark.parametrize("path", sorted(RESULTS.glob("real_*_summary.csv")), ids=lambda path: path.stem)
def test_the_page_of_real_data_has_the_table_of_each_committed_summary(path: Path) -> None:
    assert markdown_table(read_csv(path)) in (ROOT / "docs" / "real-data.md").read_text(encoding="utf-8")


def test_the_page_of_real_data_has_the_papers_figures() -> None:
    text = (ROOT / "docs" / "real-data.md").read_text(encoding="utf-8")
    figures = text[text.index("## The paper's figures") : text.index("## What differs")]
    for data in REAL_DATA.values():
        for value in [value for columns in data.paper.values() for value in columns.values()]:
            assert re.search(rf"\| {value}0? \|", figures), (data.name, value)


def test_the_table_of_learners_holds_the_trials_on_its_seed() -> None:
    page = (ROOT / "docs" / "swapping.md").read_text(encoding="utf-8")
    shown = re.findall(
        r"^\| [^|]+ \| [\d.]+(?: KL)? \| (\d\.\d+) \| (\d\.\d+) \| (\d\.\d+) \| ([+-]\d\.\d+) \|", page, re.M
    )
    names = ("nll_oracle", "nll_test", "entropy", "gain")
    trials = rows(RESULTS / "authors_oracle_learner_trials.csv")
    assert len(shown) == 8
    assert {tuple(map(float, line)) for line in shown} <= {
        tuple(round(float(row[n]), 3) for n in names) for row in trials
    }


@pytest.mark.parametrize(("size", "place"), [("toy", 3), ("middle", 4), ("paper", 5)])
def test_the_table_of_the_search_holds_the_measured_ratios(size: str, place: int) -> None:
    page = (ROOT / "docs" / "swapping.md").read_text(encoding="utf-8")
    section = page.split("### Is the search worth its time?")[1].split("\n## ")[0]
    cells = [line.split("|")[place].strip() for line in section.splitlines() if re.match(r"\| (R|search|exact)", line)]
    measured = {
        tuple(float(f"{float(row[name]):.3g}") for name in ("ratio", "ratio_low", "ratio_high"))
        for row in rows(ROOT / "benchmarks" / "results" / f"variance_{size}.csv")
    }
    shown = [tuple(map(float, re.findall(r"[\d.]+", cell))) for cell in cells if "(" in cell]
    assert len(shown) >= 7
    for line in shown:
        assert any(line == pytest.approx(row, rel=0.02) for row in measured), line
