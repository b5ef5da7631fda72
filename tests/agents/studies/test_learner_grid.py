"""`learner_grid`: what is played, how a gain and a verdict follow from numbers, and the command from end to end."""

from __future__ import annotations

import csv
import math
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.command import main as cli
from agents.runs.presets import LEARNER_RATES, PRESETS
from agents.studies.learner_grid import (
    COMPARED,
    TWIN,
    LearnerGrid,
    Score,
    differences,
    holm,
    learner_method,
)
from agents.studies.real_data import REAL_DATA
from agents.studies.reproduction import ReproductionOptions
from agents.studies.study import Study
from tests.agents.conftest import tiny_config

scipy_stats = pytest.importorskip("scipy.stats")
pytest.importorskip("pandas")

GAIN = Score("gain", "gain", is_higher_better=True)
NLL = Score("nll_test", "NLL_test", is_higher_better=False)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study("toy", "toy", tiny_config(), (0, 1), 60, tmp_path)


# What is played.


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("preset", ["fast", "best"])
@pytest.mark.parametrize("is_twin", [False, True])
def test_every_learner_has_its_own_settings_and_else_those_of_the_preset(name: str, preset: str, is_twin: bool) -> None:
    base = PRESETS[preset]
    config = learner_method(name, base, preset, is_twin=is_twin).config(base, 3)
    learner = name.removesuffix("_baseline")
    expected = base.learner.named(learner)
    if name == "reinforce_baseline":
        expected = replace(expected, options=expected.options | {"baseline": "step_mean"})
    rate = LEARNER_RATES.get(preset, {}).get(name, expected.learning_rate)
    assert config.learner == replace(expected, learning_rate=rate)
    assert config.game.reward_mode == ("terminal" if name in ("rloo", "grpo") else base.game.reward_mode)
    assert config.game.reward_model == ("constant" if is_twin else base.game.reward_model)
    assert replace(config, learner=base.learner, game=base.game, seed=base.seed) == base


def test_a_learner_without_a_reward_gets_none() -> None:
    base = PRESETS["best"]
    game = learner_method("ddo", base, "best").config(base, 0).game
    assert (game.reward_model, game.reward_mode, game.anchor_weight) == ("constant", "terminal", 0.0)


def test_all_learners_of_a_seed_start_from_the_same_pretraining(study: Study) -> None:
    cells = {cell.name: cell for cell in LearnerGrid(study).cells()}
    games = [f"{name}{twin}-seed{seed}" for name in COMPARED for twin in ("", TWIN) for seed in (0, 1)]
    assert {cells[game].settings["pretrained"] for game in games} == {"mle-seed0", "mle-seed1"}
    assert all(cells[game].after == (f"mle-seed{game[-1]}",) for game in games)
    trained = {name for name, cell in cells.items() if "config" in cell.settings}
    assert trained == {*games, "mle-seed0", "mle-seed1"}


def test_games_from_another_pretraining_have_its_sizes() -> None:
    base = PRESETS["fast"]
    config = learner_method("ppo", base, "fast", "mle_regularised").config(base, 0)
    assert config.generator.options["hidden_size"] == 64
    assert config.pretraining.weight_decay == 0.3
    assert config.game.rounds == base.game.rounds  # the pretraining alone has no game


def test_reinforce_is_always_played(study: Study) -> None:
    assert LearnerGrid(study, ("ppo",)).learners == ["reinforce", "ppo"]


# Gains.


def row(method: str, temperature: float, x: float, y: float, names: tuple[str, str]) -> dict[str, str]:
    where = {"method": method, "seed": "0", "temperature": str(temperature)}
    return where | {names[0]: str(x), names[1]: str(y), "nll_test": str(x)}


@pytest.mark.parametrize("place", [7.2, 7.9])
def test_a_gain_is_the_distance_below_the_curve_at_equal_nll_test(study: Study, place: float) -> None:
    curve = [row("mle", t, 7 + (1 - t), 9 - (1 - t), ("nll_test", "nll_oracle")) for t in (1.0, 0.8, 0.5, 0.0)]
    point = row("ppo", 1.0, place, 8.5, ("nll_test", "nll_oracle"))
    gains = LearnerGrid(study)._gains([*curve, point])
    assert all(math.isnan(gain) for gain in gains[:-1])
    assert gains[-1] == pytest.approx(9 - (place - 7) - 8.5)


def test_beyond_the_curve_there_is_no_gain(study: Study) -> None:
    curve = [row("mle", t, 8 - t, 8 + t, ("nll_test", "nll_oracle")) for t in (1.0, 0.5)]
    assert math.isnan(LearnerGrid(study)._gains([*curve, row("ppo", 1.0, 7.6, 8.0, ("nll_test", "nll_oracle"))])[-1])


