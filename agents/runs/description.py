"""run.json: what a run is. Reading it checks kinds and types first; settings are plain values and execute nothing.

In: the file. Out: its dictionary, and the settings in it. A checksum over all other entries shows whether the file was
damaged or edited since it was written; training goes on only from one that was not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from agents.runs.flat_names import current_groups
from agents.seqgan import SeqGANConfig
from seqgan_env.tasks import TASKS

KIND = "seqgan-run"
FORMAT = 2  # of run.json; 1 had flat settings
_SHA256 = "sha256"
_LARGEST = 64 << 20  # bytes; a corpus' statistics are far smaller
# Entry -> its type, of those that every description has.
_TYPES: dict[str, type] = {"task": str}
_OPTIONAL: dict[str, type] = {
    "config": dict,
    "task_options": str,
    "preset": str,
    "versions": dict,
    "corpus_options": dict,
    "budget": dict,
    "models": dict,
    _SHA256: str,
}
_GROUPS: dict[str, Any] = {
    field.name: field.default_factory for field in fields(SeqGANConfig) if is_dataclass(field.default_factory)
}
del _GROUPS["task"]  # its class depends on the task


def written(description: Mapping[str, Any]) -> bytes:
    """The content of run.json, with its checksum."""
    return json.dumps({**description, _SHA256: _digest(description)}, indent=2).encode()


def read_description(folder: Path) -> dict[str, Any]:
    """The description in a folder.

    Raises:
        ValueError: if there is none, or it is not one of this project or of a version that this one reads.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} is not a run folder: it has no run.json; give a folder that training made")
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it is larger than {_LARGEST:,} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}") from error
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise ValueError(f"{str(folder)!r} is not a run folder of this project: its run.json is of another kind")
    _check_format(folder, found)
    for name, kind in (_TYPES | _OPTIONAL).items():
        value = found.get(name)
        if not isinstance(value, kind) and (value is not None or name in _TYPES):
            raise ValueError(f"{str(path)!r} has {name}={value!r}, which must be a {_WORDS[kind]}; restore the file")
    return found


_WORDS: dict[type, str] = {str: "text", dict: "group of values"}


def _check_format(folder: Path, found: Mapping[str, Any]) -> None:
    if found.get("format") in (1, FORMAT) and not isinstance(found["format"], bool):
        return
    versions = found.get("versions")
    made_by = versions.get("seqgan-gym", "unknown") if isinstance(versions, dict) else "unknown"
    raise ValueError(
        f"{str(folder)!r} has format={found.get('format')!r}; this version reads 1 and {FORMAT}. Use the version of "
        f"seqgan-gym that made it: {made_by}"
    )


def expect_unchanged(path: Path, description: Mapping[str, Any]) -> None:
    """Check the checksum; descriptions of earlier versions have none.

    Raises:
        ValueError: if the file was damaged or edited since it was written.
    """
    if _SHA256 in description and description[_SHA256] != _digest(description):
        raise ValueError(
            f"{str(path)!r} is damaged, or was edited since the run was made; a run keeps its settings. Restore the "
            "file, or start a new run with other settings"
        )


def task_name(options: Any) -> str:
    """The task whose options class this is an object of; raises ValueError for another class."""
    for name in TASKS:
        if type(options) is TASKS[name]:
            return name
    raise ValueError(f"config.task={options!r} must be the options of one of {', '.join(TASKS)}")


def _digest(description: Mapping[str, Any]) -> str:
    values = {name: value for name, value in description.items() if name != _SHA256}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def config_from(task_name: str, values: dict[str, Any]) -> SeqGANConfig:
    """Settings from plain values, as `dataclasses.asdict` makes them and JSON holds them.

    Args:
        task_name: of the task whose options class the group "task" has.
        values: of all groups.

    Raises:
        KeyError, TypeError, ValueError: if they are not those of a `SeqGANConfig`.
    """
    values = current_groups(values)
    groups = {name: group(**values[name]) for name, group in _GROUPS.items()}
    others = {name: value for name, value in values.items() if name not in groups and name != "task"}
    return SeqGANConfig(task=TASKS[task_name](**values["task"]), **groups, **others)
