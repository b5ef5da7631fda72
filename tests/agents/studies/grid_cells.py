"""Cells that count, fail, wait and die, for the tests of grids; worker processes import them from here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

HERE = "tests.agents.studies.grid_cells"


def count(settings: dict[str, Any], folder: Path, device: str) -> None:
    """Leave a line for each computation, and the settings."""
    with (folder / "computations").open("a") as file:
        file.write(f"{os.getpid()}\n")
    (folder / "result.json").write_text(json.dumps(settings | {"device": device}))


def fail(settings: dict[str, Any], folder: Path, device: str) -> None:
    raise RuntimeError("meant to\nfail")


def fail_unless_mended(settings: dict[str, Any], folder: Path, device: str) -> None:
    if not (folder / "mended").exists():
        raise ValueError("not mended yet:\nmake the file `mended`")


def exit_with_7(settings: dict[str, Any], folder: Path, device: str) -> None:
    sys.exit(7)


def interrupt(settings: dict[str, Any], folder: Path, device: str) -> None:
    raise KeyboardInterrupt


def die(settings: dict[str, Any], folder: Path, device: str) -> None:
    """Every attempt kills the process."""
    with (folder / "attempts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    os.kill(os.getpid(), signal.SIGKILL)


def kill_once(settings: dict[str, Any], folder: Path, device: str) -> None:
    """The first attempt kills the process; a second one counts."""
    if not (folder / "tried").exists():
        (folder / "tried").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    count(settings, folder, device)


def wait_for_release(settings: dict[str, Any], folder: Path, device: str) -> None:
    """Count, then wait until the grid's folder has a file `release`."""
    count(settings, folder, device)
    deadline = time.monotonic() + 60
    while not (folder.parent / "release").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("nobody released it")
        time.sleep(0.02)


def note_threads(settings: dict[str, Any], folder: Path, device: str) -> None:
    """What this process has of threads, and which process it is."""
    import torch

    found = {"torch": torch.get_num_threads(), "omp": os.environ.get("OMP_NUM_THREADS"), "pid": os.getpid()}
    (folder / "result.json").write_text(json.dumps(found))


def is_held(folder: Path) -> bool:
    """Whether a process holds the lock of a cell."""
    try:
        with FileLock(folder / "lock", timeout=0):
            return False
    except Timeout:
        return True


def died_while_holding(folder: Path) -> None:
    """Let another process take the lock of a cell and die."""
    folder.mkdir(parents=True)
    program = (
        "import os, signal, sys; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(folder / "lock")])
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert (folder / "lock").is_file()  # its remains
