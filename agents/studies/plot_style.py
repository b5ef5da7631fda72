"""The common look of all pictures: colours, marks and names of methods, curves over temperatures, legend and title.

A method has the same colour in every picture. The colours are those of Okabe and Ito, which colour-blind readers can
distinguish. Controls are dashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agents.studies.evidence import half_interval
from agents.studies.learner_grid import COMPARED, TWIN, label_of
from agents.studies.methods import CONTROLS, METHODS

if TYPE_CHECKING:
    from pandas import DataFrame

COLOURS = {
    "random": "#999999",
    "mle": "#0072B2",
    "mle_held_out": "#56B4E9",
    "mle_regularised": "#332288",
    "scheduled_sampling": "#E69F00",
    "pg_bleu": "#009E73",
    "seqgan": "#D55E00",
    "shuffled_reward": "#CC79A7",
    "random_reward": "#7F5A2A",
    "constant_reward": "#444444",
    "oracle": "#000000",
    "best": "#8B0000",
    "best_random_reward": "#777777",
    "cot": "#117733",
    "ddo": "#882255",
    "spin": "#AA4499",
    "relativistic": "#DDAA33",
    "dpg": "#44AA99",
    "residual": "#8A9A00",
}
MARKERS = {
    "shuffled_reward": "v",
    "random_reward": "^",
    "constant_reward": "s",
    "mle_held_out": "D",
    "mle_regularised": "P",
    "best": "*",
    "best_random_reward": "x",
}


def style_of(method: str) -> dict[str, Any]:
    """Colour, line and name of a method, the same in every picture."""
    label = METHODS[method].label if method in METHODS else label_of(method)
    if method.removesuffix(TWIN) in COMPARED:
        return _game_learner_style(method, label)
    return {
        "color": COLOURS.get(method, "#000000"),
        "linestyle": "--" if method in CONTROLS else "-",
        "label": label,
        "zorder": 3 if method == "seqgan" else 2,
    }


def _game_learner_style(method: str, label: str) -> dict[str, Any]:
    """Colour and line of a learner in the game. Its twin has the same colour, but paler."""
    colours = [colour for name, colour in COLOURS.items() if not name.startswith(("mle", "oracle", "random"))]
    place = COMPARED.index(method.removesuffix(TWIN))
    is_twin = method.endswith(TWIN)
    look = {"color": colours[place % len(colours)], "linestyle": ":" if is_twin else "-", "label": label, "zorder": 2}
    return look | ({"alpha": 0.45} if is_twin else {})


def finish(figure: Any, handles_from: Any, columns: int) -> None:
    """Draw the legend under the panels, where it covers nothing."""
    handles, labels = handles_from.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def tidy(axes: Any) -> None:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def plot_curve(axes: Any, method: str, own: DataFrame, x: str, y: str, bars: dict[str, float]) -> None:
    """A method over its temperatures, from high to low: means and intervals over seeds; temperature 1 is filled."""
    groups = own.groupby("temperature")[[x, y]]
    mean, half = (found.sort_index(ascending=False) for found in (groups.mean(), groups.agg(half_bar)))
    style, marker = style_of(method), MARKERS.get(method, "o")
    axes.plot(mean[x], mean[y], linewidth=1.6, marker=marker, markersize=5, markerfacecolor="white", **style)
    axes.errorbar(mean[x], mean[y], half[y], half[x], fmt="none", ecolor=style["color"], **bars)
    if len(mean) > 1:
        arrow = {"arrowstyle": "-|>", "color": style["color"], "shrinkA": 0, "shrinkB": 3}
        axes.annotate("", tuple(mean.iloc[-1]), xytext=tuple(mean.iloc[-2]), arrowprops=arrow, zorder=style["zorder"])
    if 1 in mean.index:
        look = {"marker": marker, "markersize": 7, "color": style["color"], "zorder": style["zorder"] + 2}
        axes.plot([mean.loc[1, x]], [mean.loc[1, y]], linestyle="", **look)


def half_bar(values: Sequence[float]) -> float:
    """Half the length of the interval over seeds; 0 for one seed, which has no interval."""
    return half_interval(values) if len(values) > 1 else 0.0


def title(figure: Any, frame: DataFrame, text: str) -> None:
    seeds = frame["seed"].nunique()
    figure.suptitle(f"{text} ({seeds} seed{'s' if seeds > 1 else ''})", fontsize=10)
