"""Where a new run begins: with the MLE of another run, or with its generator, to train it further.

In: another run's folder, and the new one's path and settings. Out: files in the new folder, which then needs the other
one no more.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch

from agents.runs.checkpoints import read_tensors, write_tensors
from agents.runs.regular_files import write_atomically
from agents.seqgan import SeqGANConfig
from agents.setting_paths import differing, value_at
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.tasks.task import Task


class OtherRun(Protocol):
    """What is used here of a `RunFolder`."""

    path: Path

    @property
    def mle_checkpoint(self) -> Path: ...
    def config(self) -> SeqGANConfig: ...
    def task(self) -> Task: ...
    def generator(self) -> SequenceModel: ...
    def expect_resumable(self) -> None: ...
    def metrics_content(self) -> bytes: ...


_PRETRAINING_GROUPS = ("seed", "generator", "pretraining", "measuring")


def copy_pretraining(pretrained: OtherRun, path: Path, config: SeqGANConfig) -> None:
    """Give a new run another's MLE: its checkpoint and its measurements. Raises what `RunFolder.create` says."""
    pretrained.expect_resumable()
    theirs, ours = pretrained.config().complete(), config.complete()
    for group in _PRETRAINING_GROUPS:
        for setting in differing(getattr(theirs, group), getattr(ours, group), group):
            raise ValueError(
                f"pretrained={str(pretrained.path)!r} has {setting}={value_at(theirs, setting)!r}, the new run "
                f"{value_at(ours, setting)!r}; both must agree, or the new run must do its own pretraining"
            )
    (theirs_tensors, theirs_state), (tensors, state) = (
        read_tensors(folder / "task.safetensors") for folder in (pretrained.path, path)
    )
    same = theirs_tensors.keys() == tensors.keys() and theirs_state["eos_token"] == state["eos_token"]
    if not same or not all(torch.equal(tensors[name], tensor) for name, tensor in theirs_tensors.items()):
        raise ValueError(f"pretrained={str(pretrained.path)!r} has other real sequences or another oracle")
    if not pretrained.mle_checkpoint.is_file():
        raise ValueError(f"pretrained={str(pretrained.path)!r} has not finished its MLE; train it further first")
    _, state = read_tensors(pretrained.mle_checkpoint)
    remembered = state.get("metrics")
    measured = pretrained.metrics_content()[: state["metrics_size"]] if remembered is None else remembered.encode()
    if len(measured) < state["metrics_size"]:
        raise ValueError(f"pretrained={str(pretrained.path)!r} has lost lines of its metrics.csv; restore the file")
    write_atomically(path / "metrics.csv", measured)
    write_atomically(path / "checkpoints" / "mle.safetensors", pretrained.mle_checkpoint.read_bytes())


def with_generator_of(run: OtherRun, config: SeqGANConfig) -> SeqGANConfig:
    """Settings with the generator of another run, and for a text the same T, unless another is given."""
    config = replace(config, generator=run.config().generator)
    if hasattr(config.task, "sequence_length") and config.task.sequence_length is None:
        config = replace(config, task=replace(config.task, sequence_length=run.task().sequence_length))
    return config


def task_with_tokens_of(run: OtherRun, config: SeqGANConfig) -> Task:
    """The task of new settings, with the tokens of another run: what the same generator can be trained on.

    Raises:
        ValueError: if the task has other tokens than the run, or the corpus cannot be used.
    """
    theirs = run.task()
    if theirs.vocabulary is not None and hasattr(config.task, "task_with"):
        task: Task = config.task.task_with(theirs.vocabulary)
        return task
    task = config.task.task()
    tokens, theirs_tokens = (None if one.vocabulary is None else one.vocabulary.tokens for one in (task, theirs))
    if task.vocab_size != theirs.vocab_size or tokens != theirs_tokens:
        raise ValueError(
            f"start_from={str(run.path)!r} has other tokens ({theirs.vocab_size} in the task {theirs.name!r}, here "
            f"{task.vocab_size}); its generator cannot read these sequences"
        )
    return task


def copy_generator(start: OtherRun, path: Path, task: Task, config: SeqGANConfig) -> None:
    """Give a new run the generator of another, as it is now.

    Raises:
        ValueError: if the new run has another generator, another number of tokens, or the other run has no checkpoint.
    """
    for setting in differing(start.config().generator.complete(), config.generator.complete(), "generator"):
        raise ValueError(
            f"start_from={str(start.path)!r} has {setting}={value_at(start.config().complete(), setting)!r}, the new "
            f"run {value_at(config.complete(), setting)!r}; both must agree"
        )
    generator = start.generator()
    if generator.vocab_size != task.vocab_size:
        raise ValueError(
            f"start_from={str(start.path)!r} has {generator.vocab_size} tokens, the new task {task.vocab_size}"
        )
    write_tensors(path / "checkpoints" / "start.safetensors", dict(generator.state_dict()), {"from": str(start.path)})


def is_left_by_create(entry: Path) -> bool:
    """Whether `create` makes this before run.json, so that it holds nothing of a run."""
    if entry.name == "models":
        return entry.is_dir()
    if entry.name == "checkpoints":
        return entry.is_dir() and all(
            file.name.removeprefix(".").startswith(("mle.", "start.")) for file in entry.iterdir()
        )
    made = ("task.safetensors", "metrics.csv")
    return entry.name in made or entry.name.startswith((*(f".{name}." for name in made), ".run.json."))
