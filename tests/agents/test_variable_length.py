"""Sequences that end early: pretraining, policy gradient and game learn from their tokens, and nothing behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from agents.discriminator_trainer import DiscriminatorTrainer
from agents.policies import SequencePolicy, TokenPrefixExtractor
from agents.pretraining import Pretrainer
from agents.reinforce import REINFORCE
from agents.runs.checkpoints import read_tensors, restore, snapshot, write_tensors
from agents.runs.run_folder import RunFolder
from agents.runs.training import Experiment
from agents.seqgan import SeqGAN, SeqGANConfig
from agents.vec_env import SequenceVecEnv
from seqgan_env.components import GENERATORS, build_discriminator, build_generator
from seqgan_env.envs import SequenceVectorEnv, observation_space
from seqgan_env.mdp import RewardMode
from seqgan_env.models.sequence_models import LSTMSequenceModel, SequenceModel
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences
from tests.agents.conftest import tiny_config
from tests.marks import slow
from tests.toy_world import TableReward, cut_to_length, mixed_length_task, sequence_probabilities

V, T, EOS = 6, 7, 5


@pytest.fixture
def task() -> Task:
    return mixed_length_task()


@pytest.fixture(params=GENERATORS)
def generator(request: pytest.FixtureRequest, task: Task) -> SequenceModel:
    return build_generator(request.param, task, embedding_size=4, hidden_size=4, init_std=0.7, seed=1)


def flat_gradient(model: torch.nn.Module) -> Tensor:
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([part.flatten().double() for part in parts])


# Maximum likelihood.


def test_an_mle_step_is_that_of_the_tokens_one_by_one(generator: SequenceModel, task: Task) -> None:
    sequences = task.real_sequences("train")
    trainer = Pretrainer(
        generator,
        sequences,
        sequences,
        batch_size=64,
        learning_rate=1e-9,
        max_grad_norm=1e9,
        rng=np.random.default_rng(),
    )
    train_nll, held_out = trainer.epoch()
    got = flat_gradient(generator)
    tokens = int((sequences < V).sum())
    generator.zero_grad()
    total = torch.zeros(())
    for alone in cut_to_length(sequences, V):
        total = total - generator.weighted_log_likelihood(alone, torch.ones(alone.shape)) / tokens
    total.backward()
    torch.testing.assert_close(got, flat_gradient(generator), atol=1e-5, rtol=1e-4)
    assert train_nll == pytest.approx(total.item(), rel=1e-5)
    assert held_out.mean == pytest.approx(total.item(), rel=1e-4)


def test_scheduled_sampling_feeds_the_prefix_that_a_sequence_has(task: Task) -> None:
    """What is fed behind the end is never scored: with the generator's own tokens alone, the loss still is finite."""
    generator = LSTMSequenceModel(V, 4, 4, seed=2)
    sequences = task.real_sequences("train")
    trainer = Pretrainer(
        generator, sequences, sequences, batch_size=32, curriculum_rate_step=1.0, rng=np.random.default_rng(0)
    )
    losses = [trainer.epoch()[0] for _ in range(3)]
    assert np.isfinite(losses).all()
    assert losses[2] < losses[0]


# Policies and the policy gradient.


def test_a_policy_reads_prefixes_of_mixed_lengths_as_one_by_one(generator: SequenceModel, task: Task) -> None:
    env = SequenceVecEnv(SequenceVectorEnv(task, 2, reward_model="constant"))
    policy = SequencePolicy(env.observation_space, env.action_space, lambda _: 1e-3, generator=generator)
    torch.nn.init.normal_(policy.value_net.weight)
    prefixes = task.real_sequences("train").clone()
    prefixes[:, -1] = V  # there is a token to come
    actions = torch.arange(len(prefixes)) % V
    values, log_probs, entropies = policy.evaluate_actions(prefixes, actions)
    for row, prefix in enumerate(cut_to_length(prefixes, V)):
        whole = torch.cat([prefix, actions[row].view(1, 1)], dim=1)
        assert log_probs[row].item() == pytest.approx(generator.log_probs(whole)[0, -1].item(), abs=1e-5)
        alone = policy.evaluate_actions(prefixes[row : row + 1], actions[row : row + 1])
        for together, single in zip((values, log_probs, entropies), alone, strict=True):
            torch.testing.assert_close(together[row : row + 1], single, atol=1e-5, rtol=1e-4)


