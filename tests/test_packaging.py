"""What is installed: every module of both packages, and no file that another distribution called `agents` has too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

from tests.test_architecture import FILES, OURS

setuptools = pytest.importorskip("setuptools", minversion="70.1", reason="setuptools builds the wheel")

ROOT = Path(__file__).parents[1]
LIBRARIES = Path(gymnasium.__file__).parents[1]
# A small stand-in for openai-agents: a package `agents` with an `__init__.py` and a type marker.
ANOTHER_AGENTS = {"agents/__init__.py": "from agents.agent import Agent\n", "agents/agent.py": "class Agent: ...\n"}
BOTH_WORK = """
import importlib.util
from agents import Agent
import agents.runs, agents.studies, agents.command
print(importlib.util.find_spec("agents.reinforce").origin)
"""
ENVIRONMENTS = """
import gymnasium as gym
import seqgan_env
ids = sorted(name for name in gym.registry if name.startswith("SeqGAN-"))
assert ids
for name in ids:
    gym.make(name).reset(seed=0)
    gym.make_vec(name, num_envs=2).reset(seed=0)
print(" ".join(ids))
"""


def copy_of_the_checkout(folder: Path) -> Path:
    """The files that a build reads, in a folder of their own, so that nothing is written into the checkout."""
    for name in (*OURS, "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, folder / name)
    return folder


def build(hook: str, source: Path, out: Path) -> Path:
    """Build with a hook of setuptools: `build_wheel` or `build_editable`. Returns the wheel's path."""
    out.mkdir()
    script = f"import setuptools.build_meta as build; build.{hook}({str(out)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout."""
    return copy_of_the_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    """The wheel as a user installs it."""
    return build("build_wheel", source, source.parent / f"{source.name}-wheel")


@pytest.fixture(scope="module")
def installed(wheel: Path) -> set[str]:
    """The paths that the wheel installs, without its own metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_every_module_of_both_packages(installed: set[str]) -> None:
    expected = {str(path.relative_to(ROOT)).replace(os.sep, "/") for path in FILES.values()}
    assert expected <= installed
    assert {name.split("/")[0] for name in installed} == set(OURS)


def test_the_requirements_of_binder_lead_to_this_project() -> None:
    lines = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    paths = dict(line.split(" ", 1) for line in lines if line.startswith("-"))
    assert (ROOT / ".binder" / paths["-c"]).is_file()  # pip reads this one from the file's folder
    assert (ROOT / paths["-e"].partition("[")[0] / "setup.py").is_file()  # and this one from the current folder


def test_the_wheel_holds_data_and_settings(installed: set[str]) -> None:
    assert "seqgan_env/corpora/data/python_documentation.txt" in installed
    assert "seqgan_env/corpora/data/tunes.abc" in installed
    assert any(name.startswith("agents/") and name.endswith("/ppo.yml") for name in installed)


def test_every_package_of_ours_but_the_shared_folder_is_marked_as_typed(installed: set[str]) -> None:
    assert {"seqgan_env/py.typed", "seqgan_env/agents/__init__.pyi"} <= installed
    packages = {name.rpartition("/")[0] for name in installed if name.endswith(".py") and name.startswith("agents/")}
    assert packages > {"agents"}
    assert {f"{package}/py.typed" for package in packages if package.count("/") == 1} <= installed


def test_no_file_of_ours_stands_where_openai_agents_has_one(installed: set[str]) -> None:
    listed = (ROOT / "tests" / "openai_agents_names.txt").read_text(encoding="utf-8").splitlines()
    theirs = {Path(name).stem for name in listed if not name.startswith("#")}
    assert {"__init__", "agent", "models", "run", "tool", "py"} <= theirs  # "py.typed" without its ending is "py"
    ours = {Path(name.split("/")[1]).stem for name in installed if name.startswith("agents/")}
    assert "reinforce" in ours
    assert ours & theirs == set()


@pytest.mark.parametrize("theirs_first", [True, False])
def test_both_packages_called_agents_work_in_one_folder(wheel: Path, tmp_path: Path, theirs_first: bool) -> None:
    site = tmp_path / "site"
    if theirs_first:
        add_the_other_agents(site)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    if not theirs_first:
        add_the_other_agents(site)
    assert python(BOTH_WORK, site, folder=tmp_path) == site / "agents" / "reinforce.py"


def test_an_editable_install_works_beside_the_other_agents(source: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    add_the_other_agents(site)
    with zipfile.ZipFile(build("build_editable", source, tmp_path / "built")) as archive:
        archive.extractall(site)
    # Python reads the .pth file of an editable install in its own site folder only: say that this is one.
    code = f"import site; site.addsitedir({str(site)!r}){BOTH_WORK}"
    assert python(code, site, folder=tmp_path) == source / "agents" / "reinforce.py"


BOTH_NAMES = """
import importlib.util, sys
try:
    found = importlib.util.find_spec("agents.setting_paths")
