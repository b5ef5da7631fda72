"""The flat names that settings had before they stood in groups: old run folders and old command lines use them.

In: flat names and values. Out: dotted paths of `SeqGANConfig`. This table is the only place that knows the old names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from agents.model_options import options_of
from agents.seqgan import SeqGANConfig
from agents.setting_paths import changed

# Flat name -> the paths that have its value now.
FLAT_NAMES: dict[str, tuple[str, ...]] = {
    "seed": ("seed",),
    "sequence_length": ("task.sequence_length",),
    "vocab_size": ("task.vocab_size",),
    "oracle": ("task.oracle",),
    "data_seed": ("task.data_seed",),
    "train_sequences": ("task.train_sequences",),
    "generator": ("generator.name",),
    "embedding_size": ("generator.embedding_size",),
    "hidden_size": ("generator.hidden_size",),
    "init_std": ("generator.init_std",),
    "batch_size": ("pretraining.batch_size",),
    "max_grad_norm": ("pretraining.max_grad_norm", "learner.max_grad_norm"),
    "mle_epochs": ("pretraining.epochs",),
    "mle_patience": ("pretraining.patience",),
    "mle_reshuffle": ("pretraining.reshuffle",),
    "epoch_sequences": ("pretraining.epoch_sequences",),
    "mle_learning_rate": ("pretraining.learning_rate",),
    "curriculum_rate_step": ("pretraining.curriculum_rate_step",),
    "discriminator": ("discriminator.name",),
    "filters": ("discriminator.filters",),
    "discriminator_embedding_size": ("discriminator.embedding_size",),
    "dropout": ("discriminator.dropout",),
    "l2": ("discriminator.l2",),
    "discriminator_learning_rate": ("discriminator.learning_rate",),
    "discriminator_weight_decay": ("discriminator.weight_decay",),
    "discriminator_batch_size": ("discriminator.batch_size",),
    "discriminator_pretraining_steps": ("discriminator.pretraining_steps",),
    "discriminator_sample_size": ("discriminator.sample_size",),
    "reward_model": ("game.reward_model",),
    "reward": ("game.reward_model",),
    "anchor_weight": ("game.anchor_weight",),
    "reward_mode": ("game.reward_mode",),
    "rounds": ("game.rounds",),
    "g_steps": ("game.g_steps",),
    "d_steps": ("game.d_steps",),
    "k_epochs": ("game.k_epochs",),
    "n_rollouts": ("game.n_rollouts",),
    "rollout_rate": ("game.rollout_rate",),
    "generator_batch_size": ("learner.batch_size",),
    "generator_learning_rate": ("learner.learning_rate",),
    "baseline": ("learner.baseline",),
    "evaluate_every_epochs": ("pretraining.measure_every",),
    "evaluate_every_rounds": ("game.measure_every",),
    "evaluation_samples": ("measuring.samples",),
    "held_out_sequences": ("measuring.held_out_sequences",),
    "final_samples": ("final_samples",),
    "checkpoint_every": ("checkpoint_every",),
}
_OF_THE_TASK = {name for name, (path, *_) in FLAT_NAMES.items() if path.startswith("task.")}


def current_groups(groups: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in groups, as a run folder or a grid of this version or of an earlier one has them, in today's form.

    Before there was a choice of learners, the group `learner` had the baseline of REINFORCE as a field of its own.
    """
    learner = groups.get("learner")
    if not isinstance(learner, Mapping) or "baseline" not in learner:
        return dict(groups)
    others = {name: value for name, value in learner.items() if name != "baseline"}
    return {**groups, "learner": {**others, "name": "reinforce", "options": {"baseline": learner["baseline"]}}}


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted path -> value, of flat name -> value.

    Raises:
        ValueError: for a name that no setting had.
    """
    unknown = flat.keys() - FLAT_NAMES.keys()
    if unknown:
        raise ValueError(f"{min(unknown)!r} is no setting that this version knows")
    return {path: value for name, value in flat.items() for path in FLAT_NAMES[name]}


def config_of_format_1(flat: Mapping[str, Any], options: Any) -> SeqGANConfig:
    """The settings of a run folder of format 1.

    Options that its models did not take were stored too; they are left out.

    Args:
        flat: as its run.json holds them.
        options: of its task, with defaults where the flat settings have the values.

    Raises:
        ValueError: if they are not settings of format 1.
    """
    known = {field.name for field in fields(options)}
    has_corpus = "corpus" in known  # the flat settings then only repeat what the corpus decided
    left = {name: value for name, value in flat.items() if not (has_corpus and name in _OF_THE_TASK)}
    changes = nested(left)
    for kind in ("generator", "discriminator"):
        if f"{kind}.name" not in changes:
            raise ValueError(f"{kind!r} is missing")
        taken = options_of(kind, changes[f"{kind}.name"])
        ours = {path for name, (path, *_) in FLAT_NAMES.items() if name in _MODEL_OPTIONS and path.startswith(kind)}
        for path in ours:
            if path.partition(".")[2] not in taken:
                changes.pop(path, None)
    return changed(SeqGANConfig(task=options), changes)


_MODEL_OPTIONS = (
    "embedding_size",
    "hidden_size",
    "init_std",
    "filters",
    "discriminator_embedding_size",
    "dropout",
    "l2",
)
