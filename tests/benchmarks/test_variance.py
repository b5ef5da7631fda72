"""The variance benchmark: the mean of every estimator is the enumerated gradient, and the numbers are right."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.machine import this_machine
from benchmarks.variance import COLUMNS, SIZES, Estimator, Game, estimators, rows, without
from seqgan_env.rewards import score_sequences
from seqgan_env.tasks.toy import enumerate_sequences
from seqgan_env.testing.gradients import exact_gradient
from tests.marks import slow

QUICK = replace(SIZES["quick"], batch_size=64)


@pytest.fixture(scope="module")
def game() -> Game:
    return Game(QUICK)


@pytest.mark.parametrize("place", [slow(place) if place % 8 else place for place in range(len(estimators(QUICK)))])
def test_the_mean_of_an_estimate_is_the_enumerated_gradient(game: Game, place: int) -> None:
    everything = enumerate_sequences(3, 3)
    rewards = torch.from_numpy(score_sequences(game.reward, everything))
    expected = exact_gradient(game.generator, game.task, lambda log_g, _: (log_g.exp().double() * rewards).sum())
    estimator = estimators(QUICK)[place]
    samples = []
    for _ in range(150):
        sequences = game.sequences()
        samples.append(game.gradient(sequences, estimator.weights(game, sequences)))
    stacked = torch.stack(samples)
    error = stacked.std(dim=0) / 150**0.5
    assert ((stacked.mean(dim=0) - expected).abs() <= 5.5 * error + 1e-7).all()  # of 9,000 numbers


def test_enumerated_action_values_are_those_of_eq_4(game: Game) -> None:
    sequences = game.sequences()
    found = game.enumerated(sequences)
    many = np.mean([game.searched(sequences, 64, common=False) for _ in range(10)], axis=0)
    assert np.abs(many[:, :2] - found[:, :2]).max() < 0.1
    np.testing.assert_allclose(found[:, 2], score_sequences(game.reward, sequences), rtol=1e-6)


def test_baselines_on_literal_numbers() -> None:
    values = np.array([[1.0, 2.0], [4.0, 8.0]])
    assert without(values, "none").tolist() == values.tolist()
    assert without(values, "step_mean").tolist() == [[-3.0, -6.0], [3.0, 6.0]]
    assert without(values, "completions").tolist() == [[-3.0, 1.0], [3.0, 4.0]]


def test_a_ratio_is_that_of_variance_times_seconds() -> None:
    compared = [
        Estimator("R(Y)", "leave-one-out", 0, lambda g, y: np.zeros(1)),
        Estimator("search", "none", 4, lambda g, y: np.zeros(1)),
    ]
    gradients = [np.array([[0.0, 0.0], [2.0, 0.0]] * 50), np.array([[0.0, 0.0], [0.0, 4.0]] * 50)]
    first, second = rows(
        compared, gradients, np.array([[1.0] * 100, [3.0] * 100]), QUICK, this_machine(torch.device("cpu"))
    )
    assert float(first["variance"]) == pytest.approx(100 / 99, rel=1e-3)
    assert float(second["variance_seconds"]) == pytest.approx(12 * 100 / 99, rel=1e-3)
    assert float(second["ratio"]) == 12.0
    assert float(second["ratio_low"]) <= 12.0 <= float(second["ratio_high"])


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "variance.csv"
    main(["variance", "--quick", "--csv", str(path)])
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert tuple(found[0]) == COLUMNS
    assert len(found) == len(estimators(SIZES["quick"]))
    assert all(float(row["ratio_low"]) <= float(row["ratio_high"]) for row in found)
    assert "gradient variance, V=3, T=3" in capsys.readouterr().out
