"""Models in float64 and in 16 bits: they draw, score, learn and search, near to float32 within a stated bound."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from agents.adversary import Adversary
from agents.policies import SequencePolicy
from agents.reinforce import REINFORCE
from agents.vec_env import SequenceVecEnv
from seqgan_env.components import DISCRIMINATORS, GENERATORS, build_discriminator, build_generator
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.models.output_layer import OutputLayer
from seqgan_env.models.sampling import draw_tokens
from seqgan_env.models.window_features import _last_places
from seqgan_env.rewards import DiscriminatorReward, score_sequences
from seqgan_env.rollout_policies import DelayedCopy, sample_sequences
from seqgan_env.tasks.oracle import oracle_task
from seqgan_env.tasks.task import Task
from seqgan_env.testing import check_discriminator, check_sequence_model

# Largest difference from float32, in nats or logits: eight bits of a bfloat16 are two to three digits.
BOUNDS = {torch.float64: 1e-5, torch.bfloat16: 0.05, torch.float16: 0.01}
formats = pytest.mark.parametrize("dtype", BOUNDS)


@pytest.fixture
def small_task() -> Task:
    """V = 70, more than one segment of the draw; T = 6."""
    return oracle_task(70, 6, n_sequences=32, hidden_size=8)


@formats
@pytest.mark.parametrize("kind", GENERATORS)
def test_generators_draw_score_and_learn(kind: str, dtype: torch.dtype, small_task: Task) -> None:
    single = build_generator(kind, small_task, init_std=0.1)
    model = copy.deepcopy(single).to(dtype)
    tokens = sample_sequences(model, 200, 6, np.random.default_rng(0))
    assert int(tokens.max()) < 70
    log_probs = model.log_probs(tokens)
    assert log_probs.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert float((log_probs - single.log_probs(tokens)).abs().max()) < BOUNDS[dtype]
    weights = torch.full(tokens.shape, 1 / tokens.numel())
    for learner in (single, model):
        learner.weighted_log_likelihood(tokens, weights).backward()
    for own, expected in zip(model.parameters(), single.parameters(), strict=True):
        assert own.grad.dtype == dtype
        torch.testing.assert_close(own.grad.float(), expected.grad, rtol=0.05, atol=BOUNDS[dtype])
    check_sequence_model(model)


@formats
@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_discriminators_score_and_learn(kind: str, dtype: torch.dtype, small_task: Task) -> None:
    single = build_discriminator(kind, small_task, dropout=0.0)
    model = copy.deepcopy(single).to(dtype)
    tokens = small_task.real_sequences("train")
    assert float((model.score(tokens) - single.score(tokens)).abs().max()) < BOUNDS[dtype]
    labels = torch.arange(len(tokens)) % 2
    for learner in (single, model):
        logits = learner(tokens)
        (F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype)) + learner.penalty()).backward()
    own, expected = (nn.utils.parameters_to_vector([p.grad.float() for p in m.parameters()]) for m in (model, single))
    assert float((own - expected).norm() / expected.norm()) < 5 * BOUNDS[dtype]
    check_discriminator(model, small_task)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
def test_a_search_with_models_of_a_format_gives_nearly_the_same_values(dtype: torch.dtype, small_task: Task) -> None:
    def rewards(dtype: torch.dtype) -> np.ndarray:
        generator = build_generator("lstm", small_task, init_std=0.3).to(dtype)
        discriminator = build_discriminator("cnn", small_task).to(dtype)
        env = SequenceVectorEnv(small_task, 4, reward_model=discriminator, rollout_policy=generator, n_rollouts=200)
        env.reset(seed=0)
        return np.stack([env.step(np.arange(4) + t)[1] for t in range(6)])

    np.testing.assert_allclose(rewards(dtype), rewards(torch.float32), atol=0.05)


@formats
def test_reinforce_trains_a_generator_of_a_format(dtype: torch.dtype, task: Task) -> None:
    oracle = copy.deepcopy(task.oracle).to(dtype)
    task.oracle = oracle  # info holds its likelihood
    env = SequenceVecEnv(SequenceVectorEnv(task, 4, rollout_policy=DelayedCopy(oracle)))
    generator = build_generator("lstm", task).to(dtype)
    before = [parameter.detach().clone() for parameter in generator.parameters()]
    agent = REINFORCE(SequencePolicy, env, policy_kwargs={"generator": generator}, baseline="value", device="cpu")
    agent.learn(24)
    assert agent.policy.value_net.weight.dtype == dtype
    assert all(not torch.equal(old, new) for old, new in zip(before, generator.parameters(), strict=True))
    assert all(bool(torch.isfinite(parameter).all()) for parameter in generator.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_adversarial_training_takes_a_discriminator_of_a_format(dtype: torch.dtype, small_task: Task) -> None:
    def losses(dtype: torch.dtype) -> list[float]:
        discriminator = build_discriminator("cnn", small_task, dropout=0.0).to(dtype)
        adversary = Adversary(discriminator, k_epochs=1, rng=np.random.default_rng(0))
        reports = [adversary.step(small_task, lambda count: torch.full((count, 6), 3)) for _ in range(6)]
        assert all(report is not None and 0 <= report.calibration_error <= 1 for report in reports)
        return [report.loss for report in reports if report is not None]

    found, single = losses(dtype), losses(torch.float32)
    assert found[0] == pytest.approx(single[0], abs=BOUNDS[dtype])
    assert found[-1] < found[0] / 2


def test_a_16_bit_layer_draws_from_all_of_a_large_vocabulary() -> None:
    layer = OutputLayer(2, 5000).bfloat16()
    draws = draw_tokens(layer, torch.zeros(1, 2, dtype=torch.bfloat16), torch.rand(1, 100_000))
    assert len(torch.unique(draws)) > 4990  # a 16-bit cumulative sum stands still at 256


def test_a_layer_reads_states_of_another_format() -> None:
    layer = OutputLayer(4, 7)
    layer.reset_parameters(1.0, torch.Generator().manual_seed(0))
    hidden, targets = torch.randn(5, 4), torch.tensor([0, 6, 1, 1, 2])
    found = layer.log_probs(hidden.double(), targets)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), layer.log_probs(hidden, targets))
    layer.weighted_log_likelihood(hidden.double(), targets, torch.ones(5)).backward()
    assert layer.weight.grad.dtype == torch.float32


def test_places_of_maxima_beyond_256_are_found_in_16_bits() -> None:
    responses = torch.zeros(300, 1, 1, dtype=torch.bfloat16)
    responses[297] = 1
    assert _last_places(responses.clone(), responses.amax(dim=0)).item() == 297


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64, torch.bool]
)
def test_rewards_of_any_format_are_read(dtype: torch.dtype) -> None:
    rewards = score_sequences(lambda tokens: tokens[:, 0].to(dtype), torch.tensor([[0], [1]]))
    assert rewards.dtype == np.float64
    assert rewards.tolist() == [0.0, 1.0]


def test_a_16_bit_discriminator_pays_in_float32() -> None:
    class Logit(nn.Module):
        def forward(self, sequences: torch.Tensor) -> torch.Tensor:
            return sequences[:, 0].bfloat16() / 128

    rewards = DiscriminatorReward(Logit())(torch.arange(3).unsqueeze(1))
    torch.testing.assert_close(rewards, torch.sigmoid(torch.arange(3) / 128))
