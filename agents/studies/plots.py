"""Pictures: NLL_oracle beside NLL_test, as the paper's figures with the half that they leave out.

In: the CSV of a reproduced figure and nothing else. Out: a PNG. A method has the same colour in every
picture; the colours are those of Okabe and Ito, which colour-blind readers can tell apart, and controls are dashed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.runs.learning_curve import PANELS, new_figure
from agents.studies.evidence import CONFIDENCE, interval
from agents.studies.methods import CONTROLS, METHODS

_COLOURS = {
    "random": "#999999",
    "mle": "#0072B2",
    "mle_held_out": "#56B4E9",
    "scheduled_sampling": "#E69F00",
    "pg_bleu": "#009E73",
    "seqgan": "#D55E00",
    "shuffled_reward": "#CC79A7",
    "random_reward": "#7F5A2A",
    "constant_reward": "#444444",
    "oracle": "#000000",
    "best": "#8B0000",
    "best_random_reward": "#777777",
}
_MARKERS = {
    "shuffled_reward": "v",
    "random_reward": "^",
    "constant_reward": "s",
    "mle_held_out": "D",
    "best": "*",
    "best_random_reward": "x",
}

_NLLS = ("nll_oracle", "nll_test")
_BLEU_ORDERS = (2, 3, 4, 5)
_REAL = "real"  # held-out real sequences, measured as if they were samples

Row = Mapping[str, str]


def plot_csv(path: Path, out: Path) -> None:
    """Draw a figure again from its CSV alone; the columns tell which one it is.

    Args:
        path: of a reproduced figure.
        out: the PNG to write.

    Raises:
        ValueError: if the file is none of these, or its cells are not numbers.
        ImportError: if matplotlib or SciPy is not installed.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{str(path)!r} cannot be read as CSV: {error}") from error
    columns = set(rows[0]) if rows else set()
    for needed, draw in (
        ({"method", "seed", "temperature", *_NLLS}, _plot_points),
        ({"method", "seed", "temperature", *_both_bleus(2), *_both_bleus(5)}, _plot_quality),
        ({"method", "seed", "stage", "epoch", *_NLLS}, _plot_methods),
        ({"g_steps", "d_steps", "k_epochs", "seed", "updates", *_NLLS}, _plot_schedules),
        ({"learner", "seed", "step", "reward", "fraction", *_NLLS}, _plot_learners),
    ):
        if needed <= columns:
            try:
                figure = draw(rows)
            except (ValueError, KeyError) as error:
                raise ValueError(f"{str(path)!r} cannot be drawn: {error}") from error
            figure.savefig(out)
            return
    raise ValueError(
        f"{str(path)!r} is not the CSV of a figure; give table1.csv, fig2.csv, fig3.csv, curves.csv, or that of real "
        "sequences, as `seqgan reproduce` writes them, or run folders"
    )


# The paper's figures.


@dataclass(frozen=True)
class Band:
    """A curve over seeds.

    Attributes:
        x: where it was measured.
        mean: over the seeds that were measured there; `low`, `high`: the least and the greatest of them.
    """

    x: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def band_over_seeds(rows: Iterable[Row], x: str, y: str) -> Band:
    """Mean and range over seeds of the column `y`, at each value of the column `x`."""
    values: dict[float, list[float]] = {}
    for row in rows:
        values.setdefault(float(row[x]), []).append(float(row[y]))
    at = sorted(values)
    return Band(at, *([float(fold(values[one])) for one in at] for fold in (np.mean, np.min, np.max)))


def _style(method: str) -> dict[str, Any]:
    """Colour, line and name of a method, the same in every picture."""
    label = METHODS[method].label if method in METHODS else method
    return {
        "color": _COLOURS.get(method, "#000000"),
        "linestyle": "--" if method in CONTROLS else "-",
        "label": label,
        "zorder": 3 if method == "seqgan" else 2,
    }


