"""The picture of scaling: seconds and peak memory over T, N, V and B, on logarithmic axes.

In: only the CSV of `python -m benchmarks scaling`. Out: a PNG. The colours are those of Okabe and Ito, which
colour-blind readers can distinguish.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from benchmarks.scaling import BASE, CSV_COLUMNS, Axis, Row, ScalingStage, along

_STYLES: dict[ScalingStage, tuple[str, str, str]] = {  # colour, marker, name
    "search": ("#D55E00", "o", "search with scoring"),
    "mle-step": ("#0072B2", "s", "MLE step"),
    "sampling": ("#009E73", "^", "sampling a batch"),
    "discriminator-step": ("#CC79A7", "D", "discriminator step"),
}
_NAMES: dict[Axis, str] = {
    "T": "T, tokens in a sequence",
    "N": "N, completions of a prefix",
    "V": "V, tokens in the vocabulary",
    "B": "B, sequences in a batch",
}
_GUIDE = {"color": "#777777", "linewidth": 0.9, "zorder": 1}
_FULL = "the search's logits in full: B·T·N·V floats"
_MIB = 2**20
_LEAST_MIB = 1.0


def read_scaling(path: Path) -> list[Row]:
    """The lines of a scaling CSV.

    Raises:
        ValueError: if the file cannot be read or has other columns.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows: list[Row] = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{str(path)!r} cannot be read as CSV: {error}") from error
    missing = [column for column in CSV_COLUMNS if not rows or column not in rows[0]]
    if missing:
        raise ValueError(
            f"{str(path)!r} lacks the columns {missing}; give a file that `python -m benchmarks scaling --csv` wrote"
        )
    return rows


def draw_scaling(rows: Sequence[Row], out: Path) -> None:
    """Draw seconds in a row of panels and memory below it, one panel per axis and one line per stage.

    Args:
        rows: rows of the CSV.
        out: the PNG to write.

    Raises:
        ValueError: if no axis was varied.
    """
    axes = [axis for axis in get_args(Axis) if any(row["axis"] == axis for row in rows)]
    if not axes:
        raise ValueError("nothing to draw: no axis was varied; measure more than the base point")
    figure = Figure(figsize=(3 * len(axes) + 0.7, 7), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(axes), sharex="col", sharey="row", squeeze=False)
    for column, axis in enumerate(axes):
        seconds, memory = panels[:, column]
        for stage in _STYLES:
            own = along(rows, stage, axis)
            if own:
                _draw_stage(seconds, memory, stage, axis, own)
        _tidy(seconds, memory, axis, rows)
    panels[0, 0].set_ylabel("seconds")
    panels[1, 0].set_ylabel("peak memory above the start (MiB)")
    _legend(figure, panels)
    base = next((row for row in rows if row["axis"] == BASE), rows[0])
    figure.suptitle(
        "Time grows with the work, memory stays far below the logits.   "
        f"One axis varied at a time from T={base['T']}, N={base['N']}, V={int(base['V']):,}, B={base['B']}",
        fontsize=11,
    )
    figure.savefig(out)


def _draw_stage(seconds: Any, memory: Any, stage: ScalingStage, axis: Axis, rows: Sequence[Row]) -> None:
    """One stage's line in both panels of an axis, with its guides."""
    colour, marker, name = _STYLES[stage]
    look = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.8, "label": name, "zorder": 3}
    x = [int(row[axis]) for row in rows]
    y = [float(row["seconds"]) for row in rows]
    power = 2 if stage == "search" and axis == "T" else 1  # prefixes times the tokens of their completions
    if (stage, axis) != ("discriminator-step", "V"):  # only its embedding depends on V, so it should grow by less
        guide = [y[-1] * (value / x[-1]) ** power for value in x]
        seconds.plot(x, guide, linestyle="-" if power == 1 else "--", **_GUIDE)
    seconds.plot(x, y, **look)
    # A smaller value is noise of the allocator, and would only stretch the logarithmic axis.
    used = [max(float(row["peak_bytes"]) / _MIB, _LEAST_MIB) for row in rows]
    memory.plot(x, used, **look)
    if stage == "search":
        full = [int(row["full_bytes"]) / _MIB for row in rows]
        memory.plot(x, full, color=colour, linestyle="--", linewidth=1.4, label=_FULL, zorder=2)
        memory.fill_between(x, used, full, color=colour, alpha=0.08, linewidth=0)


def _tidy(seconds: Any, memory: Any, axis: Axis, rows: Sequence[Row]) -> None:
    """Logarithms, ticks at the measured values, a title."""
    ticks = sorted({int(row[axis]) for row in rows if row["axis"] in (axis, BASE)})
    for panel in (seconds, memory):
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        panel.xaxis.set_major_locator(FixedLocator(ticks))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    if axis == "N":
        look = {"color": "#777777", "fontsize": 9, "ha": "right", "va": "bottom"}
        seconds.text(0.97, 0.03, "only the search has N", transform=seconds.transAxes, **look)
    memory.set_xlabel(_NAMES[axis])


def _legend(figure: Any, panels: Any) -> None:
    """One legend for all panels, under them, with the guides."""
    handles: dict[str, Any] = {}
    for panel in panels.flat:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    (slope,) = panels[0, 0].plot([], [], linestyle="-", **_GUIDE)
    (square,) = panels[0, 0].plot([], [], linestyle="--", **_GUIDE)
    handles |= {"slope 1, through the last point": slope, "slope 2, for the search over T": square}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
