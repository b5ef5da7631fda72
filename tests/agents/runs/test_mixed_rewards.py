"""A game whose reward is a weighted sum: its terms are logged one by one, and it is resumed like any other."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from agents.command import main as cli
from agents.runs.run_folder import RunFolder
from agents.runs.training import Experiment
from agents.runs.trust import own_parts
from agents.seqgan import Milestone
from tests.agents.conftest import new_run, train

HERE = __name__


def verifier(sequences: Tensor) -> Tensor:
    """The share of tokens that are 0."""
    return (sequences == 0).float().mean(dim=1)


SPEC = f"0.5*discriminator + 2*{HERE}:verifier"


def test_the_means_of_the_terms_stand_in_metrics_csv(tmp_path: Path) -> None:
    run = train(new_run(tmp_path / "run", reward_model=SPEC, rounds=3))
    rounds = [row for row in run.metrics() if row["stage"] == "adversarial"]
    assert len(rounds) == 3
    for row in rounds:
        assert 0 < float(row["reward_discriminator"]) < 1
        assert 0 < float(row[f"reward_{HERE}:verifier"]) < 1
        assert float(row["discriminator_loss"]) > 0  # D is trained
    assert all(row["reward_discriminator"] == "" for row in run.metrics() if row["stage"] == "mle")


class Stopped(Exception):
    """Ends a training between two rounds."""


def test_a_run_that_was_stopped_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(new_run(tmp_path / "whole", reward_model=SPEC, rounds=3))
    parts = new_run(tmp_path / "parts", reward_model=SPEC, rounds=3)
    experiment = Experiment(parts, console=Console(quiet=True), show_progress=False)
    original = experiment._after

    def stop(milestone: Milestone) -> object:
        found = original(milestone)
        if (milestone.stage, milestone.index) == ("adversarial", 1):
            raise Stopped
        return found

    monkeypatch.setattr(experiment, "_after", stop)
    with pytest.raises(Stopped):
        experiment.train()
    train(RunFolder(parts.path, trust=own_parts(parts.config()).values()))
    assert parts.metrics_content() == whole.metrics_content()
    ours, theirs = parts.generator().state_dict(), whole.generator().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_without_a_discriminator_in_the_sum_none_is_trained(tmp_path: Path) -> None:
    run = train(new_run(tmp_path / "run", reward_model=f"{HERE}:verifier + constant", rounds=2))
    assert {row["discriminator_loss"] for row in run.metrics()} == {""}
    rewards = [float(row[f"reward_{HERE}:verifier"]) for row in run.metrics() if row["stage"] == "adversarial"]
    assert len(rewards) == 2


def test_every_part_of_somebody_elses_sum_must_be_trusted(tmp_path: Path) -> None:
    run = train(new_run(tmp_path / "run", reward_model=f"{SPEC} + {HERE}:other", rounds=0))
    assert list(own_parts(run.config()).values()) == [f"{HERE}:verifier", f"{HERE}:other"]
    with pytest.raises(ValueError, match=f"--trust {HERE}:other"):
        RunFolder(run.path, trust=[f"{HERE}:verifier"]).expect_resumable()


def other(sequences: Tensor) -> Tensor:
    """A second reward of somebody's own."""
    return verifier(sequences)


def test_the_command_takes_a_sum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = "--mle-epochs 1 --rounds 1 --final-samples 50 --no-progress"
    cli.main(shlex.split(f"train toy --reward '{SPEC}' {short} --out {tmp_path / 'run'}"))
    assert "mixed reward" in capsys.readouterr().out
