"""`study`: methods and seeds become cells, that share what can be shared, and the rows that they measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from agents.runs.run_folder import RunFolder
from agents.runs.training import Experiment
from agents.seqgan import Milestone
from agents.studies.cells import Cell, Outcome, compute
from agents.studies.grid import run_grid
from agents.studies.methods import METHODS, continued
from agents.studies.study import Study
from agents.studies.workers import ThisProcess
from tests.agents.conftest import tiny_config

TEMPERATURES = (1.0, 0.5)
QUIET = Console(quiet=True)


def tiny_study(folder: Path, seeds: tuple[int, ...] = (0, 1), samples: int = 60, **changes: Any) -> Study:
    return Study("toy", "toy", tiny_config(evaluate_every_rounds=1, **changes), seeds, samples, folder)


def methods(*names: str) -> list[Any]:
    return [METHODS[name] for name in names]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study whose cells are computed; not to be changed."""
    study = tiny_study(tmp_path_factory.mktemp("study"))
    cells = study.cells(methods("random", "constant_reward", "oracle"), TEMPERATURES)
    assert run_grid(cells, study.folder, ThisProcess(), QUIET, show_progress=False).is_complete
    return study


def test_what_is_shared_is_one_cell(tmp_path: Path) -> None:
    cells = tiny_study(tmp_path).cells(methods("random", "mle", "pg_bleu", "seqgan"), TEMPERATURES)
    names = [cell.name for cell in cells]
    assert len(names) == len(set(names))
    trained = [name for name in names if "temperature" not in name]
    assert trained == ["mle-seed0", "pg_bleu-seed0", "seqgan-seed0", "mle-seed1", "pg_bleu-seed1", "seqgan-seed1"]
    assert len(names) - len(trained) == 4 * 2 * 2
    by_name = {cell.name: cell for cell in cells}
    assert by_name["mle-seed1"].after == ()
    assert by_name["seqgan-seed1"].after == ("mle-seed1",)
    assert by_name["random-seed1-temperature1.0-samples60"].after == ("mle-seed1",)
    assert by_name["seqgan-seed0-temperature0.5-samples60"].after == ("seqgan-seed0",)
    assert by_name["seqgan-seed1"].settings["config"]["seed"] == 1


def test_a_method_that_shares_no_pretraining_waits_for_nobody(tmp_path: Path) -> None:
    cells = tiny_study(tmp_path).cells([continued(METHODS["scheduled_sampling"], tiny_config())], ())
    assert [(cell.name, cell.after) for cell in cells] == [
        ("scheduled_sampling_continued-seed0", ()),
        ("scheduled_sampling_continued-seed1", ()),
    ]
    assert cells[0].settings["config"]["pretraining"]["epochs"] == (
        tiny_config().pretraining.epochs + tiny_config().game.rounds
    )


def test_without_temperatures_each_method_has_its_own(tmp_path: Path) -> None:
    cells = tiny_study(tmp_path, seeds=(3,)).cells(methods("mle"))
    measured = [cell.settings["temperature"] for cell in cells if "temperature" in cell.settings]
    assert tuple(measured) == METHODS["mle"].temperatures


def test_where_a_study_lies_and_runs_is_not_part_of_its_cells(tmp_path: Path) -> None:
    study = tiny_study(tmp_path)
    moved = replace(study, folder=tmp_path / "other", device="cuda")
    for cell, other in zip(study.cells(methods("seqgan")), moved.cells(methods("seqgan")), strict=True):
        assert cell.description == other.description


def test_measurements_are_rows_in_the_order_of_method_seed_and_temperature(done: Study) -> None:
    rows = done.measurements(methods("random", "constant_reward", "oracle"), TEMPERATURES)
    assert [(row["method"], row["seed"], row["temperature"]) for row in rows] == [
        (method, seed, temperature)
        for method in ("random", "constant_reward", "oracle")
        for seed in "01"
        for temperature in ("1.0", "0.5")
    ]
    for row in rows:
        assert row["n_samples"] == "60"
        assert float(row["nll_oracle_se"]) > 0
    assert float(rows[0]["nll_test"]) == pytest.approx(1.098612, abs=1e-6)  # ln 3, a uniform policy's
    assert float(rows[-4]["kl_from_oracle"]) == 0  # the oracle's own
    random = [row["nll_oracle"] for row in rows if row["method"] == "random"]
    assert len(set(random)) == 4  # every seed and temperature has samples of its own