except ModuleNotFoundError:
    found = None
assert found is None  # Python finds only the other one
from seqgan_env.agents.setting_paths import changed
import agents.setting_paths, agents.runs, seqgan_env.agents.runs
assert changed is agents.setting_paths.changed
assert agents.runs is seqgan_env.agents.runs
assert agents.Agent.__module__ != "agents.setting_paths"
print(agents.setting_paths.__file__)
"""


@pytest.mark.parametrize("theirs_first", [True, False])
def test_the_second_name_works_with_the_other_agents_in_another_folder(
    wheel: Path, tmp_path: Path, theirs_first: bool
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(ours)
    add_the_other_agents(theirs)
    found = python(BOTH_NAMES, *((theirs, ours) if theirs_first else (ours, theirs)), LIBRARIES, folder=tmp_path)
    assert found == ours / "agents" / "setting_paths.py"


def test_the_second_name_works_beside_a_module_of_that_name(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "ours")
    (tmp_path / "agents.py").write_text("class Agent: ...\n")
    found = python(BOTH_NAMES, tmp_path / "ours", LIBRARIES, folder=tmp_path)  # -c looks in the current folder first
    assert found == tmp_path / "ours" / "agents" / "setting_paths.py"


def test_the_second_name_names_a_module_that_another_project_has_too(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "ours")
    (tmp_path / "agents").mkdir()
    for name in ("__init__", "setting_paths"):
        (tmp_path / "agents" / f"{name}.py").touch()
    with pytest.raises(subprocess.CalledProcessError) as caught:
        python("import seqgan_env.agents.setting_paths", tmp_path / "ours", LIBRARIES, folder=tmp_path)
    assert "ImportError: 'agents.setting_paths' is [" in caught.value.stderr
    assert "another project has a module of this name" in caught.value.stderr


def add_the_other_agents(site: Path) -> None:
    """Install the stand-in for openai-agents into a folder."""
    for name, text in ANOTHER_AGENTS.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    (site / "agents" / "py.typed").touch()


def python(code: str, *sites: Path, folder: Path) -> Path:
    """The path that a program prints. It sees `sites` and no installed package (-S), and starts in `folder`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sites))}
    command = [sys.executable, "-S", "-c", code]
    ended = subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=120
    )
    return Path(ended.stdout.strip())


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the programs of a fresh environment that has the wheel and the extra `reproduce`."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    command = [programs / "python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"]
    subprocess.run([*command, f"seqgan-gym[reproduce] @ {wheel.as_uri()}"], check=True, cwd=folder, timeout=1800)
    yield programs
    shutil.rmtree(folder, ignore_errors=True)  # some gigabytes


@pytest.mark.slow
@pytest.mark.install
@pytest.mark.parametrize(
    "arguments",
    [
        ["python", "-c", ENVIRONMENTS],
        ["seqgan", "train", "toy", "--no-progress"],
        ["python", "-m", "agents", "train", "toy", "--no-progress", "--out", "second"],
        ["seqgan", "reproduce", "table1", "--task", "toy", "--fast"],
    ],
    ids=["gym.make", "train", "python -m agents", "reproduce"],
)
def test_the_wheel_alone_is_enough_in_a_fresh_environment(fresh: Path, tmp_path: Path, arguments: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program = fresh / arguments[0]
    subprocess.run([program, *arguments[1:]], cwd=tmp_path, env=environment, check=True, timeout=1200)
