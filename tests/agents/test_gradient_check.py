"""`check_policy_gradient` passes learners that are right, and finds the mistakes of published code."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from stable_baselines3 import A2C
from torch import Tensor

from agents.grpo import GRPO
from agents.kl_ppo import KLPPO
from agents.policies import SequencePolicy
from agents.reinforce import REINFORCE
from agents.rloo import RLOO
from agents.vec_env import SequenceVecEnv
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences, toy_task
from seqgan_env.testing import check_policy_gradient
from seqgan_env.testing.gradients import all_sequences, expect_direction, t_quantile
from tests.marks import slow
from tests.toy_world import TableReward

PLAIN = {"gamma": 1.0, "gae_lambda": 1.0, "vf_coef": 0.0, "normalize_advantage": False}


def learner(kind: Any, mode: str = "terminal", eos: int | None = None, **keywords: Any) -> Any:
    """A learner in a world of three tokens and steps, whose generator is far from uniform."""
    task = toy_task() if eos is None else Task("ends", 3, 3, lambda split: enumerate_sequences(3, 3), eos_token=eos)
    env = SequenceVecEnv(SequenceVectorEnv(task, 96, reward_model=TableReward(), reward_mode=mode, n_rollouts=1))  # type: ignore[arg-type]
    model = LSTMSequenceModel(3, 3, 4, init_std=1.5, seed=5)
    return kind(SequencePolicy, env, policy_kwargs={"generator": model}, seed=1, device="cpu", **keywords)


@pytest.mark.parametrize(
    ("kind", "mode", "eos", "keywords"),
    [
        (REINFORCE, "action_value", None, {}),
        slow(RLOO, "terminal", 2, {}),
        slow(GRPO, "terminal", None, {"kl_coef": 0.0, "scale_rewards": False, "n_epochs": 2}),
        slow(KLPPO, "potential", None, {**PLAIN, "kl_coef": 0.0, "n_epochs": 1, "batch_size": 96}),
        slow(A2C, "terminal", None, {**PLAIN, "n_steps": 3}),
    ],
)
def test_an_unbiased_gradient_passes_and_the_learner_stays(
    kind: Any, mode: str, eos: int | None, keywords: Any
) -> None:
    agent = learner(kind, mode, eos, **keywords)
    before, norm = torch.nn.utils.parameters_to_vector(agent.policy.parameters()).clone(), agent.max_grad_norm
    check_policy_gradient(agent)
    assert torch.equal(torch.nn.utils.parameters_to_vector(agent.policy.parameters()), before)
    assert agent.max_grad_norm == norm
    agent.learn(96 * 3, reset_num_timesteps=False)
    assert not torch.equal(torch.nn.utils.parameters_to_vector(agent.policy.parameters()), before)


@pytest.mark.slow
def test_an_objective_of_ones_own_is_checked() -> None:
    agent = learner(REINFORCE, ent_coef=0.0)
    reward = TableReward()
    with pytest.raises(ValueError, match=r"is biased|cannot be judged"):
        check_policy_gradient(agent, lambda log_g, all_y: (log_g.exp() * (1 - reward(all_y)).float()).sum())
    check_policy_gradient(agent, lambda log_g, all_y: (log_g.exp() * (2 * reward(all_y) - 5).float()).sum())


class WrongSentence(REINFORCE):
    """Gives a sequence its neighbour's reward half of the time."""

    def train(self) -> None:
        self.rollout_buffer.returns[:, ::2] = np.roll(self.rollout_buffer.returns, 1, axis=1)[:, ::2]
        super().train()


class WrongStep(REINFORCE):
    """Leaves out the first token, as a shift by one step does."""

    def train(self) -> None:
        self.rollout_buffer.returns[0] = 0
        super().train()


class WrongSign(REINFORCE):
    def train(self) -> None:
        self.rollout_buffer.returns *= -1
        super().train()


class MovingBaseline(REINFORCE):
    """Its baseline depends on the action: the reward of the token alone."""

    def train(self) -> None:
        self.rollout_buffer.returns -= 0.3 * self.rollout_buffer.actions[..., 0]
        super().train()


@pytest.mark.parametrize(
    ("kind", "eos", "keywords"),
    [
        (WrongStep, None, {}),
        slow(WrongSign, None, {}),
        slow(MovingBaseline, None, {}),
        slow(GRPO, 2, {"kl_coef": 0.0, "scale_rewards": False}),  # divides by each sequence's length
    ],
)
def test_a_biased_gradient_is_refused(kind: Any, eos: int | None, keywords: Any) -> None:
    with pytest.raises(ValueError, match=r"is biased: its mean is \d+ degrees off"):
        check_policy_gradient(learner(kind, "terminal", eos, **keywords))


@pytest.mark.slow
def test_half_of_the_rewards_on_wrong_sentences_is_a_smaller_gradient_and_noise() -> None:
    """A neighbour's reward is independent, so that the direction stays; all of them wrong leaves nothing to judge."""
    check_policy_gradient(learner(WrongSentence), updates=300)

    class AllWrong(REINFORCE):
        def train(self) -> None:
            self.rollout_buffer.returns[:] = np.roll(self.rollout_buffer.returns, 1, axis=1)
            super().train()

    with pytest.raises(ValueError, match="cannot be judged"):
        check_policy_gradient(learner(AllWrong), updates=50)


def test_what_cannot_be_checked_is_refused() -> None:
    agent = learner(REINFORCE)
    for keywords, match in (({"updates": 49}, "updates=49"), ({"false_alarm_rate": 0.0}, "false_alarm_rate=0")):
        with pytest.raises(ValueError, match=match):
            check_policy_gradient(agent, **keywords)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"has no policy\.generator"):
        check_policy_gradient(object())
    with pytest.raises(ValueError, match="more than 4096 sequences"):
        all_sequences(toy_task(9, 4))


def test_false_alarms_are_as_rare_as_stated_and_biases_are_found() -> None:
    rng = torch.Generator().manual_seed(0)
    expected = torch.tensor([1.0, 2.0, 0.0, -1.0], dtype=torch.float64)

    def alarms(shift: Tensor) -> int:
        count = 0
        for _ in range(400):
            samples = 0.7 * expected + shift + torch.randn(100, 4, generator=rng, dtype=torch.float64)
            try:
                expect_direction("it", samples, expected, 0.1)
            except ValueError:
                count += 1
        return count

    false_alarms = alarms(torch.zeros(4, dtype=torch.float64))
    assert 0 < false_alarms <= stats.binom.ppf(0.9999, 400, 0.1)
    assert alarms(torch.tensor([0.0, 0.0, 0.5, 0.0], dtype=torch.float64)) > 380


@pytest.mark.parametrize("degrees", [30, 49, 200])
@pytest.mark.parametrize("rate", [0.1, 1e-4, 1e-8])
def test_students_quantiles(degrees: int, rate: float) -> None:
    assert t_quantile(1 - rate, degrees) == pytest.approx(stats.t.ppf(1 - rate, degrees), rel=0.01)


def test_all_sequences_of_a_task_with_an_end() -> None:
    task = Task("ends", 3, 3, lambda split: enumerate_sequences(3, 3), eos_token=2)
    assert len(all_sequences(task)) == 15
    assert functools.reduce(lambda a, b: a | b, [{tuple(row)} for row in all_sequences(task).tolist()], set()) >= {
        (2, 3, 3)
    }
