"""Pictures of a sequence so far: each token with its Q, as text or as an RGB array.

In: token texts and their values. Out: a str for "ansi" and "human", (height, width, 3) uint8 for "rgb_array". Tokens
may hold any characters. Wide characters take two columns, and blanks and control characters are made visible. A
character that no installed font can draw is shown as its code point.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from seqgan_env.mdp import SequenceMDP
from seqgan_env.terminal_text import is_control

RENDER_MODES = ["ansi", "rgb_array", "human"]
_COLUMNS = 10  # tokens per line
_BOX_COLUMNS = 6  # columns of a box at full font size; longer tokens get a second line, then a smaller font
_LONGEST_LINE = 9
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
    """One sequence of the MDP as text, or as a picture for "rgb_array"."""
    length = int(mdp.lengths[row])
    ids = mdp.tokens[row, :length]
    vocabulary = mdp.task.vocabulary
    tokens = [str(i) if vocabulary is None else vocabulary.tokens[i] for i in ids]
    draw = rgb_frame if render_mode == "rgb_array" else text_frame
    return draw(tokens, mdp.values[row, :length].tolist(), mdp.task.sequence_length)


def text_frame(tokens: Sequence[str], values: Sequence[float], horizon: int) -> str:
    """The sequence so far in lines of ten tokens, with Q (Eq. 4) under each token; "-" where no Q was computed."""
    cells = [f"{value:.3f}" if np.isfinite(value) else "-" for value in values]
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


def rgb_frame(tokens: Sequence[str], values: Sequence[float], horizon: int) -> npt.NDArray[np.uint8]:
    """The sequence so far as a picture: one box per token, coloured by its Q; boxes to come are empty."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    n_lines = -(-horizon // _COLUMNS)
    figure = Figure(figsize=(8.5, 0.9 * n_lines + 0.9), dpi=80)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.02, 0.02, 0.84, 0.8))
    known = [value for value in values if np.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    colours = ScalarMappable(Normalize(low, high if high > low else low + 1e-6), "viridis")
    for t in range(horizon):
        row, column = divmod(t, _COLUMNS)
        value = values[t] if t < len(tokens) else float("nan")
        face = tuple(colours.to_rgba(np.array(value))) if np.isfinite(value) else (0.95, 0.95, 0.95, 1.0)
        axes.add_patch(_box(column, row, face))
        if t < len(tokens):
            ink = "white" if np.isfinite(value) and sum(face[:3]) < 1.5 else "black"
            label = f"{value:.3f}" if np.isfinite(value) else ""
            lines = _box_lines(tokens[t])
            size = 11 * min(1.0, _BOX_COLUMNS / max([1, *map(display_width, lines)]))
            centred: dict[str, Any] = {"ha": "center", "va": "center", "color": ink, "parse_math": False}
            token, fonts = "\n".join(lines), list(_characters_by_font())
            axes.text(column + 0.5, row + 0.38, token, fontsize=size, family=fonts, linespacing=1.0, **centred)
            axes.text(column + 0.5, row + 0.72, label, fontsize=7, **centred)
    axes.set(xlim=(0, _COLUMNS), ylim=(n_lines, 0))
    axes.axis("off")
    figure.text(0.02, 0.9, f"t = {len(tokens)}/{horizon}", fontsize=11)
    figure.colorbar(colours, cax=figure.add_axes((0.89, 0.08, 0.02, 0.7))).set_label("Q per token (Eq. 4)", fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


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
