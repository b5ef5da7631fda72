"""The program around the library keeps what is its own: random streams, default dtype, default device."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

import seqgan_env
from agents.seqgan import SeqGAN
from agents.vec_env import make_sequence_vec_env
from seqgan_env.components import DISCRIMINATORS, GENERATORS, build_discriminator, build_generator, build_rollout_policy
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.measures.likelihood import measure_generator
from seqgan_env.models.discriminators import Discriminator
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.models.torch_weights import from_torch, to_torch
from seqgan_env.rollout_policies import DelayedCopy, sample_sequences
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import toy_task
from seqgan_env.testing import (
    check_discriminator,
    check_reward_model,
    check_rollout_policy,
    check_sequence_model,
    check_task,
)
from tests.agents.conftest import tiny_config

PACKAGE = str(Path(seqgan_env.__file__).parent)
REWARDS = ("discriminator", "logit", "shuffled", "bleu", "random", "constant", "oracle")


def measure(task: Task) -> None:
    generator = build_generator("lstm", task)
    measure_generator(generator, task.real_sequences("test"), np.random.default_rng(0), n_samples=20)


def search(reward_model: str) -> Callable[[Task], np.ndarray]:
    """Rewards of one seeded episode of three rows."""

    def play(task: Task) -> np.ndarray:
        env = SequenceVectorEnv(task, 3, reward_model=reward_model, rollout_policy="ngram", n_rollouts=4)
        env.reset(seed=0)
        return np.stack([env.step(np.array([0, 1, 2]))[1] for _ in range(3)])

    return play


def episode(task: Task) -> None:
    env = gym.make("SeqGAN-Toy-v0")
    env.reset(seed=1)
    env.step(0)
    rows = make_sequence_vec_env("SeqGAN-Toy-v0", 2, seed=0)
    rows.reset()
    rows.step(np.array([0, 1]))


def score(kind: str) -> Callable[[Task], Tensor]:
    return lambda task: build_discriminator(kind, task).score(task.real_sequences("test"))


def likelihood(kind: str) -> Callable[[Task], Tensor]:
    def compute(task: Task) -> Tensor:
        model = build_generator(kind, task)
        tokens = sample_sequences(DelayedCopy(model), 10, 3, np.random.default_rng(0))
        model.weighted_log_likelihood(tokens, torch.full(tokens.shape, 0.1)).backward()
        return model.log_probs(tokens)

    return compute


DEEDS: dict[str, Callable[[Task], Any]] = {
    "task": lambda _: check_task(toy_task(n_sequences=20)),
    "episode": episode,
    "measurement": measure,
    "sequence model check": lambda task: check_sequence_model(build_generator("gru", task)),
    "discriminator check": lambda task: check_discriminator(build_discriminator("cnn", task)),
    "roll-out policy check": lambda task: check_rollout_policy(build_rollout_policy("uniform", task)),
    "reward model check": lambda task: check_reward_model(lambda tokens: tokens.sum(dim=1).double(), task),
    "PyTorch weights": lambda task: from_torch(*to_torch(build_generator("lstm", task))),
    **{f"discriminator {kind}": score(kind) for kind in (*DISCRIMINATORS, "ensemble")},
    **{f"generator {kind}": likelihood(kind) for kind in GENERATORS},
    **{f"search for {reward}": search(reward) for reward in REWARDS},
}


def streams() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()
    return random.getstate(), kind, np.asarray(keys).tolist(), rest, torch.random.get_rng_state().tolist()


@pytest.fixture
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("deed", DEEDS)
def test_no_global_random_stream_is_moved(deed: str, task: Task) -> None:
    before = streams()
    DEEDS[deed](task)
    assert streams() == before


def test_the_watch_on_random_streams_sees_each_of_them() -> None:
    for move in (random.random, np.random.rand, lambda: torch.rand(1)):
        before = streams()
        move()
        assert streams() != before


@pytest.mark.parametrize("deed", [f"search for {reward}" for reward in REWARDS])
def test_no_global_random_stream_is_read(deed: str, task: Task) -> None:
    found = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        found.append(DEEDS[deed](task))
    np.testing.assert_array_equal(*found)


def test_every_model_of_ours_is_watched() -> None:
    def concrete(kind: type) -> set[type]:
        below = {found for child in kind.__subclasses__() for found in {child} | concrete(child)}
        # A task's own model, such as a grammar, has no parameters to draw and may or may not be imported yet.
        return {one for one in below if one.__module__.startswith("seqgan_env.models") and not one.__abstractmethods__}

    # The pretrained ones are watched in their own tests, since they need the extra "transformers".
    assert {kind.__name__ for kind in concrete(SequenceModel) - set(GENERATORS.values())} == {"PretrainedGenerator"}
    assert {kind.__name__ for kind in concrete(Discriminator) - set(DISCRIMINATORS.values())} == {
        *("DiscriminatorEnsemble", "PretrainedDiscriminator"),
    }
    assert set(GENERATORS.values()) <= concrete(SequenceModel)


@pytest.mark.usefixtures("default_dtype")
@pytest.mark.parametrize("deed", DEEDS)
def test_another_default_dtype_changes_no_number(deed: str, task: Task) -> None:
    found = DEEDS[deed](task)
    torch.set_default_dtype(torch.float32)
    expected = DEEDS[deed](task)
    if isinstance(expected, Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected)


def trained_generator() -> list[Tensor]:
    game = SeqGAN(toy_task(n_sequences=64), tiny_config(), "cpu")
    game.train()
    return [parameter.detach() for parameter in game.generator.parameters()]


@pytest.mark.usefixtures("default_dtype")
def test_a_whole_game_is_the_same_with_another_default_dtype() -> None:
    found = trained_generator()
    torch.set_default_dtype(torch.float32)
    for after, expected in zip(found, trained_generator(), strict=True):
        assert torch.equal(after, expected)


class Unplaced(TorchFunctionMode):
    """Notes every call from our package that makes a tensor where `torch.set_default_device` says, or of its dtype."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        caller = sys._getframe(1)
        if function in _device_constructors() and caller.f_code.co_filename.startswith(PACKAGE):
            for keyword in ("device", "dtype"):
                if (kwargs or {}).get(keyword) is None and not (keyword == "dtype" and function is torch.as_tensor):
                    self.found.add(f"{Path(caller.f_code.co_filename).name}:{caller.f_lineno} leaves out {keyword}")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("deed", DEEDS)
def test_every_tensor_is_made_with_a_device_and_a_dtype_of_its_own(deed: str, task: Task) -> None:
    with Unplaced() as watch:
        DEEDS[deed](task)
    assert watch.found == set()


@pytest.mark.parametrize("deed", DEEDS)
def test_with_a_default_device_set_everything_works(deed: str, task: Task) -> None:
    torch.set_default_device("cpu")
    try:
        DEEDS[deed](task)
    finally:
        torch.set_default_device(None)
