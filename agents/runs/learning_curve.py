"""The learning curve of a run, or of several: both NLLs, or quality beside diversity, over epochs.

In: run folders. Out: a PNG.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.runs.regular_files import write_atomically
from agents.runs.run_folder import RunFolder

PANELS = (("nll_oracle", "NLL_oracle"), ("nll_test", "NLL_test"))


def new_figure(width: float, height: float) -> Any:
    """An empty figure that needs no display; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


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


def plot_learning_curves(runs: Sequence[RunFolder], out: Path, floor: float | None = None) -> None:
    """Curves of each run over its epochs, with the MLE / adversarial border: both NLLs, or for runs on a corpus
    NLL_test, BLEU-2 and self-BLEU-2. Bands are two standard errors, where those are logged.

    Args:
        runs: one run, or several to compare.
        out: the PNG to write.
        floor: the oracle's entropy in nats per token, if known.

    Raises:
        ValueError: if a run has no measurement yet, or only some of them know an oracle.
    """
    measures = runs[0].measures
    chosen = measures.panels
    if any(run.measures.panels != chosen for run in runs):
        raise ValueError("runs on a corpus and runs with an oracle are measured by other numbers; plot them apart")
    figure = new_figure(7.5, 3 * len(chosen) + 0.5)
    panels = figure.subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    borders = set()
    for run in runs:
        measured = [row for row in run.metrics() if row["nll_test"]]
        if not measured:
            raise ValueError(f"{str(run.path)!r} has no measurement yet; train further before plotting")
        epochs = [float(row["epoch"]) for row in measured]
        borders.add(max([float(row["epoch"]) for row in measured if row["stage"] == "mle"], default=0.0))
        for axes, (column, _) in zip(panels, chosen, strict=True):
            values = [float(row[column]) for row in measured]
            errors = [2 * float(row.get(f"{column}_se", 0.0)) for row in measured]
            (line,) = axes.plot(epochs, values, marker=".", label=_label(run, len(runs)))
            low = [value - error for value, error in zip(values, errors, strict=True)]
            high = [value + error for value, error in zip(values, errors, strict=True)]
            axes.fill_between(epochs, low, high, alpha=0.25, color=line.get_color(), linewidth=0)
    for axes, (_, label) in zip(panels, chosen, strict=True):
        for border in sorted(borders):
            axes.axvline(border, color="grey", linestyle="--", linewidth=1)
        if floor is not None:
            axes.axhline(floor, color="black", linestyle=":", linewidth=1)
        axes.set_ylabel(f"{label} (nats per token)" if label.startswith("NLL") else label)
        axes.grid(alpha=0.3)
    if floor is not None:
        panels[0].annotate(
            "oracle's entropy", (0.99, floor), xycoords=("axes fraction", "data"), ha="right", va="bottom"
        )
    for border in sorted(borders)[:1]:
        panels[0].annotate(
            "MLE ends, the game begins",
            (border, 0.97),
            xytext=(-3, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            rotation=90,
            va="top",
            ha="right",
        )
    panels[0].set_title(measures.panels_note, fontsize=10)
    panels[0].legend(fontsize=8)
    panels[-1].set_xlabel("MLE epochs, then adversarial rounds")
    save_figure(figure, out)
