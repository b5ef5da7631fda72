"""`plots`: both NLLs of each run, never one alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.plots import plot_learning_curves
from agents.run_folder import RunFolder
from tests.agents.conftest import new_run

pytest.importorskip("matplotlib")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved."""
    from matplotlib.figure import Figure

    saved: list[Any] = []
    original = Figure.savefig

    def spy(self: Figure, *arguments: Any, **keywords: Any) -> None:
        saved.append(self)
        original(self, *arguments, **keywords)

    monkeypatch.setattr(Figure, "savefig", spy)
    return saved


def test_both_nlls_are_drawn_as_measured_with_border_and_floor(
    tmp_path: Path, finished_run: RunFolder, figures: list[Any]
) -> None:
    plot_learning_curves([finished_run], tmp_path / "curve.png", floor=1.0)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    (figure,) = figures
    oracle, test = figure.axes
    rows = [row for row in finished_run.metrics() if row["nll_oracle"]]
    for axes, column in ((oracle, "nll_oracle"), (test, "nll_test")):
        assert axes.lines[0].get_xdata().tolist() == [float(row["epoch"]) for row in rows]
        assert axes.lines[0].get_ydata().tolist() == [float(row[column]) for row in rows]
        border, floor = axes.lines[1:3]
        assert set(border.get_xdata()) == {2.0}  # MLE has two epochs
        assert set(floor.get_ydata()) == {1.0}
        assert column.replace("nll", "NLL") in axes.get_ylabel()


def test_several_runs_share_a_picture(tmp_path: Path, finished_run: RunFolder, figures: list[Any]) -> None:
    plot_learning_curves([finished_run, finished_run], tmp_path / "curve.png")
    labels = [text.get_text() for text in figures[0].axes[0].get_legend().get_texts()]
    assert labels == ["run", "run"]


def test_a_run_without_measurements_cannot_be_drawn(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    run.rewind_metrics(0)
    with pytest.raises(ValueError, match="has no measurement yet; train further before plotting"):
        plot_learning_curves([run], tmp_path / "curve.png")
    assert not (tmp_path / "curve.png").exists()


def test_without_matplotlib_the_remedy_is_named(
    tmp_path: Path, finished_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'seqgan-gym\[plots\]'"):
        plot_learning_curves([finished_run], tmp_path / "curve.png")
