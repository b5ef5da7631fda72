"""README and docs/extending.md: Python blocks run, commands parse and run. The links of every page lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from agents.command.main import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXTENDING = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.S)
# Of docs/extending.md: what its sections are about, and the text of each.
SECTIONS = dict(re.findall(r"^## an? ([\w -]+)\n(.*?)(?=^## |\Z)", EXTENDING, flags=re.S | re.M | re.I))
CHECKS = {
    "reward": "check_reward_model",
    "discriminator": "check_discriminator",
    "generator": "check_sequence_model",
    "roll-out policy": "check_rollout_policy",
    "task": "check_task",
    "algorithm": "check_sequence_model",
}
SHELL_LINES = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.S)
    for line in block.splitlines()
]


def test_the_two_commands_stand_in_one_line_each() -> None:
    assert "pip install -c constraints.txt -e . && seqgan train oracle" in SHELL_LINES
    assert 'pip install -c constraints.txt -e ".[test]" && pytest' in SHELL_LINES


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=range(len(PYTHON_BLOCKS)))
def test_a_python_block_runs(block: str) -> None:
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("part", CHECKS)
def test_an_example_of_ones_own_part_is_short_runs_and_ends_with_its_check(part: str) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", SECTIONS[part], flags=re.S)
    lines = [line for line in block.splitlines() if line]
    assert 10 <= len(lines) <= 25
    assert lines[-1].startswith(f"{CHECKS[part]}(")
    exec(compile(block, "extending.md", "exec"), {"__name__": "extending"})


def test_every_part_that_the_extending_page_lists_has_its_example() -> None:
    assert list(SECTIONS) == list(CHECKS)
    table = dict(re.findall(r"^\| ([\w -]+) \|.*\| `(check_\w+)`.* \|$", EXTENDING, flags=re.M))
    assert table == CHECKS


@pytest.mark.parametrize("part", ["reward", "discriminator", "generator"])
def test_the_extending_pages_commands_train_with_its_examples(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", SECTIONS[part], flags=re.S)
    (command,) = re.findall(r"`seqgan (train [^`]+)`", SECTIONS[part])
    assert "my_module:" in command
    (tmp_path / f"my_{part}_module.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    small = "--rounds 1 --mle-epochs 1 --discriminator-pretraining-steps 1 --train-sequences 64 --final-samples 50"
    main(shlex.split(f"{command.replace('my_module', f'my_{part}_module')} {small} --out run --no-progress"))
    assert (tmp_path / "run" / "results.csv").is_file()


def test_the_commands_on_runs_work_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [line for line in SHELL_LINES if line.startswith("seqgan") and "runs/first" in line]
    assert len(commands) == 5
    small = ["--rounds", "2", "--mle-epochs", "1", "--evaluation-samples", "50", "--final-samples", "50"]
    for command in commands:
        words = shlex.split(command)[1:]
        main(words + (small if words[:2] == ["train", "toy"] and "--resume" not in words else []))
    assert (tmp_path / "runs/first/learning_curve.png").is_file()


def test_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if not target.startswith("http")]
    assert targets
    assert [target for target in targets if not ((ROOT / page).parent / target).exists()] == []
