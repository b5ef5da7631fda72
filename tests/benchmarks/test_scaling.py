"""Cost over growing sizes: which points are measured, in what units, with what memory, and how they are drawn."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.pictures import draw_scaling, read_scaling
from benchmarks.scaling import (
    CSV_COLUMNS,
    FULL_GRID,
    QUICK_GRID,
    Case,
    Point,
    along,
    axis_table,
    cases,
    full_bytes,
    measure_afresh,
    measures_memory,
    units,
)

pytestmark = pytest.mark.skipif(not measures_memory(), reason="needs /proc")
ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG"


@pytest.fixture(autouse=True)
def torch_threads() -> Iterator[None]:
    """Gives back the number of PyTorch's threads, which the command sets."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_one_axis_is_varied_at_a_time_and_only_the_search_has_completions() -> None:
    planned = cases(FULL_GRID)
    assert len(planned) == len(set(planned)) == 3 * (1 + 2 + 2 + 3) + (1 + 2 + 3 + 2 + 3)
    base = FULL_GRID.base
    for case in planned:
        changed = {axis for axis in "TNVB" if getattr(case.point, axis) != getattr(base, axis)}
        assert changed == (set() if case.axis == "base" else {case.axis})
    assert {case.stage for case in planned if case.axis == "N"} == {"search"}
    for stage in ("sampling", "search"):
        for axis, values in FULL_GRID.values.items():
            measured = {getattr(case.point, axis) for case in planned if case.stage == stage}
            assert measured == (set(values) if (stage, axis) != ("sampling", "N") else {16})


def test_stages_and_axes_can_be_chosen() -> None:
    chosen = cases(QUICK_GRID, ["search"], ["N", "B"])
    assert [(case.stage, case.axis) for case in chosen] == [("search", "base"), ("search", "N"), ("search", "B")]


def test_work_is_counted_in_logits_and_tokens() -> None:
    point = Point(T=3, N=4, V=10, B=2)
    assert units("sampling", point) == ("logit", 2 * 3 * 10)
    assert units("mle-step", point) == ("logit", 2 * 3 * 10)
    # After 1 token two are drawn, after 2 one: 3 tokens for each of 4 completions of 2 rows.
    assert units("search", point) == ("logit", 3 * 4 * 2 * 10)
    assert units("discriminator-step", point) == ("token", 2 * 3)


def test_memory_is_compared_with_all_logits_at_once() -> None:
    point = Point(T=3, N=4, V=10, B=2)
    assert full_bytes("search", point) == 4 * 2 * 3 * 4 * 10
    assert full_bytes("mle-step", point) == full_bytes("sampling", point) == 4 * 2 * 3 * 10
    assert full_bytes("discriminator-step", point) is None


PEAKS = """
import torch
from benchmarks.scaling import peak_memory
for size in (48 << 20, 1 << 10):
    with peak_memory(torch.device("cpu")) as peak:
        torch.ones(size, dtype=torch.uint8)
    print(peak[0])
"""


def test_the_peak_is_seen_although_its_memory_is_free_again() -> None:
    """In a process of its own: this one may have had as much memory before."""
    ended = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True, cwd=ROOT)
    large, small = map(int, ended.stdout.split())
    assert 0.9 * (48 << 20) < large < 1.5 * (48 << 20)
    assert small < 0.5 * (48 << 20)


@pytest.mark.slow
def test_a_fresh_process_measures_a_point() -> None:
    cost = measure_afresh(Case("search", "base", QUICK_GRID.base), "cpu", threads=1, repeats=1)
    assert 0 < cost.seconds < 10
    assert 0 <= cost.peak_bytes < 1 << 30


@pytest.mark.slow
def test_the_command_measures_prints_saves_and_draws_and_draws_again_from_the_csv(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, picture, again = tmp_path / "scaling.csv", tmp_path / "scaling.png", tmp_path / "again.png"
    main(["scaling", "--quick", "--csv", str(path), "--picture", str(picture)])
    printed = capsys.readouterr().out
    with path.open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == CSV_COLUMNS
    measured = [(line["stage"], line["axis"], *(int(line[axis]) for axis in "TNVB")) for line in lines]
    planned = cases(QUICK_GRID)
    assert measured == [(c.stage, c.axis, c.point.T, c.point.N, c.point.V, c.point.B) for c in planned]
    for line in lines:
        assert float(line["seconds"]) > 0
        per_unit = float(line["seconds"]) / int(line["units"])
        assert float(line["seconds_per_unit"]) == pytest.approx(per_unit, rel=1e-3)
        assert int(line["peak_bytes"]) >= 0
    assert all(f"Cost over {axis}" in printed for axis in "TNVB")
    main(["scaling", "--plot-only", "--csv", str(path), "--picture", str(again)])
    assert again.read_bytes() == picture.read_bytes()
    assert picture.read_bytes().startswith(PNG)


def row(stage: str, axis: str, **changed: int) -> dict[str, str]:
    sizes = {"T": 20, "N": 16, "V": 5000, "B": 64} | changed
    cells = {"seconds": "1", "unit": "logit", "units": "10", "seconds_per_unit": "0.1", "peak_bytes": "1048576"}
    return {"stage": stage, "axis": axis, "full_bytes": "4194304"} | cells | {k: str(v) for k, v in sizes.items()}


def test_a_line_of_the_picture_holds_the_base_and_its_own_axis_in_order() -> None:
    rows = [row("search", "base"), row("search", "T", T=10), row("search", "B", B=1), row("sampling", "base")]
    assert [line["T"] for line in along(rows, "search", "T")] == ["10", "20"]
    assert along(rows, "search", "V") == []
    assert along(rows, "sampling", "T") == []
    assert axis_table(rows, "V") is None


def test_a_picture_needs_an_axis_and_a_csv_of_scaling(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no axis was varied"):
        draw_scaling([row("search", "base")], tmp_path / "empty.png")
    other = tmp_path / "other.csv"
    other.write_text("stage,seconds\nsearch,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks the columns"):
        read_scaling(other)
