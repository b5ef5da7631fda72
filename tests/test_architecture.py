"""The layering rule: imports go strictly down this table. Also the size of modules, and repeated lines."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from seqgan_env.task_files import TASKS, environment_id

ROOT = Path(__file__).parents[1]
# From the ground up. A module imports only from rooms above its own line, or from its own room, where imports
# never go in a circle. A room is one module, or a folder with all that is in it.
ROOMS = (
    "seqgan_env.task_files",
    "seqgan_env",  # registration alone
    "seqgan_env.second_name",
    "seqgan_env.agents",  # a second name; it imports nothing of agents before a user asks for it
    "seqgan_env.terminal_text",
    "seqgan_env.arguments",
    "seqgan_env.vocabulary",
    "seqgan_env.models",
    "seqgan_env.rollout_policies",
    "seqgan_env.truncated_policy",
    "seqgan_env.corpora",
    "seqgan_env.measures",
    "seqgan_env.tasks",
    "seqgan_env.rewards",
    "seqgan_env.relativistic",
    "seqgan_env.resampling",
    "seqgan_env.mixed_reward",
    "seqgan_env.exact",
    "seqgan_env.monte_carlo",
    "seqgan_env.search_record",
    "seqgan_env.testing",
    "seqgan_env.components",
    "seqgan_env.mdp",
    "seqgan_env.rendering",
    "seqgan_env.keyboard",
    "seqgan_env.screen",
    "seqgan_env.envs",
    "seqgan_env.seqgan",
    "agents.setting_paths",
    "agents.model_options",
    "agents.learner_table",
    "agents.learner_options",
    "agents.random_streams",
    "agents.moments",
    "agents.vec_env",
    "agents.prefixes",
    "agents.policies",
    "agents.pretraining",
    "agents.reinforce",
    "agents.reference",
    "agents.sequence_learner",
    "agents.rloo",
    "agents.grpo",
    "agents.weighted_mle",
    "agents.dpg",
    "agents.real_sequences",
    "agents.preference",
    "agents.ddo",
    "agents.cot",
    "agents.kl_ppo",
    "agents.learners",
    "agents.learner_state",
    "agents.game_learners",
    "agents.replay_rewards",
    "agents.adversary",
    "agents.adversarial_rounds",
    "agents.discriminator_trainer",
    "agents.seqgan",
    "agents.runs",
    "agents.studies",
    "agents.watch",
    "agents.command",
    "agents.__main__",
)
OURS = ("seqgan_env", "agents")
NOT_FOR_ENVIRONMENTS = ("stable_baselines3", "sb3_contrib", "tensorboard", "tyro", "rich", "tqdm", "safetensors")
LONGEST_MODULE = 400  # lines
LONGEST_REPEAT = 9  # lines
NOT_NOUNS = {"utils", "util", "helpers", "helper", "manager", "managers", "base", "common", "misc"}


def source_files() -> dict[str, Path]:
    """Dotted name -> file, of every module of both packages."""
    files = {}
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


FILES = source_files()


def imports_of(source: str, known: set[str]) -> set[str]:
    """What a module's source imports, anywhere in it; `from a import b` is a.b where that is a module of ours."""
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= (whole & known) or {str(node.module)}
    return imported


def room_of(module: str) -> str:
    """The longest row of the table that is `module` or a folder around it; packages' own rows are no folders."""
    if module in ROOMS:
        return module
    return module.rsplit(".", 1)[0] if module.rsplit(".", 1)[0] in ROOMS[1:] else ""


def upward_imports(module: str, source: str) -> list[str]:
    """Modules of ours that `module` imports although they stand in no room below it, nor in its own."""
    ours = {name for name in imports_of(source, set(FILES)) if name.split(".")[0] in OURS}
    own = ROOMS.index(room_of(module))
    return sorted(name for name in ours if name == module or name not in FILES or ROOMS.index(room_of(name)) > own)


def circle_among(graph: dict[str, set[str]]) -> list[str]:
    """Modules of a circle of imports, or none."""
    left = {module: set(imported) for module, imported in graph.items()}
    while free := [module for module, imported in left.items() if not imported & left.keys()]:
        for module in free:
            del left[module]
    return sorted(left)


def test_every_module_is_in_a_room_and_every_room_is_there() -> None:
    assert [module for module in FILES if not room_of(module)] == []
    assert {room_of(module) for module in FILES} == set(ROOMS)
    assert len(ROOMS) == len(set(ROOMS))


@pytest.mark.parametrize("module", FILES)
def test_imports_go_strictly_down(module: str) -> None:
    assert upward_imports(module, FILES[module].read_text(encoding="utf-8")) == []


