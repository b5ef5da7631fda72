"""`plots`: both NLLs, never one alone; figures from their CSVs alone, a method in the same colour everywhere."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agents.learners import LEARNERS
from agents.runs.learning_curve import plot_learning_curves
from agents.runs.run_folder import RunFolder
from agents.studies.methods import METHODS
from agents.studies.plots import over_seeds, plot_csv
from tests.agents.conftest import new_run
from tests.agents.studies.measured import measured

pytest.importorskip("scipy")
pytest.importorskip("pandas")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved."""
    from matplotlib.figure import Figure

    saved: list[Any] = []
    original = Figure.savefig

    def spy(self: Figure, *arguments: Any, **keywords: Any) -> None:
        saved.append(self)
        original(self, *arguments, **keywords)

    monkeypatch.setattr(Figure, "savefig", spy)
    return saved


def test_both_nlls_are_drawn_as_measured_with_border_and_floor(
    tmp_path: Path, finished_run: RunFolder, figures: list[Any]
) -> None:
    plot_learning_curves([finished_run], tmp_path / "curve.png", floor=1.0)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    (figure,) = figures
    oracle, test = figure.axes
    rows = [row for row in finished_run.metrics() if row["nll_oracle"]]
    for axes, column in ((oracle, "nll_oracle"), (test, "nll_test")):
        assert axes.lines[0].get_xdata().tolist() == [float(row["epoch"]) for row in rows]
        assert axes.lines[0].get_ydata().tolist() == [float(row[column]) for row in rows]
        border, floor = axes.lines[1:3]
        assert set(border.get_xdata()) == {2.0}  # MLE has two epochs
        assert set(floor.get_ydata()) == {1.0}
        assert column.replace("nll", "NLL") in axes.get_ylabel()


def test_no_text_lies_over_the_curve(tmp_path: Path, finished_run: RunFolder, figures: list[Any]) -> None:
    plot_learning_curves([finished_run], tmp_path / "curve.png")
    (figure,) = figures
    stages = [text for text in figure.axes[0].texts if text.get_text() in ("MLE", "the game")]
    assert len(stages) == 2
    assert all(text.get_window_extent().y0 >= figure.axes[0].bbox.y1 for text in stages)
    assert not stages[0].get_window_extent().overlaps(stages[1].get_window_extent())


def test_several_runs_share_a_picture(tmp_path: Path, finished_run: RunFolder, figures: list[Any]) -> None:
    plot_learning_curves([finished_run, finished_run], tmp_path / "curve.png")
    labels = [text.get_text() for text in figures[0].axes[0].get_legend().get_texts()]
    assert labels == ["run", "run"]


def test_a_run_without_measurements_cannot_be_drawn(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    run.rewind_metrics(0)
    with pytest.raises(ValueError, match="has no measurement yet; train further before plotting"):
        plot_learning_curves([run], tmp_path / "curve.png")
    assert not (tmp_path / "curve.png").exists()


# The paper's figures.


def write(path: Path, columns: str, lines: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns.split(), *lines])
    return path


def points(path: Path, temperatures: Sequence[float], methods: Sequence[str] = ("mle", "seqgan")) -> Path:
    """NLL_oracle 9 + temperature + seed / 10 for MLE, a nat less for each further method; NLL_test 8 everywhere."""
    lines = [
        (method, seed, temperature, 9 - place + temperature + seed / 10, 8 + seed / 10)
        for place, method in enumerate(methods)
        for seed in (0, 1, 2)
        for temperature in temperatures
    ]
    return write(path, "method seed temperature nll_oracle nll_test", lines)


def curves(path: Path) -> Path:
    lines = [
        (method, seed, stage, epoch, 9 + seed / 10 - epoch / 10, 8)
        for method, course in {
            "mle": (("mle", 1), ("mle", 2), ("mle", 4)),
            "seqgan": (("mle", 2), ("adversarial", 3), ("adversarial", 4)),
            "constant_reward": (("mle", 2), ("adversarial", 4)),
        }.items()
        for seed in (0, 1)
        for stage, epoch in course
    ]
    return write(path, "method seed stage epoch nll_oracle nll_test", lines)


def schedules(path: Path) -> Path:
    lines = [
        (g, 1, 10, seed, updates, 9 - updates / 100 + seed, 8)
        for g in (100, 30)
        for seed in (0, 1)
        for updates in (0, g)
    ]
    return write(path, "g_steps d_steps k_epochs seed updates nll_oracle nll_test", lines)


