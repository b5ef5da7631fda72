"""`methods`: what each rival and control changes, and nothing else."""

from __future__ import annotations

import pytest

from agents.runs.flat_names import nested
from agents.runs.presets import BEST, MUSIC, NO_GAME, PRESETS, REGULARISED, TEXT
from agents.seqgan import SeqGANConfig
from agents.setting_paths import changed, differing, value_at
from agents.studies.methods import CONTROLS, METHODS, PAPER_ORDER, RIVALS, SCHEDULES, continued
from seqgan_env.components import is_learned_reward

FAST = PRESETS["fast"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("mle", {"rounds": 0, "discriminator_pretraining_steps": 0}),
        ("mle_held_out", {"rounds": 0, "discriminator_pretraining_steps": 0, "mle_patience": 10}),
        ("scheduled_sampling", {"rounds": 0, "discriminator_pretraining_steps": 0, "curriculum_rate_step": 0.002}),
        ("pg_bleu", {"reward_model": "bleu", "n_rollouts": 1, "discriminator_pretraining_steps": 0}),
        ("seqgan", {}),
        ("shuffled_reward", {"reward_model": "shuffled"}),
        ("random_reward", {"reward_model": "random"}),
        ("constant_reward", {"reward_model": "constant"}),
        ("mle_regularised", {p: value for p, value in (NO_GAME | REGULARISED).items() if value_at(FAST, p) != value}),
        ("best", {path: value for path, value in BEST.items() if value_at(FAST, path) != value}),
    ],
)
def test_a_method_changes_its_own_settings_and_the_seed(name: str, changes: dict[str, object]) -> None:
    config = METHODS[name].config(FAST, 7)
    different = {path: value_at(config, path) for path in differing(config, FAST)}
    dotted = nested(changes) if all("." not in path for path in changes) else changes
    assert different == {**dotted, "seed": 7}


@pytest.mark.parametrize("preset", [TEXT, MUSIC, PRESETS["best"], FAST])
def test_seqgan_plays_for_the_reward_of_its_preset_and_pg_bleu_for_bleu_alone(preset: SeqGANConfig) -> None:
    assert METHODS["seqgan"].config(preset, preset.seed) == preset
    pg_bleu = METHODS["pg_bleu"].config(preset, 0)
    assert (pg_bleu.game.reward_model, pg_bleu.game.anchor_weight) == ("bleu", 0)


def test_the_papers_order_is_that_of_its_table() -> None:
    levels = [METHODS[name].paper_nll_oracle for name in PAPER_ORDER]
    assert levels == [10.310, 9.038, 8.985, 8.946, 8.736]
    assert all(METHODS[name].paper_nll_oracle is None for name in METHODS if name not in PAPER_ORDER)


def test_the_best_preset_and_its_twin_differ_in_what_the_reward_knows() -> None:
    assert METHODS["best"].config(FAST, 0) == PRESETS["best"]
    assert METHODS["best_random_reward"].config(FAST, 0) == changed(PRESETS["best"], {"game.reward_model": "random"})
    assert METHODS["best"].starts_from == METHODS["best_random_reward"].starts_from == "mle_held_out"


def test_the_regularised_baseline_is_the_mle_preset() -> None:
    assert METHODS["mle_regularised"].config(FAST, 0) == PRESETS["mle"]


def test_whatever_plays_starts_from_mle() -> None:
    players = {name for name, method in METHODS.items() if method.starts_from == "mle"}
    assert players == {"pg_bleu", "seqgan", *CONTROLS}


@pytest.mark.parametrize("name", RIVALS)
def test_the_rivals_start_from_the_regularised_mle_with_settings_that_it_shares(name: str) -> None:
    method = METHODS[name]
    assert method.starts_from == "mle_regularised"
    theirs, ours = METHODS[method.starts_from].config(FAST, 0).complete(), method.config(FAST, 0).complete()
    assert (theirs.generator, theirs.pretraining) == (ours.generator, ours.pretraining)
    is_trained = is_learned_reward(ours.game.reward_model)
    assert (ours.discriminator.pretraining_steps > 0) == is_trained == (name in ("relativistic", "dpg", "residual"))


def test_every_method_is_measured_at_temperature_one() -> None:
    for method in METHODS.values():
        assert 1.0 in method.temperatures
        assert list(method.temperatures) == sorted(method.temperatures, reverse=True)


def test_mle_goes_on_for_as_long_as_the_others_play() -> None:
    method = continued(METHODS["scheduled_sampling"], FAST)
    config = method.config(FAST, 0)
    assert config.pretraining.epochs == FAST.pretraining.epochs + FAST.game.rounds
    assert (config.game.rounds, config.pretraining.curriculum_rate_step) == (0, 0.002)
    assert method.name == "scheduled_sampling_continued"


@pytest.mark.parametrize(("updates", "rounds"), [(200, [2, 7, 200, 200]), (20, [1, 1, 20, 20])])
def test_schedules_have_the_same_number_of_updates_up_to_a_round(updates: int, rounds: list[int]) -> None:
    assert [(one.g, one.d, one.k) for one in SCHEDULES] == [(100, 1, 10), (30, 1, 30), (1, 1, 10), (1, 5, 3)]
    configs = [one.method(updates).config(FAST, 0) for one in SCHEDULES]
    assert [config.game.rounds for config in configs] == rounds
    assert [(config.game.g_steps, config.game.d_steps, config.game.k_epochs) for config in configs] == [
        (one.g, one.d, one.k) for one in SCHEDULES
    ]
    assert [config.game.measure_every for config in configs] == [1, 1, 5, 5]
    assert len({one.method(updates).name for one in SCHEDULES}) == 4
