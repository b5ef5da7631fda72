"""What the README shows works: its Python blocks run, its commands parse and run, its links and promises hold."""

import re
import shlex
from pathlib import Path

import pytest

from agents.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.S)
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


def test_the_commands_on_runs_work_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [line for line in SHELL_LINES if line.startswith("seqgan") and "runs/first" in line]
    assert len(commands) == 5
    small = ["--rounds", "2", "--mle-epochs", "1", "--evaluation-samples", "50", "--final-samples", "50"]
    for command in commands:
        words = shlex.split(command)[1:]
        main(words + (small if words[:2] == ["train", "toy"] and "--resume" not in words else []))
    assert (tmp_path / "runs/first/learning_curve.png").is_file()


def test_every_link_to_a_file_leads_somewhere() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if not target.startswith("http")]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
