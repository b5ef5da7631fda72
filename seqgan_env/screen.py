"""Where the frames of `render_mode="human"` go: printed one below the other, or in a notebook one output that changes.

A terminal scrolls. A notebook would keep every frame of every episode, so there each cell has one output, which is
drawn again at each frame.
"""

from __future__ import annotations

import sys
from typing import Any

from seqgan_env.terminal_text import shown


class Screen:
    """The frames of one environment."""

    def __init__(self) -> None:
        self._cell: int | None = None  # the notebook's cell that holds the output

    def show(self, frame: str) -> None:
        """Print a frame, or draw it in place of the one before, in a notebook."""
        shell = _notebook()
        if shell is None:
            print(shown(frame, sys.stdout))
            return
        name, is_new = f"seqgan-{id(self)}-{shell.execution_count}", shell.execution_count != self._cell
        self._cell = shell.execution_count
        content = {"text/plain": shown(frame, sys.stdout)}
        shell.display_pub.publish(data=content, metadata={}, transient={"display_id": name}, update=not is_new)


def _notebook() -> Any:
    """IPython's shell in a notebook; None elsewhere. A terminal's IPython can only print."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell if hasattr(shell, "kernel") else None
