"""`components`: what the strings of `gym.make` name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seqgan_env.components import build_reward_model, build_rollout_policy, load_attribute
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rewards import (
    BLEUReward,
    ConstantReward,
    DiscriminatorReward,
    OracleReward,
    RandomReward,
    ShuffledReward,
)
from seqgan_env.rollout_policies import DelayedCopy, UniformPolicy
from seqgan_env.tasks.task import Task

HERE = __name__


class OwnReward:
    """A reward model of one's own that asks for one size."""

    def __init__(self, sequence_length: int) -> None:
        self.sequence_length = sequence_length

    def __call__(self, sequences: Tensor, /) -> Tensor:
        return (sequences == self.sequence_length - 1).double().mean(dim=1)


def own_reward(sequences: Tensor, /) -> Tensor:
    return sequences[:, 0].double()


class OwnModule(nn.Module):
    def forward(self, sequences: Tensor) -> Tensor:
        return sequences[:, 0].float()


class OwnPolicy(UniformPolicy):
    """Asks for the task itself."""

    def __init__(self, task: Task) -> None:
        super().__init__(task.vocab_size)
        self.task = task


class Unfinished:
    vocab_size = 3


def bare_task() -> Task:
    return Task("bare", 3, 3, lambda split: torch.zeros(1, 3, dtype=torch.int64))


@pytest.mark.parametrize("spec", [None, "discriminator"])
def test_the_default_reward_is_a_fresh_cnn_of_the_tasks_size(spec: str | None, task: Task) -> None:
    first, second = build_reward_model(spec, task), build_reward_model(spec, task)
    assert isinstance(first, DiscriminatorReward)
    assert isinstance(first.discriminator, CNNDiscriminator)
    assert (first.discriminator.vocab_size, first.discriminator.sequence_length) == (3, 3)
    assert first.discriminator is not second.discriminator


@pytest.mark.parametrize(("spec", "value"), [("constant", 0.5), ("constant:0.3", 0.3), ("constant:-2", -2.0)])
def test_a_constant_reward_can_be_named_with_its_value(spec: str, value: float, task: Task) -> None:
    reward = build_reward_model(spec, task)
    assert isinstance(reward, ConstantReward)
    assert reward.value == value


def test_a_shuffled_reward_is_that_of_a_fresh_cnn(task: Task) -> None:
    first, second = build_reward_model("shuffled", task), build_reward_model("shuffled", task)
    assert isinstance(first, ShuffledReward)
    assert isinstance(first.reward_model, DiscriminatorReward)
    assert isinstance(first.reward_model.discriminator, CNNDiscriminator)
    assert first.reward_model.discriminator is not second.reward_model.discriminator


def test_a_discriminator_that_is_given_is_the_one_that_scores(task: Task) -> None:
    own = OwnModule()
    assert build_reward_model("discriminator", task, own).discriminator is own
    assert build_reward_model("shuffled", task, own).reward_model.discriminator is own
    assert isinstance(build_reward_model("constant", task, own), ConstantReward)


def test_a_bleu_reward_has_four_tenths_of_the_training_sequences_as_references() -> None:
    train = torch.arange(10)[:, None].repeat(1, 3)
    task = Task("numbers", 10, 3, lambda split: {"train": train}[split])
    reward = build_reward_model("bleu", task)
    assert isinstance(reward, BLEUReward)
    assert sorted(reward(train).tolist()) == [0.0] * 6 + [1.0] * 4


@pytest.mark.parametrize(
    ("spec", "smoothing"),
    [("bleu", "epsilon"), ("bleu:none", "none"), ("bleu:epsilon", "epsilon"), ("bleu:skip", "skip")],
)
def test_a_bleu_reward_can_be_named_with_its_smoothing(spec: str, smoothing: str, task: Task) -> None:
    bleu = build_reward_model(spec, task).bleu
    assert (bleu.smoothing, bleu.max_order) == (smoothing, 3)


def test_rewards_that_draw_take_the_generator_that_is_given_or_that_of_seed_zero(task: Task) -> None:
    rng = np.random.default_rng(5)
    assert build_reward_model("random", task, rng=rng).rng is rng
    assert build_reward_model("shuffled", task, rng=rng).rng is rng
    draws = [build_reward_model("random", task)(torch.zeros(4, 3)).tolist() for _ in range(2)]
    assert draws[0] == draws[1] == RandomReward(np.random.default_rng(0))(torch.zeros(4, 3)).tolist()
    train = task.real_sequences("train")
    given = build_reward_model("bleu", task, rng=np.random.default_rng(5))
    assert torch.equal(given(train), BLEUReward(train, 3, rng=np.random.default_rng(5))(train))


