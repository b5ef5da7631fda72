"""Check of a learner's gradient: in an enumerable world it must equal the objective's gradient, up to a factor.

Eq. 6: J = sum_Y G(Y) R(Y). In: a learner of SB3 with a sequence model. Out: nothing, or a ValueError. The learner plays
and updates, but its parameters do not change. So its gradients are independent samples, and their mean must have the
direction of the enumerated gradient of J. The factor is free, since it is part of the learning rate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from seqgan_env.exact.world import ExactWorld
from seqgan_env.models.sequence_models import SequenceModel, shift_right
from seqgan_env.rewards import RewardModel
from seqgan_env.tasks.task import Task

_ENUMERATED = 4096  # the largest number of sequences
_BLOCKS = 50  # means of this many blocks of updates are compared; cut sequences make neighbouring updates dependent
_LARGEST_ERROR = 0.25  # standard error of the mean, as a share of the gradient's norm; above it no check could fail

Objective = Callable[[Tensor, Tensor], Tensor]


def check_policy_gradient(
    learner: Any, objective: Objective | None = None, *, updates: int = 200, false_alarm_rate: float = 1e-4
) -> None:
    """Check that a learner's gradient is unbiased, by a t-test of each coordinate.

    Make a separate learner for this check: its parameters do not change, but it plays `updates` updates, and G_beta of
    its environment becomes its generator. Let each update have many sequences (64 environments or more). Turn off
    everything that is not part of the objective: a value loss that shares the generator, an entropy bonus, normalised
    advantages.

    Args:
        learner: an on-policy algorithm of SB3 whose `policy.generator` is a `SequenceModel`, with an environment of few
            sequences, such as SeqGAN-Toy-v0.
        objective: J as a function of log G(Y) of all sequences, (K,) nats, and of the sequences, (K, T) int64; None is
            the expected reward of the environment's reward model.
        updates: number of updates to play; at least 50.
        false_alarm_rate: the largest probability of refusing an unbiased gradient; in (0, 1).

    Raises:
        TypeError: if the learner has no sequence model.
        ValueError: if the gradient is biased, or if it is so noisy that a bias could not be seen.
    """
    generator = getattr(getattr(learner, "policy", None), "generator", None)
    name = type(learner).__name__
    if not isinstance(generator, SequenceModel):
        raise TypeError(f"{name} has no policy.generator that is a SequenceModel; give it a SequencePolicy")
    if updates < _BLOCKS:
        raise ValueError(f"updates={updates} must be at least {_BLOCKS}")
    if not 0 < false_alarm_rate < 1:
        raise ValueError(f"false_alarm_rate={false_alarm_rate} must lie in (0, 1)")
    env = learner.get_env()
    task: Task = env.get_attr("task", indices=[0])[0]
    env.env_method("set_rollout_policy", generator)
    if objective is None:
        rewards = env.get_attr("mdp", indices=[0])[0].reward_model
        expected = expected_reward_gradient(generator, task, rewards)
    elif task.prompt_length:
        raise ValueError(
            f"objective={objective!r}: the task {task.name!r} has prompts; only the expected reward is known"
        )
    else:
        expected = exact_gradient(generator, task, objective)
    gradients = -_played_gradients(learner, generator, updates)
    expect_direction(f"the gradient of {name}", gradients, expected, false_alarm_rate)


def expected_reward_gradient(model: SequenceModel, task: Task, rewards: RewardModel) -> Tensor:
    """The gradient of J, flat over `model.parameters()`, float64; with prompts, of its mean over the prompts."""
    if not task.prompt_length:
        return exact_gradient(model, task, lambda log_g, all_y: (log_g.exp() * rewards(all_y).to(log_g)).sum())
    found = ExactWorld.of(task).gradient(model, rewards)
    return torch.cat(
        [found.get(name, torch.zeros_like(part)).flatten() for name, part in model.named_parameters()]
    ).double()


def exact_gradient(model: SequenceModel, task: Task, objective: Objective) -> Tensor:
    """The gradient of an objective by enumeration of all sequences, flat over `model.parameters()`, float64.

    Raises:
        ValueError: for more than 4,096 sequences.
    """
    sequences = all_sequences(task).to(model.device)
    real = sequences < task.vocab_size
    logits = model.output(model.hidden_states(shift_right(sequences, task.vocab_size)))  # (K, T, V)
    tokens = sequences.clamp(max=task.vocab_size - 1).unsqueeze(2)
    log_probs = torch.log_softmax(logits, dim=2).gather(2, tokens).squeeze(2)
    value = objective((log_probs * real).sum(dim=1), sequences)
    gradients = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    return _flat(zip(model.parameters(), gradients, strict=True))


def all_sequences(task: Task) -> Tensor:
    """All sequences of a task, (K, T) int64, PAD after EOS.

    Raises:
        ValueError: for more than 4,096 sequences.
    """
    if task.vocab_size**task.sequence_length > _ENUMERATED:
        raise ValueError(
            f"vocab_size={task.vocab_size} and sequence_length={task.sequence_length} make more than {_ENUMERATED} "
            "sequences; take a smaller task, such as SeqGAN-Toy-v0"
        )
    everything = torch.tensor(list(itertools.product(range(task.vocab_size), repeat=task.sequence_length)))
    if task.eos_token is None:
        return everything
    is_end = (everything == task.eos_token).long()
    return torch.unique(everything.masked_fill(is_end.cumsum(dim=1) - is_end > 0, task.pad_token), dim=0)


def expect_direction(name: str, samples: Tensor, expected: Tensor, false_alarm_rate: float) -> None:
    """Expect that the mean of samples of a vector is a positive multiple of another vector.

    Args:
        name: for messages.
        samples: (K, P) float64; only neighbouring samples may depend on each other.
        expected: (P,) float64.
        false_alarm_rate: for all tests together (Bonferroni).

    Raises:
        ValueError: if the mean has another direction, or if the samples are too noisy to decide.
    """
    size = len(samples) // _BLOCKS
    blocks = samples[: size * _BLOCKS].view(_BLOCKS, size, -1).mean(dim=1)
    direction = expected / expected.norm()
    along = blocks @ direction
    across = blocks - along.unsqueeze(1) * direction
    error = blocks.std(dim=0).norm() / math.sqrt(_BLOCKS)
    if not error < _LARGEST_ERROR * along.mean().abs():
        raise ValueError(
            f"{name} cannot be judged: its standard error is {error:.3g}, and along the enumerated gradient it is "
            f"{along.mean():.3g}. Either it has another direction, or the check needs more updates or more environments"
        )
    limit = t_quantile(1 - false_alarm_rate / (2 * across.shape[1]), _BLOCKS - 1)
    deviation = across.std(dim=0) / math.sqrt(_BLOCKS)
    rounding = 1e-5 * float(blocks.norm(dim=1).mean())
    excess = across.mean(dim=0).abs() - limit * deviation - rounding
    if along.mean() < 0 or bool((excess > 0).any()):
        angle = math.degrees(math.acos(min(1.0, float(along.mean() / blocks.mean(dim=0).norm()))))
        raise ValueError(
            f"{name} is biased: its mean is {angle:.0f} degrees off the enumerated gradient of the objective, further "
            f"than chance allows (false alarm rate {false_alarm_rate:g}). Check which reward weighs which token, "
            "whether the baseline depends on the action, and the sign of the loss"
        )


def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t for 30 degrees of freedom or more, from the normal one (Abramowitz, Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees ** (power + 1) for power, term in enumerate(terms))


def _played_gradients(learner: Any, generator: SequenceModel, updates: int) -> Tensor:
    """The gradient of the loss of each update, with fixed parameters: (updates, P) float64."""
    with _standing_still(learner, generator) as gradients:
        learner.learn(updates * learner.n_steps * learner.n_envs)
    return torch.stack(gradients)


@contextmanager
def _standing_still(learner: Any, generator: SequenceModel) -> Iterator[list[Tensor]]:
    """A context in which the learner's optimizer adds up gradients instead of taking steps; one sum per `train`."""
    gradients: list[Tensor] = []
    train, step, norm = learner.train, learner.policy.optimizer.step, learner.max_grad_norm

    def record(*arguments: Any, **keywords: Any) -> None:
        gradients[-1] += _flat((parameter, parameter.grad) for parameter in generator.parameters())

    def train_and_add() -> None:
        gradients.append(torch.zeros(sum(p.numel() for p in generator.parameters()), dtype=torch.float64))
        train()

    learner.train, learner.policy.optimizer.step, learner.max_grad_norm = train_and_add, record, math.inf
    try:
        yield gradients
    finally:
        del learner.train  # the method of the class is used again
        learner.policy.optimizer.step, learner.max_grad_norm = step, norm


def _flat(pairs: Any) -> Tensor:
    """Gradients of (parameter, gradient or None) in one row, (P,) float64."""
    rows = [torch.zeros_like(p) if gradient is None else gradient for p, gradient in pairs]
    return torch.cat([row.detach().flatten().double().cpu() for row in rows])
