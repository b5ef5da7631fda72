"""The layering rule: imports go strictly down this table, and what may not be known above or below is not."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up. A module may import only what stands above its own line in this list.
LAYERS = (
    "seqgan_env",  # registration alone
    "seqgan_env.models",
    "seqgan_env.tasks",
    "seqgan_env.vocabulary",
    "seqgan_env.models.output_layer",
    "seqgan_env.models.sampling",
    "seqgan_env.models.sequence_models",
    "seqgan_env.models.attention",
    "seqgan_env.models.attention_models",
    "seqgan_env.models.window_features",
    "seqgan_env.models.discriminators",
    "seqgan_env.models.context_discriminators",
    "seqgan_env.models.discriminator_ensemble",
    "seqgan_env.rollout_policies",
    "seqgan_env.bleu",
    "seqgan_env.metrics",
    "seqgan_env.rewards",
    "seqgan_env.monte_carlo",
    "seqgan_env.tasks.corpus",
    "seqgan_env.tasks.task",
    "seqgan_env.tasks.oracle",
    "seqgan_env.tasks.toy",
    "seqgan_env.tasks.lines",
    "seqgan_env.tasks.segmentation",
    "seqgan_env.tasks.text",
    "seqgan_env.tasks.tunes",
    "seqgan_env.tasks.music",
    "seqgan_env.music_formats",
    "seqgan_env.corpus_metrics",
    "seqgan_env.nearest",
    "seqgan_env.testing.expectations",
    "seqgan_env.testing.policies",
    "seqgan_env.testing.scoring",
    "seqgan_env.testing.tasks",
    "seqgan_env.testing",
    "seqgan_env.components",
    "seqgan_env.mdp",
    "seqgan_env.rendering",
    "seqgan_env.envs",
    "agents",
    "agents.vec_env",
    "agents.policies",
    "agents.pretraining",
    "agents.reinforce",
    "agents.replay_rewards",
    "agents.discriminator_trainer",
    "agents.configuration",
    "agents.methods",
    "agents.evidence",
    "agents.seqgan",
    "agents.measurements",
    "agents.projection",
    "agents.checkpoints",
    "agents.run_folder",
    "agents.plots",
    "agents.experiment",
    "agents.written_samples",
    "agents.cells",
    "agents.workers",
    "agents.grid",
    "agents.tables",
    "agents.study",
    "agents.figures",
    "agents.real_data",
    "agents.reproduction",
    "agents.learners",
    "agents.comparison",
    "agents.cli",
)
OURS = ("seqgan_env", "agents")
NOT_FOR_ENVIRONMENTS = ("stable_baselines3", "sb3_contrib", "tensorboard", "tyro", "rich", "tqdm", "safetensors")
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


def upward_imports(module: str, source: str) -> list[str]:
    """Modules of ours that `module` imports although they do not stand below it."""
    own = LAYERS.index(module)
    ours = {name for name in imports_of(source, set(LAYERS)) if name.split(".")[0] in OURS}
    return sorted(name for name in ours if name not in LAYERS or LAYERS.index(name) >= own)


def test_every_module_is_in_the_table_and_every_row_is_a_module() -> None:
    assert set(FILES) == set(LAYERS)
    assert len(LAYERS) == len(set(LAYERS))


@pytest.mark.parametrize("module", FILES)
def test_imports_go_strictly_down(module: str) -> None:
    assert upward_imports(module, FILES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("seqgan_env.mdp", "from seqgan_env.envs import OracleEnv", ["seqgan_env.envs"]),
        ("seqgan_env.mdp", "def f():\n    import agents.cli", ["agents.cli"]),
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
    roots = {name.split(".")[0] for name in imports_of(FILES[module].read_text(encoding="utf-8"), set(LAYERS))}
    assert not roots & {"agents", *NOT_FOR_ENVIRONMENTS}


def test_modules_are_named_by_what_they_hold() -> None:
    assert not {name.split(".")[-1] for name in FILES} & NOT_NOUNS


def test_importing_the_package_registers_and_imports_neither_torch_nor_sb3() -> None:
    program = (
        "import sys, seqgan_env, gymnasium; "
        "print(sorted(i for i in gymnasium.registry if i.startswith('SeqGAN'))); "
        "print([m for m in ('torch', 'stable_baselines3', 'agents', 'matplotlib') if m in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    ).stdout
    assert printed.splitlines() == ["['SeqGAN-Music-v0', 'SeqGAN-Oracle-v0', 'SeqGAN-Text-v0', 'SeqGAN-Toy-v0']", "[]"]
