"""Pictures: the paper's figures with NLL_oracle, and beside it NLL_test, which the paper leaves out.

In: only the CSV of a reproduced figure. Out: a PNG. A method has the same colour in every picture. The colours are
those of Okabe and Ito, which colour-blind readers can distinguish. Controls are dashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.learners import LEARNERS
from agents.runs.learning_curve import PANELS, new_figure, save_figure
from agents.studies import tables
from agents.studies.evidence import CONFIDENCE, half_interval
from agents.studies.methods import CONTROLS, METHODS, REAL

if TYPE_CHECKING:
    from pandas import DataFrame

_COLOURS = {
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
_MARKERS = {
    "shuffled_reward": "v",
    "random_reward": "^",
    "constant_reward": "s",
    "mle_held_out": "D",
    "mle_regularised": "P",
    "best": "*",
    "best_random_reward": "x",
}
_LEARNER_MARKS = "osDv^<>PX*d"

_NLLS = ("nll_oracle", "nll_test")
_KLS = ("kl_to_oracle", "kl_from_oracle")
_NEARLY_ALL = 0.95  # of the samples differ: the oracle's all do
_BLEU_ORDERS = (2, 3, 4, 5)
_BLEUS = ("bleu", "self_bleu")


def plot_csv(path: Path, out: Path) -> None:
    """Draw a figure only from its CSV; the columns show which figure it is.

    Args:
        path: the CSV of a reproduced figure.
        out: the PNG to write.

    Raises:
        ValueError: if the file is not such a CSV, or if its cells are not numbers.
        ImportError: if pandas or SciPy is not installed.
    """
    pandas = tables.pandas()
    try:
        frame = tables.read_csv(path)
    except pandas.errors.EmptyDataError:
        frame = pandas.DataFrame()
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} cannot be read as CSV: {error}") from error
    for needed, draw in (
        ((*_NLLS, "method", "seed", "temperature"), _plot_points),
        (("nll_test", *_both_bleus(2), *_both_bleus(5), "method", "seed", "temperature"), _plot_quality),
        ((*_NLLS, "method", "seed", "stage", "epoch"), _plot_methods),
        ((*_NLLS, "g_steps", "d_steps", "k_epochs", "seed", "updates"), _plot_schedules),
        ((*_NLLS, "reward", "fraction", "learner", "seed", "step"), _plot_learners),
    ):
        if set(needed) <= set(frame):
            try:
                figure = draw(frame.astype({name: float for name in needed if name.startswith(("nll", *_BLEUS))}))
            except (ValueError, KeyError) as error:
                raise ValueError(f"{str(path)!r} cannot be drawn: {error}") from error
            save_figure(figure, out)
            return
    raise ValueError(
        f"{str(path)!r} is not the CSV of a figure; give table1.csv, fig2.csv, fig3.csv, curves.csv, or that of real "
        "sequences, as `seqgan reproduce` writes them, or run folders"
    )


# The paper's figures.


def over_seeds(frame: DataFrame, x: str, y: str) -> DataFrame:
    """ "mean", "min" and "max" of the column `y` over seeds, for each value of the column `x`, which is the index."""
    found: DataFrame = frame.groupby(x)[y].agg(["mean", "min", "max"])
    return found


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
    """Draw the legend under the panels, where it covers nothing."""
    handles, labels = handles_from.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def _tidy(axes: Any) -> None:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _plot_methods(frame: DataFrame) -> Any:
    """Fig. 2: both NLLs of every method over its epochs."""
    figure = new_figure(7.5, 8)
    panels = figure.subplots(2, 1, sharex=True)
    games = set(frame.loc[frame["stage"] == "adversarial", "method"])
    shared = frame.loc[frame["method"].isin(games) & (frame["stage"] == "mle"), "epoch"]
    border = None if shared.empty else float(shared.max())
    for axes, (column, label) in zip(panels, PANELS, strict=True):
        for method, own in frame.groupby("method", sort=False):
            band, style = over_seeds(own, "epoch", column), _style(method)
            axes.plot(band.index, band["mean"], linewidth=1.8, **style)
            axes.fill_between(band.index, band["min"], band["max"], color=style["color"], alpha=0.15, linewidth=0)
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
    _title(
        figure, frame, "Lower is better; a fall in the upper panel alone is lost diversity. Bands: lowest to highest"
    )
    _finish(figure, panels[0], 4)
    return figure


def _plot_schedules(frame: DataFrame) -> Any:
    """Fig. 3: both NLLs for each (g, d, k), on equal axes."""
    schedules = frame.groupby(["g_steps", "d_steps", "k_epochs"], sort=False)
    figure = new_figure(2.7 * len(schedules) + 0.6, 5.6)
    panels = figure.subplots(2, len(schedules), sharex=True, sharey="row", squeeze=False)
    for index, ((g, d, k), own) in enumerate(schedules):
        for axes, (column, _) in zip(panels[:, index], PANELS, strict=True):
            band, colour = over_seeds(own, "updates", column), _COLOURS["seqgan"]
            axes.plot(band.index, band["mean"], color=colour, linewidth=1.8, marker=".")
            axes.fill_between(band.index, band["min"], band["max"], color=colour, alpha=0.18, linewidth=0)
            _tidy(axes)
        panels[0, index].set_title(f"g = {g}, d = {d}, k = {k}", fontsize=10)
        panels[1, index].set_xlabel("generator updates")
    for axes, (_, label) in zip(panels[:, 0], PANELS, strict=True):
        axes.set_ylabel(f"{label} (nats per token)")
    _title(
        figure, frame, "SeqGAN after MLE. Lower is better in both rows; bands reach from the lowest to the highest seed"
    )
    return figure


def _plot_points(frame: DataFrame) -> Any:
    """Measurements at one temperature like Table 1, at several as curves."""
    return (_plot_table if frame["temperature"].nunique() == 1 else _plot_temperatures)(frame)


def _plot_table(frame: DataFrame) -> Any:
    """Table 1: both NLLs of each method and seed, without random tokens and the oracle, which need too much room."""
    shown = frame[~frame["method"].isin(["random", "oracle"])]
    methods = list(shown["method"].unique())
    figure = new_figure(8.5, 0.42 * len(methods) + 1.6)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (column, label) in zip(panels, PANELS, strict=True):
        for place, (method, values) in enumerate(shown.groupby("method", sort=False)[column]):
            colour = _style(method)["color"]
            axes.plot(values, [place] * len(values), "o", color=colour, markersize=4, alpha=0.45, linewidth=0)
            half = _half_interval(values)
            axes.errorbar(values.mean(), place, xerr=half, fmt="D", color=colour, markersize=7, capsize=4)
        axes.set_xlabel(f"{label} (nats per token)")
        _tidy(axes)
    panels[0].set_yticks(range(len(methods)), [_style(method)["label"] for method in methods])
    panels[0].invert_yaxis()
    _title(
        figure, frame, f"Lower is better in both panels. Diamonds: means and {CONFIDENCE:.0%} intervals, dots: seeds"
    )
    return figure


def _plot_temperatures(frame: DataFrame) -> Any:
    """NLL_oracle against NLL_test of every method over its temperatures; and, where measured, both KLs to the oracle.

    NLL_oracle alone can be lowered by repeating likely sequences, even below the oracle's own entropy. So the first
    panel shows the oracle and names what repeats; in the second, repetition does not help.
    """
    has_distances = set(_KLS) <= set(frame)
    figure = new_figure(12.5 if has_distances else 7.5, 7)
    panels = figure.subplots(1, 1 + has_distances, squeeze=False)[0]
    axes = panels[0]
    for method, own in frame.groupby("method", sort=False):
        _plot_curve(axes, str(method), own, "nll_test", "nll_oracle", {"elinewidth": 0.9, "alpha": 0.6})
        _name_repetition(axes, str(method), own)
    _name_ends(axes, frame)
    axes.set_xlabel("NLL_test (nats per token): how unlikely real sequences are under the generator")
    axes.set_ylabel("NLL_oracle (nats per token): how unlikely its samples are")
    if has_distances:
        _mark_oracle(axes, float((frame["nll_test"] - frame["kl_to_oracle"]).mean()))
        axes.set_title("The paper's measure, and its other half. Near the star is better", fontsize=10)
        for method, own in frame.groupby("method", sort=False):
            _plot_curve(panels[1], str(method), own, *_KLS, {"elinewidth": 0.9, "alpha": 0.6})
        panels[1].set_xlabel("KL(oracle || G) (nats per token): what the generator has lost")
        panels[1].set_ylabel("KL(G || oracle) (nats per token): what it invents")
        panels[1].set_title("Both distances to the oracle. Lower and further left is better", fontsize=10)
    for panel in panels:
        _tidy(panel)
    bars = f", bars: {CONFIDENCE:.0%} intervals" if frame["seed"].nunique() > 1 else ""
    _title(figure, frame, f"Along each arrow the temperature falls; at the filled mark it is 1{bars}")
    _finish(figure, axes, 6 if has_distances else 4)
    return figure


def _mark_oracle(axes: Any, entropy: float) -> None:
    """The oracle as a generator, at its entropy in both directions; what lies below it is shaded."""
    axes.plot([entropy], [entropy], marker="*", markersize=15, color="#000000", linestyle="", label="oracle", zorder=5)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, entropy - 0.1 * (high - low)), high)  # room for the text
    axes.axhspan(axes.get_ylim()[0], entropy, color="0.93", zorder=0)
    axes.annotate(
        "below the oracle's entropy: a generator here\nhas less diversity than the oracle",
        (0.02, entropy),
        xycoords=("axes fraction", "data"),
        xytext=(0, -12),
        textcoords="offset points",
        va="top",
        color="dimgrey",
        fontsize=9,
    )


def _name_repetition(axes: Any, method: str, own: DataFrame) -> None:
    """Say beside a curve how few of its samples differ, where that is less than nearly all."""
    if "distinct" not in own:
        return
    groups = own.groupby("temperature")[["nll_test", "nll_oracle", "distinct"]].mean().sort_index(ascending=False)
    share = groups["distinct"].astype(float)
    if share.min() >= _NEARLY_ALL:
        return
    text = f"{share.max():.0%} to {share.min():.0%} of its\nsamples are different"
    middle = groups.iloc[len(groups) // 2]
    place = {"xytext": (8, 4), "textcoords": "offset points", "fontsize": 9, "color": _style(method)["color"]}
    axes.annotate(text, (middle["nll_test"], middle["nll_oracle"]), **place)


def _name_ends(axes: Any, frame: DataFrame) -> None:
    """Write the highest and the lowest temperature at the ends of the first curve and of the longest."""
    first, lowest = frame["method"].iloc[0], frame.loc[frame["temperature"].idxmin(), "method"]
    for method in dict.fromkeys([first, lowest]):
        groups = frame[frame["method"] == method].groupby("temperature")[list(_NLLS)].mean()
        for temperature in (groups.index.max(), groups.index.min()):
            point = (groups.loc[temperature, "nll_test"], groups.loc[temperature, "nll_oracle"])
            place = {"xytext": (5, 6), "textcoords": "offset points", "fontsize": 8, "color": _style(method)["color"]}
            axes.annotate(f"temperature {temperature:g}", point, **place)


def _plot_curve(axes: Any, method: str, own: DataFrame, x: str, y: str, bars: dict[str, float]) -> None:
    """A method over its temperatures, from high to low: means and intervals over seeds; temperature 1 is filled."""
    groups = own.groupby("temperature")[[x, y]]
    mean, half = (found.sort_index(ascending=False) for found in (groups.mean(), groups.agg(_half_interval)))
    style, marker = _style(method), _MARKERS.get(method, "o")
    axes.plot(mean[x], mean[y], linewidth=1.6, marker=marker, markersize=5, markerfacecolor="white", **style)
    axes.errorbar(mean[x], mean[y], half[y], half[x], fmt="none", ecolor=style["color"], **bars)
    if len(mean) > 1:
        arrow = {"arrowstyle": "-|>", "color": style["color"], "shrinkA": 0, "shrinkB": 3}
        axes.annotate("", tuple(mean.iloc[-1]), xytext=tuple(mean.iloc[-2]), arrowprops=arrow, zorder=style["zorder"])
    if 1 in mean.index:
        look = {"marker": marker, "markersize": 7, "color": style["color"], "zorder": style["zorder"] + 2}
        axes.plot([mean.loc[1, x]], [mean.loc[1, y]], linestyle="", **look)


def _both_bleus(order: int) -> tuple[str, str]:
    """The columns of the x axis, diversity, and of the y axis, quality."""
    return f"self_bleu{order}", f"bleu{order}"


def _plot_quality(frame: DataFrame) -> Any:
    """Tables 2-4: BLEU against self-BLEU of every method over its temperatures, one panel per order."""
    figure = new_figure(9, 8.5)
    panels = figure.subplots(2, 2)
    for axes, order in zip(panels.flat, _BLEU_ORDERS, strict=True):
        x, y = _both_bleus(order)
        for method, own in frame.groupby("method", sort=False):
            if method == REAL.name:
                look = {"marker": "*", "markersize": 14, "color": "#000000", "linestyle": "", "zorder": 5}
                axes.plot([own[x].mean()], [own[y].mean()], label="real data", **look)
                continue
            _plot_curve(axes, str(method), own, x, y, {"elinewidth": 0.8, "alpha": 0.35})
        axes.set_xlabel(f"self-BLEU-{order}: how much samples repeat each other")
        axes.set_ylabel(f"BLEU-{order} against the test set")
        _tidy(axes)
    _title(
        figure,
        frame,
        "Higher and further left is better; the star: real sequences. Arrows: falling temperature, filled: 1",
    )
    _finish(figure, panels.flat[0], 3)
    return figure


def _plot_learners(frame: DataFrame) -> Any:
    """The reward of each learner during learning, and both NLLs of its distribution: means and intervals over seeds."""
    has_optimum = not frame["fraction"].hasnans
    won = ("fraction", "share of the optimum") if has_optimum else ("reward", "mean reward")
    panels_of = [won, *((column, f"{label} (nats per token)") for column, label in PANELS)]
    figure = new_figure(7.5, 9.5)
    panels = figure.subplots(3, 1, sharex=True)
    for axes, (column, label) in zip(panels, panels_of, strict=True):
        for learner, own in frame.groupby("learner", sort=False):
            steps = own.dropna(subset=[column]).groupby("step")[column]
            mean, half = steps.mean(), steps.agg(_half_interval)
            look = _learner_style(str(learner))
            axes.plot(mean.index, mean, linewidth=1.6, **look)
            axes.fill_between(mean.index, mean - half, mean + half, color=look["color"], alpha=0.13, linewidth=0)
        axes.set_ylabel(label)
        _tidy(axes)
    if has_optimum:
        panels[0].axhline(0.9, color="grey", linestyle=":", linewidth=1.2, zorder=1)
        panels[0].set_ylim(-0.15, 1.05)
    panels[-1].set_xlabel("tokens played")
    _title(figure, frame, f"Bands: {CONFIDENCE:.0%} intervals of the mean over seeds")
    _finish(figure, panels[0], 4)
    return figure


def _learner_style(learner: str) -> dict[str, Any]:
    """Colour, mark and name of a learner, the same in every picture.

    Each begins its marks at another measurement and ends its line in gaps of another length, so that of two curves
    which lie on each other both can be seen.
    """
    place = list(LEARNERS).index(learner) if learner in LEARNERS else len(LEARNERS)
    colours = list(_COLOURS.values())
    return {
        "color": colours[place % len(colours)],
        "marker": _LEARNER_MARKS[place % len(_LEARNER_MARKS)],
        "markersize": 5,
        "markevery": (place % 4, 4),
        "linestyle": "-" if place % 2 else (0, (5, 2)),
        "label": LEARNERS[learner].label if learner in LEARNERS else learner,  # type: ignore[index]
    }


def _half_interval(values: Sequence[float]) -> float:
    """Half the length of the interval over seeds; 0 for one seed, which has no interval."""
    return half_interval(values) if len(values) > 1 else 0.0


def _title(figure: Any, frame: DataFrame, text: str) -> None:
    seeds = frame["seed"].nunique()
    figure.suptitle(f"{text} ({seeds} seed{'s' if seeds > 1 else ''})", fontsize=10)
