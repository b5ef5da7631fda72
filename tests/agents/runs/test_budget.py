"""`budget`: a time limit plans anew when a stage begins, and the counts that it leads to give the same run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agents.runs import budget
from agents.runs.budget import Budget, new_budget
from agents.runs.projection import UnitCosts
from agents.runs.run_folder import RunFolder
from agents.runs.training import Experiment, close_run
from agents.setting_paths import changed
from seqgan_env.tasks.toy import toy_task
from tests.agents.conftest import new_run, tiny_config, train
from tests.agents.runs.test_training import assert_same_end


class SlowClock:
    """A clock by which each look at it takes 10 s."""

    def __init__(self, device: Any = "cpu") -> None:
        self.looks = 0

    def seconds(self) -> float:
        self.looks += 1
        return 10.0 * self.looks


ASKED = {"mle_epochs": 30, "discriminator_pretraining_steps": 20, "rounds": 40, "mle_patience": 9}


def limited_run(path: Path, minutes: float) -> RunFolder:
    config = tiny_config(**ASKED)
    task = toy_task(n_sequences=config.task.train_sequences)
    return RunFolder.create(path, task, config, "toy", budget=new_budget(minutes, config))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which an MLE epoch takes 10 s, a discriminator step 2 s, a round 3 s."""
    monkeypatch.setattr(budget, "WorkClock", SlowClock)
    monkeypatch.setattr(budget, "try_units", lambda *_: UnitCosts(10.0, 0.0, 2.0 / 1, 3.0 - 2.0, 0.0))


def test_pretraining_leaves_the_game_its_share_and_the_rest_is_planned_when_it_begins(
    tmp_path: Path, slow: None
) -> None:
    run = train(limited_run(tmp_path / "run", 3.0))  # 180 s
    config = RunFolder(run.path).config()
    assert config.pretraining.epochs == 9  # 90 s: half of the time
    assert 5 <= config.discriminator.pretraining_steps < 20
    assert 10 <= config.game.rounds < 40
    rows = run.metrics()
    assert sum(row["stage"] == "adversarial" for row in rows) == config.game.rounds
    assert Budget.of(run).asked["game.rounds"] == 40


def test_the_counts_that_a_limit_led_to_give_the_same_run_without_it(tmp_path: Path, slow: None) -> None:
    limited = train(limited_run(tmp_path / "limited", 3.0))
    used = RunFolder(limited.path).config()
    free = new_run(
        tmp_path / "free",
        mle_epochs=used.pretraining.epochs,
        mle_patience=9,
        discriminator_pretraining_steps=used.discriminator.pretraining_steps,
        rounds=used.game.rounds,
    )
    assert_same_end(train(free), limited)


def test_a_game_that_comes_too_late_gets_its_least_useful_size_and_says_so(tmp_path: Path, slow: None) -> None:
    run = limited_run(tmp_path / "run", 1.0)
    with (tmp_path / "log").open("w") as log:
        Experiment(run, console=Console(file=log, width=200), show_progress=False).train()
    config = RunFolder(run.path).config()
    counts = config.pretraining.epochs, config.discriminator.pretraining_steps, config.game.rounds
    assert counts == (5, 5, 10)
    assert "warning: the time of --minutes 1 is used up" in (tmp_path / "log").read_text()
    rows = close_run(run, "cpu", Console(quiet=True))
    assert "SeqGAN, 10 of 40 rounds" in [row.method for row in rows]


def test_a_run_without_a_limit_looks_at_no_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "try_units", lambda *_: pytest.fail("the units were timed"))
    run = train(new_run(tmp_path / "run", rounds=1))
    assert RunFolder(run.path).config() == changed(tiny_config(), {"game.rounds": 1}).complete()
