"""Check of tasks: real sequences in three splits, and an oracle and a vocabulary that fit them."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor

from seqgan_env.tasks.task import Split, Task


def check_task(task: Any) -> None:
    """Check a task: splits hold tokens, end correctly and differ, and oracle and vocabulary fit.

    Raises:
        TypeError: if it is not a `Task`.
        ValueError: for any other fault; the message names the first one.
    """
    if not isinstance(task, Task):
        raise TypeError(f"{type(task).__name__} is not a task; build one with seqgan_env.tasks.task.Task")
    name = f"task {task.name!r}"
    for split in get_args(Split):
        _check_split(f"{name}: split {split!r}", task, split)
    train, test = task.real_sequences("train"), task.real_sequences("test")
    if torch.equal(train, test):
        raise ValueError(f"{name}: test and train hold the same sequences, so NLL_test would reward memory; split them")
    if task.oracle is not None:
        if task.oracle.vocab_size != task.vocab_size:
            raise ValueError(f"{name}: its oracle has vocab_size={task.oracle.vocab_size}, the task {task.vocab_size}")
        if not bool(torch.isfinite(task.oracle.log_probs(train[:100])).all()):
            raise ValueError(f"{name}: its oracle gives real sequences a likelihood that is not finite")
    if task.vocabulary is not None:
        if len(task.vocabulary) != task.vocab_size:
            raise ValueError(f"{name}: its vocabulary has {len(task.vocabulary)} tokens, the task {task.vocab_size}")
        if task.vocabulary.eos_token != task.eos_token:
            raise ValueError(f"{name}: its vocabulary has EOS = {task.vocabulary.eos_token}, the task {task.eos_token}")


def _check_split(name: str, task: Task, split: Split) -> None:
    """Check form, range and end of a split's sequences, and that a second call gives the same ones."""
    sequences = task.real_sequences(split)
    kind = sequences.dtype if isinstance(sequences, Tensor) else type(sequences).__name__
    if kind != torch.int64:
        raise ValueError(f"{name} is of {kind}, expected an int64 tensor")
    if sequences.dim() != 2 or not len(sequences) or sequences.shape[1] != task.sequence_length:
        raise ValueError(f"{name} has shape {tuple(sequences.shape)}, expected (M, {task.sequence_length}) with M >= 1")
    real = sequences < task.vocab_size
    behind_eos = torch.zeros_like(real)
    if task.eos_token is None:
        rule = "without an EOS every sequence has T tokens"
    else:
        rule = f"PAD = {task.pad_token} comes after EOS = {task.eos_token}, and only there"
        behind_eos[:, 1:] = (sequences[:, :-1] == task.eos_token).long().cumsum(dim=1) > 0
    wrong = (sequences < 0) | (sequences > task.pad_token) | (real == behind_eos)
    if bool(wrong.any()):
        row = int(wrong.any(dim=1).nonzero()[0])
        raise ValueError(
            f"{name}, sequence {row} is {sequences[row].tolist()}; tokens lie in 0..{task.vocab_size - 1}, and {rule}"
        )
    prompts = sequences[:, : task.prompt_length]
    wrong = (prompts == task.pad_token) | (prompts == (-1 if task.eos_token is None else task.eos_token))
    if bool(wrong.any()):
        row = int(wrong.any(dim=1).nonzero()[0])
        raise ValueError(
            f"{name}, sequence {row} has the prompt {prompts[row].tolist()}; a prompt of P={task.prompt_length} tokens "
            "has neither PAD nor EOS: fill short prompts at the left with a token of the vocabulary"
        )
    if not torch.equal(task.draw_split(split), sequences):
        raise ValueError(f"{name} differs when it is drawn again; draw it from a seed, and do not change it")
