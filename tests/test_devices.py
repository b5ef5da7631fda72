"""CPU and GPU give the same numbers within rounding; skipped where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.runs.training import resolve_device
from agents.seqgan import SeqGAN
from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rewards import DiscriminatorReward
from seqgan_env.rollout_policies import DelayedCopy, sample_sequences
from seqgan_env.tasks.oracle import oracle_task
from seqgan_env.tasks.toy import toy_task
from tests.agents.conftest import tiny_config

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
V, T, B = 200, 8, 16


def generator() -> LSTMSequenceModel:
    return LSTMSequenceModel(V, 16, 16, init_std=0.5, seed=0)


def tokens() -> Tensor:
    drawn = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(0))
    drawn[-1, 3:] = V  # PAD
    return drawn


def on_both(
    make: Callable[[], nn.Module], compute: Callable[[nn.Module, torch.device], Tensor]
) -> tuple[Tensor, Tensor]:
    """What a module computes on CPU and on the GPU, both brought to the CPU."""
    devices = (torch.device("cpu"), torch.device("cuda"))
    on_cpu, on_gpu = (compute(make().to(device), device).detach().cpu() for device in devices)
    return on_cpu, on_gpu


def gradients(module: nn.Module, loss: Tensor) -> Tensor:
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters()])


@pytest.mark.parametrize(("has_gpu", "chosen"), [(True, "cuda"), (False, "cpu")])
def test_auto_picks_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, has_gpu: bool, chosen: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert resolve_device("auto") == chosen


@needs_gpu
def test_likelihoods_agree() -> None:
    on_cpu, on_gpu = on_both(generator, lambda model, device: model.log_probs(tokens().to(device)))
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-4, atol=1e-4)


@needs_gpu
def test_the_generators_gradients_agree() -> None:
    weights = torch.rand(B, T, generator=torch.Generator().manual_seed(1))

    def compute(model: nn.Module, device: torch.device) -> Tensor:
        return gradients(model, model.weighted_log_likelihood(tokens().to(device), weights.to(device)))

    on_cpu, on_gpu = on_both(generator, compute)
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-4)


@needs_gpu
def test_draws_from_the_same_uniforms_agree_but_for_ties_of_rounding() -> None:
    on_cpu, on_gpu = on_both(generator, lambda model, _: sample_sequences(model, 500, T, np.random.default_rng(0)))
    assert (on_cpu == on_gpu).all(dim=1).float().mean() > 0.95


@needs_gpu
def test_the_discriminators_scores_and_gradients_agree() -> None:
    def make() -> CNNDiscriminator:
        return CNNDiscriminator(V, T, "paper", dropout=0.0, seed=0)

    labels = (torch.arange(B) < B // 2).float()
    on_cpu, on_gpu = on_both(make, lambda model, device: model.score(tokens().to(device)))
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-3)

    def compute(model: nn.Module, device: torch.device) -> Tensor:
        loss = F.binary_cross_entropy_with_logits(model(tokens().to(device)), labels.to(device))
        return gradients(model, loss + model.penalty())

    on_cpu, on_gpu = on_both(make, compute)
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-4)


@needs_gpu
def test_action_values_of_an_episode_agree() -> None:
    task = oracle_task(V, T, 0, n_sequences=64, hidden_size=16)
    actions = tokens().clamp(max=V - 1).numpy()

    def rewards(device: str) -> np.ndarray:
        env = SequenceVectorEnv(task, B, n_rollouts=64)
        env.set_reward_model(DiscriminatorReward(CNNDiscriminator(V, T, "light", seed=0).to(device).eval()))
        env.reset(seed=0)
        env.set_rollout_policy(DelayedCopy(generator().to(device)))
        return np.stack([env.step(actions[:, t])[1] for t in range(T)])

    np.testing.assert_allclose(rewards("cuda"), rewards("cpu"), atol=0.02)  # a draw may fall on the other side


@needs_gpu
def test_a_whole_game_plays_on_the_gpu() -> None:
    game = SeqGAN(toy_task(n_sequences=64), tiny_config(), "cuda")
    before = [parameter.detach().clone() for parameter in game.generator.parameters()]
    game.train()
    assert all(parameter.is_cuda for parameter in game.generator.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(before, game.generator.parameters(), strict=True))
    assert all(torch.isfinite(parameter).all() for parameter in game.generator.parameters())
