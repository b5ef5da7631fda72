"""Settings with names: what the command line offers as `--preset`, and the starting points of its tasks.

Sources: [P] the paper (arXiv 1609.05473), [2016] and [2018] the authors' code at those times; where a preset was
chosen by us, a comment says on which seed.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from agents.learner_options import needs_sequences, reward_model_of
from agents.seqgan import SeqGANConfig
from agents.setting_paths import changed
from seqgan_env.tasks import TASKS
from seqgan_env.tasks.conditional import ConditionalOptions
from seqgan_env.tasks.music import PRESETS as MUSIC_PRESETS
from seqgan_env.tasks.music import MusicOptions
from seqgan_env.tasks.text import TextOptions
from seqgan_env.tasks.toy import ToyOptions

_PAPER = SeqGANConfig()
_REPO_2018 = changed(_PAPER, {"task.train_sequences": 9_984, "game.rollout_rate": 0.8, "pretraining.reshuffle": False})
# Small steps and many of them: what the 2016 code does, and the paper of that year.
_SLOW: dict[str, Any] = {
    "pretraining.epochs": 240,
    "pretraining.learning_rate": 1e-3,
    "learner.learning_rate": 1e-3,
    "game.rounds": 800,
}
_FAST = changed(
    _PAPER,
    {
        "pretraining.epochs": 40,
        "discriminator.filters": "light",
        "discriminator.pretraining_steps": 5,
        "discriminator.sample_size": 256,
        "game.rounds": 25,
        "game.d_steps": 1,
        "game.k_epochs": 1,
        "learner.learning_rate": 2e-2,
        "checkpoint_every": 5,
    },
)

# An adversarial phase that improves on MLE stopped at its best held-out NLL, where the paper's loses diversity. D is an
# ensemble that sees short windows only, so that it generalises from 10,000 sequences. Its logit is the reward, which
# an anchor ties to the generator that D was trained against. Chosen on seed 101.
BEST: dict[str, Any] = {
    "pretraining.patience": 10,
    "discriminator.name": "ensemble:cnn+cnn+cnn",
    "discriminator.filters": "short",
    "discriminator.dropout": 0.5,
    "discriminator.l2": 0.0,
    "discriminator.learning_rate": 2e-3,
    "discriminator.weight_decay": 1.0,
    "discriminator.batch_size": 512,
    "discriminator.sample_size": None,
    "discriminator.pretraining_steps": 20,
    "game.k_epochs": 1,
    "game.reward_model": "logit",
    "game.anchor_weight": 1.0,
    "game.reward_mode": "terminal",
    "game.rounds": 100,
    "game.g_steps": 1,
    "game.d_steps": 0,
    "learner.baseline": "step_mean",
    "learner.batch_size": 512,
    "learner.learning_rate": 1e-3,
}

# MLE alone, as well as plain methods make it from 10,000 sequences: the baseline of every claim. Chosen on seed 101.
REGULARISED: dict[str, Any] = {
    "generator.embedding_size": 64,
    "generator.hidden_size": 64,
    "pretraining.epochs": 40,
    "pretraining.patience": 40,  # all epochs are done, and the best one is kept
    "pretraining.schedule": "linear",
    "pretraining.weight_decay": 0.3,
    "pretraining.dropout": 0.3,
    "pretraining.embedding_dropout": 0.15,
}
NO_GAME: dict[str, Any] = {"game.rounds": 0, "discriminator.pretraining_steps": 0}

# A pretrained generator: its first epoch is its best one at the rates of a new LSTM, and each sequence costs a hundred
# times as much. Rates as is usual for LoRA; not tuned.
PRETRAINED: dict[str, Any] = {
    "pretraining.epochs": 3,
    "pretraining.patience": 1,
    "pretraining.learning_rate": 5e-4,
    "pretraining.batch_size": 32,
    "discriminator.learning_rate": 2e-4,
    "discriminator.weight_decay": 0.01,
    "discriminator.batch_size": 64,
    "discriminator.sample_size": 1_000,
    "discriminator.pretraining_steps": 5,
    "learner.batch_size": 64,
    "learner.learning_rate": 2e-4,
    "measuring.samples": 200,
    "measuring.held_out_sequences": 500,
    "final_samples": 500,
}


def for_pretrained(config: SeqGANConfig, name: str) -> SeqGANConfig:
    """Settings to start from with a pretrained generator, "hf:NAME": `PRETRAINED`, and its tokenizer for a text."""
    has_tokenizer = "tokenizer" in {field.name for field in fields(config.task)}
    return changed(config, PRETRAINED | ({"task.tokenizer": name} if has_tokenizer else {}))


PRESETS: dict[str, SeqGANConfig] = {
    "fast": _FAST,
    "mle": changed(_FAST, REGULARISED | NO_GAME),
    # What the paper states; what it does not (learning rates, sizes) as in the code of its year.
    "paper": changed(_PAPER, _SLOW | {"final_samples": 100_000}),
    "repo2016": changed(_REPO_2018, _SLOW),
    "repo2018": _REPO_2018,
    "best": changed(_FAST, BEST),
}

TOY = changed(
    _PAPER,
    {
        "task": ToyOptions(),
        "generator.embedding_size": 8,
        "generator.hidden_size": 8,
        "pretraining.epochs": 5,
        "discriminator.filters": "light",
        "discriminator.dropout": 0.0,
        "discriminator.embedding_size": 8,
        "discriminator.learning_rate": 1e-3,
        "discriminator.pretraining_steps": 3,
        "game.rounds": 20,
        "game.d_steps": 1,
        "game.k_epochs": 1,
        "measuring.samples": 1_000,
        "final_samples": 5_000,
    },
)

# For a text on two cores in a quarter of an hour, whatever its size: no unit of work grows with the corpus. The game is
# that of `BEST`, with half the anchor. Chosen on Chinese quatrains, seed 100: docs/real-data.md has what was tried.
TEXT = changed(
    _PAPER,
    BEST
    | {
        "task": TextOptions(),
        "generator.embedding_size": 64,
        "generator.hidden_size": 64,
        "pretraining.epochs": 20,
        "pretraining.patience": 2,
        "pretraining.learning_rate": 5e-3,
        "pretraining.epoch_sequences": 10_000,
        "discriminator.sample_size": 10_000,
        "discriminator.pretraining_steps": 30,
        "game.anchor_weight": 0.5,
        "game.rounds": 40,
        "game.measure_every": 10,
        "measuring.samples": 1_000,
        "measuring.held_out_sequences": 3_000,
        "final_samples": 2_000,
        "checkpoint_every": 5,
    },
)
# Few tokens, so that an epoch is short.
MUSIC = changed(TEXT, {"task": MusicOptions(), "pretraining.epochs": 60, "pretraining.patience": 5})

# Task -> the presets of its command, the default first.
_PRESETS_OF_TASKS: dict[str, dict[str, SeqGANConfig]] = {
    "oracle": {name: PRESETS[name] for name in ("fast", "mle", "best", "paper", "repo2016", "repo2018")},
    "toy": {"toy": TOY},
    "conditional": {"conditional": changed(TOY, {"task": ConditionalOptions()})},
    "text": {"text": TEXT},
    "music": {name: changed(MUSIC, {"task": options}) for name, options in MUSIC_PRESETS.items()},
}


# Learning rates of other learners in a preset whose REINFORCE has no baseline, and therefore takes large steps. Chosen
# on seed 101, from two or three for each learner: docs/swapping.md.
LEARNER_RATES: dict[str, dict[str, float]] = {
    "fast": {"reinforce_baseline": 5e-3, "rloo": 5e-3, "grpo": 2.5e-3, "ppo": 1.25e-3, "a2c": 5e-3},
}


def with_learner(config: SeqGANConfig, name: str, preset: str) -> SeqGANConfig:
    """The settings with another learner: its default options, the rate tuned for it, and the rewards that it needs.

    Args:
        config: the settings.
        name: of the learner; that of `config` changes nothing.
        preset: name of the settings that `config` was made from.

    Raises:
        ValueError: for a name that is none, or a learner that cannot play.
    """
    learner, game = config.learner.named(name), config.game
    if name != config.learner.name:
        rates = LEARNER_RATES.get(preset, {})
        learner = replace(learner, learning_rate=rates.get(name, learner.learning_rate))
        if needs_sequences(name):
            game = replace(game, reward_mode="terminal")
        if made_for := reward_model_of(name):
            game = replace(game, reward_model=made_for, anchor_weight=0.0)  # such a learner has a reference of its own
    return replace(config, learner=learner, game=game)


def presets_of(task_name: str) -> dict[str, SeqGANConfig]:
    """Name -> settings that a run on a task can start from, the default first; the paper's for a task without any."""
    if task_name in _PRESETS_OF_TASKS:
        return _PRESETS_OF_TASKS[task_name]
    return {task_name: changed(_PAPER, {"task": TASKS[task_name]()})}