def test_the_extractor_of_other_policies_stops_at_the_prefixs_end(task: Task) -> None:
    space: Any = observation_space(task)
    extractor = TokenPrefixExtractor(space, features_dim=5, embedding_size=3)
    prefixes = task.real_sequences("train")
    together = extractor(prefixes.float())
    for row, prefix in enumerate(cut_to_length(prefixes, V)):
        alone = TokenPrefixExtractor(spaces.Box(0, V, (prefix.shape[1],), np.int64), features_dim=5, embedding_size=3)
        alone.load_state_dict(extractor.state_dict())
        torch.testing.assert_close(together[row : row + 1], alone(prefix), atol=1e-5, rtol=1e-4)


class Recorder(REINFORCE):
    """Keeps the gradient of each update, as an ascent direction."""

    parts: list[Tensor]

    def train(self) -> None:
        super().train()
        self.parts = [*getattr(self, "parts", []), -flat_gradient(self.policy.generator)]


@pytest.mark.parametrize(
    ("reward_mode", "baseline", "n_steps"),
    [
        ("action_value", "none", 3),
        ("action_value", "step_mean", 2),
        ("potential", "none", 2),
        ("terminal", "none", 3),
        ("terminal", "value", 2),
    ],
)
def test_the_gradient_a_sequence_is_the_enumerated_one_wherever_updates_cut_sequences(
    reward_mode: RewardMode, baseline: Any, n_steps: int
) -> None:
    """Eq. 6-7 in a world of three steps whose token 2 ends a sequence: 15 sequences of one to three tokens."""
    eos = 2
    everything = enumerate_sequences(3, 3)
    after = ((everything == eos).cumsum(dim=1) - (everything == eos).long()) > 0
    everything = torch.unique(everything.masked_fill(after, 3), dim=0)
    assert len(everything) == 15
    model = LSTMSequenceModel(3, 3, 4, init_std=1.5, seed=5)
    reward = TableReward()
    log_p = torch.stack([model.weighted_log_likelihood(row[None], torch.ones(1, 3)) for row in everything])
    objective = (log_p.exp() * reward(everything).float()).sum()
    expected = torch.cat([g.flatten().double() for g in torch.autograd.grad(objective, list(model.parameters()))])
    mean_length = float(sequence_probabilities(model, everything) @ (everything < 3).sum(dim=1).numpy())
    ends_early = Task("ends early", 3, 3, lambda split: everything, eos_token=eos)
    envs, updates = 150, 80
    agent = Recorder(
        SequencePolicy,
        SequenceVecEnv(
            SequenceVectorEnv(
                ends_early, envs, reward_model=reward, reward_mode=reward_mode, rollout_policy=model, n_rollouts=1
            )
        ),
        n_steps=n_steps,
        learning_rate=0.0,
        max_grad_norm=1e9,
        baseline=baseline,
        policy_kwargs={"generator": model},
        seed=3,
        device="cpu",
    )
    torch.nn.init.normal_(agent.policy.value_net.weight, std=0.3)  # a baseline that is wrong is still a baseline
    agent.learn(envs * n_steps * updates)
    sequences = envs * n_steps / mean_length  # of an update, on average
    gradients = torch.stack(agent.parts) / sequences
    error = gradients.std(dim=0) / updates**0.5
    assert error.norm() < 0.15 * expected.norm()  # else anything would pass
    # Neighbouring updates share sequences, so that their errors are not independent: five of them, not four.
    assert ((gradients.mean(dim=0) - expected).abs() <= 5 * error + 1e-8).all()


