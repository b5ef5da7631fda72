"""The command's output: nothing in a run moves the terminal, no encoding ends a run, and files are written first."""

from __future__ import annotations

import csv
import io
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.table import Table

from agents.command import main as cli
from agents.runs.console import TerminalConsole
from seqgan_env.terminal_text import is_control, write_output
from seqgan_env.vocabulary import Vocabulary
from tests.agents.conftest import TINY_OPTIONS

TITLE = "\x1b]0;owned\x07"
HEBREW = "שלום"
TINY = (
    "--embedding-size 8 --hidden-size 8 --batch-size 16 --mle-epochs 1 --discriminator-embedding-size 8 --rounds 1 "
    "--discriminator-pretraining-steps 1 --discriminator-sample-size 32 --n-rollouts 2 --generator-batch-size 8 "
    "--evaluation-samples 20 --final-samples 30 --no-progress"
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def call(line: str) -> int:
    """The exit status of a command line."""
    try:
        cli.main(shlex.split(line))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def on_terminal(monkeypatch: pytest.MonkeyPatch, line: str) -> tuple[int, str]:
    """The exit status of a command line, and what it writes to a terminal of 80 columns."""
    stream = Terminal()
    for name, value in (("COLUMNS", "80"), ("TERM", "dumb"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", stream)
        return call(line), stream.getvalue()


def obeyed(text: str) -> list[str]:
    """What a terminal would obey in a text, but for line ends."""
    return [character for character in text if is_control(character) and character != "\n"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run on a corpus with control characters in its words and its name, and what a terminal got."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    words = [f"{TITLE}a", HEBREW, "\u202eexe", "b\x9b2J", "c", "d"]
    lines = [" ".join(rng.choice(words, 5)) for _ in range(120)]
    corpus = folder / "cor\x1b[31mpus.txt"
    corpus.write_text("\n".join(lines), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in (("COLUMNS", "80"), ("TERM", "dumb"), ("NO_COLOR", "1")):
            patch.setenv(name, value)
        stream = Terminal()
        patch.setattr(sys, "stdout", stream)
        options = f"--unit word --punctuation keep --duplicates keep {TINY}"
        assert call(f"train text --corpus {shlex.quote(str(corpus))} --out run {options}") == 0
    return folder / "run", stream.getvalue()


@pytest.fixture
def run(hostile: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run at ./run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEQGAN_DEBUG", raising=False)
    return Path(shutil.copytree(hostile[0], tmp_path / "run"))


def test_what_is_told_of_a_corpus_moves_no_terminal(hostile: tuple[Path, str]) -> None:
    assert r"cor\x1b[31mpus.txt" in hostile[1]
    assert obeyed(hostile[1]) == []


def test_samples_on_a_terminal_show_control_characters(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, text = on_terminal(monkeypatch, "sample run -n 8")
    assert status == 0
    for seen in (r"\x1b]0;owned\x07a", r"\u202eexe", HEBREW):
        assert seen in text
    assert obeyed(text) == []
    assert len(text.splitlines()) == 16


def test_samples_in_a_pipe_or_file_are_as_they_are(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("sample run -n 8 --no-nearest") == 0
    printed = capsys.readouterr().out
    assert TITLE in printed
    assert call("sample run -n 8 --no-nearest --out samples.txt") == 0
    assert Path("samples.txt").read_text(encoding="utf-8") == printed


def test_tokens_with_line_ends_stay_on_their_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Vocabulary, "decode", lambda self, ids: "one\nERASED\x1b[2J")
    status, text = on_terminal(monkeypatch, "sample run -n 2")
    assert (status, len(text.splitlines())) == (0, 4)


@pytest.mark.parametrize(
    "line", ["sample 'no\x1b[31mwhere'", "train text --corpus 'no\x1b[31mwhere'", "plot run --out 'run.json/\x1b[31m'"]
)
def test_errors_move_no_terminal(run: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    status, text = on_terminal(monkeypatch, line)
    assert status == 2
    assert r"\x1b[31m" in text
    assert obeyed(text) == []
    assert text.rstrip().splitlines()[-1].startswith("seqgan: error: ")


def test_paths_that_are_printed_move_no_terminal(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_terminal(monkeypatch, "plot run --out 'x\x1b[31m\n.png'") == (0, "x\\x1b[31m\\n.png\n")


def test_a_console_prints_markup_emoji_and_controls_as_text() -> None:
    stream = Terminal()
    console = TerminalConsole(file=stream, width=80, color_system=None, legacy_windows=False)
    table = Table(title="[/red] \x1b]0;t\x07")
    table.add_column("c\x1b[2J")
    table.add_row(":dog: [bold]\x9b")
    console.print("[/x] :cat: \x1b[1m")
    console.print(table)
    text = stream.getvalue()
    for seen in ("[/x] :cat: \\x1b[1m", "[/red] \\x1b]0;t", "c\\x1b[2J", ":dog: [bold]\\x9b"):
        assert seen in text
    assert obeyed(text) == []
    into_a_file = io.StringIO()
    TerminalConsole(file=into_a_file, width=80).print("\x1b[1m", soft_wrap=True)
    assert into_a_file.getvalue() == "\x1b[1m\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("line", ["sample run -n 8", "evaluate run --samples 20 --out e.csv", "train --help"])
def test_no_encoding_ends_a_command(run: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, line: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "80")
    assert call(line) == 0
    stream.flush()
    printed = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert printed.strip()
    if line.startswith("sample"):
        assert "????" in printed


def test_a_western_windows_with_its_output_in_a_file_gets_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", stream)
    assert call(shlex.join(["train", "toy", "--out", "w", *TINY_OPTIONS])) == 0
    stream.flush()
    assert "KL(G?o)" in stream.buffer.getvalue().decode("cp1252")  # type: ignore[attr-defined]
    assert {"results.csv", "learning_curve.png"} <= {path.name for path in Path("w").iterdir()}


def test_files_are_written_before_tables_are_printed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the terminal is gone")

    monkeypatch.setattr(TerminalConsole, "print", broken)
    with pytest.raises(RuntimeError, match="the terminal is gone"):
        call("evaluate run --samples 20 --out e.csv")
    with open("e.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 1


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("line", ["sample run -n 3", "evaluate run --samples 20"])
def test_a_full_output_is_one_line(run: Path, line: str) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "agents", *shlex.split(line)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr == "seqgan: error: standard output cannot be written: No space left on device\n"


def test_a_stream_without_a_buffer_gets_all_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """As standard output with PYTHONUNBUFFERED, where the system may take less than it is given."""

    class Slow(io.RawIOBase):
        taken = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.taken += bytes(data[:5])
            return len(data[:5])

    slow = Slow()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(slow, encoding="utf-8", newline="", write_through=True))
    write_output("a line of text\n\u05e9\n")
    assert slow.taken.decode() == f"a line of text{os.linesep}\u05e9{os.linesep}"
