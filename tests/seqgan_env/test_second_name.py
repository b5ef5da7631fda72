"""`seqgan_env.agents`: the same modules under a name that no other project has; conflicts: tests/test_packaging.py."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import seqgan_env.agents
from seqgan_env.second_name import SecondName
from tests.test_architecture import FILES, ROOT

NOT_IMPORTED = ("agents.__main__", "agents.watch.page")  # the command, and marimo's notebook
MODULES = [name for name in FILES if name.startswith("agents.") and name not in NOT_IMPORTED]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_the_same_under_both_names(module: str) -> None:
    second = importlib.import_module(f"seqgan_env.{module}")
    own = importlib.import_module(module)
    assert second is own
    assert own.__name__ == module
    assert own.__spec__ is not None
    assert own.__spec__.name == module
    assert own.__spec__.parent == own.__package__


def test_classes_are_the_same() -> None:
    from seqgan_env.agents.reinforce import REINFORCE as SECOND

    from agents.reinforce import REINFORCE

    assert SECOND is REINFORCE


@pytest.mark.parametrize("name", ["nothing", "runs.nothing", "reinforce.nothing"])
def test_a_module_that_is_not_there_is_not_found(name: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"seqgan_env.agents.{name}")


def test_a_module_is_found_without_being_imported() -> None:
    program = (
        "import sys, importlib.util, seqgan_env.agents; print('agents' in sys.modules); "
        "print(importlib.util.find_spec('seqgan_env.agents.reinforce').origin); "
        "print('agents.reinforce' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", str(FILES["agents.reinforce"]), "False"]


def test_there_is_one_finder_however_often_the_package_is_loaded() -> None:
    importlib.reload(seqgan_env.agents)
    assert sum(isinstance(finder, SecondName) for finder in sys.meta_path) == 1


def test_the_command_runs_under_the_second_name() -> None:
    command = [sys.executable, "-m", "seqgan_env.agents", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.startswith("seqgan ")


def test_the_source_of_a_module_is_shown() -> None:
    (finder,) = [finder for finder in sys.meta_path if isinstance(finder, SecondName)]
    assert finder.get_source("seqgan_env.agents.reinforce") == FILES["agents.reinforce"].read_text(encoding="utf-8")
