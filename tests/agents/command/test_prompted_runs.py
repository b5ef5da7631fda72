"""Runs on tasks with prompts from the command line: train, resume, evaluate, sample, and the conversation."""

from __future__ import annotations

import io
import os
import shlex
import sys
from pathlib import Path

import pytest

from agents.command import main as cli
from agents.runs.run_folder import RunFolder
from tests.agents.conftest import TINY_OPTIONS
from tests.seqgan_env.tasks.test_text_prompts import as_table

TINY = shlex.join([word for word in TINY_OPTIONS if word not in ("--train-sequences", "64")])


def call(line: str) -> int:
    """The exit status of a command line."""
    try:
        cli.main(shlex.split(line))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: `text`, with prompts of a column, and `tokens`, with prompts of the first two tokens."""
    place = tmp_path_factory.mktemp("prompted")
    corpus = as_table(place)
    options = f"--corpus {corpus} --column answer --unit word --minimum-count 1"
    shared = f"{TINY} --batch-size 16 --generator-batch-size 8 --evaluation-samples 30 --final-samples 40 --no-progress"
    assert call(f"train text {options} --prompt-column question --out {place / 'text'} {shared}") == 0
    assert call(f"train text {options} --prompt-tokens 2 --out {place / 'tokens'} {shared} --learner grpo") == 0
    os.remove(corpus)  # a run needs its folder alone
    return place


def printed(line: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert call(line) == 0
    return capsys.readouterr().out.splitlines()


def test_a_run_stores_its_prompts_and_is_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert RunFolder(folder / "text").task().prompt_length == 6
    assert RunFolder(folder / "tokens").task().prompt_length == 2
    assert RunFolder(folder / "text").generator().prompt_length == 6
    text = "\n".join(printed(f"evaluate {folder / 'text'} --samples 50", capsys))
    assert "NLL_test" in text


def test_samples_answer_test_prompts_or_the_given_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(f"sample {folder / 'text'} -n 6 --no-nearest", capsys)
    assert len(lines) == 6
    assert all(" => " in line for line in lines)
    lines = printed(f"sample {folder / 'text'} -n 4 --no-nearest --prompt 'red fish' --top-k 3", capsys)
    assert len(lines) == 4
    assert all(line.startswith("red fish => ") or line == "red fish =>" for line in lines)
    greedy = printed(f"sample {folder / 'text'} -n 4 --no-nearest --prompt 'red fish' --top-p 0.01", capsys)
    assert len(set(greedy)) == 1
    lines = printed(f"sample {folder / 'tokens'} -n 4 --no-nearest --prompt 'red fish bird'", capsys)
    assert all(line.startswith("red fish bird") for line in lines)


def test_a_wrong_prompt_ends_with_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line, message in (
        (f"sample {folder / 'text'} --prompt 'red red red red red red'", "at most 5 are allowed"),
        (f"sample {folder / 'tokens'} --prompt red", "expected 2 to"),
        (f"sample {folder / 'text'} --top-k 0", "top_k=0 must be at least 1"),
        (f"sample {folder / 'text'} --interactive --prompt red", "leave out --format, --out and --prompt"),
    ):
        assert call(line) == 2
        assert message in capsys.readouterr().err


def test_a_conversation_continues_each_line_until_the_input_ends(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("red fish\nred red red red red red\nbird\n"))
    capsys.readouterr()
    assert call(f"sample {folder / 'text'} --interactive -n 2") == 0
    said = capsys.readouterr()
    begins = [line.split(" =>")[0] for line in said.out.splitlines()]
    assert begins == ["red fish", "red fish", "bird", "bird"]
    assert "at most 5 are allowed" in said.err


def test_a_run_without_prompts_continues_the_beginning_of_a_sequence(
    finished_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(f"sample {finished_run.path} -n 20 --prompt 'b c'", capsys)
    assert len(lines) == 20
    assert all(line.startswith("b c ") for line in lines)
    assert len(set(lines)) > 1
    assert call(f"sample {finished_run.path} --prompt 'a b c'") == 2
    assert "has 3 tokens, expected 1 to 2" in capsys.readouterr().err