def test_imports_inside_a_room_never_go_in_a_circle() -> None:
    sources = {module: path.read_text(encoding="utf-8") for module, path in FILES.items()}
    assert circle_among({module: imports_of(source, set(FILES)) for module, source in sources.items()}) == []
    assert circle_among({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("seqgan_env.mdp", "from seqgan_env.envs import OracleEnv", ["seqgan_env.envs"]),
        ("seqgan_env.mdp", "def f():\n    import agents.command.main", ["agents.command.main"]),
        ("seqgan_env.mdp", "from seqgan_env import envs, rewards", ["seqgan_env.envs"]),
        ("seqgan_env.mdp", "import seqgan_env.mdp", ["seqgan_env.mdp"]),
        ("seqgan_env.mdp", "import seqgan_env.unknown", ["seqgan_env.unknown"]),
        ("seqgan_env.mdp", "import numpy\nfrom seqgan_env.rewards import RewardModel", []),
    ],
)
def test_the_walk_sees_every_form_of_import(module: str, source: str, found: list[str]) -> None:
    assert upward_imports(module, source) == found


@pytest.mark.parametrize("module", [module for module in FILES if module.startswith("seqgan_env")])
def test_environments_know_neither_agents_nor_their_libraries(module: str) -> None:
    roots = {name.split(".")[0] for name in imports_of(FILES[module].read_text(encoding="utf-8"), set(FILES))}
    assert not roots & {"agents", *NOT_FOR_ENVIRONMENTS}


def test_modules_are_named_by_what_they_hold() -> None:
    assert not {name.split(".")[-1] for name in FILES} & NOT_NOUNS


def has_reason_for_its_length(source: str) -> bool:
    """Whether a module has at most 400 lines, or its docstring has a sentence that begins with "Long because"."""
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return len(source.splitlines()) <= LONGEST_MODULE or "Long because " in docstring


@pytest.mark.parametrize("module", FILES)
def test_a_long_module_says_why_in_its_first_lines(module: str) -> None:
    assert has_reason_for_its_length(FILES[module].read_text(encoding="utf-8"))


def test_the_length_of_a_module_and_its_reason_are_seen() -> None:
    assert has_reason_for_its_length('"""Short."""\n' + "x = 1\n" * 399)
    assert not has_reason_for_its_length('"""Short."""\n' + "x = 1\n" * 400)
    assert has_reason_for_its_length('"""Tables. Long because they are data."""\n' + "x = 1\n" * 400)
    assert not has_reason_for_its_length('"""Short."""\n' + "x = 1  # Long because \n" * 400)


def longest_repeat(source: str) -> list[str]:
    """The longest run of lines that occurs twice without overlap; empty lines and indentation do not count."""
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    longest: list[str] = []
    places: dict[str, list[int]] = {}
    for second, line in enumerate(lines):
        for first in places.setdefault(line, []):
            length = 0
            while second + length < len(lines) and first + length < second:
                if lines[first + length] != lines[second + length]:
                    break
                length += 1
            longest = max(longest, lines[second : second + length], key=len)
        places[line].append(second)
    return longest


def test_the_environments_repeat_no_ten_lines() -> None:
    assert len(longest_repeat(FILES["seqgan_env.envs"].read_text(encoding="utf-8"))) <= LONGEST_REPEAT


def test_repeated_lines_are_seen() -> None:
    run = [f"a = {number}" for number in range(12)]
    assert longest_repeat("\n".join([*run, "b", "", *(f"    {line}" for line in run[:10])])) == run[:10]
    assert longest_repeat("\n".join(run)) == []


def rooms_of_the_page(page: str) -> list[str]:
    """The rooms of the table "Every file" of a page, in its order."""
    table = page.split("## Every file", 1)[1].split("\n## ", 1)[0]
    rooms: list[str] = []
    for row in re.findall(r"^\| (`[^|]+`) \|", table, flags=re.M):
        folder = row.split("`")[1].rpartition("/")[0]
        for name in re.findall(r"`([^`]+)`", row):
            path = name if "/" in name else f"{folder}/{name}"
            room = room_of(path.removesuffix("/").removesuffix(".py").removesuffix("/__init__").replace("/", "."))
            if room and room not in rooms:  # agents/settings/ has no modules
                rooms.append(room)
    return rooms


def test_the_page_lists_the_rooms_in_the_order_of_this_table() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert rooms_of_the_page(page) == list(ROOMS)


def test_importing_the_package_registers_and_imports_neither_torch_nor_sb3() -> None:
    program = (
        "import sys, seqgan_env, gymnasium; "
        "print(sorted(i for i in gymnasium.registry if i.startswith('SeqGAN'))); "
        "print([m for m in ('torch', 'stable_baselines3', 'agents', 'matplotlib') if m in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    ).stdout
    ids = sorted(map(environment_id, TASKS))
    assert {"SeqGAN-Music-v0", "SeqGAN-Oracle-v0", "SeqGAN-Text-v0", "SeqGAN-Toy-v0"} <= set(ids)
    assert printed.splitlines() == [str(ids), "[]"]
