"""One cell of a grid: its description, whether it is done, and its computation, which happens once.

A cell is a JSON description and the name of a function that writes into the cell's own folder:

cell.json   what the cell is; a cell with another description is refused
lock        held by the process that computes the cell; the system frees it when that process ends, however it ends
holder      host and process id of the last process that held the lock, for readers
done.json   written last and atomically: the cell is done, and is never computed again
error.txt   the traceback of the last attempt, if it failed

In: a cell, the grid's folder, and the outcomes of the cells that it needs. Out: an `Outcome`. The same call computes a
new cell and one that was interrupted. So the cell's function must continue from the files that it finds in the folder.
"""

from __future__ import annotations

import json
import os
import platform
import re
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from agents.runs.flat_names import current_groups
from agents.runs.regular_files import write_atomically

CellFunction = Callable[[dict[str, Any], Path, str], None]


@dataclass(frozen=True)
class Cell:
    """A piece of work with its own folder.

    Attributes:
        name: name of the cell and of its folder.
        function: "module:function", called with (settings, folder, device). The module is not part of the cell's
            identity: a grid continues after the function has moved to another module.
        settings: the identity of the cell, as JSON values. Two cells with the same settings are the same cell.
        after: names of the cells that must be done before. Their folders are next to this one's.
        device: device of the models; not part of the cell's identity.
        defaults: values of settings that are missing in a stored cell. So a grid continues after an upgrade that only
            added settings.

    Raises:
        ValueError: if the name cannot be a folder's, or the function's name has another form.
        TypeError: if JSON cannot hold the settings.
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
            raise TypeError(f"settings of cell {self.name!r} cannot be written as JSON: {error}") from error
        if not same:
            raise TypeError(
                f"settings of cell {self.name!r} change when read back from JSON; use lists and string keys"
            )

    @property
    def description(self) -> dict[str, Any]:
        """The contents of cell.json."""
        return {"function": self.function, "settings": self.settings, "after": list(self.after)}

    def folder(self, grid: Path) -> Path:
        """The folder of the cell, inside that of the grid."""
        return grid / self.name


@dataclass(frozen=True)
class Outcome:
    """The result of an attempt to compute a cell.

    Attributes:
        state: "done"; "found": it was done before; "failed"; "busy": another process computes it or a cell that it
            needs; "not started": a cell that it needs has failed.
        message: one line: the reason of the failure, or the host and process that compute it, or the name of the cell
            that it needs.
    """

    state: Literal["done", "found", "failed", "busy", "not started"]
    message: str = ""

    @property
    def is_lost(self) -> bool:
        """Whether cells that need this one cannot be computed."""
        return self.state in ("failed", "not started")


def is_done(folder: Path) -> bool:
    """Whether a cell is finished."""
    return (folder / "done.json").is_file()


def minutes_of(folder: Path) -> float:
    """Wall minutes of a finished cell. For a cell that was interrupted, the minutes of its last attempt."""
    return float(json.loads((folder / "done.json").read_text(encoding="utf-8"))["minutes"])


def processor_minutes_of(folder: Path) -> float:
    """Processor minutes of a finished cell, which other work on the machine hardly changes; wall minutes of an old
    cell, which did not record them.
    """
    done = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    return float(done.get("processor_minutes", done["minutes"]))


def check_same_cell(cell: Cell, grid: Path) -> None:
    """Check that the cell's folder is new or belongs to this cell.

    Raises:
        ValueError: if the folder belongs to a cell with other settings; the message names the first difference.
    """
    path = cell.folder(grid) / "cell.json"
    if not path.is_file():
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}; remove it to compute the cell again") from error
    theirs = _without_module(_completed(_in_todays_form(stored), {"settings": cell.defaults}))
    ours = _without_module(cell.description)
    difference = _first_difference(theirs, ours)
    if difference is not None:
        name, was, asked = difference
        raise ValueError(f"{str(path.parent)!r} was computed with {name}={was!r}, not {asked!r}; choose another folder")


def _without_module(description: dict[str, Any]) -> dict[str, Any]:
    """A description in which the function has no module, so that it may move to another module."""
    return description | {"function": str(description.get("function")).rpartition(":")[2]}


def _in_todays_form(stored: dict[str, Any]) -> dict[str, Any]:
    """A description with the settings of a run in the groups that they have now."""
    settings = stored.get("settings")
    if not isinstance(settings, dict) or not isinstance(settings.get("config"), dict):
        return stored
    return stored | {"settings": settings | {"config": current_groups(settings["config"])}}


def _completed(stored: Any, defaults: Any) -> Any:
    """`stored` with the missing entries taken from `defaults`, at every depth where both are dicts.

    The options of a part, such as a learner, are not completed with those of a part with another name.
    """
    if not isinstance(stored, dict) or not isinstance(defaults, dict):
        return stored
    if "options" in defaults and stored.get("name") != defaults.get("name"):
        defaults = {name: value for name, value in defaults.items() if name != "options"}
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


def compute(cell: Cell, grid: Path, needed: Mapping[str, Outcome] | None = None) -> Outcome:
    """Compute a cell, unless it is done, another process computes it, or a cell that it needs is missing.

    An error of the cell's function becomes a failure of the cell. Only KeyboardInterrupt is raised again.

    Args:
        cell: the cell to compute.
        grid: the grid's folder.
        needed: name -> outcome of the cells that it needs; cells that were done before may be left out.
    """
    for name, outcome in (needed or {}).items():
        if outcome.is_lost:
            return Outcome("not started", name)
        if outcome.state == "busy":
            return outcome
    folder = cell.folder(grid)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_same_cell(cell, grid)
        if is_done(folder):
            return Outcome("found")
        with FileLock(folder / "lock", timeout=0):
            if is_done(folder):  # another process has finished it meanwhile
                return Outcome("found")
            (folder / "holder").write_text(f"{platform.node()} {os.getpid()}", encoding="utf-8")
            write_atomically(folder / "cell.json", json.dumps(cell.description, indent=2).encode())
            return _compute_locked(cell, folder)
    except Timeout:
        return Outcome("busy", _holder(folder))
    except (OSError, ValueError) as error:
        return Outcome("failed", _one_line(error))


def _holder(folder: Path) -> str:
    """ "host pid" of the process that computes a cell."""
    path = folder / "holder"
    return path.read_text(encoding="utf-8") if path.is_file() else "unknown"


def _compute_locked(cell: Cell, folder: Path) -> Outcome:
    start, start_processor = time.monotonic(), time.process_time()
    try:
        module, _, attribute = cell.function.partition(":")
        function: CellFunction = getattr(import_module(module), attribute)
        function(cell.settings, folder, cell.device)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a cell that calls sys.exit() must not end the worker
        write_atomically(folder / "error.txt", traceback.format_exc().encode())
        return Outcome("failed", _one_line(error))
    (folder / "error.txt").unlink(missing_ok=True)
    minutes = (time.monotonic() - start) / 60
    done = {
        "minutes": round(minutes, 3),
        "processor_minutes": round((time.process_time() - start_processor) / 60, 3),
        "host": platform.node(),
        "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    write_atomically(folder / "done.json", json.dumps(done).encode())
    return Outcome("done")


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
