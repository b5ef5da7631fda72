"""`cells`: what a cell is, that it is computed once, and that nothing of a failure is lost."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from agents.studies.cells import Cell, Outcome, check_same_cell, compute, is_done, minutes_of
from tests.agents.studies.grid_cells import died_while_holding, is_held

COUNT = "tests.agents.studies.grid_cells:count"


def computations(cell: Cell, grid: Path) -> int:
    """How often a `count` cell was computed."""
    path = cell.folder(grid) / "computations"
    return len(path.read_text().splitlines()) if path.is_file() else 0


def test_a_cell_is_computed_once_with_its_settings_in_its_folder(tmp_path: Path) -> None:
    cell = Cell("a", COUNT, {"value": [1, "two", None]}, device="meta")
    assert compute(cell, tmp_path) == Outcome("done")
    assert json.loads((tmp_path / "a" / "result.json").read_text()) == {"value": [1, "two", None], "device": "meta"}
    assert is_done(tmp_path / "a")
    assert 0 <= minutes_of(tmp_path / "a") < 1
    assert compute(cell, tmp_path) == Outcome("found")
    assert computations(cell, tmp_path) == 1


def test_the_folder_says_what_the_cell_is(tmp_path: Path) -> None:
    compute(Cell("a", COUNT, {"x": 1}, after=("b",)), tmp_path)
    stored = json.loads((tmp_path / "a" / "cell.json").read_text())
    assert stored == {"function": COUNT, "settings": {"x": 1}, "after": ["b"]}


def test_where_a_cell_runs_is_not_part_of_what_it_is(tmp_path: Path) -> None:
    compute(Cell("a", COUNT), tmp_path)
    assert compute(Cell("a", COUNT, device="cuda"), tmp_path) == Outcome("found")


def test_a_setting_that_did_not_exist_yet_counts_as_its_default(tmp_path: Path) -> None:
    compute(Cell("a", COUNT, {"rounds": 1, "inner": {"x": 1}}), tmp_path)
    settings = {"rounds": 1, "inner": {"x": 1, "new": "plain"}}
    compute(Cell("a", COUNT, settings, defaults={"inner": {"x": 7, "new": "plain"}}), tmp_path)
    with pytest.raises(ValueError, match=r"inner\.new=None, not 'plain'"):
        check_same_cell(Cell("a", COUNT, settings), tmp_path)
    changed = {"rounds": 1, "inner": {"x": 1, "new": "fancy"}}
    with pytest.raises(ValueError, match=r"inner\.new='plain', not 'fancy'"):
        check_same_cell(Cell("a", COUNT, changed, defaults={"inner": {"new": "plain"}}), tmp_path)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Cell("a", COUNT, {"rounds": 2, "inner": {"x": 1}}), "rounds=1, not 2"),
        (Cell("a", COUNT, {"rounds": 1, "inner": {"x": 3}}), "inner.x=1, not 3"),
        (Cell("a", COUNT, {"rounds": 1}), "inner={'x': 1}, not None"),
        (Cell("a", COUNT, {"rounds": 1, "inner": {"x": 1}}, after=("b",)), r"after=\[\], not \['b'\]"),
        (
            Cell("a", "tests.agents.studies.grid_cells:fail", {"rounds": 1, "inner": {"x": 1}}),
            "function='count', not 'fail'",
        ),
    ],
)
def test_a_folder_of_another_cell_is_refused_and_the_difference_named(tmp_path: Path, other: Cell, words: str) -> None:
    compute(Cell("a", COUNT, {"rounds": 1, "inner": {"x": 1}}), tmp_path)
    with pytest.raises(ValueError, match=f"was computed with {words}; choose another folder"):
        check_same_cell(other, tmp_path)
    outcome = compute(other, tmp_path)
    assert outcome.state == "failed"
    assert "choose another folder" in outcome.message


def test_a_failure_is_told_and_its_traceback_kept_until_the_cell_is_done(tmp_path: Path) -> None:
    cell = Cell("a", "tests.agents.studies.grid_cells:fail_unless_mended")
    assert compute(cell, tmp_path) == Outcome("failed", "ValueError: not mended yet: make the file `mended`")
    assert not is_done(tmp_path / "a")
    text = (tmp_path / "a" / "error.txt").read_text()
    assert text.startswith("Traceback")
    assert "grid_cells.py" in text
    (tmp_path / "a" / "mended").touch()
    assert compute(cell, tmp_path) == Outcome("done")
    assert not (tmp_path / "a" / "error.txt").exists()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("no_such_module:f", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("tests.agents.studies.grid_cells:nothing", "AttributeError: .* has no attribute 'nothing'"),
        ("tests.agents.studies.grid_cells:exit_with_7", "SystemExit: 7"),
    ],
)
def test_whatever_a_cell_does_is_a_failure_of_the_cell(tmp_path: Path, function: str, message: str) -> None:
    outcome = compute(Cell("a", function), tmp_path)
    assert outcome.state == "failed"
    assert re.fullmatch(message, outcome.message)
    assert (tmp_path / "a" / "error.txt").is_file()


def test_a_cell_that_another_process_holds_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "holder").write_text("host 17")
    with FileLock(tmp_path / "a" / "lock"):
        assert compute(Cell("a", COUNT), tmp_path) == Outcome("busy", "host 17")
    assert not is_held(tmp_path / "a")
    assert computations(Cell("a", COUNT), tmp_path) == 0
    assert compute(Cell("a", COUNT), tmp_path) == Outcome("done")
    assert (tmp_path / "a" / "holder").read_text().split()[1] == str(os.getpid())


def test_the_lock_of_a_process_that_was_killed_holds_nobody_up(tmp_path: Path) -> None:
    died_while_holding(tmp_path / "a")
    assert compute(Cell("a", COUNT), tmp_path) == Outcome("done")


@pytest.mark.parametrize(
    ("needed", "outcome"),
    [
        ({"b": Outcome("done"), "c": Outcome("found")}, Outcome("done")),
        ({"b": Outcome("done"), "c": Outcome("failed", "why")}, Outcome("not started", "c")),
        ({"b": Outcome("not started", "d")}, Outcome("not started", "b")),
        ({"b": Outcome("busy", "host 17")}, Outcome("busy", "host 17")),
    ],
)
def test_a_cell_is_computed_only_after_those_that_it_needs(
    tmp_path: Path, needed: dict[str, Outcome], outcome: Outcome
) -> None:
    assert compute(Cell("a", COUNT, after=tuple(needed)), tmp_path, needed) == outcome
    assert is_done(tmp_path / "a") is (outcome.state == "done")


@pytest.mark.parametrize("module", ["agents.study", "grid_cells"])
def test_a_cells_function_may_have_moved_since_the_grid_was_begun(tmp_path: Path, module: str) -> None:
    compute(Cell("a", COUNT, {"x": 1}), tmp_path)
    path = tmp_path / "a" / "cell.json"
    path.write_text(path.read_text().replace(COUNT.partition(":")[0], module))
    (tmp_path / "a" / "done.json").unlink()
    assert compute(Cell("a", COUNT, {"x": 1}), tmp_path) == Outcome("done")
    assert json.loads(path.read_text())["function"] == COUNT
    with pytest.raises(ValueError, match="function='count', not 'fail'"):
        check_same_cell(Cell("a", "tests.agents.studies.grid_cells:fail", {"x": 1}), tmp_path)


def test_ctrl_c_is_not_a_failure_of_the_cell(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        compute(Cell("a", "tests.agents.studies.grid_cells:interrupt"), tmp_path)
    assert not (tmp_path / "a" / "error.txt").exists()
    assert not is_held(tmp_path / "a")


def test_a_folder_that_cannot_be_made_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    outcome = compute(Cell("a", COUNT), tmp_path)
    assert outcome.state == "failed"
    assert "exists" in outcome.message or "Not a directory" in outcome.message


def test_an_unreadable_description_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cell.json").write_text("{")
    with pytest.raises(ValueError, match=r"cell.json' cannot be read: .*; remove it to compute the cell again"):
        check_same_cell(Cell("a", COUNT), tmp_path)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Cell("../a", COUNT), ValueError, r"name='\.\./a' cannot name a cell's folder"),
        (lambda: Cell("", COUNT), ValueError, "name=''"),
        (lambda: Cell("a", "count"), ValueError, "function='count' must be 'module:function'"),
        (lambda: Cell("a", COUNT, {"x": Path()}), TypeError, "cannot be written as JSON"),
        (lambda: Cell("a", COUNT, {"x": (1, 2)}), TypeError, "use lists and string keys"),
    ],
)
def test_a_cell_that_cannot_be_described_is_refused(
    make: Callable[[], Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        make()


def test_a_cells_function_may_stand_in_any_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_cells.py").write_text("def f(settings, folder, device):\n    (folder / 'mine').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert compute(Cell("a", "my_cells:f"), tmp_path) == Outcome("done")
    assert (tmp_path / "a" / "mine").is_file()
    sys.modules.pop("my_cells")
