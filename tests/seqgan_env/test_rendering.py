"""`rendering`: a sequence so far, as text and as a picture."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from seqgan_env.rendering import _box_lines, display_width, rgb_frame, text_frame, visible

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
    frames = [
        rgb_frame(tokens, values, 3)
        for tokens, values in [([], []), (["a"], [0.5]), (["a", "b"], [0.5, 0.9]), (["a", "b"], [NAN, NAN])]
    ]
    for frame in frames:
        assert frame.dtype == np.uint8
        assert frame.shape == (144, 680, 3)
    assert all((a != b).any() for i, a in enumerate(frames) for b in frames[:i])


def test_a_picture_grows_with_the_horizon() -> None:
    assert rgb_frame(["1"], [0.1], 20).shape == (216, 680, 3)


def test_blanks_and_control_characters_can_be_seen() -> None:
    assert [visible(token) for token in (" ", "a\nb", "\t", "\x07", "né", "明")] == [
        "␣",
        "a⏎b",
        "⇥",
        "U+0007",
        "né",
        "明",
    ]


def test_wide_characters_take_two_columns_of_the_text() -> None:
    assert [display_width(text) for text in ("ab", "明月", "e\u0301", "")] == [2, 4, 1, 0]
    assert text_frame(["明", "a"], [0.5, 0.25], 2) == (
        "t = 2/2\n"  # seven columns each, of which the first token takes two
        "token      明      a\n"
        "Q       0.500  0.250\n"
    )


def test_a_box_has_room_for_long_words_and_for_what_no_font_has() -> None:
    assert _box_lines("C#4") == ["C#4"]
    assert _box_lines("assigned") == ["assi", "gned"]
    assert _box_lines("antidisestablishmentarianism") == ["antidises", "tablishme…"]
    assert _box_lines("\U0010ffff") == ["U+10FFFF"]
    assert _box_lines("") == [""]


@pytest.mark.parametrize("token", ["$x$", "$\\frac", "\n", "\U0010ffff" * 3, "", "明"])
def test_a_picture_takes_any_token_without_a_warning(token: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rgb_frame([token], [0.5], 1).shape == rgb_frame([], [], 1).shape


def test_the_colour_of_a_box_tells_its_value() -> None:
    """Low values are dark violet, high ones yellow: viridis."""
    frame = rgb_frame(["a", "b", "c"], [0.0, 1.0, NAN], 3).astype(int)
    low, high, unknown = (frame[120, 13 + 57 * column + 12] for column in range(3))
    assert low.tolist() == [68, 1, 84]
    assert high.tolist() == [253, 231, 37]
    assert unknown.tolist() == [242, 242, 242]