def test_a_band_is_the_mean_and_the_range_over_seeds() -> None:
    rows = [{"epoch": epoch, "nll": value} for epoch, value in (("2", "3"), ("1", "1"), ("2", "5"), ("1", "2"))]
    band = over_seeds(measured(rows), "epoch", "nll")
    assert band.index.tolist() == [1, 2]
    assert [band[name].tolist() for name in ("mean", "min", "max")] == [[1.5, 4], [1, 3], [2, 5]]


def test_fig2_has_a_curve_a_method_with_bands_in_both_panels(tmp_path: Path, figures: list[Any]) -> None:
    plot_csv(curves(tmp_path / "fig2.csv"), tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    oracle, test = figures[0].axes
    assert oracle.get_ylabel().startswith("NLL_oracle")
    assert test.get_ylabel().startswith("NLL_test")
    by_label = {line.get_label(): line for line in oracle.lines}
    assert list(by_label)[:3] == ["MLE", "SeqGAN", "constant reward"]
    assert by_label["SeqGAN"].get_xdata().tolist() == [2, 3, 4]
    assert by_label["SeqGAN"].get_ydata().tolist() == pytest.approx([8.85, 8.75, 8.65])
    assert (by_label["SeqGAN"].get_linestyle(), by_label["constant reward"].get_linestyle()) == ("-", "--")
    border = oracle.lines[3]
    assert set(border.get_xdata()) == {2.0}
    assert len(oracle.collections) == len(test.collections) == 3
    low, high = (band([y for _, y in oracle.collections[1].get_paths()[0].vertices]) for band in (min, max))
    assert (low, high) == pytest.approx((8.6, 8.9))


def test_fig3_has_equal_axes(tmp_path: Path, figures: list[Any]) -> None:
    plot_csv(schedules(tmp_path / "fig3.csv"), tmp_path / "out.png")
    axes = figures[0].axes
    assert len(axes) == 4
    assert [one.get_title() for one in axes[:2]] == ["g = 100, d = 1, k = 10", "g = 30, d = 1, k = 10"]
    assert len({one.get_xlim() for one in axes}) == 1
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert axes[2].get_ylim() == axes[3].get_ylim()
    assert axes[0].lines[0].get_ydata().tolist() == pytest.approx([9.5, 8.5])


def test_curves_have_a_line_a_method_over_its_temperatures_with_temperature_one_filled(
    tmp_path: Path, figures: list[Any]
) -> None:
    plot_csv(points(tmp_path / "curves.csv", (0.5, 1.0, 0.8)), tmp_path / "out.png")
    (axes,) = figures[0].axes
    assert axes.get_xlabel().startswith("NLL_test")
    assert axes.get_ylabel().startswith("NLL_oracle")
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert [line.get_label() for line in lines[:1]] == ["MLE"]
    assert lines[0].get_ydata().tolist() == pytest.approx([10.1, 9.9, 9.6])  # falling temperature
    filled = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert [float(line.get_ydata()[0]) for line in filled] == pytest.approx([10.1, 9.1])


def distances(path: Path) -> Path:
    """An oracle of entropy 5; MLE's samples all differ, those of PG-BLEU do not, and it is below the oracle."""
    lines = [
        (method, seed, temperature, nll + temperature, 8 + seed / 10, 3 + seed / 10, 2, distinct)
        for method, nll, distinct in (("mle", 8, 0.999), ("pg_bleu", 3, 0.5))
        for seed in (0, 1)
        for temperature in (1.0, 0.5)
    ]
    columns = "method seed temperature nll_oracle nll_test kl_to_oracle kl_from_oracle distinct"
    return write(path, columns, lines)


def test_curves_show_the_oracle_what_repeats_and_both_distances(tmp_path: Path, figures: list[Any]) -> None:
    plot_csv(distances(tmp_path / "curves.csv"), tmp_path / "out.png")
    nlls, kls = figures[0].axes
    (oracle,) = [line for line in nlls.lines if line.get_label() == "oracle"]
    assert (oracle.get_xdata()[0], oracle.get_ydata()[0]) == (pytest.approx(5), pytest.approx(5))
    assert nlls.get_ylim()[0] < 4  # all of it is seen
    texts = {text.get_text(): text for text in nlls.texts}
    (repeats,) = [text for text in texts if "are different" in text]
    assert repeats.startswith("50% to 50%")
    assert texts[repeats].get_color() == next(line for line in nlls.lines if line.get_label() == "PG-BLEU").get_color()
    assert {"temperature 1", "temperature 0.5"} <= set(texts)
    mle = next(line for line in kls.lines if line.get_label() == "MLE")
    assert mle.get_xdata().tolist() == pytest.approx([3.05, 3.05])
    assert mle.get_ydata().tolist() == [2, 2]
    assert "Lower and further left is better" in kls.get_title()
    assert "better" not in figures[0].get_suptitle()


def test_an_arrow_ends_at_the_lowest_temperature(tmp_path: Path, figures: list[Any]) -> None:
    plot_csv(points(tmp_path / "curves.csv", (0.5, 1.0, 0.8), ("mle",)), tmp_path / "out.png")
    (axes,) = figures[0].axes
    arrows = [text for text in axes.texts if text.arrow_patch is not None]
    assert [(arrow.xyann[1], arrow.xy[1]) for arrow in arrows] == [(pytest.approx(9.9), pytest.approx(9.6))]


def learners(path: Path, names: Sequence[str]) -> Path:
    lines = [("toy", name, 0, step, 0.5, 0.5, 1.0, 2.0) for name in names for step in range(0, 100, 10)]
    return write(path, "task learner seed step reward fraction nll_oracle nll_test", lines)


def test_learners_have_the_names_of_the_tables(tmp_path: Path, figures: list[Any]) -> None:
    plot_csv(learners(tmp_path / "x.csv", ["dqn", "ppo_mask", "of_mine"]), tmp_path / "out.png")
    labels = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert labels == ["DQN", "MaskablePPO", "of_mine"]


def test_of_two_learners_with_the_same_numbers_both_are_seen(tmp_path: Path, figures: list[Any]) -> None:
    plot_csv(learners(tmp_path / "x.csv", list(LEARNERS)), tmp_path / "out.png")
    lines = list(figures[0].axes[1].lines)
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(LEARNERS)
    dqn, qrdqn = (next(line for line in lines if line.get_label() == label) for label in ("DQN", "QRDQN"))
    assert dqn.get_markevery() != qrdqn.get_markevery()
    assert {dqn.is_dashed(), qrdqn.is_dashed()} == {True, False}


def test_table1_is_drawn_without_those_that_leave_no_room(tmp_path: Path, figures: list[Any]) -> None:
    plot_csv(points(tmp_path / "table1.csv", (1.0,), ("random", "mle", "seqgan", "oracle")), tmp_path / "out.png")
    oracle, test = figures[0].axes
    assert [label.get_text() for label in oracle.get_yticklabels()] == ["MLE", "SeqGAN"]
    assert oracle.lines[0].get_xdata() == pytest.approx([9.0, 9.1, 9.2])
    assert oracle.get_xlabel().startswith("NLL_oracle")
    assert test.get_xlabel().startswith("NLL_test")


def test_a_method_has_the_same_colour_in_every_picture_and_no_two_share_one(tmp_path: Path, figures: list[Any]) -> None:
    names = list(METHODS)
    plot_csv(points(tmp_path / "curves.csv", (1.0, 0.8), names), tmp_path / "out.png")
    plot_csv(curves(tmp_path / "fig2.csv"), tmp_path / "out.png")
    colours = {line.get_label(): line.get_color() for line in figures[0].axes[0].lines}
    assert len({colours[METHODS[name].label] for name in names}) == len(names)
    for line in figures[1].axes[0].lines[:3]:
        assert line.get_color() == colours[line.get_label()]


@pytest.mark.parametrize("make", [curves, lambda path: points(path, (1.0, 0.8), list(METHODS))])
def test_a_legend_covers_no_data(make: Any, tmp_path: Path, figures: list[Any]) -> None:
    plot_csv(make(tmp_path / "x.csv"), tmp_path / "out.png")
    (figure,) = figures
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
    assert all(axes.get_legend() is None for axes in figure.axes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not the CSV of a figure; give table1.csv"),
        ("a,b\n1,2\n", "is not the CSV of a figure"),
        ("stage,index,epoch,nll_oracle,nll_test\nmle,1,1,9,8\n", "or run folders"),
        ("method,seed,temperature,nll_oracle,nll_test\nmle,0,1.0,many,8\n", "cannot be drawn: could not convert"),
        (b"\xff\xfe\x00", "cannot be read as CSV"),
    ],
)
def test_what_is_no_figure_is_refused(tmp_path: Path, content: str | bytes, words: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=words):
        plot_csv(path, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_one_seed_is_drawn_without_bars(tmp_path: Path, figures: list[Any]) -> None:
    lines = [("mle", 0, temperature, 9, 8) for temperature in (1.0, 0.9)]
    plot_csv(write(tmp_path / "x.csv", "method seed temperature nll_oracle nll_test", lines), tmp_path / "out.png")
    assert "(1 seed)" in figures[0].get_suptitle()
    assert "interval" not in figures[0].get_suptitle()
