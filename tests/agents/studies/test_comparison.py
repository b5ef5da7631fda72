"""`comparison`: what is measured of learners, that each cell is computed once, and what its files say."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from agents.command.main import main
from agents.discriminator_trainer import DiscriminatorTrainer
from agents.learners import LEARNERS
from agents.reinforce import REINFORCE
from agents.studies import comparison
from agents.studies.comparison import ComparisonOptions, Recorder, compare, reward_bounds, summary
from agents.studies.grid import GridReport
from agents.vec_env import make_sequence_vec_env
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.rewards import ConstantReward, DiscriminatorReward, OracleReward, RandomReward
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.task import Task
from tests.agents.studies.measured import measured
from tests.toy_world import DigitsReward

pytest.importorskip("scipy")
pytest.importorskip("pandas")

TINY: dict[str, Any] = {"steps": 200, "points": 2, "samples": 50, "workers": 0, "progress": False}


def run(options: ComparisonOptions) -> GridReport:
    return compare(options, Console(quiet=True))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> ComparisonOptions:
    """A2C and DQN, two seeds of each; not to be changed."""
    options = ComparisonOptions(learners=("dqn", "a2c"), seeds=(7, 3), out=tmp_path_factory.mktemp("compared"), **TINY)
    assert run(options).is_complete
    return options


def test_every_learner_and_seed_is_measured_from_its_first_to_its_last_step(compared: ComparisonOptions) -> None:
    rows = rows_of(compared.folder() / "compare.csv")
    cells = dict.fromkeys((row["learner"], row["seed"]) for row in rows)
    assert list(cells) == [("a2c", "7"), ("a2c", "3"), ("dqn", "7"), ("dqn", "3")]
    for learner, seed in cells:
        own = [row for row in rows if (row["learner"], row["seed"]) == (learner, seed)]
        steps = [int(row["step"]) for row in own]
        assert len(steps) == 3
        assert steps[0] == 0
        assert 100 <= steps[1] < 200 <= steps[2]
        assert {row["reward_mode"] for row in own} == {LEARNERS[learner].reward_mode("toy")}  # type: ignore[index]
        for row in own:
            assert 0 < float(row["reward"]) < 1
            assert -1 < float(row["fraction"]) <= 1
            assert all(math.isfinite(float(row[name])) for name in ("nll_oracle", "nll_test", "distinct"))


def test_a_second_call_computes_nothing_and_a_further_seed_only_itself(
    compared: ComparisonOptions, tmp_path: Path
) -> None:
    assert run(compared).computed == []
    more = ComparisonOptions(learners=("a2c",), seeds=(7, 4), out=compared.out, **TINY)
    assert run(more).computed == ["a2c-potential-seed4"]
    run(compared)  # its own files again


def test_another_setting_in_the_same_folder_is_refused(
    compared: ComparisonOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="was computed with samples=50, not 60; choose another folder"):
        run(ComparisonOptions(learners=("a2c",), seeds=(7,), out=compared.out, **TINY | {"samples": 60}))
    settings = LEARNERS["a2c"].settings("toy")
    changed = {"SeqGAN-Toy-v0": settings | {"ent_coef": 0.123}}
    monkeypatch.setattr("agents.learners.read_settings", lambda path: changed)
    with pytest.raises(ValueError, match=r"settings.ent_coef=.*, not 0.123; choose another folder"):
        run(compared)


def test_the_record_says_how_the_result_came_about(compared: ComparisonOptions) -> None:
    record = json.loads((compared.folder() / "compare.json").read_text(encoding="utf-8"))
    assert record["command"].startswith("seqgan compare --learners dqn a2c --seeds 7 3 --steps 200 --points 2")
    assert record["seeds"] == [7, 3]
    assert record["settings"]["dqn"] == LEARNERS["dqn"].settings("toy")
    assert {"commit", "hardware", "minutes_of_all_cells", "versions"} <= set(record)
    assert (compared.folder() / "compare.png").stat().st_size > 10_000


def test_the_summary_is_the_last_measurement_over_seeds(compared: ComparisonOptions) -> None:
    (a2c, dqn) = rows_of(compared.folder() / "compare_summary.csv")
    assert (a2c["learner"], dqn["learner"], a2c["seeds"]) == ("a2c", "dqn", "2")
    last = {row["seed"]: float(row["fraction"]) for row in rows_of(compared.folder() / "compare.csv")[:6]}
    assert float(a2c["fraction"]) == pytest.approx(np.mean(list(last.values())), abs=1e-6)
    half = 12.7062 * np.std(list(last.values()), ddof=1) / np.sqrt(2)  # Student's t of one degree of freedom
    assert float(a2c["fraction_half_interval"]) == pytest.approx(half, rel=1e-4)


def test_one_seed_has_no_interval_and_an_unknown_share_stays_empty() -> None:
    row = {"learner": "ppo", "seed": "0", "reward_mode": "potential", "step": "5", "reward": "0.25", "fraction": ""}
    row |= {"nll_oracle": "1.5", "nll_test": "", "distinct": "1"}
    ends = summary(measured([row | {"step": "0", "reward": "0.1"}, row]), {"ppo": 3.0})
    (found,) = ends.to_dict("records")
    assert found["reward"] == 0.25
    for column in ("reward_half_interval", "fraction", "nll_test"):
        assert math.isnan(found[column])
    assert found["minutes_a_seed"] == "3.00"


def test_the_share_is_0_for_uniform_tokens_and_1_for_the_best_sequence(task: Task) -> None:
    assert task.oracle is not None
    bounds = reward_bounds(task, DigitsReward())
    assert bounds == (111.0, 222.0)
    env = make_sequence_vec_env("SeqGAN-Toy-v0", 2, seed=0)
    agent = REINFORCE("LSTMPolicy", env, seed=0, device="cpu")
    generator = agent.policy.generator
    recorder = Recorder(task, DigitsReward(), steps=12, points=1, samples=4000, seed=0)
    recorder.model = agent
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.zero_()
        uniform = recorder.measure()
        generator.output.bias[2] = 50.0
        best = recorder.measure()
    assert float(uniform["fraction"]) == pytest.approx(0, abs=0.04)
    assert float(uniform["nll_test"]) == pytest.approx(math.log(3), abs=1e-5)
    assert (best["reward"], best["fraction"], best["distinct"]) == ("222.000000", "1.000000", "0.000250")
    only = torch.full((1, 3), 2)
    assert float(best["nll_oracle"]) == pytest.approx(-task.oracle.log_probs(only).mean().item(), abs=1e-5)


def test_what_is_measured_are_samples_of_what_the_learner_plays(task: Task) -> None:
    assert task.oracle is not None
    reward = OracleReward(task.oracle)
    agent = REINFORCE("LSTMPolicy", make_sequence_vec_env("SeqGAN-Toy-v0", 2, seed=0), seed=0, device="cpu")
    recorder = Recorder(task, reward, steps=12, points=2, samples=64, seed=5)
    agent.learn(12, recorder)
    assert [row["step"] for row in recorder.rows] == ["0", "6", "12"]
    samples = sample_sequences(agent.policy.generator, 64, 3, np.random.default_rng([5, 12]))
    assert float(recorder.rows[-1]["reward"]) == pytest.approx(reward(samples).mean().item(), abs=1e-6)
    test = task.real_sequences("test")[:64]
    expected = -agent.policy.generator.log_probs(test).mean().item()
    assert float(recorder.rows[-1]["nll_test"]) == pytest.approx(expected, abs=1e-5)


def test_an_optimum_is_known_only_where_it_stands_still_and_can_be_enumerated(task: Task, eos_task: Task) -> None:
    big = Task("big", 50, 10, task.draw_split)
    assert reward_bounds(task, DiscriminatorReward(CNNDiscriminator(3, 3, ((1, 4),)))) is None
    assert reward_bounds(task, RandomReward(np.random.default_rng(0))) is None
    assert reward_bounds(task, ConstantReward()) is None  # nothing can be won
    assert reward_bounds(big, DigitsReward()) is None
    assert reward_bounds(eos_task, DigitsReward()) is None


def test_the_game_is_played_with_a_discriminator_and_has_no_optimum(tmp_path: Path) -> None:
    options = ComparisonOptions(
        learners=("dqn",),
        reward_model="discriminator",
        seeds=(0,),
        relabel_replay=False,
        out=tmp_path,
        **TINY | {"steps": 420},
    )
    assert run(options).is_complete
    rows = rows_of(tmp_path / "compare.csv")
    assert {row["fraction"] for row in rows} == {""}
    assert len({row["reward"] for row in rows}) == 3
    assert (tmp_path / "compare.png").is_file()


def test_the_trainer_of_a_fixed_reward_only_keeps_g_beta_in_step(task: Task) -> None:
    described = ComparisonOptions(learners=("ppo",), task="toy").cell(LEARNERS["ppo"], 0).settings
    trainer = comparison._trainer(described, task)
    assert isinstance(trainer, DiscriminatorTrainer)
    assert trainer.discriminator is None
    assert isinstance(trainer.reward_model, OracleReward)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"seeds": (1, 1)}, r"seeds=\(1, 1\) must differ"),
        ({"seeds": ()}, r"seeds=\(\) must be one or more"),
        ({"seeds": (-1,)}, r"seeds=\(-1,\) must be"),
        ({"learners": ("ppo", "ppo")}, "learners=.* must differ"),
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"points": 0}, "points=0 must be at least 1"),
        ({"samples": 1}, "samples=1 must be at least 2"),
        ({"workers": -1}, "workers=-1 must be at least 0"),
    ],
)
def test_options_that_cannot_be_used_are_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ComparisonOptions(**keywords)


def test_folders_are_named_after_what_is_compared() -> None:
    folders = [
        ComparisonOptions().folder(),
        ComparisonOptions(task="middle", reward_mode="terminal").folder(),
        ComparisonOptions(reward_model="discriminator", relabel_replay=False).folder(),
    ]
    assert [str(folder) for folder in folders] == [
        "runs/compare-toy",
        "runs/compare-middle-terminal",
        "runs/compare-toy-discriminator-stale",
    ]


def test_a_missing_library_is_told_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("agents.learners.import_module", refuse)
    with pytest.raises(ImportError, match=r"PPO needs stable_baselines3"):
        run(ComparisonOptions(learners=("ppo",), out=tmp_path / "new", **TINY))
    assert not (tmp_path / "new").exists()


# The command.


def test_the_command_compares_and_plots(
    compared: ComparisonOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "compare --learners dqn a2c --seeds 7 3 --steps 200 --points 2 --samples 50 --workers 0 --no-progress --out"
    main([*words.split(), str(compared.out)])
    printed = capsys.readouterr().out
    assert re.search(r"A2C +potential +-?0\.\d{3} ±\d+\.\d{3}", printed)
    assert re.search(r"DQN +terminal +-?0\.\d{3} ±\d+\.\d{3}", printed)
    picture = tmp_path / "again.png"
    main(["plot", str(compared.folder() / "compare.csv"), "--out", str(picture)])
    assert picture.read_bytes() == (compared.folder() / "compare.png").read_bytes()


def test_a_failed_cell_ends_the_command_with_status_1_and_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: Any) -> Any:
        raise RuntimeError("no luck")

    monkeypatch.setattr("agents.studies.comparison._trainer", fail)
    words = f"compare --learners a2c --seeds 0 --steps 100 --workers 0 --no-progress --out {tmp_path}"
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "failed: a2c-potential-seed0: RuntimeError: no luck" in told
    assert f"go on with: seqgan compare --learners a2c --seeds 0 --steps 100 --out {tmp_path} --workers 0" in told
