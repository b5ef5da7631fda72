"""Each example runs in its fast mode, is short, and says in its last lines what it should print."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9][0-9]_*.py"))
SINGLE_FILES = sorted((Path(__file__).parents[1] / "examples" / "single_file").glob("*.py"))
# How far an example's number may lie from the one that it names; PPO's path depends on the last bits of its sums.
TOLERANCES = {"03_seqgan": 0.1, "05_ppo": 0.4, "07_recurrent_ppo": 0.02, "08_dqn": 0.0}


def test_there_are_eight_numbered_examples() -> None:
    assert [path.name[:2] for path in EXAMPLES] == ["01", "02", "03", "04", "05", "06", "07", "08"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_begins_with_its_command(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 80
    assert lines[0] == f"# python examples/{path.name}"


@pytest.mark.parametrize("path", [*EXAMPLES, *SINGLE_FILES], ids=lambda path: path.stem)
@pytest.mark.parametrize(("option", "status"), [("--help", 0), ("--helpp", 2), ("--no-such-option", 2)])
def test_an_example_has_help_and_refuses_an_unknown_option(
    path: Path, option: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skip_without_contrib(path)
    monkeypatch.setattr(sys, "argv", [str(path), option])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert end.value.code == status
    said = capsys.readouterr()
    assert "usage:" in said.out if status == 0 else option in said.err


def skip_without_contrib(path: Path) -> None:
    """Skip an example that needs sb3-contrib where it is not installed."""
    if "import RecurrentPPO" in path.read_text(encoding="utf-8"):
        pytest.importorskip("sb3_contrib", reason="needs seqgan-gym[contrib]")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_ends_with_a_number_and_what_is_expected(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skip_without_contrib(path)
    monkeypatch.setattr(sys, "argv", [str(path)] + (["--fast"] if "--fast" in path.read_text(encoding="utf-8") else []))
    runpy.run_path(str(path), run_name="__main__")
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.search(r"\d.*\(expected .*\d", last), last


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_about_the_number_that_it_expects(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skip_without_contrib(path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    last = re.sub(r"±\S+", "", capsys.readouterr().out.strip().splitlines()[-1])
    found, expected = (re.findall(r"\d+\.\d+", part)[-1] for part in last.split("(expected", 1))
    assert float(found) == pytest.approx(float(expected), abs=TOLERANCES.get(path.stem, 0.05))


@pytest.mark.parametrize(("module", "example"), [("sb3_contrib", "07"), ("sb3_contrib", "06"), ("yaml", "06")])
def test_a_missing_library_ends_an_example_with_the_extra_that_brings_it(
    module: str, example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = (path for path in EXAMPLES if path.name.startswith(example))
    monkeypatch.setitem(sys.modules, module, None)  # so that importing it fails
    monkeypatch.setattr(sys, "argv", [str(path), *(["--learner", "trpo"] if example == "06" else []), "--fast"])
    with pytest.raises((SystemExit, ImportError), match=r'pip install "seqgan-gym\[(contrib|compare)\]"'):
        runpy.run_path(str(path), run_name="__main__")


def last_line_of_a_single_file(
    path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.setattr(sys, "argv", [str(path), *options])
    runpy.run_path(str(path), run_name="__main__")
    return capsys.readouterr().out.strip().splitlines()[-1]


def test_the_single_files_are_ppo_and_reinforce() -> None:
    assert [path.stem for path in SINGLE_FILES] == ["ppo_sequence", "reinforce_sequence"]


@pytest.mark.parametrize("path", SINGLE_FILES, ids=lambda path: path.stem)
def test_a_single_file_begins_with_its_command_and_needs_no_library_of_learners(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.splitlines()[0] == f"# python examples/single_file/{path.name}"
    assert len(source.splitlines()) < 200
    imported = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    imported |= {
        alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for alias in node.names
    }
    outside = {str(name).split(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert outside == {"gymnasium", "numpy", "torch", "tyro", "seqgan_env"}


@pytest.mark.parametrize("path", SINGLE_FILES, ids=lambda path: path.stem)
def test_a_single_file_gives_the_same_numbers_for_the_same_seed(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--num-updates", "2", "--num-envs", "16"]
    one, other, seeded = (
        last_line_of_a_single_file(path, [*options, *more], monkeypatch, capsys) for more in ([], [], ["--seed", "1"])
    )
    assert re.search(r"\d\.\d.*\(expected .*\d", one), one
    assert one == other
    assert one != seeded


@pytest.mark.slow
@pytest.mark.parametrize("path", SINGLE_FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("seed", ["0", "1"])
def test_a_single_file_prints_about_the_number_that_it_expects(
    path: Path, seed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    last = last_line_of_a_single_file(path, ["--seed", seed], monkeypatch, capsys)
    found, expected = (float(re.findall(r"\d+\.\d+", part)[-1]) for part in last.split("(expected", 1))
    assert found == pytest.approx(expected, abs=0.05)
