"""Pictures of a sequence so far: each token with its Q, as text or as an RGB array.

In: token texts and their values. Out: a str for "ansi" and "human", (height, width, 3) uint8 for "rgb_array". Tokens
may hold any characters. Wide characters take two columns, and blanks and control characters are made visible. A
character that no installed font can draw is shown as its code point.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from seqgan_env.mdp import SequenceMDP
from seqgan_env.search_record import likely_tokens, search_records
from seqgan_env.tasks.task import Task
from seqgan_env.terminal_text import is_control

RENDER_MODES = ["ansi", "rgb_array", "human"]
_COLUMNS = 10  # tokens per line
_BOX_COLUMNS = 6  # columns of a box at full font size; longer tokens get a second line, then a smaller font
_LONGEST_LINE = 9
_LINE, _HEADING, _MARGIN = 0.9, 0.4, 0.5  # inches: a line of boxes, the text above it, all that is no box
_OTHERS = 8  # tokens of the last step that were not chosen, at most
_BLANKS = {" ": "␣", "\n": "⏎", "\t": "⇥"}
_FONTS = (  # those that are installed are tried in this order, for each character
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
    "Arial Unicode MS",
    "Noto Emoji",
)


def check_render_mode(render_mode: str | None) -> None:
    """Raise ValueError for a render mode that does not exist."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode={render_mode!r} must be None or one of {RENDER_MODES}")


def render_row(mdp: SequenceMDP, row: int, render_mode: str) -> str | npt.NDArray[np.uint8]:
    """One sequence of the MDP as text, or as a picture for "rgb_array", which also has Q of other tokens."""
    length = int(mdp.lengths[row])
    tokens = token_names(mdp.task, mdp.tokens[row, :length])
    values = mdp.values[row, :length].tolist()
    if render_mode != "rgb_array":
        return text_frame(tokens, values, mdp.task.sequence_length)
    return rgb_frame(tokens, values, mdp.task.sequence_length, _other_tokens(mdp, row))


def token_names(task: Task, ids: Iterable[int]) -> list[str]:
    """The text of tokens; their ids where the task has no vocabulary."""
    return [str(i) if task.vocabulary is None else task.vocabulary.tokens[i] for i in ids]


def _other_tokens(mdp: SequenceMDP, row: int) -> list[tuple[str, float]] | None:
    """The tokens that the last step could have appended, and their Q; None in the mode that runs no search.

    Of a large vocabulary, the ones that G_beta draws most often. Their searches have random streams of their own, so
    that an episode with pictures is the same as one without.
    """
    if mdp.reward_mode == "terminal":
        return None
    length, task = int(mdp.lengths[row]), mdp.task
    if mdp.begins[row]:
        return []
    rng = np.random.default_rng(length)
    chosen = int(mdp.tokens[row, length - 1])
    likely = likely_tokens(mdp.rollout_policy, mdp.tokens[row], length - 1, _OTHERS + 1, rng)
    others = [token for token in likely if token != chosen][:_OTHERS]
    prefixes = np.repeat(mdp.tokens[row : row + 1], len(others), axis=0)
    prefixes[:, length - 1] = others
    lengths = np.full(len(others), length)
    records = search_records(
        mdp.rollout_policy, prefixes, lengths, mdp.reward_model, mdp.n_rollouts, rng, task.eos_token
    )
    return [(name, record.value) for name, record in zip(token_names(task, others), records, strict=True)]


def text_frame(tokens: Sequence[str], values: Sequence[float], horizon: int) -> str:
    """The sequence so far in lines of ten tokens, with Q (Eq. 4) under each token; "-" where no Q was computed."""
    cells = [value_text(value) if np.isfinite(value) else "-" for value in values]
    tokens = [visible(token) for token in tokens]
    width = max([6, *map(display_width, tokens)]) + 1
    lines = [f"t = {len(tokens)}/{horizon}"]
    for start in range(0, len(tokens), _COLUMNS):
        stop = start + _COLUMNS
        lines.append("token " + "".join(_right(token, width) for token in tokens[start:stop]))
        lines.append("Q     " + "".join(_right(cell, width) for cell in cells[start:stop]))
    return "\n".join(lines) + "\n"


def visible(token: str) -> str:
    """A token with visible blanks and control characters: " " becomes "␣", a bell "U+0007"."""
    return "".join(
        _BLANKS.get(character, f"U+{ord(character):04X}" if is_control(character) else character) for character in token
    )


def display_width(text: str) -> int:
    """Columns that a text takes in a terminal: two for a wide character, none for a combining mark."""
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def _right(text: str, width: int) -> str:
    return " " * (width - display_width(text)) + text


def value_text(value: float) -> str:
    """Q in five or six characters: three decimals, or a power of ten where these would all be zero."""
    return f"{value:.0e}" if 0 < abs(value) < 0.0005 else f"{value:.3f}"


def colour_limits(values: Iterable[float]) -> tuple[float, float]:
    """The range of the colours: 0 to 1, where probabilities lie, and further only where a value lies outside.

    It does not shrink to the values: two tokens that differ by noise look alike, and a colour means the same in every
    frame.
    """
    known = [value for value in values if np.isfinite(value)]
    return min([0.0, *known]), max([1.0, *known])