def test_the_oracles_reward_must_be_asked_for(task: Task) -> None:
    reward = build_reward_model("oracle", task)
    assert isinstance(reward, OracleReward)
    assert reward.oracle is task.oracle


def test_rewards_of_ones_own_are_named_by_module_and_attribute(task: Task) -> None:
    instance = build_reward_model(f"{HERE}:OwnReward", task)
    assert isinstance(instance, OwnReward)
    assert instance.sequence_length == 3
    assert build_reward_model(f"{HERE}:own_reward", task) is own_reward
    assert isinstance(build_reward_model(f"{HERE}:OwnModule", task), DiscriminatorReward)


def test_objects_are_taken_as_they_are_and_modules_as_discriminators(task: Task) -> None:
    module = OwnModule()
    assert build_reward_model(own_reward, task) is own_reward
    assert build_reward_model(module, task).discriminator is module


@pytest.mark.parametrize("spec", [None, "uniform"])
def test_the_default_roll_out_policy_is_uniform(spec: str | None, task: Task) -> None:
    policy = build_rollout_policy(spec, task)
    assert isinstance(policy, UniformPolicy)
    assert policy.vocab_size == 3


def test_a_sequence_model_is_copied_as_a_roll_out_policy(model: LSTMSequenceModel, task: Task) -> None:
    policy = build_rollout_policy(model, task)
    assert isinstance(policy, DelayedCopy)
    assert policy.model is not model
    assert torch.equal(policy.model.embedding, model.embedding)
    oracle = build_rollout_policy("oracle", task)
    assert torch.equal(oracle.model.embedding, task.oracle.embedding)


def test_a_policy_of_ones_own_is_taken_as_it_is_or_named(task: Task) -> None:
    own = OwnPolicy(task)
    assert build_rollout_policy(own, task) is own
    assert build_rollout_policy(f"{HERE}:OwnPolicy", task).task is task


def test_a_class_gets_only_the_arguments_that_it_takes(task: Task) -> None:
    policy = load_attribute("seqgan_env.rollout_policies:UniformPolicy", "rollout_policy", task)
    assert policy.vocab_size == 3


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("discriminater", ValueError, "reward_model='discriminater' is neither a known name nor"),
        ("bleu:exp", ValueError, "smoothing='exp' must be one of"),
        ("random:1", ValueError, "reward_model='random:1' cannot be loaded"),
        ("shuffled:bleu", ValueError, "reward_model='shuffled:bleu' cannot be loaded"),
        ("constant:high", ValueError, "reward_model='constant:high': 'high' is not a number"),
        ("no_such_module:Thing", ValueError, "reward_model='no_such_module:Thing' cannot be loaded"),
        (f"{HERE}:NoSuchThing", ValueError, "cannot be loaded"),
        (f"{HERE}:", ValueError, "neither a known name nor"),
        (":Thing", ValueError, "neither a known name nor"),
        (3, TypeError, "reward_model must be callable, got int"),
        (f"{HERE}:HERE", TypeError, "reward_model must be callable, got str"),
    ],
)
def test_a_wrong_reward_model_is_refused_by_name(
    spec: object, error: type[Exception], message: str, task: Task
) -> None:
    with pytest.raises(error, match=message):
        build_reward_model(spec, task)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("unifrom", ValueError, "rollout_policy='unifrom' is neither a known name nor"),
        ("no_such_module:Thing", ValueError, "rollout_policy='no_such_module:Thing' cannot be loaded"),
        (UniformPolicy(4), ValueError, "rollout_policy has vocab_size=4, the task has 3"),
        (LSTMSequenceModel(5), ValueError, "rollout_policy has vocab_size=5, the task has 3"),
        (3, TypeError, "rollout_policy must have vocab_size, initial_state, advance and draw, got int"),
        (Unfinished(), TypeError, "rollout_policy must have .*, got Unfinished"),
    ],
)
def test_a_wrong_roll_out_policy_is_refused_by_name(
    spec: object, error: type[Exception], message: str, task: Task
) -> None:
    with pytest.raises(error, match=message):
        build_rollout_policy(spec, task)


def test_the_oracle_cannot_be_asked_of_a_task_without_one() -> None:
    with pytest.raises(ValueError, match="reward_model='oracle': the task 'bare' has no oracle"):
        build_reward_model("oracle", bare_task())
    with pytest.raises(ValueError, match="rollout_policy='oracle': the task 'bare' has no oracle"):
        build_rollout_policy("oracle", bare_task())
