"""Draws the Mermaid diagrams of the pages as SVG files for the site. Needs Node.js and Chromium.

    npm install --prefix /tmp/mermaid @mermaid-js/mermaid-cli@11      with PUPPETEER_SKIP_DOWNLOAD=1 in the environment
    python docs/site/draw_diagrams.py /tmp/mermaid/node_modules/.bin/mmdc /usr/bin/chromium

Run it when a diagram has changed. Files of diagrams that are no longer on a page are removed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import diagrams

DOCS = Path(__file__).resolve().parents[1]
STYLE = {"theme": "neutral", "htmlLabels": False, "fontFamily": "sans-serif", "flowchart": {"htmlLabels": False}}


def draw(source: str, command: str, browser: str) -> None:
    """One diagram, as the file that its digest names."""
    with tempfile.TemporaryDirectory() as folder:
        text, style, puppeteer = (Path(folder) / name for name in ("in.mmd", "style.json", "puppeteer.json"))
        text.write_text(source, encoding="utf-8")
        style.write_text(json.dumps(STYLE))
        puppeteer.write_text(json.dumps({"executablePath": browser, "args": ["--no-sandbox"]}))
        name = diagrams.digest(source)
        options = ["--svgId", f"diagram-{name}", "-b", "transparent", "-c", str(style), "-p", str(puppeteer)]
        out = diagrams.FOLDER / f"{name}.svg"
        subprocess.run([command, "-i", str(text), "-o", str(out), *options], check=True, timeout=300)


def main(command: str, browser: str) -> None:
    """Draw what is missing, remove what is left over."""
    pages = [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]
    wanted = [source for page in pages for source in diagrams.sources(page.read_text(encoding="utf-8"))]
    diagrams.FOLDER.mkdir(exist_ok=True)
    names = {f"{diagrams.digest(source)}.svg" for source in wanted}
    for file in diagrams.FOLDER.glob("*.svg"):
        if file.name not in names:
            file.unlink()
    for source in wanted:
        if not (diagrams.FOLDER / f"{diagrams.digest(source)}.svg").is_file():
            draw(source, command, browser)


if __name__ == "__main__":
    main(*sys.argv[1:3])
