"""Mermaid diagrams as SVG files, so that the site needs no script for them.

A page of the repository holds a diagram as text, which GitHub draws. The site shows an SVG file that was drawn from the
same text. The file's name is the digest of that text, so a diagram that has changed fails the build.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

FOLDER = Path(__file__).parent / "diagrams"
_DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.M | re.S)


def sources(markdown: str) -> list[str]:
    """The text of each diagram on a page."""
    return _DIAGRAM.findall(markdown)


def digest(source: str) -> str:
    """A name for the text of a diagram."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def drawn(markdown: str) -> str:
    """The page with each diagram as inline SVG.

    Raises:
        FileNotFoundError: if a diagram has not been drawn since it was changed.
    """

    def svg(match: re.Match[str]) -> str:
        file = FOLDER / f"{digest(match[1])}.svg"
        if not file.is_file():
            raise FileNotFoundError(
                f"{file.name} is not in docs/site/diagrams: a Mermaid diagram has changed. "
                "Draw it anew: python docs/site/draw_diagrams.py"
            )
        return f'<figure class="diagram" markdown="0">{file.read_text(encoding="utf-8").strip()}</figure>'

    return _DIAGRAM.sub(svg, markdown)
