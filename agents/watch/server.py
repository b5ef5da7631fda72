"""Show the live page of a run on this machine alone.

marimo runs as a process of its own, listens on loopback, and asks for the token in the address that it prints: other
users of the machine cannot look. Its page needs no network; the fonts and scripts come with marimo.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from agents.runs.run_folder import RunFolder

PAGE = Path(__file__).with_name("page.py")
LOOPBACK = "127.0.0.1"
RUN_VARIABLE = "SEQGAN_WATCHED_RUN"  # names the run folder to the page


def watch_command(port: int | None, opens_browser: bool) -> list[str]:
    """The command that serves the page.

    Args:
        port: to listen on; None: a free one.
        opens_browser: whether to show the page in a browser at once.

    Raises:
        ImportError: without the extra "watch".
        ValueError: if the port is out of range.
    """
    if importlib.util.find_spec("marimo") is None:
        raise ImportError('the live page needs marimo: pip install "seqgan-gym[watch]"')
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"port={port} must lie in 1..65535, or be None for a free one")
    return [
        *(sys.executable, "-m", "marimo", "run", str(PAGE), "--host", LOOPBACK, "--token", "--no-sandbox"),
        *([] if port is None else ["--port", str(port)]),
        *([] if opens_browser else ["--headless"]),
    ]


def serve(run: RunFolder, port: int | None = None, opens_browser: bool = True) -> int:
    """Show the page until Ctrl-C; the exit status of the server. Raises what `watch_command` does."""
    # The current folder, for "module:Class" of the user's own, and the place of this package.
    places = [os.getcwd(), str(PAGE.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(places),
        "MARIMO_SKIP_UPDATE_CHECK": "1",
        # Not an argument: marimo would read one with "=" in it as two.
        RUN_VARIABLE: str(run.path.resolve()),
    }
    with subprocess.Popen(watch_command(port, opens_browser), env=environment) as server:
        try:
            return server.wait()
        except KeyboardInterrupt:  # the terminal has sent it to the server too
            return server.wait()
