"""`experiment`: the same seed gives the same bytes, and no death at any moment changes that."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from agents.runs.checkpoints import read_tensors
from agents.runs.run_folder import RunFolder
from agents.runs.training import (
    Experiment,
    close_run,
    evaluate_run,
    resolve_device,
    results_csv,
    results_table,
)
from agents.seqgan import Milestone
from seqgan_env.measures.likelihood import negative_log_likelihood
from seqgan_env.measures.measurement import Measurement, TableRow
from seqgan_env.tasks.toy import enumerate_sequences
from tests.agents.conftest import TINY_OPTIONS, new_run, train

Command = Callable[..., tuple[int, str]]
# Files of a tiny run: task; two MLE epochs (3 files), two discriminator steps, three rounds, the end.
MOMENTS = [
    ("row is logged, checkpoint is not written", 1),  # the first MLE epoch: there is no checkpoint at all
    ("checkpoint is half written", 4),  # the second MLE epoch
    ("checkpoint is written, not renamed", 6),  # the discriminator's pretraining
    ("row is half logged", 6),  # the second round
]
MORE_MOMENTS = [
    (at, count)
    for at, last in (
        ("unit is done, nothing is saved", 7),
        ("row is logged, checkpoint is not written", 7),
        ("row is half logged", 7),
        ("checkpoint is half written", 10),
        ("checkpoint is written, not renamed", 10),
        ("checkpoint is renamed", 10),
    )
    for count in range(1, last + 1)
    if (at, count) not in MOMENTS and not ("checkpoint" in at.split(",")[0] and count == 1)  # 1: the task
]


def assert_same_end(run: RunFolder, other: RunFolder) -> None:
    """The same CSV byte for byte, and the same weights, optimizers, counters and random states."""
    assert run.metrics_path.read_bytes() == other.metrics_path.read_bytes()
    (tensors, state), (expected, expected_state) = (read_tensors(r.latest_checkpoint) for r in (run, other))
    assert state == expected_state
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, expected[name]), name


def die(command: Command, path: Path, *options: str, **moment: Any) -> RunFolder:
    status, output = command(["train", "toy", "--out", str(path), *TINY_OPTIONS, *options], **moment)
    assert status == -9, output
    return RunFolder(path)


def test_the_same_seed_gives_the_same_metrics_byte_for_byte(tmp_path: Path, finished_run: RunFolder) -> None:
    torch.manual_seed(99)
    np.random.seed(99)
    again = train(new_run(tmp_path / "again"))
    assert_same_end(again, finished_run)
    other = train(new_run(tmp_path / "other", seed=1))
    assert other.metrics_path.read_bytes() != finished_run.metrics_path.read_bytes()


def test_another_process_gives_the_same_bytes(tmp_path: Path, finished_run: RunFolder, mortal_command: Command) -> None:
    status, output = mortal_command(["train", "toy", "--out", tmp_path / "run", *TINY_OPTIONS])
    assert status == 0, output
    assert_same_end(RunFolder(tmp_path / "run"), finished_run)


@pytest.mark.parametrize(("at", "count"), MOMENTS)
def test_a_run_that_is_killed_and_resumed_ends_as_one_that_was_not(
    tmp_path: Path, finished_run: RunFolder, mortal_command: Command, at: str, count: int
) -> None:
    run = die(mortal_command, tmp_path / "run", at=at, count=count)
    assert not run.metrics_path.is_file() or run.metrics_path.read_bytes() != finished_run.metrics_path.read_bytes()
    assert_same_end(train(run), finished_run)


@pytest.mark.slow
@pytest.mark.parametrize(("at", "count"), MORE_MOMENTS)
def test_a_run_that_is_killed_at_any_moment_and_resumed_ends_as_one_that_was_not(
    tmp_path: Path, finished_run: RunFolder, mortal_command: Command, at: str, count: int
) -> None:
    assert_same_end(train(die(mortal_command, tmp_path / "run", at=at, count=count)), finished_run)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(
    tmp_path: Path, finished_run: RunFolder, mortal_command: Command
) -> None:
    """Whenever the clock says so, a little later each time, until one reaches the end."""
    path, wait, statuses = tmp_path / "run", 0.05, []
    while 0 not in statuses:
        # Killed while the folder was made, the same command makes it again.
        begun = (path / "run.json").is_file()
        arguments = ["--resume", path, "--no-progress"] if begun else ["--out", path, *TINY_OPTIONS]
        status, output = mortal_command(["train", "toy", *arguments], after_seconds=wait)
        assert status in (0, -9), output
        statuses.append(status)
        wait *= 1.3
    assert statuses.count(-9) > 3
    assert_same_end(RunFolder(path), finished_run)


@pytest.mark.parametrize(
    "moment",
    [
        ("unit is done, nothing is saved", 6),
        pytest.param(("checkpoint is half written", 3), marks=pytest.mark.slow),
    ],
)
def test_sparse_checkpoints_change_nothing_about_the_end(
    tmp_path: Path, finished_run: RunFolder, mortal_command: Command, moment: tuple[str, int]
) -> None:
    path = tmp_path / "run"
    run = die(mortal_command, path, "--checkpoint-every", "4", at=moment[0], count=moment[1])
    train(run)
    whole = train(new_run(tmp_path / "whole", checkpoint_every=4))
    assert_same_end(run, whole)
    assert run.metrics_path.read_bytes() == finished_run.metrics_path.read_bytes()


def test_early_stopping_and_a_delayed_rollout_policy_survive_a_death(tmp_path: Path, mortal_command: Command) -> None:
    changes = {"mle_epochs": 30, "mle_patience": 1, "mle_learning_rate": 0.1, "rollout_rate": 0.8, "baseline": "value"}
    options = [word for name, value in changes.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    whole = train(new_run(tmp_path / "whole", **changes))
    units = len(whole.metrics())
    run = die(mortal_command, tmp_path / "run", *options, at="unit is done, nothing is saved", count=units)
    assert_same_end(train(run), whole)


def test_a_finished_run_is_resumed_without_a_change(tmp_path: Path) -> None:
    run = train(new_run(tmp_path / "run"))
    before = run.metrics_path.read_bytes(), run.latest_checkpoint.read_bytes()
    train(RunFolder(run.path))
    assert (run.metrics_path.read_bytes(), run.latest_checkpoint.read_bytes()) == before


def test_measuring_more_often_does_not_change_the_training(tmp_path: Path, finished_run: RunFolder) -> None:
    often = train(new_run(tmp_path / "often", evaluate_every_rounds=1, evaluate_every_epochs=1, evaluation_samples=20))
    generators = [run.generator().state_dict() for run in (often, finished_run)]
    for name, tensor in generators[0].items():
        assert torch.equal(tensor, generators[1][name])


def test_the_metrics_hold_each_unit_and_both_nlls_where_measured(finished_run: RunFolder) -> None:
    rows = finished_run.metrics()
    assert [(row["stage"], row["index"], row["epoch"]) for row in rows] == [
        ("mle", "1", "1"),
        ("mle", "2", "2"),
        ("discriminator", "1", "2"),
        ("discriminator", "2", "2"),
        ("adversarial", "1", "3"),
        ("adversarial", "2", "4"),
        ("adversarial", "3", "5"),
    ]
    assert [bool(row["nll_oracle"]) for row in rows] == [True, True, False, False, True, True, True]
    for row in rows:
        assert bool(row["nll_test"]) == bool(row["nll_oracle"])  # the two never stand apart
        assert bool(row["train_nll"]) == (row["stage"] == "mle")
        assert bool(row["discriminator_accuracy"]) == (row["stage"] != "mle")
        assert bool(row["mean_reward"]) == (row["stage"] == "adversarial")
    assert 0 < float(rows[-1]["mean_reward"]) < 1


def test_the_last_measurement_is_that_of_the_saved_generator(finished_run: RunFolder) -> None:
    row = finished_run.metrics()[-1]
    task, generator = finished_run.task(), finished_run.generator()
    values = negative_log_likelihood(generator, task.real_sequences("test")[:50])
    assert float(row["nll_test"]) == pytest.approx(values.mean(), abs=1e-6)


def test_the_mle_checkpoint_is_the_generator_before_the_game(finished_run: RunFolder) -> None:
    row = next(row for row in finished_run.metrics() if (row["stage"], row["index"]) == ("mle", "2"))
    mle = finished_run.generator(finished_run.mle_checkpoint)
    values = negative_log_likelihood(mle, finished_run.task().real_sequences("test")[:50])
    assert float(row["nll_test"]) == pytest.approx(values.mean(), abs=1e-6)
    assert not torch.equal(mle.embedding, finished_run.generator().embedding)


# The closing table.


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, list[TableRow], str]:
    pytest.importorskip("matplotlib")
    run = train(new_run(tmp_path_factory.mktemp("closed") / "run", final_samples=2000))
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115
    rows = close_run(run, "cpu", console)
    return run, rows, console.export_text()


def test_the_closing_table_has_random_mle_its_temperatures_seqgan_and_the_oracle(
    closed: tuple[RunFolder, list[TableRow], str],
) -> None:
    run, rows, text = closed
    names = ["random", "MLE", "MLE, temp. 0.9", "MLE, temp. 0.8", "MLE, temp. 0.7", "SeqGAN", "oracle (floor)"]
    assert [row.method for row in rows] == names
    for row in rows:
        line = next(line for line in text.splitlines() if line.startswith(f" {row.method} ") or row.method in line)
        assert str(row.metrics.nll_oracle) in line
        assert str(row.metrics.nll_test) in line
        assert "±" in line
    with (run.path / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["method"] for row in table] == names
    for row, cells in zip(rows, table, strict=True):
        assert row.metrics.nll_oracle is not None
        assert float(cells["nll_oracle"]) == pytest.approx(row.metrics.nll_oracle.mean, abs=1e-6)
        assert float(cells["nll_test_se"]) >= 0
        assert cells["n_samples"] == "2000"
    assert (run.path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_closing_tables_numbers_are_within_their_errors_of_the_enumerated_ones(
    closed: tuple[RunFolder, list[TableRow], str],
) -> None:
    run, rows, _ = closed
    oracle = run.task().oracle
    assert oracle is not None
    everything = enumerate_sequences(3, 3)
    costs = negative_log_likelihood(oracle, everything)
    by_name = {row.method: row.metrics for row in rows}
    floor = float(np.exp(-3 * costs) @ costs)  # H(oracle)
    for name, exact in (("random", costs.mean()), ("oracle (floor)", floor)):
        estimate = by_name[name].nll_oracle
        assert estimate is not None
        assert abs(estimate.mean - exact) < 4 * estimate.standard_error
    random = by_name["random"].nll_test
    assert random is not None
    assert random.mean == pytest.approx(np.log(3), abs=1e-6)
    entropies = [by_name[name].entropy for name in ("MLE", "MLE, temp. 0.9", "MLE, temp. 0.8", "MLE, temp. 0.7")]
    means = [estimate.mean for estimate in entropies if estimate is not None]
    assert len(means) == 4
    assert means[3] < means[0]  # a lower temperature is less diverse


def test_a_null_twins_table_names_its_reward(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = train(new_run(tmp_path / "run", reward_model="constant", rounds=1))
    rows = close_run(run, "cpu", Console(quiet=True))
    assert rows[-2].method == "reward constant"


def test_a_table_of_metrics_without_likelihood_has_empty_cells(closed: tuple[RunFolder, list[TableRow], str]) -> None:
    metrics = replace(closed[1][0].metrics, nll_test=None, entropy=None, kl_from_oracle=None, kl_to_oracle=None)
    line = TableRow("n-gram", Measurement(metrics, None, closed[1][0].measurement.samples))
    row = results_csv([line]).splitlines()[1].split(",")
    assert row[0] == "n-gram"
    assert row[1:3] != ["", ""]
    assert row[3:11] == [""] * 8
    assert results_table([line], closed[0].measures).row_count == 1


def test_evaluation_takes_temperatures_and_a_seed(finished_run: RunFolder) -> None:
    first = evaluate_run(finished_run, 200, (1.0, 0.5), 0, "cpu")
    assert [row.method for row in first] == ["temperature 1.0", "temperature 0.5"]
    assert first[0].metrics.entropy is not None
    assert first[1].metrics.entropy is not None
    assert first[1].metrics.entropy.mean < first[0].metrics.entropy.mean
    assert evaluate_run(finished_run, 200, (1.0, 0.5), 0, "cpu") == first
    assert evaluate_run(finished_run, 200, (1.0, 0.5), 1, "cpu") != first


def test_progress_shows_stage_round_and_nlls(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    with open(tmp_path / "log", "w") as log:
        Experiment(run, console=Console(file=log, width=120, force_terminal=True), show_progress=True).train()
    text = (tmp_path / "log").read_text()
    for words in ("MLE 2/2", "SeqGAN 3/3", "NLL_oracle", "NLL_test", "D accuracy", "D pretraining", "left"):
        assert words in text


def test_devices_are_resolved_or_refused() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda")
    with pytest.raises(ValueError, match=r"device='tpu' cannot be used here .*; use auto or cpu"):
        resolve_device("tpu")


# Starting from another run's pretraining.


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reward_model": "constant", "n_rollouts": 1, "baseline": "value", "generator_batch_size": 4},
        {"reward_model": "shuffled", "d_steps": 2, "rollout_rate": 0.5, "discriminator_embedding_size": 4},
        {"mle_epochs": 30, "mle_patience": 1, "mle_learning_rate": 0.1},
        {"curriculum_rate_step": 0.4},
    ],
)
def test_a_run_that_starts_from_anothers_mle_ends_as_one_that_did_its_own(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    shared = {name: value for name, value in changes.items() if "mle" in name or "curriculum" in name}
    mle = train(new_run(tmp_path / "mle", rounds=0, discriminator_pretraining_steps=0, checkpoint_every=7, **shared))
    own = train(new_run(tmp_path / "own", **changes))
    branched = train(new_run(tmp_path / "branched", pretrained=mle, **changes))
    assert_same_end(branched, own)
    (tensors, state), (expected, expected_state) = (read_tensors(run.mle_checkpoint) for run in (branched, mle))
    assert state == expected_state
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())


def test_a_run_that_went_on_after_its_mle_can_still_be_branched_from(tmp_path: Path, finished_run: RunFolder) -> None:
    branched = train(new_run(tmp_path / "branched", pretrained=finished_run, reward_model="constant"))
    assert_same_end(branched, train(new_run(tmp_path / "own", reward_model="constant")))


def test_a_branched_run_that_is_resumed_does_not_start_again(tmp_path: Path, finished_run: RunFolder) -> None:
    run = new_run(tmp_path / "branched", pretrained=finished_run)
    experiment = Experiment(run, console=Console(quiet=True), show_progress=False)
    assert experiment.game.pretrainer.finished
    with pytest.raises(InterruptedError):
        experiment.game.train(lambda milestone: stop(experiment, milestone))
    experiment.close()
    assert_same_end(train(RunFolder(run.path)), finished_run)


def stop(experiment: Experiment, milestone: Milestone) -> None:
    """Save and end after the second round."""
    experiment._after(milestone)
    if (milestone.stage, milestone.index) == ("adversarial", 2):
        raise InterruptedError


def test_a_branched_runs_tensorboard_has_its_mle_epochs(tmp_path: Path, finished_run: RunFolder) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(new_run(tmp_path / "run", pretrained=finished_run, reward_model="constant"))
    logs = [EventAccumulator(str(one.path / "tensorboard")).Reload() for one in (run, finished_run)]
    tags = [{tag for tag in log.Tags()["scalars"] if tag.startswith("mle/")} for log in logs]
    assert tags[0] == tags[1] != set()
    for tag in tags[0]:
        ours, theirs = ([(event.step, event.value) for event in log.Scalars(tag)] for log in logs)
        assert ours == [(step, pytest.approx(value, abs=1e-6)) for step, value in theirs]
