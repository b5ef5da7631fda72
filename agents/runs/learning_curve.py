"""The learning curve of a run, or of several: both NLLs, or quality beside diversity, over epochs.

In: run folders. Out: a PNG.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.runs.metrics_log import rows_of
from agents.runs.regular_files import write_atomically
from agents.runs.run_folder import RunFolder, RunWarning

PANELS = (("nll_oracle", "NLL_oracle"), ("nll_test", "NLL_test"))


def new_figure(width: float, height: float) -> Any:
    """An empty figure that needs no display; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@dataclass(frozen=True)
class Curve:
    """The measurements of a run.

    Attributes:
        name: of the run, for the legend.
        rows: lines of its metrics.csv; those without a measurement are left out.
    """

    name: str
    rows: Sequence[Mapping[str, str]]

    @property
    def measured(self) -> list[Mapping[str, str]]:
        """The lines that hold a measurement."""
        return [row for row in self.rows if row["nll_test"]]

    @property
    def border(self) -> float:
        """The last epoch of MLE, 0 without any."""
        return max([float(row["epoch"]) for row in self.measured if row["stage"] == "mle"], default=0.0)


def save_figure(figure: Any, out: Path) -> None:
    """Write a figure as PNG, whole or not at all; raises as `write_atomically`."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_atomically(out, picture.getvalue())


def _label(run: RunFolder, runs: int) -> str:
    """A run in the legend. One run alone has the same name wherever its folder stands."""
    if runs > 1:
        return run.path.name
    return f"{run.description.get('preset') or run.description['task']}, seed {run.config().seed}"


def _rows(run: RunFolder) -> list[dict[str, str]]:
    """The lines of metrics.csv. If the file lacks some that a checkpoint remembers, its copy and a `RunWarning`."""
    remembered = b""
    with suppress(ValueError):  # no checkpoint is whole
        stored = run.newest_readable()
        remembered = b"" if stored is None else stored[2].get("metrics", "").encode()
    if run.metrics_content().startswith(remembered):
        return run.metrics()
    said = f"{str(run.metrics_path)!r} lacks lines that the checkpoint remembers; the checkpoint's lines are drawn"
    warnings.warn(f"{said}. Going on with the run writes them again", RunWarning, stacklevel=3)
    return rows_of(remembered)


def plot_learning_curves(runs: Sequence[RunFolder], out: Path, floor: float | None = None) -> None:
    """Curves of each run over its epochs, with the border between MLE and the game: both NLLs, or for runs on a corpus
    NLL_test, BLEU-2 and self-BLEU-2. Bands are two standard errors, where those are logged.

    Args:
        runs: one run, or several to compare.
        out: the PNG to write.
        floor: the oracle's entropy in nats per token, if known.

    Raises:
        ValueError: if a run has no measurement yet, or only some of them know an oracle.
    """
    measures = runs[0].measures
    if any(run.measures.panels != measures.panels for run in runs):
        raise ValueError("runs on a corpus and runs with an oracle are measured by other numbers; plot them apart")
    curves = [Curve(_label(run, len(runs)), _rows(run)) for run in runs]
    for curve, run in zip(curves, runs, strict=True):
        if not curve.measured:
            raise ValueError(f"{str(run.path)!r} has no measurement yet; train further before plotting")
    save_figure(draw_learning_curves(curves, measures.panels, measures.panels_note, floor), out)


def draw_learning_curves(
    curves: Sequence[Curve], chosen: Sequence[tuple[str, str]], note: str, floor: float | None = None
) -> Any:
    """The figure of `plot_learning_curves`.

    Args:
        curves: with a measurement each.
        chosen: column and label of each panel.
        note: the sentence above the panels.
        floor: the oracle's entropy in nats per token, if known.
    """
    figure = new_figure(7.5, 3 * len(chosen) + 0.5)
    panels = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    borders = sorted({curve.border for curve in curves})
    for axes, (column, label) in zip(panels, chosen, strict=True):
        for curve in curves:
            _draw_band(axes, curve, column)
        for border in borders:
            axes.axvline(border, color="grey", linestyle="--", linewidth=1)
        if floor is not None:
            axes.axhline(floor, color="black", linestyle=":", linewidth=1)
        axes.set_ylabel(f"{label} (nats per token)" if label.startswith("NLL") else label)
        axes.grid(alpha=0.3)
    if floor is not None:
        place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
        panels[0].annotate("oracle's entropy", (0.99, floor), **place)
    _name_stages(panels[0], borders[0])
    figure.suptitle(f"{curves[0].name}\n{note}" if len(curves) == 1 else note, fontsize=10)
    if len(curves) > 1:
        panels[0].legend(fontsize=8)
    panels[-1].set_xlabel("MLE epochs, then adversarial rounds")
    return figure


def _draw_band(axes: Any, curve: Curve, column: str) -> None:
    """A run's column over its epochs, between two standard errors."""
    epochs = [float(row["epoch"]) for row in curve.measured]
    values = [float(row[column]) for row in curve.measured]
    errors = [2 * float(row.get(f"{column}_se") or 0.0) for row in curve.measured]
    (line,) = axes.plot(epochs, values, marker=".", label=curve.name)
    low = [value - error for value, error in zip(values, errors, strict=True)]
    high = [value + error for value, error in zip(values, errors, strict=True)]
    axes.fill_between(epochs, low, high, alpha=0.25, color=line.get_color(), linewidth=0)


def _name_stages(axes: Any, border: float) -> None:
    """Write what is left and right of the border above the panel, where no curve runs."""
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 9}
    last = axes.dataLim.x1
    if border > 0:
        axes.annotate("MLE", (border, 1), xytext=(-5, 3), ha="right", va="bottom", color="dimgrey", **place)
    if last > border:
        axes.annotate("the game", (border, 1), xytext=(5, 3), ha="left", va="bottom", color="dimgrey", **place)
