"""Settings and presets: the paper's values are the defaults, and what cannot be is refused."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict, fields
from typing import Any

import pytest

from agents.model_options import options_of
from agents.runs.description import config_from
from agents.runs.flat_names import FLAT_NAMES, nested
from agents.runs.presets import MUSIC, PRESETS, TEXT, TOY
from agents.seqgan import SeqGANConfig
from agents.setting_paths import changed, differing, value_at


def flat(config: SeqGANConfig, name: str) -> Any:
    """A setting by its flat name."""
    return value_at(config.complete(), FLAT_NAMES[name][0])


PAPER: dict[str, Any] = {
    "sequence_length": 20,
    "train_sequences": 10_000,
    "generator": "lstm",
    "discriminator": "cnn",
    "embedding_size": 32,
    "hidden_size": 32,
    "batch_size": 64,
    "max_grad_norm": 5.0,
    "filters": "paper",
    "discriminator_embedding_size": 64,
    "dropout": 0.25,
    "l2": 0.2,
    "discriminator_learning_rate": 1e-4,
    "discriminator_pretraining_steps": 50,
    "n_rollouts": 16,
    "g_steps": 1,
    "d_steps": 5,
    "k_epochs": 3,
    "baseline": "none",
    "mle_patience": None,
    "reward_model": "discriminator",
    "rollout_rate": 0.0,
    "mle_reshuffle": True,
    "curriculum_rate_step": 0.0,
}
REPO_2018 = PAPER | {
    "mle_epochs": 120, "mle_learning_rate": 1e-2, "generator_learning_rate": 1e-2, "rounds": 200,
    "train_sequences": 9_984, "rollout_rate": 0.8, "mle_reshuffle": False,
}  # fmt: skip
REPO_2016 = REPO_2018 | {
    "mle_epochs": 240, "mle_learning_rate": 1e-3, "generator_learning_rate": 1e-3, "rounds": 800
}  # fmt: skip


@pytest.mark.parametrize(
    ("preset", "values"),
    [("repo2018", REPO_2018), ("repo2016", REPO_2016), ("paper", PAPER | {"final_samples": 100_000})],
)
def test_presets_hold_the_numbers_of_their_source(preset: str, values: dict[str, Any]) -> None:
    config = PRESETS[preset]
    assert {name: flat(config, name) for name in values} == values


def test_the_fast_preset_keeps_the_papers_sizes() -> None:
    for name in ("sequence_length", "train_sequences", "embedding_size", "hidden_size", "n_rollouts"):
        assert flat(PRESETS["fast"], name) == PAPER[name]
    assert PRESETS["fast"].task.vocab_size is None  # 5,000, or the oracle file's


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        TOY.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        *(
            (name, 0, f"{where}=0 must be at least 1")
            for name, where in (
                ("batch_size", "pretraining.batch_size"),
                ("n_rollouts", "game.n_rollouts"),
                ("g_steps", "game.g_steps"),
                ("k_epochs", "game.k_epochs"),
                ("evaluation_samples", "measuring.samples"),
                ("checkpoint_every", "checkpoint_every"),
                ("mle_patience", "pretraining.patience"),
            )
        ),
        *(
            (name, -1, f"{where}=-1 must be at least 0")
            for name, where in (
                ("seed", "seed"),
                ("data_seed", "data_seed"),
                ("mle_epochs", "pretraining.epochs"),
                ("rounds", "game.rounds"),
                ("d_steps", "game.d_steps"),
                ("discriminator_pretraining_steps", "discriminator.pretraining_steps"),
            )
        ),
        ("anchor_weight", -0.5, "game.anchor_weight=-0.5 must be finite and not negative"),
        ("mle_learning_rate", -1e-3, r"pretraining.learning_rate=-0.001 must be above 0"),
        ("generator_learning_rate", float("nan"), "learner.learning_rate=nan must be finite and not negative"),
        ("generator_learning_rate", float("inf"), "learner.learning_rate=inf must be finite and not negative"),
        ("discriminator_learning_rate", 0.0, "discriminator.learning_rate=0.0 must be above 0"),
        ("max_grad_norm", 0.0, "max_grad_norm=0.0 must be above 0"),
        ("rollout_rate", 1.5, r"game.rollout_rate=1.5 must lie in \[0, 1\]"),
        ("curriculum_rate_step", -0.002, r"pretraining.curriculum_rate_step=-0.002 must lie in \[0, 1\]"),
        ("curriculum_rate_step", float("nan"), r"pretraining.curriculum_rate_step=nan must lie in \[0, 1\]"),
        ("train_sequences", 63, "train_sequences=63 must be at least batch_size=64"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name: str, value: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        changed(SeqGANConfig(), nested({name: value}))


@pytest.mark.parametrize("name", ["seed", "data_seed", "mle_epochs", "discriminator_pretraining_steps", "rounds"])
def test_what_may_be_zero_may_be_zero(name: str) -> None:
    assert flat(changed(SeqGANConfig(), nested({name: 0})), name) == 0


@pytest.mark.parametrize(
    ("task", "config"),
    [*(("oracle", config) for config in PRESETS.values()), ("toy", TOY), ("text", TEXT), ("music", MUSIC)],
)
def test_every_setting_survives_json(task: str, config: SeqGANConfig) -> None:
    """A run folder stores them so."""
    assert config_from(task, json.loads(json.dumps(asdict(config)))) == config


def test_every_flat_name_has_a_place_and_every_old_setting_a_flat_name() -> None:
    config = SeqGANConfig().complete()
    assert all(flat(config, name) is not None or name in _NONE for name in FLAT_NAMES)
    new = {"task", "generator", "pretraining", "discriminator", "game", "learner", "measuring"}
    known = {path for paths in FLAT_NAMES.values() for path in paths}
    for field in fields(config):
        group = getattr(config, field.name)
        names = [field.name] if field.name not in new else [f"{field.name}.{inner.name}" for inner in fields(group)]
        assert {name for name in names if not name.endswith(".options")} <= known | _NEVER_FLAT


# Settings that came after the groups.
_NEVER_FLAT = {
    f"pretraining.{name}"
    for name in (
        *("schedule", "warmup", "weight_decay", "dropout", "embedding_dropout", "variational"),
        *("label_smoothing", "weight_averaging"),
    )
} | {"learner.name", "discriminator.loss"}
_NONE = {"vocab_size", "oracle", "mle_patience", "epoch_sequences", "held_out_sequences"} | {
    "discriminator_batch_size", "discriminator_sample_size"
}  # fmt: skip


def test_settings_are_changed_by_their_dotted_paths() -> None:
    config = changed(TOY, {"pretraining.epochs": 3, "generator.hidden_size": 5, "seed": 9})
    assert (config.pretraining.epochs, config.generator.options["hidden_size"], config.seed) == (3, 5, 9)
    assert sorted(differing(config, TOY)) == ["generator.hidden_size", "pretraining.epochs", "seed"]
    assert TOY.generator.options["hidden_size"] == 8
    with pytest.raises(ValueError, match=r"'epoch' is no setting of PretrainingConfig; it has .*epochs"):
        changed(TOY, {"pretraining.epoch": 3})
    with pytest.raises(ValueError, match="'games' is no setting of SeqGANConfig"):
        changed(TOY, {"games.rounds": 3})


def test_a_models_options_are_those_of_its_constructor() -> None:
    assert set(options_of("generator", "transformer")) == {
        "embedding_size",
        "hidden_size",
        "init_std",
        "layers",
        "heads",
        "tied",
    }
    assert options_of("generator", "transformer")["layers"].help == "Transformer blocks."
    assert {"layers", "filters", "dropout"} <= set(options_of("discriminator", "ensemble:cnn+transformer"))
    with pytest.raises(ValueError, match="did you mean 'lstm'"):
        options_of("generator", "lsmt")
    with pytest.raises(
        ValueError, match=r"generator.layers=3: generator='lstm' has no such option; it has embedding_size"
    ):
        changed(TOY, {"generator.layers": 3}).complete()
    with pytest.raises(ValueError, match=r"discriminator.dropout='much' must be of type float"):
        changed(TOY, {"discriminator.dropout": "much"}).complete()
