"""One cell of a grid: what it is, whether it is done, and computing it once.

A cell is a JSON description and the name of a function that writes into the cell's own folder:

cell.json   what the cell is; another description in the same place is refused
lock        held by the process that computes the cell; the system lets go of it when that process ends, however it ends
done.json   written last and atomically: the cell is done, and is never computed again
error.txt   the traceback of the last attempt, if it failed

In: a cell and the grid's folder. Out: an `Outcome`. A cell that was interrupted is computed by the same call as a new
one, so its function must go on from what it finds in the folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from agents.runs.checkpoints import write_atomically

CellFunction = Callable[[dict[str, Any], Path, str], None]


@dataclass(frozen=True)
class Cell:
    """A piece of work with a folder of its own.

    Attributes:
        name: of the cell and of its folder.
        function: "module:function", called with (settings, folder, device).
        settings: what the cell is, in values that JSON can hold. Two cells with the same settings are the same cell.
        after: names of the cells that must be done before; their folders stand beside this one.
        device: where models live; not part of what the cell is.
        defaults: what settings count as in a folder that was begun before they existed, so that a grid goes on after
            an upgrade that only added settings.

    Raises:
        ValueError: if the name cannot be a folder's, or the function's name has another form.
        TypeError: if the settings are not what JSON can hold.
    """

    name: str
    function: str
    settings: dict[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    device: str = "cpu"
    defaults: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.,=+-]*", self.name):
            raise ValueError(f"name={self.name!r} cannot name a cell's folder; use letters, digits and . , = + - _")
        if not re.fullmatch(r"[\w.]+:\w+", self.function):
            raise ValueError(f"function={self.function!r} must be 'module:function'")
        try:
            same = json.loads(json.dumps(self.settings)) == self.settings
        except (TypeError, ValueError) as error:
            raise TypeError(f"settings of cell {self.name!r} are not what JSON can hold: {error}") from error
        if not same:
            raise TypeError(f"settings of cell {self.name!r} come back otherwise from JSON; use lists and string keys")

    @property
    def description(self) -> dict[str, Any]:
        """What cell.json holds."""
        return {"function": self.function, "settings": self.settings, "after": list(self.after)}

    def folder(self, grid: Path) -> Path:
        """Where the cell writes."""
        return grid / self.name


@dataclass(frozen=True)
class Outcome:
    """What became of computing a cell.

    Attributes:
        state: "done"; "found": done already; "busy": another process computes it at this moment; "failed".
        message: of a failure, one line.
    """

    state: str
    message: str = ""


def is_done(folder: Path) -> bool:
    """Whether a cell is finished."""
    return (folder / "done.json").is_file()


def minutes_of(folder: Path) -> float:
    """Wall minutes that a finished cell took; of the last attempt, if it was interrupted before."""
    return float(json.loads((folder / "done.json").read_text(encoding="utf-8"))["minutes"])


def refuse_another(cell: Cell, grid: Path) -> None:
    """Nothing, if the cell's folder is new or its own.

    Raises:
        ValueError: if the folder belongs to a cell with other settings; names the first that differs.
    """
    path = cell.folder(grid) / "cell.json"
    if not path.is_file():
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}; remove it to compute the cell again") from error
    difference = _first_difference(_completed(stored, {"settings": cell.defaults}), cell.description)
    if difference is not None:
        name, theirs, ours = difference
        raise ValueError(
            f"{str(path.parent)!r} was computed with {name}={theirs!r}, not {ours!r}; choose another folder"
        )


def _completed(stored: Any, defaults: Any) -> Any:
    """`stored` with entries of `defaults` where it has none, at every depth where both are dicts."""
    if not isinstance(stored, dict) or not isinstance(defaults, dict):
        return stored
    return {name: value for name, value in defaults.items() if not isinstance(value, dict)} | {
        name: _completed(value, defaults.get(name)) for name, value in stored.items()
    }


def _first_difference(stored: Any, asked: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """Name of the first entry that differs, and both values; None if all are equal."""
    if isinstance(stored, dict) and isinstance(asked, dict):
        for key in sorted(stored.keys() | asked.keys()):
            inner = f"{name}.{key}" if name else key
            difference = _first_difference(stored.get(key), asked.get(key), inner)
            if difference is not None:
                return difference
        return None
    return None if stored == asked else (name.removeprefix("settings."), stored, asked)


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Hold a cell's lock; gives False if another process holds it.

    The lock belongs to the open file, not to the file's content: no process that died can leave one behind. The
    content, host and process id, is for whoever looks.
    """
    with (folder / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        file.truncate(0)
        file.write(f"{platform.node()} {os.getpid()}")
        file.flush()
        yield True


def holder(folder: Path) -> str | None:
    """ "host pid" of the process that computes a cell at this moment; None if there is none."""
    path = folder / "lock"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read() or "unknown"
    return None


def compute(cell: Cell, grid: Path) -> Outcome:
    """Compute a cell, unless it is done or another process is at it. Never raises what the cell's function raises."""
    folder = cell.folder(grid)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder) as mine:
            refuse_another(cell, grid)
            if is_done(folder):
                return Outcome("found")
            if not mine:
                return Outcome("busy")
            write_atomically(folder / "cell.json", json.dumps(cell.description, indent=2).encode())
            return _compute_alone(cell, folder)
    except (OSError, ValueError) as error:
        return Outcome("failed", _one_line(error))


def _compute_alone(cell: Cell, folder: Path) -> Outcome:
    start = time.monotonic()
    error_path = folder / "error.txt"
    try:
        module, _, attribute = cell.function.partition(":")
        function: CellFunction = getattr(import_module(module), attribute)
        function(cell.settings, folder, cell.device)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a cell that calls sys.exit() must not end the worker
        write_atomically(error_path, traceback.format_exc().encode())
        return Outcome("failed", _one_line(error))
    error_path.unlink(missing_ok=True)
    minutes = (time.monotonic() - start) / 60
    done = {"minutes": round(minutes, 3), "host": platform.node(), "finished": time.strftime("%Y-%m-%d %H:%M:%S")}
    write_atomically(folder / "done.json", json.dumps(done).encode())
    return Outcome("done")


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
