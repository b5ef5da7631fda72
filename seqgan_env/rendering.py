"""Pictures of a sequence so far: each token with its Q, as text or as an RGB array.

In: token texts and their values. Out: a str for "ansi" and "human", (height, width, 3) uint8 for "rgb_array".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_COLUMNS = 10  # tokens a line


def text_frame(tokens: Sequence[str], values: Sequence[float], horizon: int) -> str:
    """The sequence so far in lines of ten tokens, with Q (Eq. 4) under each token; "-" where no Q was computed."""
    cells = [f"{value:.3f}" if np.isfinite(value) else "-" for value in values]
    width = max([6, *map(len, tokens)]) + 1
    lines = [f"t = {len(tokens)}/{horizon}"]
    for start in range(0, len(tokens), _COLUMNS):
        stop = start + _COLUMNS
        lines.append("token " + "".join(token.rjust(width) for token in tokens[start:stop]))
        lines.append("Q     " + "".join(cell.rjust(width) for cell in cells[start:stop]))
    return "\n".join(lines) + "\n"


def rgb_frame(tokens: Sequence[str], values: Sequence[float], horizon: int) -> npt.NDArray[np.uint8]:
    """The sequence so far as a picture: a box a token, coloured by its Q, empty boxes for what is to come.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("render_mode='rgb_array' needs matplotlib: pip install 'seqgan-gym[plots]'") from error
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
            axes.text(column + 0.5, row + 0.38, tokens[t], ha="center", va="center", color=ink, fontsize=11)
            axes.text(column + 0.5, row + 0.72, label, ha="center", va="center", color=ink, fontsize=7)
    axes.set(xlim=(0, _COLUMNS), ylim=(n_lines, 0))
    axes.axis("off")
    figure.text(0.02, 0.9, f"t = {len(tokens)}/{horizon}", fontsize=11)
    figure.colorbar(colours, cax=figure.add_axes((0.89, 0.08, 0.02, 0.7))).set_label("Q per token (Eq. 4)", fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _box(column: int, row: int, face: tuple[float, float, float, float]):  # type: ignore[no-untyped-def]
    from matplotlib.patches import FancyBboxPatch

    return FancyBboxPatch(
        (column + 0.08, row + 0.1), 0.84, 0.8, boxstyle="round,pad=0.02", facecolor=face, edgecolor="grey"
    )
