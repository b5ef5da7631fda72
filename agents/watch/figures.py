"""The figures of the live page, drawn from what `views` computes. Out: matplotlib figures, and colours of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from agents.runs.learning_curve import PANELS, draw_learning_curves, new_figure
from agents.watch.views import History, Scores, TemperaturePoint
from seqgan_env.rendering import colour_limits

_REAL, _GENERATED, _MLE, _NOW = "#0072B2", "#D55E00", "#0072B2", "#D55E00"  # of Okabe and Ito


def nll_figure(past: History) -> Any | None:
    """Both NLLs, or NLL_test alone, over epochs, with the border of MLE; None before a measurement."""
    if not past.curve("").measured:
        return None
    panels = PANELS if past.has_oracle else PANELS[1:]
    figure = draw_learning_curves([past.curve("this run")], panels, "lower is better", None)
    figure.suptitle("")
    return figure


def game_figure(past: History) -> Any | None:
    """The reward of the game, and the generator's entropy; None before either is known."""
    columns = (("mean_reward", "mean reward"), ("entropy", "entropy of G (nats per token)"))
    found = [(label, *past.column(name)) for name, label in columns if len(past.column(name)[0])]
    if not found:
        return None
    figure = new_figure(7.5, 2.6 * len(found) + 0.4)
    for axes, (label, epochs, values) in zip(
        figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0], found, strict=True
    ):
        axes.plot(epochs, values, marker=".", color=_NOW)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if past.border is not None:
            axes.axvline(past.border, color="grey", linestyle="--", linewidth=1)
    axes.set_xlabel("MLE epochs, then adversarial rounds")
    return figure


def scores_figure(found: Scores) -> Any:
    """Histograms of D on real and generated sequences, and how far its probabilities can be believed."""
    figure = new_figure(7.5, 3.2)
    histogram, calibration = figure.subplots(1, 2)
    bins = np.linspace(0, 1, 21)
    histogram.hist(found.real, bins, alpha=0.6, color=_REAL, label="real, held out")
    histogram.hist(found.generated, bins, alpha=0.6, color=_GENERATED, label="generated")
    histogram.set(xlabel="D: probability of being real", ylabel="sequences", xlim=(0, 1))
    histogram.legend(fontsize=8)
    said, true, number = zip(*found.calibration(), strict=True)
    calibration.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    calibration.scatter(said, true, s=[20 + 200 * n / sum(number) for n in number], color=_NOW)
    calibration.set(xlabel="probability that D gives", ylabel="share that is real", xlim=(0, 1), ylim=(-0.05, 1.05))
    for axes in (histogram, calibration):
        axes.grid(alpha=0.3)
    return figure


def temperature_figure(
    curves: dict[str, Sequence[TemperaturePoint]], here: TemperaturePoint, has_oracle: bool, floor: float | None = None
) -> Any:
    """Generators over temperatures, and the chosen point.

    Args:
        curves: name -> points; the last is the latest generator.
        here: the point of the slider.
        has_oracle: what the y axis is.
        floor: unused where there is no oracle; the oracle's entropy in nats per token.
    """
    figure = new_figure(7.5, 4.2)
    axes = figure.subplots()
    for (name, points), colour in zip(curves.items(), (_NOW,) if len(curves) == 1 else (_MLE, _NOW), strict=True):
        axes.plot(
            [point.nll_test for point in points],
            [point.quality for point in points],
            marker=".",
            color=colour,
            label=name,
        )
        for point in (points[0], points[-1]):
            place = {"xytext": (4, 5), "textcoords": "offset points", "fontsize": 8, "color": colour}
            axes.annotate(f"{point.temperature:g}", (point.nll_test, point.quality), **place)
    if floor is not None:
        axes.plot([floor], [floor], marker="*", markersize=13, color="black", linestyle="", label="oracle")
    look = {"marker": "o", "markersize": 11, "markerfacecolor": "none", "markeredgewidth": 2.5, "color": "black"}
    axes.plot([here.nll_test], [here.quality], linestyle="", label=f"temperature {here.temperature:g}", **look)
    axes.set_xlabel("NLL_test (nats per token): what the generator has lost")
    axes.set_ylabel("NLL_oracle (nats per token)" if has_oracle else "entropy of G (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def token_colours(values: Iterable[float]) -> list[tuple[str, str]]:
    """Background and ink of tokens by their Q, as "#rrggbb": the colours of `render_mode="rgb_array"`."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    values = list(values)
    low, high = colour_limits(values)
    found = []
    for value in values:
        face = colormaps["viridis"]((value - low) / (high - low))
        ink = "#ffffff" if np.dot(face[:3], (0.299, 0.587, 0.114)) < 0.5 else "#000000"
        found.append((str(to_hex(face)), ink))
    return found
