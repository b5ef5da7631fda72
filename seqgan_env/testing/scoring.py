"""Checks of parts that score whole sequences: reward models (Eq. 2) and discriminators (Eq. 11-12)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seqgan_env.models.discriminators import Discriminator
from seqgan_env.rewards import checked_rewards
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import toy_task
from seqgan_env.testing.expectations import (
    attempt,
    default_tolerance,
    duplicate,
    expect_equal,
    expect_learning,
    expect_parameters_that_learn,
    expect_saving,
    expect_scores,
    expect_tensor,
    random_state_kept,
)

_ROWS = 8


def check_reward_model(reward_model: Any, task: Task | None = None, *, seed: int = 0, tolerance: float = 1e-4) -> None:
    """Check R(Y) of Eq. 2: shape, finite values, determinism, independence of the rest of the batch.

    A model that draws random numbers has its NumPy generator in an attribute `rng`. After a reset of `rng` it must
    repeat its scores. Its scores may depend on the batch.

    Args:
        reward_model: any callable, (R, T) int64 tokens -> (R,) numbers.
        task: the task of the sequences; None is the toy task, V = 3 and T = 3.
        seed: of the sequences.
        tolerance: largest difference between two scores of a sequence.

    Raises:
        TypeError: if it is not callable, or returns something that is not an array of numbers.
        ValueError: for any other fault; the message names the first one.
    """
    name = type(reward_model).__name__
    if not callable(reward_model):
        raise TypeError(f"reward_model must be callable, got {name}; give (R, T) tokens -> (R,) rewards")
    task = toy_task(n_sequences=_ROWS) if task is None else task
    sequences = torch.cat([random_sequences(task, seed), task.real_sequences("validation")[:_ROWS]])
    rng = getattr(reward_model, "rng", None)
    before = None if rng is None else rng.bit_generator.state

    def score(rows: Tensor) -> Tensor:
        if rng is not None:
            rng.bit_generator.state = before
        returned = reward_model(rows)
        checked = checked_rewards(returned, rows, name)  # refuses wrong types, shapes and values
        return returned if isinstance(returned, Tensor) else torch.from_numpy(checked)

    with random_state_kept(seed):
        expect_scores(name, score, sequences, tolerance, row_by_row=rng is None)
    if rng is not None:
        rng.bit_generator.state = before


def check_discriminator(model: Any, task: Task | None = None, *, seed: int = 0, tolerance: float | None = None) -> None:
    """Check D_phi: shapes, gradients to all parameters, scoring without dropout or gradient, saving and loading.

    Args:
        model: a `Discriminator`.
        task: its task; sequences have PAD only if it has an EOS. None also tries PAD.
        seed: of the sequences, and of the noise that stands for training.
        tolerance: largest difference between two logits of a sequence. None is 1e-4, or 0.1 for 16-bit parameters.

    Raises:
        TypeError: if it is not a `Discriminator`, or cannot be copied.
        ValueError: for any other fault; the message names the first one.
    """
    name = type(model).__name__
    if not isinstance(model, Discriminator):
        raise TypeError(
            f"{name} is not a discriminator; derive it from seqgan_env.models.discriminators.Discriminator, call "
            "super().__init__(vocab_size, sequence_length), and let forward return logits"
        )
    if task is None:
        task = Task(
            name,
            model.vocab_size,
            model.sequence_length,
            lambda _: torch.empty(0, dtype=torch.int64, device="cpu"),
            eos_token=0,
        )
    for size in ("vocab_size", "sequence_length"):
        own, needed = getattr(model, size), getattr(task, size)
        if own != needed:
            raise ValueError(f"{name} has {size}={own}, the task {task.name!r} has {needed}; they must be equal")
    expect_parameters_that_learn(name, model)
    tolerance = default_tolerance(model) if tolerance is None else tolerance
    with random_state_kept(seed):
        fresh, model = duplicate(model), duplicate(model).train()
        sequences = random_sequences(task, seed).to(model.device)
        full = sequences[:_ROWS].clone()
        logits = attempt(f"{name}.forward fails on tokens {tuple(full.shape)}", model, full)
        expect_tensor(f"{name}.forward", logits, (len(full),), model.device)
        if not logits.requires_grad:
            raise ValueError(
                f"{name}.forward returned logits without a gradient, so it cannot learn; remove torch.no_grad() and "
                "detach() from forward; only score has them"
            )
        remedy = "an embedding needs vocab_size + 1 rows, and a sequence may have only one token"
        attempt(f"{name}.forward fails on PAD = {model.vocab_size}", model, sequences.clone(), remedy=remedy)
        expect_tensor(f"{name}.penalty", model.penalty(), (), model.device)
        for rows in (sequences.clone(), sequences[:0]):
            scores = attempt(f"{name}.score fails on {len(rows)} sequences", model.score, rows)
            expect_tensor(f"{name}.score", scores, (len(rows),), model.device)
        expect_scores(f"{name}.score", model.score, sequences, tolerance)
        if not model.training:
            raise ValueError(f"{name}.score left the model in evaluation mode; restore its mode")
        with torch.no_grad():
            in_evaluation = duplicate(model).eval()(sequences)
        expect_equal(
            f"{name}.score differs from forward in evaluation mode", model.score(sequences), in_evaluation, tolerance
        )
        labels_real_is_one = (torch.arange(len(sequences), dtype=torch.int64, device=model.device) % 2).to(logits.dtype)

        def loss(trained: Discriminator) -> Tensor:
            return F.binary_cross_entropy_with_logits(trained(sequences), labels_real_is_one) + trained.penalty()

        expect_learning(name, model, loss)
        expect_saving(name, fresh, lambda saved: saved.score(sequences), tolerance)


def random_sequences(task: Task, seed: int) -> Tensor:
    """Random sequences in the form of a task, (16, T) int64; without an EOS all of them have T tokens.

    With an EOS the first half has T tokens. The second half has all lengths from 1 to 8 tokens, and then PAD.
    """
    rng = np.random.default_rng(seed)
    sequences = rng.integers(task.vocab_size, size=(2 * _ROWS, task.sequence_length))
    if task.eos_token is not None:
        others = np.delete(np.arange(task.vocab_size), task.eos_token)
        sequences = others[sequences % len(others)] if len(others) else sequences
        lengths = 1 + np.arange(_ROWS) % task.sequence_length
        sequences[np.arange(_ROWS, 2 * _ROWS), lengths - 1] = task.eos_token
        sequences[_ROWS:][np.arange(task.sequence_length) >= lengths[:, None]] = task.pad_token
    return torch.from_numpy(sequences)
