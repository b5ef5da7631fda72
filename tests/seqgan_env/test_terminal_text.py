"""`terminal_text`: no text moves a terminal, and none ends a program because of an encoding."""

from __future__ import annotations

import io
import sys
import unicodedata
from pathlib import Path

import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seqgan_env  # noqa: F401  (registers the environments)
from seqgan_env.rendering import text_frame
from seqgan_env.terminal_text import is_control, prepare_streams, shown, visible


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),  # ESC [ in one character
        ("a\rb\x08c\x7f", r"a\rb\x08c\x7f"),
        ("abc\u202etxt.exe", r"abc\u202etxt.exe"),
        ("\u2066a\u2069\u2028", r"\u2066a\u2069\u2028"),
        ("a\ud800", r"a\ud800"),
        ("שלום 床前 👩‍👩‍👧 \u200f é\tb\n", "שלום 床前 👩‍👩‍👧 \u200f é\tb\n"),
        ("\\x1b", r"\x1b"),
    ],
)
def test_control_characters_are_shown_and_writing_systems_stay(text: str, seen: str) -> None:
    assert visible(text) == seen
    assert visible(seen) == seen


def test_on_one_line_its_ends_are_shown_too() -> None:
    assert visible("a\nb\tc", one_line=True) == r"a\nb\tc"


@given(st.text(st.characters()))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    seen = visible(text, one_line=True)
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in seen)
    assert not any(is_control(character) for character in seen)
    assert [c for c in visible(text) if is_control(c)] == [c for c in text if c in "\n\t"]


def test_a_file_gets_the_text_as_it_is_and_a_terminal_what_can_be_seen() -> None:
    assert shown("\x1b[31m", io.StringIO()) == "\x1b[31m"
    assert shown("\x1b[31m", Terminal()) == r"\x1b[31m"


def test_what_a_stream_cannot_encode_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert shown("a ‖ שלום", ascii_only) == "a ? ????"
    monkeypatch.setattr(sys, "stdout", ascii_only)
    prepare_streams()
    print("a ‖", end="", flush=True)
    assert ascii_only.buffer.getvalue() == b"a ?"  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # a stream of another program's making
    prepare_streams()


def test_a_frame_of_hostile_tokens_moves_no_terminal() -> None:
    frame = text_frame(["\x1b]0;t\x07", "\u202eab", "\n"], [0.1, 0.2, 0.3], 3)
    assert [character for character in frame if is_control(character)] == ["\n"] * frame.count("\n")


def test_an_environment_draws_what_the_stream_can_encode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("\n".join(f"שלום ב{number % 7}" for number in range(40)), encoding="utf-8")
    env = gym.make(
        "SeqGAN-Text-v0",
        corpus=str(tmp_path / "a.txt"),
        duplicates="keep",
        render_mode="human",
        reward_model="constant",
        n_rollouts=1,
    )
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    env.reset(seed=0)
    env.step(0)
    stream.flush()
    assert b"????" in stream.buffer.getvalue()  # type: ignore[attr-defined]