def _finish(figure: Any, handles_from: Any, columns: int) -> None:
    """A legend under the panels, where it covers nothing."""
    handles, labels = handles_from.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def _tidy(axes: Any) -> None:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _plot_methods(rows: Sequence[Row]) -> Any:
    """Fig. 2: both NLLs of every method over its epochs."""
    figure = new_figure(7.5, 8)
    panels = figure.subplots(2, 1, sharex=True)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    played = [row for row in rows if row["stage"] == "adversarial"]
    games = {row["method"] for row in played}
    border = max(
        (float(row["epoch"]) for row in rows if row["method"] in games and row["stage"] == "mle"), default=None
    )
    for axes, (column, label) in zip(panels, PANELS, strict=True):
        for method in methods:
            band = band_over_seeds([row for row in rows if row["method"] == method], "epoch", column)
            style = _style(method)
            axes.plot(band.x, band.mean, linewidth=1.8, **style)
            axes.fill_between(band.x, band.low, band.high, color=style["color"], alpha=0.15, linewidth=0)
        if border is not None:
            axes.axvline(border, color="grey", linestyle=":", linewidth=1.2, zorder=1)
        axes.set_ylabel(f"{label} (nats per token)")
        _tidy(axes)
    if border is not None:
        panels[0].annotate(
            "the game begins",
            (border, 0.98),
            xytext=(4, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            color="dimgrey",
            fontsize=9,
        )
    panels[1].set_xlabel("MLE epochs, then adversarial rounds (MLE and scheduled sampling: further epochs)")
    _title(figure, rows, "Lower is better; in the upper panel alone it is lost diversity. Bands: lowest to highest")
    _finish(figure, panels[0], 4)
    return figure


def _plot_schedules(rows: Sequence[Row]) -> Any:
    """Fig. 3: both NLLs for each (g, d, k), on equal axes."""
    schedules = list(dict.fromkeys((row["g_steps"], row["d_steps"], row["k_epochs"]) for row in rows))
    figure = new_figure(2.7 * len(schedules) + 0.6, 5.6)
    panels = figure.subplots(2, len(schedules), sharex=True, sharey="row", squeeze=False)
    for index, (g, d, k) in enumerate(schedules):
        own = [row for row in rows if (row["g_steps"], row["d_steps"], row["k_epochs"]) == (g, d, k)]
        for axes, (column, _) in zip(panels[:, index], PANELS, strict=True):
            band = band_over_seeds(own, "updates", column)
            colour = _COLOURS["seqgan"]
            axes.plot(band.x, band.mean, color=colour, linewidth=1.8, marker=".")
            axes.fill_between(band.x, band.low, band.high, color=colour, alpha=0.18, linewidth=0)
            _tidy(axes)
        panels[0, index].set_title(f"g = {g}, d = {d}, k = {k}", fontsize=10)
        panels[1, index].set_xlabel("generator updates")
    for axes, (_, label) in zip(panels[:, 0], PANELS, strict=True):
        axes.set_ylabel(f"{label} (nats per token)")
    _title(
        figure, rows, "SeqGAN after MLE. Lower is better in both rows; bands reach from the lowest to the highest seed"
    )
    return figure


def _plot_points(rows: Sequence[Row]) -> Any:
    """Measurements at one temperature as Table 1's, at several as curves."""
    return (_plot_table if len({row["temperature"] for row in rows}) == 1 else _plot_temperatures)(rows)


def _plot_table(rows: Sequence[Row]) -> Any:
    """Table 1: both NLLs of each method and seed; random tokens and the oracle would leave no room for the others."""
    methods = [name for name in dict.fromkeys(row["method"] for row in rows) if name not in ("random", "oracle")]
    figure = new_figure(8.5, 0.42 * len(methods) + 1.6)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (column, label) in zip(panels, PANELS, strict=True):
        for place, method in enumerate(methods):
            values = [float(row[column]) for row in rows if row["method"] == method]
            colour = _style(method)["color"]
            axes.plot(values, [place] * len(values), "o", color=colour, markersize=4, alpha=0.45, linewidth=0)
            axes.errorbar(
                np.mean(values), place, xerr=_half_interval(values), fmt="D", color=colour, markersize=7, capsize=4
            )
        axes.set_xlabel(f"{label} (nats per token)")
        _tidy(axes)
    panels[0].set_yticks(range(len(methods)), [_style(method)["label"] for method in methods])
    panels[0].invert_yaxis()
    _title(figure, rows, f"Lower is better in both panels. Diamonds: means and {CONFIDENCE:.0%} intervals, dots: seeds")
    return figure


def _plot_temperatures(rows: Sequence[Row]) -> Any:
    """NLL_oracle against NLL_test of every method over its temperatures."""
    figure = new_figure(7.5, 7)
    axes = figure.subplots()
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        temperatures = sorted({row["temperature"] for row in own}, key=float, reverse=True)
        measured = [
            [[float(row[column]) for row in own if row["temperature"] == one] for one in temperatures]
            for column in ("nll_test", "nll_oracle")
        ]
        x, y = ([float(np.mean(values)) for values in column] for column in measured)
        x_errors, y_errors = ([_half_interval(values) for values in column] for column in measured)
        style, marker = _style(method), _MARKERS.get(method, "o")
        axes.plot(x, y, linewidth=1.6, marker=marker, markersize=5, markerfacecolor="white", **style)
        axes.errorbar(x, y, y_errors, x_errors, fmt="none", ecolor=style["color"], elinewidth=0.9, alpha=0.8)
        at_one = [(a, b) for a, b, temperature in zip(x, y, temperatures, strict=True) if float(temperature) == 1]
        if at_one:
            look = {"marker": marker, "markersize": 7, "color": style["color"], "zorder": style["zorder"] + 2}
            axes.plot(*zip(*at_one, strict=True), linestyle="", **look)
    axes.set_xlabel("NLL_test (nats per token): what the generator has lost")
    axes.set_ylabel("NLL_oracle (nats per token): how unlikely its samples are")
    _tidy(axes)
    bars = f", bars: {CONFIDENCE:.0%} intervals" if len({row["seed"] for row in rows}) > 1 else ""
    _title(figure, rows, f"Lower and further left is better. Filled: temperature 1{bars}")
    _finish(figure, axes, 4)
    return figure


def _both_bleus(order: int) -> tuple[str, str]:
    """Columns of diversity, the x axis, and of quality, the y axis."""
    return f"self_bleu{order}", f"bleu{order}"


def _plot_quality(rows: Sequence[Row]) -> Any:
    """Tables 2-4: BLEU against self-BLEU of every method over its temperatures, a panel an order."""
    figure = new_figure(9, 8.5)
    panels = figure.subplots(2, 2)
    for axes, order in zip(panels.flat, _BLEU_ORDERS, strict=True):
        for method in dict.fromkeys(row["method"] for row in rows):
            own = [row for row in rows if row["method"] == method]
            temperatures = sorted({row["temperature"] for row in own}, key=float, reverse=True)
            measured = [
                [[float(row[column]) for row in own if row["temperature"] == one] for one in temperatures]
                for column in _both_bleus(order)
            ]
            x, y = ([float(np.mean(values)) for values in column] for column in measured)
            style = _style(method)
            if method == _REAL:
                axes.plot(x, y, marker="*", markersize=14, color="#000000", linestyle="", label="real data", zorder=5)
                continue
            x_errors, y_errors = ([_half_interval(values) for values in column] for column in measured)
            marker = _MARKERS.get(method, "o")
            axes.plot(x, y, linewidth=1.6, marker=marker, markersize=5, markerfacecolor="white", **style)
            axes.errorbar(x, y, y_errors, x_errors, fmt="none", ecolor=style["color"], elinewidth=0.8, alpha=0.35)
            trained = [(a, b) for a, b, one in zip(x, y, temperatures, strict=True) if float(one) == 1]
            if trained:
                look = {"marker": marker, "markersize": 7, "color": style["color"], "zorder": style["zorder"] + 2}
                axes.plot(*zip(*trained, strict=True), linestyle="", **look)
        axes.set_xlabel(f"self-BLEU-{order}: how much samples repeat each other")
        axes.set_ylabel(f"BLEU-{order} against the test set")
        _tidy(axes)
    _title(
        figure, rows, "Higher and further left is better; the star is what real sequences score. Filled: temperature 1"
    )
    _finish(figure, panels.flat[0], 3)
    return figure


def _plot_learners(rows: Sequence[Row]) -> Any:
    """What each learner wins while it learns, and both NLLs of what it plays: means and intervals over seeds."""
    has_optimum = all(row["fraction"] for row in rows)
    won = ("fraction", "share of the optimum") if has_optimum else ("reward", "mean reward")
    panels_of = [won, *((column, f"{label} (nats per token)") for column, label in PANELS)]
    figure = new_figure(7.5, 9.5)
    panels = figure.subplots(3, 1, sharex=True)
    learners = list(dict.fromkeys(row["learner"] for row in rows))
    for axes, (column, label) in zip(panels, panels_of, strict=True):
        for place, learner in enumerate(learners):
            own: dict[float, list[float]] = {}
            for row in rows:
                if row["learner"] == learner and row[column]:
                    own.setdefault(float(row["step"]), []).append(float(row[column]))
            steps = sorted(own)
            mean = np.array([np.mean(own[step]) for step in steps])
            half = np.array([_half_interval(own[step]) for step in steps])
            colour, line = list(_COLOURS.values())[place % len(_COLOURS)], "-" if place < 5 else "--"
            axes.plot(steps, mean, color=colour, linestyle=line, linewidth=1.8, label=learner)
            axes.fill_between(steps, mean - half, mean + half, color=colour, alpha=0.13, linewidth=0)
        axes.set_ylabel(label)
        _tidy(axes)
    if has_optimum:
        panels[0].axhline(0.9, color="grey", linestyle=":", linewidth=1.2, zorder=1)
        panels[0].set_ylim(-0.15, 1.05)
    panels[-1].set_xlabel("tokens played")
    _title(figure, rows, f"Bands: {CONFIDENCE:.0%} intervals of the mean over seeds")
    _finish(figure, panels[0], 4)
    return figure


def _half_interval(values: Sequence[float]) -> float:
    """Half the length of the interval over seeds; 0 for one seed, which has none."""
    low, high = interval(values) if len(values) > 1 else (0.0, 0.0)
    return (high - low) / 2


def _title(figure: Any, rows: Sequence[Row], text: str) -> None:
    seeds = len({row["seed"] for row in rows})
    figure.suptitle(f"{text} ({seeds} seed{'s' if seeds > 1 else ''})", fontsize=10)