def test_a_measurement_depends_on_method_temperature_and_seed_alone(done: Study, tmp_path: Path) -> None:
    cell = done.measuring(METHODS["constant_reward"], 1, 0.5)
    for name in ("mle-seed1", "constant_reward-seed1"):
        (tmp_path / name).symlink_to(done.folder / name)
    torch.manual_seed(5)
    assert compute(cell, tmp_path) == Outcome("done")
    again = (tmp_path / cell.name / "row.json").read_text()
    assert again == (done.folder / cell.name / "row.json").read_text()


def test_temperature_lowers_the_entropy(done: Study) -> None:
    rows = done.measurements(methods("constant_reward"), TEMPERATURES)
    entropy = {(row["seed"], row["temperature"]): float(row["entropy"]) for row in rows}
    assert entropy["0", "0.5"] < entropy["0", "1.0"]


def test_a_method_starts_from_the_mle_of_its_seed(done: Study) -> None:
    for seed in done.seeds:
        run, mle = done.run(METHODS["constant_reward"], seed), done.run(METHODS["mle"], seed)
        assert run.description["pretrained"] == str(mle.path)
        start = run.generator(run.mle_checkpoint).embedding
        assert torch.equal(start, mle.generator().embedding)
        assert not torch.equal(start, run.generator().embedding)
        log = (run.path.parent / "log.txt").read_text()
        assert "SeqGAN 3/3" in log
        assert "MLE" not in log


def test_a_learning_curve_begins_where_the_method_does(done: Study) -> None:
    curve = done.learning_curve(METHODS["constant_reward"], 0)
    assert [(row["stage"], row["epoch"]) for row in curve] == [
        ("mle", "2"),
        ("adversarial", "3"),
        ("adversarial", "4"),
        ("adversarial", "5"),
    ]
    assert [row["epoch"] for row in done.learning_curve(METHODS["mle"], 0)] == ["1", "2"]


@pytest.mark.parametrize("name", ["mle", "seqgan"])
def test_a_training_that_was_interrupted_goes_on_and_ends_the_same(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = (tiny_study(tmp_path / part, seeds=(0,)) for part in ("whole", "broken"))
    cells = whole.cells(methods(name), ())
    for cell in cells:
        assert compute(cell, whole.folder) == Outcome("done")
    for cell in cells[:-1]:
        compute(cell, broken.folder)
    calls = []
    original = Experiment._after

    def count_and_stop(self: Experiment, milestone: Milestone) -> Any:
        calls.append(milestone)
        if stop_at == len(calls):
            raise KeyboardInterrupt
        return original(self, milestone)

    monkeypatch.setattr(Experiment, "_after", count_and_stop)
    stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        compute(cells[-1], broken.folder)
    calls.clear()
    stop_at = 0
    assert compute(cells[-1], broken.folder) == Outcome("done")
    units = len(whole.run(METHODS[name], 0).metrics()) - (2 if name == "seqgan" else 0)
    assert len(calls) == units - 1  # the first unit was not done again
    runs = [RunFolder(study.folder / cells[-1].name / "run") for study in (whole, broken)]
    assert runs[0].metrics_path.read_bytes() == runs[1].metrics_path.read_bytes()
    assert runs[0].latest_checkpoint.read_bytes() == runs[1].latest_checkpoint.read_bytes()


def test_a_cell_can_be_computed_from_its_description_alone(done: Study, tmp_path: Path) -> None:
    stored = json.loads((done.folder / "mle-seed0" / "cell.json").read_text())
    cell = Cell("mle-seed0", stored["function"], stored["settings"])
    assert compute(cell, tmp_path) == Outcome("done")
    runs = [RunFolder(folder / "mle-seed0" / "run") for folder in (done.folder, tmp_path)]
    assert runs[0].metrics_path.read_bytes() == runs[1].metrics_path.read_bytes()


def test_the_residual_method_is_measured_with_its_discriminator_on_top(tmp_path: Path) -> None:
    method = replace(
        METHODS["residual"], starts_from=None, proposals=4, settings={"game.rounds": 0}, temperatures=(1.0,)
    )
    study = tiny_study(tmp_path, seeds=(0,))
    assert run_grid(study.cells([method]), study.folder, ThisProcess(), QUIET, show_progress=False).is_complete
    (row,) = study.measurements([method])
    run = study.run(method, 0)
    plain = run.measures.measure(run.generator(), 60, np.random.default_rng(0)).columns()
    assert float(row["nll_test"]) != float(plain["nll_test"])
    assert row["entropy"] == ""
