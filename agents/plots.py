"""Pictures of runs: NLL_oracle and NLL_test over training, as the paper's Fig. 2 with the half that it left out.

In: run folders. Out: a PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.run_folder import RunFolder

_PANELS = (("nll_oracle", "NLL_oracle"), ("nll_test", "NLL_test"))


def plot_learning_curves(runs: Sequence[RunFolder], out: Path, floor: float | None = None) -> None:
    """Both NLLs of each run over its epochs, with bands of two standard errors and the MLE / adversarial border.

    Args:
        runs: one run, or several to compare.
        out: the PNG to write.
        floor: the oracle's entropy in nats per token, if known.

    Raises:
        ValueError: if a run has no measurement yet.
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing needs matplotlib: pip install 'seqgan-gym[plots]'") from error
    figure = Figure(figsize=(7.5, 6.5), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 1, sharex=True)
    borders = set()
    for run in runs:
        measured = [row for row in run.metrics() if row["nll_oracle"]]
        if not measured:
            raise ValueError(f"{str(run.path)!r} has no measurement yet; train further before plotting")
        epochs = [float(row["epoch"]) for row in measured]
        borders.add(max([float(row["epoch"]) for row in measured if row["stage"] == "mle"], default=0.0))
        for axes, (column, _) in zip(panels, _PANELS, strict=True):
            values = [float(row[column]) for row in measured]
            errors = [2 * float(row[f"{column}_se"]) for row in measured]
            (line,) = axes.plot(epochs, values, marker=".", label=run.path.name)
            low = [value - error for value, error in zip(values, errors, strict=True)]
            high = [value + error for value, error in zip(values, errors, strict=True)]
            axes.fill_between(epochs, low, high, alpha=0.25, color=line.get_color(), linewidth=0)
    for axes, (_, label) in zip(panels, _PANELS, strict=True):
        for border in sorted(borders):
            axes.axvline(border, color="grey", linestyle="--", linewidth=1)
        if floor is not None:
            axes.axhline(floor, color="black", linestyle=":", linewidth=1)
        axes.set_ylabel(f"{label} (nats per token)")
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
    panels[0].set_title("Lower is better in both panels; lower in the first alone is lost diversity", fontsize=10)
    panels[0].legend(fontsize=8)
    panels[1].set_xlabel("MLE epochs, then adversarial rounds")
    figure.savefig(out)