def test_a_gain_on_a_corpus_is_bleu_above_mle_at_equal_self_bleu(study: Study) -> None:
    names = ("self_bleu2", "bleu2")
    curve = [row("mle", t, 1 - t / 2, 0.9 - t / 4, names) for t in (1.0, 0.6)]
    table = LearnerGrid(study, data=REAL_DATA["poems"])
    assert table._gains([*curve, row("ppo", 1.0, 0.6, 0.8, names)])[-1] == pytest.approx(0.8 - 0.7)


# Verdicts.


def scores(rng: np.random.Generator, **shifts: float) -> dict[str, list[float]]:
    seeds = rng.normal(size=5)  # what the seeds share, which pairing removes
    return {name: list(seeds + shift + rng.normal(scale=0.01, size=5)) for name, shift in shifts.items()}


@pytest.mark.parametrize(("score", "high"), [(GAIN, "better"), (NLL, "worse")])
def test_verdicts_follow_the_direction_of_the_score(score: Score, high: str) -> None:
    own = scores(np.random.default_rng(0), reinforce=0.0, above=0.2, same=0.0, below=-0.2)
    low = "worse" if high == "better" else "better"
    found = {one.learner: one for one in differences(own, score)}
    assert {name: one.verdict for name, one in found.items()} == {"above": high, "same": "not shown", "below": low}
    assert found["above"].low < 0.2 < found["above"].high
    assert all(one.p_welch > 0.05 for one in found.values())  # the seeds' own spread hides it without pairs


def test_one_seed_is_no_verdict() -> None:
    (found,) = differences({"reinforce": [0.0], "ppo": [9.0]}, GAIN)
    assert (found.verdict, math.isnan(found.p_within)) == ("not shown", True)


def test_equal_seeds_and_lost_gains_are_no_verdict() -> None:
    own = {"reinforce": [0.0, 0.1], "rloo": [1.0, 1.1], "grpo": [math.nan, 0.2]}
    assert {one.verdict for one in differences(own, GAIN)} == {"not shown"}


def test_holm_multiplies_the_smallest_p_by_the_number_of_tests() -> None:
    assert holm([0.01, 0.04, math.nan, 0.03]) == pytest.approx([0.03, 0.06, math.nan, 0.06], nan_ok=True)
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_keeps_the_share_of_false_verdicts() -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        own = scores(rng, reinforce=0.0, **{f"learner{place}": 0.0 for place in range(5)})
        wrong += any(one.verdict != "not shown" for one in differences(own, GAIN))
    assert wrong / 300 < 0.08  # without the correction 0.15


# The command.


def call(line: str) -> int:
    try:
        cli.main(shlex.split(line))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


SMALL = "--mle-epochs 2 --rounds 1 --samples 50 --workers 0 --no-progress --learners ppo"


def test_the_command_writes_rows_summary_verdicts_and_a_picture_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"reproduce learners --task toy --seeds 0 1 {SMALL} --out {tmp_path}"
    assert call(line) == 0
    with (tmp_path / "learners.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    methods = {one["method"] for one in rows}
    assert methods == {"mle", "reinforce", "ppo", f"reinforce{TWIN}", f"ppo{TWIN}"}
    assert all((one["gain"] != "") <= (one["temperature"] == "1.0" and one["method"] != "mle") for one in rows)
    assert (tmp_path / "learners.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "learners_verdicts.csv").open(newline="") as file:
        assert {one["score"] for one in csv.DictReader(file)} == {"gain", "nll_test"}
    printed = capsys.readouterr().out
    assert "PPO against REINFORCE:" in printed
    assert "Rule: " in printed
    assert call(line) == 0  # every stored cell is recognised, whatever its learner
    assert "failed" not in capsys.readouterr().out.replace("0 failed", "")


@pytest.mark.slow
def test_the_command_on_tunes(tmp_path: Path) -> None:
    line = f"reproduce learners --task music --seeds 0 {SMALL} --out {tmp_path}"
    assert call(line) == 0
    with (tmp_path / "learners_summary.csv").open(newline="") as file:
        found = {one["method"]: one for one in csv.DictReader(file)}
    assert float(found["ppo"]["self_bleu4"]) > 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("learners --learners dqn", "has values of actions instead of a distribution"),
        ("learners --learners ppo ppo", "must differ"),
        ("table1 --learners ppo", "only for learners"),
        ("table1 --task music", "seqgan reproduce music"),
        ("music --task toy", "task='toy'"),
        ("learners --task toy --start-from mle_regularised", "sizes for the oracle task"),
        ("learners --methods mle", "only for table1 and curves"),
        ("learners --corpus somewhere", "corpus='somewhere' cannot be used for learners"),
        ("learners --task music --preset best", "preset='best'"),
    ],
)
def test_wrong_options_are_named(line: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(f"reproduce {line} --out {tmp_path / 'out'}") == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_tasks_with_a_corpus_share_the_folder_of_their_table() -> None:
    assert ReproductionOptions(task="music").folder("learners") == ReproductionOptions().folder("music")
