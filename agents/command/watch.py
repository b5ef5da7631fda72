"""`seqgan watch`: a local page that follows a run."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from agents.runs.run_folder import RunFolder
from agents.watch.server import serve


def watch(run: Positional[Path], port: int | None = None, browser: bool = True) -> None:
    """Open a local page that follows a run and only reads it; Ctrl-C ends it. Needs seqgan-gym[watch].

    Args:
        run: Run folder, in training, interrupted or finished.
        port: Port on loopback; by default a free one.
        browser: Open the page at once; otherwise its address is printed.
    """
    status = serve(RunFolder(run), port, browser)
    if status not in (0, 130, -2):
        raise SystemExit(status)