def rgb_frame(
    tokens: Sequence[str],
    values: Sequence[float],
    horizon: int,
    others: Sequence[tuple[str, float]] | None = None,
) -> npt.NDArray[np.uint8]:
    """The sequence so far as a picture: one box per token, coloured by its Q; boxes to come are empty.

    Args:
        tokens: of the sequence so far.
        values: Q of each (Eq. 4); NaN where none was computed.
        horizon: T.
        others: tokens that the last step could have appended, and their Q; they get a row of their own, which is empty
            before the first step. None: no such row.

    Returns:
        (height, width, 3) uint8; all frames of an episode have the same size.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    n_lines = -(-horizon // _COLUMNS)
    height = _LINE * n_lines + _MARGIN + (0.0 if others is None else _LINE + _HEADING)  # inches
    figure = Figure(figsize=(8.5, height), dpi=80)
    canvas = FigureCanvasAgg(figure)
    low, high = colour_limits([*values, *(value for _, value in others or ())])
    colours = ScalarMappable(Normalize(low, high), "viridis")
    axes = _row_axes(figure, height, _HEADING, n_lines)
    figure.text(0.02, 1 - 0.2 / height, f"t = {len(tokens)}/{horizon}", fontsize=11, va="center")
    for t in range(horizon):
        token, value = (tokens[t], values[t]) if t < len(tokens) else ("", float("nan"))
        _draw_token(axes, t % _COLUMNS, t // _COLUMNS, token, value, colours)
    if others is not None:
        top = _HEADING + _LINE * n_lines
        lower = _row_axes(figure, height, top + _HEADING, 1)
        if tokens:
            text = f"Q of other tokens at t = {len(tokens)}" if others else "no other token"
            figure.text(0.02, 1 - (top + 0.22) / height, text, fontsize=9, va="center", color="0.3")
        for column, (token, value) in enumerate(others):
            _draw_token(lower, column, 0, token, value, colours)
    bar_height = height - _HEADING - 0.25
    bar = figure.colorbar(colours, cax=figure.add_axes((0.89, 0.15 / height, 0.02, bar_height / height)))
    bar.ax.tick_params(labelsize=8)
    figure.text(0.89, 1 - 0.2 / height, "Q (Eq. 4)", fontsize=9, va="center")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _row_axes(figure: Any, height: float, top: float, n_lines: int) -> Any:
    """Axes for lines of boxes, `top` inches below the upper edge of a figure of that height."""
    size = _LINE * n_lines
    axes = figure.add_axes((0.02, 1 - (top + size) / height, 0.84, size / height))
    axes.set(xlim=(0, _COLUMNS), ylim=(n_lines, 0))
    axes.axis("off")
    return axes


def _draw_token(axes: Any, column: int, row: int, token: str, value: float, colours: Any) -> None:
    """One box: the token above its Q, on the colour of its Q; grey where there is none."""
    is_known = bool(np.isfinite(value))
    face = tuple(colours.to_rgba(np.array(value))) if is_known else (0.95, 0.95, 0.95, 1.0)
    axes.add_patch(_box(column, row, face))
    ink = "white" if np.dot(face[:3], (0.299, 0.587, 0.114)) < 0.5 else "black"
    lines = _box_lines(token)
    size = 11 * min(1.0, _BOX_COLUMNS / max([1, *map(display_width, lines)]))
    centred: dict[str, Any] = {"ha": "center", "va": "center", "color": ink, "parse_math": False}
    fonts = list(_characters_by_font())
    axes.text(column + 0.5, row + 0.38, "\n".join(lines), fontsize=size, family=fonts, linespacing=1.0, **centred)
    axes.text(column + 0.5, row + 0.72, value_text(value) if is_known else "", fontsize=7, **centred)


def _box_lines(token: str) -> list[str]:
    """The one or two lines in the box of a token. A character that no font has is shown as its code point."""
    drawable = set().union(*_characters_by_font().values())
    pieces = [character if ord(character) in drawable else f"U+{ord(character):04X}" for character in visible(token)]
    total = sum(map(display_width, pieces))
    room = total if total <= _BOX_COLUMNS + 1 else min(_LONGEST_LINE, -(-total // 2))
    lines = [""]
    for piece in pieces:
        if lines[-1] and display_width(lines[-1] + piece) > room:
            if len(lines) == 2:
                lines[-1] += "…"
                break
            lines.append("")
        lines[-1] += piece
    return lines


@lru_cache(maxsize=1)
def _characters_by_font() -> dict[str, frozenset[int]]:
    """The installed fonts of `_FONTS`, and the code points that each can draw. The first font comes with matplotlib."""
    from matplotlib import font_manager

    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    return {
        name: frozenset(font_manager.get_font(font_manager.findfont(name)).get_charmap())
        for name in _FONTS
        if name in installed
    }


def _box(column: int, row: int, face: tuple[float, float, float, float]):  # type: ignore[no-untyped-def]
    from matplotlib.patches import FancyBboxPatch

    return FancyBboxPatch(
        (column + 0.08, row + 0.1), 0.84, 0.8, boxstyle="round,pad=0.02", facecolor=face, edgecolor="grey"
    )
