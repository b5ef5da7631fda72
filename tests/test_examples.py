"""Each example runs in its fast mode, is short, and says in its last lines what it should print."""

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9][0-9]_*.py"))
# How far an example's number may lie from the one that it names; PPO's path depends on the last bits of its sums.
TOLERANCES = {"03_seqgan": 0.1, "05_ppo": 0.4}


def test_there_are_five_numbered_examples() -> None:
    assert [path.name[:2] for path in EXAMPLES] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_begins_with_its_command(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 80
    assert lines[0] == f"# python examples/{path.name}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_ends_with_a_number_and_what_is_expected(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(path)] + (["--fast"] if "--fast" in path.read_text(encoding="utf-8") else []))
    runpy.run_path(str(path), run_name="__main__")
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.search(r"\d.*\(expected .*\d", last), last


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_about_the_number_that_it_expects(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    last = re.sub(r"±\S+", "", capsys.readouterr().out.strip().splitlines()[-1])
    found, expected = (re.findall(r"\d+\.\d+", part)[-1] for part in last.split("(expected", 1))
    assert float(found) == pytest.approx(float(expected), abs=TOLERANCES.get(path.stem, 0.05))
