"""`rendering`: a sequence so far, as text and as a picture."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from seqgan_env import rendering
from seqgan_env.envs import OracleEnv, ToyEnv
from seqgan_env.rendering import _box_lines, colour_limits, display_width, rgb_frame, text_frame, value_text, visible

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
        assert frame.shape == (112, 680, 3)
    assert all((a != b).any() for i, a in enumerate(frames) for b in frames[:i])


def test_a_picture_grows_with_the_horizon() -> None:
    assert rgb_frame(["1"], [0.1], 20).shape == (184, 680, 3)


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
    low, high, unknown = (frame[92, 13 + 57 * column + 12] for column in range(3))
    assert low.tolist() == [68, 1, 84]
    assert high.tolist() == [253, 231, 37]
    assert unknown.tolist() == [242, 242, 242]


def test_noise_is_not_stretched_over_all_colours() -> None:
    """Two tokens that differ by 0.003 look alike; the limits widen only for values outside 0..1."""
    frame = rgb_frame(["a", "b"], [0.500, 0.503], 2).astype(int)
    assert np.abs(frame[92, 25] - frame[92, 82]).max() <= 2
    assert colour_limits([0.2, NAN]) == colour_limits([]) == (0.0, 1.0)
    assert colour_limits([-2.5, 0.5]) == (-2.5, 1.0)
    assert colour_limits([0.5, 3.0]) == (0.0, 3.0)


def test_a_small_value_is_not_shown_as_zero() -> None:
    assert [value_text(value) for value in (0.0, 0.25, 2e-5, -0.0001)] == ["0.000", "0.250", "2e-05", "-1e-04"]


@pytest.mark.parametrize(("horizon", "others"), [(1, None), (3, [("b", 0.5)]), (40, [])])
def test_no_text_of_a_picture_is_cut_off(
    horizon: int, others: list[tuple[str, float]] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    figures: list[Figure] = []
    made = Figure.__init__
    monkeypatch.setattr(Figure, "__init__", lambda self, *a, **k: (figures.append(self), made(self, *a, **k))[1])
    rgb_frame(["a"], [-0.5], horizon, others)
    (figure,) = figures
    drawn = figure.get_tightbbox()  # inches, around all that is drawn, cut off or not
    width, height = figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= 0
    assert drawn.x1 <= width
    assert drawn.y1 <= height


def test_other_tokens_have_a_row_that_is_kept_free_before_the_first_step() -> None:
    before, after = rgb_frame([], [], 3, []), rgb_frame(["a"], [0.5], 3, [("b", 1.0), ("c", 0.0)])
    assert before.shape == after.shape == (216, 680, 3)
    assert after[196, 25].tolist() == [253, 231, 37]
    assert after[196, 82].tolist() == [68, 1, 84]


def test_a_picture_shows_q_of_the_tokens_that_were_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reward is the share of "b", so that Q of a whole sequence is known."""
    shown: list[Any] = []
    monkeypatch.setattr(rendering, "rgb_frame", lambda *given: shown.append(given))
    env = ToyEnv(render_mode="rgb_array", reward_model=lambda rows: (rows == 1).float().mean(dim=1))
    env.reset(seed=0)
    env.render()
    for action in (1, 0, 0):
        env.step(action)
        env.render()
    assert shown[0][3] == []
    assert [name for name, _ in shown[1][3]] == ["a", "c"]
    assert dict(shown[3][3]) == {"b": pytest.approx(2 / 3), "c": pytest.approx(1 / 3)}
    of_a_large_vocabulary = OracleEnv(vocab_size=500, render_mode="rgb_array", reward_model="constant")
    of_a_large_vocabulary.reset(seed=0)
    of_a_large_vocabulary.step(7)
    of_a_large_vocabulary.render()
    names = [name for name, _ in shown[4][3]]
    assert len(names) == len(set(names)) == 8
    assert "7" not in names


@pytest.mark.parametrize("reward_model", ["random", "shuffled", None])
def test_pictures_change_nothing_in_the_episode(reward_model: str | None) -> None:
    def rewards(with_pictures: bool) -> list[float]:
        env = ToyEnv(render_mode="rgb_array", reward_model=reward_model)
        env.reset(seed=3)
        won = []
        for action in (0, 2, 1):
            won.append(env.step(action)[1])
            if with_pictures:
                env.render()
        return won

    assert rewards(True) == rewards(False)


def test_the_mode_that_runs_no_search_shows_no_other_tokens() -> None:
    env = ToyEnv(render_mode="rgb_array", reward_mode="terminal", reward_model="constant")
    env.reset(seed=0)
    env.step(0)
    assert env.render().shape == (112, 680, 3)
