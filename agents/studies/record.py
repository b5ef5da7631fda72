"""The record of a result: command line, commit, hardware, versions. It is written beside each result as JSON.

In: options, the cells' folders. Out: a dictionary of plain values.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from agents.runs.regular_files import write_atomically
from agents.studies.cells import minutes_of
from agents.studies.workers import Workers, usable_cores
from seqgan_env.models.sequence_models import SequenceModel

_VERSIONS = ("seqgan-gym", "torch", "numpy", "scipy", "gymnasium", "stable-baselines3")
# SHA-256 of the parameters that the authors published. The paper's levels can only belong to this oracle.
AUTHORS_ORACLE = "5f0d0a498d1169b1dc380387b0d74c023425cdcb65dc032f65df7021256e9d66"


def command_line(words: Sequence[str], options: Any, folder: Path) -> str:
    """The command line with these options.

    Args:
        words: its first words, such as "seqgan", "compare".
        options: a dataclass; fields with their default value are left out.
        folder: folder of the results; it is always given, as --out.
    """
    found = list(words)
    for field in fields(options):
        value = folder if field.name == "out" else getattr(options, field.name)
        option = field.name.replace("_", "-")
        if value == field.default:
            continue
        if isinstance(value, bool):
            found.append(f"--{option}" if value else f"--no-{option}")
        else:
            found += [f"--{option}", *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(found)


def write_record(path: Path, command: str, cells: Iterable[Path], workers: Workers, device: str, **more: Any) -> None:
    """Write the record of a result.

    Args:
        path: the JSON file.
        command: the command that makes the result.
        cells: folders of the finished cells.
        workers: the workers that computed them.
        device: device of the models.
        more: further entries of the record.
    """
    record = {
        "command": command,
        "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
        "commit": git_commit(),
        "hardware": hardware(device) | {"threads_a_cell": workers.threads},
        "minutes_of_all_cells": round(sum(map(minutes_of, cells)), 1),
        "versions": versions(),
    }
    write_atomically(path, (json.dumps(record | more, indent=2) + "\n").encode())


def oracle_fingerprint(oracle: SequenceModel) -> str:
    """SHA-256 of an oracle's parameters as little-endian float32, in the order of their names."""
    digest = hashlib.sha256()
    for name, parameter in sorted(oracle.state_dict().items()):
        digest.update(name.encode())
        digest.update(parameter.cpu().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def file_fingerprint(source: str | None) -> str | None:
    """SHA-256 of a file, or of names and contents of all files in a folder; None for what is neither."""
    path = Path(source or "")
    if source is None or not path.exists():
        return None
    digest = hashlib.sha256()
    files = [inner for inner in path.rglob("*") if inner.is_file()] if path.is_dir() else [path]
    # The same order and names on every system: Windows sorts without regard to case, and has backslashes.
    for file in sorted(files, key=lambda file: file.relative_to(path).parts):
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as content:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def git_commit() -> str:
    """The commit of this source tree, with "-dirty" if files differ from it; "unknown" outside of a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def hardware(device: str) -> dict[str, Any]:
    """Processor, cores, and the GPU if one was used."""
    found: dict[str, Any] = {"cpu": cpu_name(), "cores": usable_cores(), "device": device}
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return " ".join(value.split())
    return platform.processor() or platform.machine() or "unknown"


def versions() -> dict[str, str]:
    """Versions of the software that the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
