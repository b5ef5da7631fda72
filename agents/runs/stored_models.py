"""Building what a run folder has stored: the settings are compared with the stored tensors before anything is built.

In: settings and tensors by name. Out: a generator. A size of 10^9 in a damaged or hostile run.json would otherwise use
up the memory before anybody could say what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from agents.adversary import DiscriminatorConfig
from agents.model_options import GeneratorConfig
from agents.runs.checkpoints import read_tensors
from agents.runs.trust import is_own_discriminator, is_own_generator
from agents.seqgan import SeqGAN, SeqGANConfig
from seqgan_env.components import build_discriminator, build_generator
from seqgan_env.models.discriminators import Discriminator
from seqgan_env.models.pretrained import is_pretrained
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.tasks.task import Split, Task, restored_task


@dataclass(frozen=True)
class StoredSplits:
    """Reads the sequences of a split, (M, T) int64, from a run folder's `task.safetensors`."""

    path: Path

    def __call__(self, split: Split) -> Tensor:
        return read_tensors(self.path, lambda name: name == split)[0][split].long()


def stored_task(file: Path, corpus_options: dict[str, Any] | None) -> Task:
    """The task of a run; its sequences are read when they are asked for.

    Args:
        file: `task.safetensors`.
        corpus_options: what the task was made with, if that was a corpus.

    Raises:
        ValueError: if the file is damaged, or its sizes cannot be right.
    """
    tensors, state = read_tensors(file)
    task = restored_task(state | {"options": corpus_options}, tensors, StoredSplits(file))
    for split in get_args(Split):
        length = tensors[split].shape[-1] if split in tensors else 0
        if length != task.sequence_length:
            raise ValueError(
                f"{str(file)!r} has sequence_length={task.sequence_length}, but its {split} sequences have {length} "
                "tokens"
            )
    known = None if task.vocabulary is None else len(task.vocabulary)
    known = task.oracle.vocab_size if known is None and task.oracle is not None else known
    if known is not None and known != task.vocab_size:
        raise ValueError(f"{str(file)!r} has vocab_size={task.vocab_size}, but it holds {known} tokens")
    return task


def check_sizes(part: str, options: Mapping[str, Any], task: Task, stored: Mapping[str, Tensor], source: Path) -> None:
    """Check that a built-in model of these options can have the stored parameters; necessary, not sufficient.

    A size is a dimension of some parameter, a number of layers is at most the number of parameters, and a hidden size
    stands in a square matrix.

    Args:
        part: "generator" or "discriminator", for the message.
        options: of the model.
        task: whose tokens it reads.
        stored: its parameters by name.
        source: where they are from, for the message.

    Raises:
        ValueError: if they cannot.
    """
    numbers = sum(tensor.numel() for tensor in stored.values())
    largest = max([len(stored), *(size for tensor in stored.values() for size in tensor.shape)], default=0)
    bounds = {name: largest for name, value in options.items() if isinstance(value, int)}
    if "hidden_size" in bounds:
        bounds["hidden_size"] = min(largest, int(numbers**0.5))
    for name, bound in bounds.items():
        if options[name] > bound:
            raise ValueError(
                f"{part}.{name}={options[name]} does not fit the parameters in {str(source)!r}: they allow at most "
                f"{bound}"
            )
    if task.vocab_size > largest:
        raise ValueError(
            f"the task has vocab_size={task.vocab_size}, but the {part} in {str(source)!r} was trained for at most "
            f"{largest} tokens"
        )


def check_game_sizes(config: SeqGANConfig, task: Task, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Check the built-in models of a game against a checkpoint, before the game is built; raises as `check_sizes`."""
    kinds = (
        ("generator", config.generator, is_own_generator, (f"{SeqGAN.GENERATOR}.",)),
        (
            "discriminator",
            config.discriminator,
            is_own_discriminator,
            ("trainer.adversary.discriminator.", "discriminator."),
        ),
    )
    for part, group, is_own, prefixes in kinds:
        stored = {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}
        if stored and not is_own(group.name) and not is_pretrained(group.name):
            check_sizes(part, group.options, task, stored, source)


def built_generator(
    group: GeneratorConfig, task: Task, stored: Mapping[str, Tensor], source: Path, folder: Path | None = None
) -> SequenceModel:
    """A generator with stored parameters.

    Args:
        group: its name and options.
        task: whose tokens it draws.
        stored: its parameters by name.
        source: where they are from, for messages.
        folder: the run's copy of a pretrained model, which the parameters adapt.

    Raises:
        ImportError: for a pretrained model without the extra `transformers`.
        ValueError: if the parameters are not those of such a generator, or it cannot be built.
    """
    if stored and not is_own_generator(group.name) and not is_pretrained(group.name):
        check_sizes("generator", group.options, task, stored, source)
    run = str(source.parent.parent)
    try:
        copy = {} if folder is None else {"folder": folder}
        generator = build_generator(group.name, task, **group.options, **copy)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{run!r} was trained with generator={group.name!r}, which cannot be built now, "
            f"and its parameters are of no use without it: {error}"
        ) from error
    try:
        generator.load_state_dict(stored)
    except RuntimeError as error:
        raise ValueError(
            f"the parameters in {str(source)!r} are not those of generator={group.name!r}: {error}"
        ) from error
    return generator


def built_discriminator(
    group: DiscriminatorConfig, task: Task, stored: Mapping[str, Tensor], source: Path
) -> Discriminator:
    """A discriminator with stored parameters; arguments and errors as of `built_generator`."""
    if not is_own_discriminator(group.name):
        check_sizes("discriminator", group.options, task, stored, source)
    try:
        discriminator = build_discriminator(group.name, task, **group.options)
        discriminator.load_state_dict(stored)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the discriminator={group.name!r} in {str(source)!r} cannot be built from its parameters: {error}"
        ) from error
    return discriminator
