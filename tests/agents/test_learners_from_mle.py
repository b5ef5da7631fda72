"""Each learner of whole sequences improves its objective, exactly measured, from a generator after MLE."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.utils import LinearSchedule
from torch import Tensor

from agents.grpo import GRPO
from agents.kl_ppo import KLPPO
from agents.policies import SequencePolicy
from agents.preference import PreferenceLearner
from agents.pretraining import Pretrainer
from agents.rloo import RLOO
from agents.vec_env import SequenceVecEnv
from agents.weighted_mle import WeightedMLE
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rewards import OracleReward
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences, toy_task

EVERYTHING = enumerate_sequences(3, 3)
SEEDS = (0, 1, 2)


def after_mle(task: Task, seed: int) -> LSTMSequenceModel:
    generator = LSTMSequenceModel(3, 16, 16, 0.3, seed)
    real = task.real_sequences("train")[:1000]
    Pretrainer(generator, real, real[:100], learning_rate=1e-3, max_epochs=5, rng=np.random.default_rng(seed)).fit()
    return generator


def log_likelihoods(model: Any) -> Tensor:
    return model.log_probs(EVERYTHING).double().sum(dim=1)


def learn(
    kind: Any, task: Task, generator: LSTMSequenceModel, reward_model: Any, updates: int, seed: int, **keywords: Any
) -> None:
    mode: Any = "potential" if kind is KLPPO else "terminal"
    env = SequenceVecEnv(SequenceVectorEnv(task, 64, reward_model=reward_model, reward_mode=mode, n_rollouts=2))
    rate = LinearSchedule(1e-2, 0.0, 1.0)
    agent = kind(SequencePolicy, env, rate, policy_kwargs={"generator": generator}, seed=seed, device="cpu", **keywords)
    agent.learn(64 * 3 * updates)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("kind", "keywords"), [(RLOO, {"kl_coef": 0.05}), (GRPO, {"kl_coef": 0.5}), (KLPPO, {"kl_coef": 0.05})]
)
def test_the_mean_reward_less_the_kl_rises_to_near_its_optimum(kind: Any, keywords: dict[str, Any], seed: int) -> None:
    """Of E[R] - c KL(G || G_0) the optimum is c log sum_Y G_0(Y) exp(R(Y) / c); GRPO's own KL is another one."""
    task = toy_task()
    assert task.oracle is not None
    generator = after_mle(task, seed)
    start, rewards = log_likelihoods(generator), OracleReward(task.oracle)(EVERYTHING).double()
    weight = 0.05

    def objective() -> float:
        now = log_likelihoods(generator)
        return float((now.exp() * (rewards - weight * (now - start))).sum())

    first, best = objective(), float(weight * torch.logsumexp(start + rewards / weight, dim=0))
    learn(kind, task, generator, "oracle", 150, seed, **keywords)
    reached = (objective() - first) / (best - first)
    assert reached > (0.5 if kind is GRPO else 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_weighted_mle_under_the_best_discriminator_comes_near_to_the_real_distribution(seed: int) -> None:
    task = toy_task()
    oracle = task.oracle
    assert oracle is not None
    generator = after_mle(task, seed)

    def best_logit(sequences: Tensor) -> Tensor:
        """log(D / (1 - D)) of the best D against the generator as it is."""
        return (oracle.log_probs(sequences) - generator.log_probs(sequences)).sum(dim=1)

    first = divergence(oracle, generator)
    learn(WeightedMLE, task, generator, best_logit, 150, seed, reward="logit")
    assert divergence(oracle, generator) < 0.3 * first


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_preference_comes_nearer_to_the_real_distribution(seed: int) -> None:
    task = toy_task(n_sequences=20_000)  # of 1,000, the best fit itself is as far away as this start
    generator = after_mle(task, seed)
    first = divergence(task.oracle, generator)
    learn(PreferenceLearner, task, generator, "constant", 150, seed)
    assert divergence(task.oracle, generator) < 0.5 * first


def divergence(oracle: Any, generator: LSTMSequenceModel) -> float:
    """KL(oracle || G), exact, nats per sequence."""
    real = log_likelihoods(oracle)
    return float((real.exp() * (real - log_likelihoods(generator))).sum())
