"""Fixtures of the agents' tests: tiny runs of the toy task, and runs that die on command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agents.model_options import shared_options
from agents.runs.flat_names import nested
from agents.runs.presets import TOY
from agents.runs.run_folder import RunFolder
from agents.runs.training import Experiment
from agents.seqgan import SeqGANConfig
from agents.setting_paths import changed
from seqgan_env.tasks.toy import toy_task

TINY: dict[str, Any] = {
    "train_sequences": 64,
    "mle_epochs": 2,
    "discriminator_pretraining_steps": 2,
    "rounds": 3,
    "n_rollouts": 2,
    "generator_batch_size": 8,
    "evaluate_every_rounds": 2,
    "evaluation_samples": 50,
    "final_samples": 100,
}
TINY_OPTIONS = [
    word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))
] + ["--no-progress"]  # fmt: skip


def tiny_config(**changes: Any) -> SeqGANConfig:
    """The toy command's settings, cut down to seconds; names as in `flat_names`."""
    base = TOY
    for kind in {"generator", "discriminator"} & changes.keys():  # of TOY's options, those that the model has
        shared = shared_options(kind, changes[kind], getattr(TOY, kind).options)
        base = changed(base, {f"{kind}.name": changes[kind], f"{kind}.options": shared})
    return changed(base, nested(TINY | changes))


def new_run(path: Path, pretrained: RunFolder | None = None, **changes: Any) -> RunFolder:
    """A tiny run folder in which nothing was trained yet, or only what another run has pretrained."""
    config = tiny_config(**changes)
    task = toy_task(sequence_length=config.task.sequence_length, n_sequences=config.task.train_sequences)
    return RunFolder.create(path, task, config, "toy", pretrained)


def train(run: RunFolder) -> RunFolder:
    """Train what is left of a run, without the closing table."""
    Experiment(run, console=Console(quiet=True), show_progress=False).train()
    return run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was never interrupted; not to be changed."""
    return train(new_run(tmp_path_factory.mktemp("finished") / "run"))


@pytest.fixture(scope="session")
def mortal_command() -> Iterator[Callable[..., tuple[int, str]]]:
    """Runs `seqgan` in a process of its own that can be made to die: see `mortal_command.py`.

    Takes the arguments, then optionally the moment; returns exit status (minus the signal, if one killed it) and
    output.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "COLUMNS": "200"}
    script = Path(__file__).parent / "runs" / "mortal_command.py"
    server = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert server.stdin is not None
    assert server.stdout is not None

    def run(arguments: list[str], **moment: Any) -> tuple[int, str]:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps({"arguments": list(map(str, arguments)), **moment}) + "\n")
        server.stdin.flush()
        answer = json.loads(server.stdout.readline())
        return answer["status"], answer["output"]

    yield run
    server.stdin.close()
    assert server.wait(timeout=30) == 0
