"""`rendering`: a sequence so far, as text and as a picture."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from seqgan_env.rendering import rgb_frame, text_frame

NAN = float("nan")


def test_text_shows_each_token_over_its_value() -> None:
    assert text_frame(["a", "c"], [0.25, NAN], 3) == (
        "t = 2/3\n"  # a dash where no value was computed
        "token       a      c\n"
        "Q       0.250      -\n"
    )


def test_text_of_the_empty_prefix_is_its_step() -> None:
    assert text_frame([], [], 20) == "t = 0/20\n"


def test_text_has_ten_tokens_a_line_and_columns_as_wide_as_the_longest() -> None:
    lines = text_frame(["longtoken"] + ["b"] * 11, [0.5] * 12, 20).splitlines()
    assert [line.split()[0] for line in lines] == ["t", "token", "Q", "token", "Q"]
    assert len(lines[1].split()) == 11
    assert len(lines[3].split()) == 3
    assert len(lines[1]) == len(lines[2]) == 6 + 10 * 10


def test_a_picture_is_an_rgb_array_that_shows_what_happened() -> None:
    pytest.importorskip("matplotlib")
    frames = [
        rgb_frame(tokens, values, 3)
        for tokens, values in [([], []), (["a"], [0.5]), (["a", "b"], [0.5, 0.9]), (["a", "b"], [NAN, NAN])]
    ]
    for frame in frames:
        assert frame.dtype == np.uint8
        assert frame.shape == (144, 680, 3)
    assert all((a != b).any() for i, a in enumerate(frames) for b in frames[:i])


def test_a_picture_grows_with_the_horizon() -> None:
    pytest.importorskip("matplotlib")
    assert rgb_frame(["1"], [0.1], 20).shape == (216, 680, 3)


def test_without_matplotlib_a_picture_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"rgb_array.*matplotlib.*\[plots\]"):
        rgb_frame(["a"], [0.5], 3)