def test_an_update_weighs_each_token_by_its_own_action_value(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through environment, buffer and loss, with rows that end at different steps and begin anew."""
    generator = LSTMSequenceModel(V, 4, 4, init_std=0.5, seed=4)
    reward = TableReward(V, T)
    agent = REINFORCE(
        SequencePolicy,
        SequenceVecEnv(SequenceVectorEnv(task, 16, reward_model=reward, n_rollouts=1)),
        learning_rate=0.0,
        policy_kwargs={"generator": generator},
        seed=0,
        device="cpu",
    )
    seen: dict[str, Tensor] = {}
    original = generator.weighted_log_likelihood

    def spy(sequences: Tensor, weights: Tensor, inputs: Tensor | None = None) -> Tensor:
        seen.update(sequences=sequences, weights=weights)
        return original(sequences, weights, inputs)

    monkeypatch.setattr(generator, "weighted_log_likelihood", spy)
    agent.learn(16 * T)
    sequences, weights = seen["sequences"], seen["weights"]
    assert int((sequences < V).sum()) == 16 * T  # every token of the buffer stands once
    assert bool((weights[sequences == V] == 0).all())
    assert bool((weights[sequences < V] > 0).all())
    lengths = (sequences < V).sum(dim=1)
    finished = (sequences == EOS).any(dim=1) | (lengths == T)
    assert 0 < int((~finished).sum()) <= 16  # at most one of each row is cut by the end of the buffer
    last = weights[torch.arange(len(weights)), lengths - 1]
    torch.testing.assert_close(last[finished], reward(sequences[finished]).float())  # R(Y) at the end (Eq. 4)


# Discriminator and game.


@pytest.mark.parametrize("kind", ["cnn", *map(slow, ("rcnn", "bigru", "transformer", "ensemble"))])
def test_a_discriminators_epoch_is_one_on_its_sequences_one_by_one(kind: str, task: Task) -> None:
    options = {"filters": ((1, 3), (3, 4)), "embedding_size": 4, "hidden_size": 3, "dropout": 0.0, "seed": 2}
    discriminator = build_discriminator(kind, task, **options)
    trainer = DiscriminatorTrainer(discriminator, task, batch_size=128, learning_rate=1e-9)
    real, generated = task.real_sequences("train"), task.real_sequences("test")
    loss = trainer.epoch(real, generated)
    got = flat_gradient(discriminator)
    discriminator.zero_grad()
    total = torch.zeros(())
    for sequences, label in ((real, 1.0), (generated, 0.0)):
        for row in sequences:
            logits = discriminator.member_logits(row.unsqueeze(0))  # (M, 1)
            total = total + F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label)) / 128  # Eq. 5
    (total + discriminator.penalty()).backward()
    assert loss == pytest.approx(total.item(), rel=1e-5)
    torch.testing.assert_close(got, flat_gradient(discriminator), atol=1e-6, rtol=1e-3)


def mixed_config(**changes: Any) -> SeqGANConfig:
    return tiny_config(**{"sequence_length": T, "batch_size": 32, "rounds": 4, "checkpoint_every": 1} | changes)


@pytest.mark.parametrize(("kind", "baseline"), [("lstm", "none"), slow("transformer", "value")])
def test_a_game_that_is_restored_with_sequences_half_written_goes_on_as_one_that_was_not(
    tmp_path: Path, task: Task, kind: str, baseline: str
) -> None:
    def files(folder: str, *counts: int) -> Path:
        """Train in so many pieces, each from the checkpoint of the one before; the last checkpoint."""
        path = tmp_path / f"{folder}.safetensors"
        for rounds in counts:
            game = SeqGAN(task, mixed_config(generator=kind, baseline=baseline, rounds=rounds))
            if path.is_file():
                restore(game, *read_tensors(path))
            game.train()
            write_tensors(path, *snapshot(game))
        return path

    whole, pieces = files("whole", 4), files("pieces", 1, 2, 4)
    (tensors, state), (expected, expected_state) = read_tensors(pieces), read_tensors(whole)
    assert 0 < int(expected["env.episodes.lengths"].max()) < T  # some are half written
    assert state == expected_state
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0, equal_nan=True)


def test_a_run_whose_sequences_differ_in_length_is_measured_without_an_oracle(tmp_path: Path, task: Task) -> None:
    task.oracle = None
    run = RunFolder.create(tmp_path / "run", task, mixed_config(), "toy")
    Experiment(run, console=Console(quiet=True), show_progress=False).train()
    measured = [row for row in run.metrics() if row["nll_test"]]
    assert measured
    assert all(row["nll_oracle"] == "" for row in measured)
