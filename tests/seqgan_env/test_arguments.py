"""Numbers that users pass: counts are whole, numbers finite and in their range, wherever they are passed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from agents.reinforce import REINFORCE
from agents.vec_env import make_sequence_vec_env
from seqgan_env.arguments import check_count, check_number
from seqgan_env.components import DISCRIMINATORS, GENERATORS, build_reward_model
from seqgan_env.envs import SequenceEnv
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rewards import AnchoredReward, BLEUReward, ConstantReward, score_sequences
from seqgan_env.rollout_policies import DelayedCopy, NGramPolicy, UniformPolicy
from seqgan_env.tasks.task import Task

NOT_FINITE = [math.nan, math.inf, -math.inf, np.float32("nan")]
SEQUENCES = torch.zeros((5, 3), dtype=torch.int64)


def reinforce(**numbers: Any) -> REINFORCE:
    return REINFORCE("LSTMPolicy", make_sequence_vec_env("SeqGAN-Toy-v0", 1), device="cpu", **numbers)


def lstm() -> LSTMSequenceModel:
    return LSTMSequenceModel(3, 4, 4)


# Every number that is not a count, by the constructor that takes it.
NUMBERS: dict[str, Callable[[Any], Any]] = {
    **{f"{kind} init_std": lambda v, make=make: make(3, 4, 4, init_std=v) for kind, make in GENERATORS.items()},
    **{f"{kind} {name}": lambda v, make=make, name=name: make(3, 3, **{name: v})
       for kind, make in DISCRIMINATORS.items() for name in ("dropout", "l2")},
    "temperature": lambda v: lstm().at_temperature(v),
    "anchor weight": lambda v: AnchoredReward(ConstantReward(), lstm(), lstm(), v),
    "constant value": ConstantReward,
    "BLEU share": lambda v: BLEUReward(SEQUENCES, 3, share=v, rng=np.random.default_rng(0)),
    "delay rate": lambda v: DelayedCopy(lstm(), v),
    "n-gram backoff": lambda v: NGramPolicy(SEQUENCES, 3, backoff=v),
    **{f"REINFORCE {name}": lambda v, name=name: reinforce(**{name: v})
       for name in ("learning_rate", "gamma", "ent_coef", "vf_coef", "max_grad_norm")},
}  # fmt: skip
COUNTS: dict[str, Callable[[Any], Any]] = {
    **{f"{kind} hidden_size": lambda v, make=make: make(3, 4, v) for kind, make in GENERATORS.items()},
    **{f"{kind} embedding_size": lambda v, make=make: make(3, 3, embedding_size=v)
       for kind, make in DISCRIMINATORS.items()},
    "uniform": UniformPolicy,
    "n-gram order": lambda v: NGramPolicy(SEQUENCES, 3, v),
    "REINFORCE n_steps": lambda v: reinforce(n_steps=v),
}  # fmt: skip


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_that_is_not_finite_is_refused_by_name(number: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{number.split()[-1]}=.*(nan|inf).*finite number"):
        NUMBERS[number](value)


@pytest.mark.parametrize("value", ["8", None, True, 1j])
@pytest.mark.parametrize("number", [name for name in NUMBERS if name not in ("REINFORCE gamma",)])
def test_what_is_no_number_is_refused_by_name(number: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"{number.split()[-1]}=.* must be a number"):
        NUMBERS[number](value)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), ("8", TypeError), (2.5, TypeError)])
@pytest.mark.parametrize("count", COUNTS)
def test_a_size_that_is_no_positive_whole_number_is_refused(count: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"must be (an int|at least 1)"):
        COUNTS[count](value)


@pytest.mark.parametrize(
    ("limits", "value", "message"),
    [
        ({"at_least": 0}, -0.5, "x=-0.5 must not be negative; why"),
        ({"at_least": 2}, 1, "x=1 must be at least 2; why"),
        ({"above": 0}, 0, "x=0 must be above 0; why"),
        ({"at_least": 0, "below": 1}, 1, r"x=1 must lie in \[0, 1\); why"),
        ({"above": 0, "at_most": 1}, 2, r"x=2 must lie in \(0, 1\]; why"),
        ({"above": 0}, math.inf, "x=inf must be above 0, and be a finite number; why"),
        ({}, math.nan, "x=nan must be a finite number; why"),
    ],
)
def test_a_message_gives_name_value_range_and_hint(limits: dict[str, float], value: float, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_number("x", value, hint="why", **limits)


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int64(1)])
def test_numbers_of_python_and_numpy_are_taken_at_both_ends_of_a_range(value: Any) -> None:
    check_number("x", value, at_least=0, at_most=1)
    check_count("n", np.int32(1))


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_not_finite_names_the_reward_model(reward: float, task: Task) -> None:
    class Broken:
        def __call__(self, sequences: torch.Tensor, /) -> torch.Tensor:
            return torch.full((len(sequences),), reward)

    env = SequenceEnv(task, reward_model=Broken())
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"reward_model returned (nan|-?inf) for .*the reward model is Broken"):
        env.step(0)

    def my_reward(sequences: torch.Tensor) -> torch.Tensor:
        return torch.full((len(sequences),), reward)

    with pytest.raises(ValueError, match="the reward model is my_reward"):
        score_sequences(my_reward, SEQUENCES)


@pytest.mark.parametrize("name", ["constant:nan", "constant:inf"])
def test_a_named_constant_is_finite(name: str, task: Task) -> None:
    with pytest.raises(ValueError, match="not a finite one"):
        build_reward_model(name, task)
