"""The picture of `learner_grid`: the curve of MLE with the learners on it, their gains, NLL_test and minutes.

In: the CSV of the table, with its column "gain". Out: a matplotlib figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.runs.learning_curve import new_figure
from agents.studies.evidence import CONFIDENCE
from agents.studies.learner_grid import TWIN
from agents.studies.plot_style import finish, half_bar, plot_curve, style_of, tidy, title

if TYPE_CHECKING:
    from pandas import DataFrame


def plot_game_learners(frame: DataFrame) -> Any:
    """One panel with curves over temperatures, and three with a line for each learner.

    Args:
        frame: the rows of a `LearnerGrid`.
    """
    figure = new_figure(13, 7.5)
    grid = figure.add_gridspec(3, 2, width_ratios=(1.25, 1))
    curves = figure.add_subplot(grid[:, 0])
    _plot_curves(curves, frame)
    ones = frame[(frame["temperature"] == 1) & frame["gain"].notna()]
    for place, (column, label) in enumerate(
        (
            ("gain", "gain: distance from the MLE curve of its seed; further right is better"),
            ("nll_test", "NLL_test (nats per token); further left is better"),
            ("minutes", "minutes of one core for the game"),
        )
    ):
        _plot_lines(figure.add_subplot(grid[place, 1]), ones, column, label)
    title(figure, frame, f"Learners after the same MLE. Diamonds: means with {CONFIDENCE:.0%} intervals; dots: seeds")
    finish(figure, curves, 5)
    return figure


def _plot_curves(axes: Any, frame: DataFrame) -> None:
    """MLE over temperatures, and every learner at its own; only the range that the learners reach."""
    x, y = ("nll_test", "nll_oracle") if "nll_oracle" in frame else _bleu_columns(frame)
    shown = frame[~frame["method"].str.endswith(TWIN)]
    for method, own in shown.groupby("method", sort=False):
        plot_curve(axes, str(method), own, x, y, {"elinewidth": 0.8, "alpha": 0.25})
    for column, margins in ((x, axes.set_xlim), (y, axes.set_ylim)):
        values = shown.loc[shown["gain"].notna() | (shown["temperature"] == 1), column]
        room = 0.6 * (values.max() - values.min()) + 1e-3
        margins(values.min() - room, values.max() + room)
    what = "nats per token" if "nll_oracle" in frame else "against itself, and against the test set"
    axes.set_xlabel(f"{x.replace('nll_', 'NLL_')} ({what}), temperature 1 filled, arrows to lower ones")
    axes.set_ylabel(y.replace("nll_", "NLL_"))
    tidy(axes)


def _bleu_columns(frame: DataFrame) -> tuple[str, str]:
    order = int(frame["gain_order"].iloc[0])
    return f"self_bleu{order}", f"bleu{order}"


def _plot_lines(axes: Any, ones: DataFrame, column: str, label: str) -> None:
    """A line for each learner: its seeds, mean and interval; below it, hollow and paler, those of its twin."""
    learners = [name for name in ones["method"].unique() if not name.endswith(TWIN)]
    for place, learner in enumerate(learners):
        for method, offset, face in ((learner, 0.0, None), (f"{learner}{TWIN}", 0.35, "white")):
            values = ones.loc[ones["method"] == method, column]
            if values.empty:
                continue
            colour, alpha = style_of(learner)["color"], 1.0 if face is None else 0.55
            axes.plot(values, [place + offset] * len(values), "o", color=colour, markersize=3, alpha=0.4, linewidth=0)
            look = {"fmt": "D", "color": colour, "markersize": 6, "capsize": 3, "alpha": alpha}
            axes.errorbar(values.mean(), place + offset, xerr=half_bar(values), markerfacecolor=face or colour, **look)
    if column == "gain":
        axes.axvline(0, color="grey", linestyle=":", linewidth=1.2, zorder=1)
    axes.set_yticks(range(len(learners)), [style_of(name)["label"] for name in learners], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(label, fontsize=9)
    tidy(axes)
