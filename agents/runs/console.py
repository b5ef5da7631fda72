"""The console that commands print to: rich's, except that text is only text.

A path, a token or a message may hold control characters, rich's markup ("[red]") or names of emoji (":dog:"). None of
them is obeyed. Control characters are made visible on a terminal, whatever they come in: a line, a cell of a table, the
text beside a progress bar.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from seqgan_env.terminal_text import output_errors, visible


class TerminalConsole(Console):
    """A console without markup; arguments as rich's `Console`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"markup": False, "emoji": False} | options))

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does.

        Raises:
            OutputError: if the stream cannot be written.
        """
        with output_errors():
            super().print(*objects, **options)

    def __exit__(self, *error: Any) -> None:
        """Write what was printed inside of `with console`, as bars and spinners do it.

        Raises:
            OutputError: if the stream cannot be written.
        """
        with output_errors():
            super().__exit__(*error)

    def render_str(self, text: str, **options: Any) -> Text:
        """A text as it will be seen, so that its width is right."""
        return super().render_str(visible(text) if self.is_terminal else text, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of what is printed, in which a terminal finds no control characters but the console's own."""
        for segment in super().render(renderable, options):
            if segment.control or not self.is_terminal:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)
