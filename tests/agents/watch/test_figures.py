"""`figures`: the pictures of the live page hold the numbers that they were given."""

from __future__ import annotations

import numpy as np
import pytest

from agents.runs.run_folder import RunFolder
from agents.watch import figures, views
from agents.watch.views import History, Scores, TemperaturePoint


def test_both_nlls_reward_and_entropy_have_the_border(finished_run: RunFolder) -> None:
    past = views.history(finished_run)
    nlls, game = figures.nll_figure(past), figures.game_figure(past)
    assert nlls is not None
    assert game is not None
    assert [axes.get_ylabel() for axes in nlls.axes] == ["NLL_oracle (nats per token)", "NLL_test (nats per token)"]
    assert [axes.get_ylabel() for axes in game.axes] == ["mean reward", "entropy of G (nats per token)"]
    assert game.axes[0].lines[0].get_ydata().tolist() == past.column("mean_reward")[1].tolist()
    for axes in (*nlls.axes, *game.axes):
        assert set(axes.lines[1].get_xdata()) == {past.border}


def test_without_an_oracle_there_is_one_nll_and_before_a_measurement_none(finished_run: RunFolder) -> None:
    past = views.history(finished_run)
    figure = figures.nll_figure(History(past.rows, "", 0, 0, False))
    assert figure is not None
    assert [axes.get_ylabel() for axes in figure.axes] == ["NLL_test (nats per token)"]
    nothing = History([], "", 0, 0, True)
    assert figures.nll_figure(nothing) is None
    assert figures.game_figure(nothing) is None


def test_histograms_count_each_sequence_once() -> None:
    found = Scores(real=np.array([0.9, 0.9, 0.1]), generated=np.array([0.2, 0.3, 1.0]))
    histogram, calibration = figures.scores_figure(found).axes
    assert sum(patch.get_height() for patch in histogram.patches) == 6
    assert len(calibration.collections[0].get_offsets()) == len(found.calibration())


def test_the_point_of_the_slider_lies_where_it_was_measured() -> None:
    points = [TemperaturePoint(0.5, 9.0, 5.0), TemperaturePoint(1.0, 8.0, 7.0)]
    figure = figures.temperature_figure({"MLE": points, "now": points}, TemperaturePoint(0.7, 8.5, 6.0), True, 5.5)
    (axes,) = figure.axes
    by_label = {line.get_label(): line for line in axes.lines}
    assert list(by_label) == ["MLE", "now", "oracle", "temperature 0.7"]
    assert by_label["temperature 0.7"].get_xydata().tolist() == [[8.5, 6.0]]
    assert by_label["oracle"].get_xydata().tolist() == [[5.5, 5.5]]
    assert axes.get_ylabel().startswith("NLL_oracle")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1.0], [("#440154", "#ffffff"), ("#fde725", "#000000")]),
        ([-4.0, 1.0], [("#440154", "#ffffff"), ("#fde725", "#000000")]),
        ([0.0], [("#440154", "#ffffff")]),
        ([], []),
    ],
)
def test_colours_of_tokens_are_those_of_the_pictures(values: list[float], expected: list[tuple[str, str]]) -> None:
    assert figures.token_colours(values) == expected
