"""The list of tasks: each is one file of `seqgan_env/tasks/`. Reading the names imports no task, and so no torch.

The file `tasks/toy.py` holds the task "toy": a dataclass `ToyOptions` whose method `task()` makes the `Task`, and whose
class attribute `PAGE` is the environment's documentation. The environment's id, `SeqGAN-Toy-v0`, follows from the name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Files of this folder that hold parts of tasks, but are no tasks themselves.
_PARTS = frozenset({"task", "corpus_task", "oracle_file"})


class TaskFiles(Mapping[str, type[Any]]):
    """Name of a task -> its options class. A task's file is imported when its class is read."""

    def __init__(self) -> None:
        modules = pkgutil.iter_modules([str(Path(__file__).parent / "tasks")])
        self._names = tuple(module.name for module in modules if module.name not in _PARTS)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> type[Any]:
        if name not in self._names:
            raise KeyError(name)
        module = importlib.import_module(f"seqgan_env.tasks.{name}")
        options: type[Any] = getattr(module, f"{title(name)}Options")
        return options


def title(name: str) -> str:
    """The name as it is written in classes and ids: "toy" -> "Toy", "two_words" -> "TwoWords"."""
    return "".join(word.capitalize() for word in name.split("_"))


def environment_id(name: str) -> str:
    """The id of a task's environment: "toy" -> "SeqGAN-Toy-v0"."""
    return f"SeqGAN-{title(name)}-v0"


TASKS = TaskFiles()
