"""`configuration`: the paper's values are the defaults, and what cannot be is refused."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from agents.configuration import PRESETS, TOY, SeqGANConfig

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
    assert {name: getattr(config, name) for name in values} == values


def test_the_fast_preset_keeps_the_papers_sizes() -> None:
    for name in ("sequence_length", "train_sequences", "embedding_size", "hidden_size", "n_rollouts"):
        assert getattr(PRESETS["fast"], name) == PAPER[name]
    assert PRESETS["fast"].vocab_size is None  # 5,000, or the oracle file's


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        TOY.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        *((name, 0, f"{name}=0 must be at least 1") for name in ("sequence_length", "vocab_size", "hidden_size")),
        *((name, 0, f"{name}=0 must be at least 1") for name in ("embedding_size", "batch_size", "n_rollouts")),
        *((name, 0, f"{name}=0 must be at least 1") for name in ("g_steps", "k_epochs")),
        ("d_steps", -1, "d_steps=-1 must be at least 0"),
        ("anchor_weight", -0.5, "anchor_weight=-0.5 must not be negative"),
        *((name, 0, f"{name}=0 must be at least 1") for name in ("evaluation_samples", "checkpoint_every")),
        *((name, -1, f"{name}=-1 must be at least 0") for name in ("seed", "data_seed", "mle_epochs", "rounds")),
        ("discriminator_pretraining_steps", -1, "discriminator_pretraining_steps=-1 must be at least 0"),
        ("mle_patience", 0, "mle_patience=0 must be at least 1"),
        ("init_std", 0.0, r"init_std=0.0 must be above 0"),
        ("mle_learning_rate", -1e-3, r"mle_learning_rate=-0.001 must be above 0"),
        ("generator_learning_rate", float("nan"), "generator_learning_rate=nan must be above 0"),
        ("discriminator_learning_rate", 0.0, "discriminator_learning_rate=0.0 must be above 0"),
        ("max_grad_norm", 0.0, "max_grad_norm=0.0 must be above 0"),
        ("rollout_rate", 1.5, r"rollout_rate=1.5 must lie in \[0, 1\]"),
        ("curriculum_rate_step", -0.002, r"curriculum_rate_step=-0.002 must lie in \[0, 1\]"),
        ("curriculum_rate_step", float("nan"), r"curriculum_rate_step=nan must lie in \[0, 1\]"),
        ("train_sequences", 63, "train_sequences=63 must be at least batch_size=64"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name: str, value: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        SeqGANConfig(**{name: value})


@pytest.mark.parametrize("name", ["seed", "data_seed", "mle_epochs", "discriminator_pretraining_steps", "rounds"])
def test_what_may_be_zero_may_be_zero(name: str) -> None:
    assert getattr(SeqGANConfig(**{name: 0}), name) == 0


def test_every_setting_survives_json() -> None:
    """A run folder stores them so."""
    import json
    from dataclasses import asdict

    for config in (*PRESETS.values(), TOY):
        assert SeqGANConfig(**json.loads(json.dumps(asdict(config)))) == config
    assert len(fields(SeqGANConfig)) == len(asdict(TOY))
