"""CoT, DDO, DPG: their updates against enumerated gradients, and their optima against exact distributions."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.cot import CoT, future_divergences, token_divergences
from agents.ddo import DDO
from agents.dpg import DPG
from seqgan_env.models.sequence_models import LSTMSequenceModel, SequenceModel, State, shift_right
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences, toy_task
from tests.agents.test_sequence_learners import (
    EVERYTHING,
    ascent_directions,
    assert_mean_is,
    env_of,
    flat_gradient,
    gradient,
    log_likelihoods,
    moved,
    new_model,
    still,
    world,
)
from tests.toy_world import WORLD, TableReward

FREE = {"reward_model": "constant"}


class TableModel(SequenceModel):
    """The conditional distributions of some sequences with given probabilities, exactly: one row for each prefix."""

    def __init__(self, sequences: Tensor, probabilities: Tensor) -> None:
        prefixes = {tuple(row[:t].tolist()) for row in sequences for t in range(sequences.shape[1])}
        self.places = {prefix: place for place, prefix in enumerate(sorted(prefixes))}
        super().__init__(3, len(self.places))
        self.double()
        mass = torch.zeros(len(self.places), 3, dtype=torch.float64)
        for row, p in zip(sequences.tolist(), probabilities.tolist(), strict=True):
            for t, token in enumerate(row):
                if token < 3:
                    mass[self.places[tuple(row[:t])], token] += p
        mass[mass.sum(dim=1) == 0] = 1.0  # prefixes that have ended: nothing reads these rows
        with torch.no_grad():
            self.output.weight.copy_((mass / mass.sum(dim=1, keepdim=True)).log().t())

    def hidden_states(self, inputs: Tensor) -> Tensor:
        rows = [[self.places.get(tuple(row[1 : t + 1]), 0) for t in range(len(row))] for row in inputs.tolist()]
        return torch.nn.functional.one_hot(torch.tensor(rows), self.hidden_size).double()

    def initial_state(self, batch_size: int) -> State:
        raise NotImplementedError

    def advance(self, state: State, tokens: Tensor) -> State:
        raise NotImplementedError

    def features(self, state: State) -> Tensor:
        raise NotImplementedError


def probabilities(model: SequenceModel, sequences: Tensor) -> Tensor:
    """p(Y) of each sequence, (R,), differentiable."""
    return log_likelihoods(model, sequences).sum(dim=1).exp()


def jensen_shannon(model: SequenceModel, real: Tensor, sequences: Tensor) -> Tensor:
    """JSD(p, G) as its definition says, nats, differentiable."""
    g = probabilities(model, sequences)
    mixture = (g + real) / 2
    return ((real * (real / mixture).log()).sum() + (g * (g / mixture).log()).sum()) / 2


def conditional_divergences(model: SequenceModel, mediator: TableModel, sequences: Tensor) -> Tensor:
    """k_t(s) before each token, by a plain softmax over all tokens: (R, T), differentiable, 0 at PAD."""
    inputs = shift_right(sequences, 3)
    log_g = torch.log_softmax(model.output(model.hidden_states(inputs)), dim=2)
    log_m = torch.log_softmax(mediator.output(mediator.hidden_states(inputs)), dim=2).detach()
    return (log_g.exp() * (log_g - log_m)).sum(dim=2) * (sequences < 3)


def cot_with(model: SequenceModel, mediator: SequenceModel, task: Task, num_envs: int, **keywords: Any) -> CoT:
    """A learner that stands still, and so does its mediator."""
    options = {"mediator_steps": 0, "mediator_pretraining": 0} | keywords
    agent: CoT = still(CoT, env_of(task, num_envs, **FREE), model, **options)
    agent.learn(0)
    agent.mediator.generator = mediator
    return agent


def expected_direction(agent: Any, weights: Tensor, sequences: Tensor) -> Tensor:
    """The mean of the update's direction over all sequences, each of them alone in an update: no sampling error."""
    total = torch.zeros_like(flat_gradient(agent.policy).double())
    for row, weight in zip(sequences, weights, strict=True):
        agent._descend(agent.batch_of(row[None], torch.zeros(1), torch.zeros(1, dtype=torch.int64)))
        total -= weight * flat_gradient(agent.policy).double()
    return total


# CoT.


@pytest.mark.parametrize("ends_early", [False, True])
def test_cots_update_and_the_part_that_it_drops_are_the_gradient_of_twice_the_jsd(ends_early: bool) -> None:
    """Where M is the mixture of real and generated itself."""
    task, sequences = world(ends_early)
    model = new_model()
    real = TableReward()(sequences) ** 2
    real = real / real.sum()
    mixture = TableModel(sequences, (real + probabilities(model, sequences).detach().double()) / 2)
    whole = -2 * gradient(model, jensen_shannon(model, real, sequences))

    divergences = conditional_divergences(model, mixture, sequences)
    played = probabilities(model, sequences).detach()
    kept = -gradient(model, (played[:, None] * divergences).sum())
    later = divergences.detach().flip(1).cumsum(dim=1).flip(1) - divergences.detach()
    dropped = -gradient(model, (played[:, None] * later * log_likelihoods(model, sequences)).sum())
    torch.testing.assert_close(kept + dropped, whole, rtol=1e-4, atol=1e-6)
    assert dropped.norm() > 0.1 * whole.norm()  # so that the next line tells the two apart

    agent = cot_with(model, mixture, task, num_envs=1)
    torch.testing.assert_close(expected_direction(agent, played, sequences), kept, rtol=1e-3, atol=1e-5)


def test_cot_drops_nothing_where_a_sequence_is_one_token() -> None:
    model, sequences = new_model(), enumerate_sequences(3, 1)
    real = probabilities(new_model(9), sequences).detach().double()
    mixture = TableModel(sequences, (real + probabilities(model, sequences).detach().double()) / 2)
    agent = cot_with(model, mixture, toy_task(3, 1), num_envs=1)
    whole = -2 * gradient(model, jensen_shannon(model, real, sequences))
    found = expected_direction(agent, probabilities(model, sequences).detach(), sequences)
    torch.testing.assert_close(found, whole, rtol=1e-3, atol=1e-6)


def test_with_its_future_cots_played_update_is_the_gradient_of_twice_the_jsd() -> None:
    model = new_model()
    real = probabilities(new_model(9), EVERYTHING).detach().double()
    mixture = TableModel(EVERYTHING, (real + probabilities(model, EVERYTHING).detach().double()) / 2)
    agent = cot_with(model, mixture, toy_task(), num_envs=96, future_weight=1.0)
    whole = -2 * gradient(model, jensen_shannon(model, real, EVERYTHING))
    assert_mean_is(ascent_directions(agent, 60), whole)


def test_token_divergences_are_zero_where_both_models_agree_and_at_pad() -> None:
    model = new_model()
    _, sequences = world(ends_early=True)
    assert token_divergences(model, copy.deepcopy(model), sequences).abs().max() < 1e-6
    found = token_divergences(model, new_model(8), sequences)
    assert (found[sequences < 3] > 0).all()
    assert (found[sequences == 3] == 0).all()


def test_future_divergences_on_literal_numbers() -> None:
    found = future_divergences(torch.tensor([[1.0, 2.0, 4.0], [3.0, 5.0, 9.0]]), torch.tensor([0, 1]))
    assert found.tolist() == [[6.0 - 14.0, 4.0 - 9.0, 0.0], [14.0 - 6.0, 9.0 - 4.0, 0.0]]


def test_the_mediator_learns_the_mixture_of_real_and_generated() -> None:
    task = toy_task(n_sequences=20_000)
    model = LSTMSequenceModel(3, 8, 8, init_std=1.0, seed=5)
    agent = cot_with(model, copy.deepcopy(model), task, 64, mediator_dropout=0.0, mediator_learning_rate=1e-2)
    agent.mediator_optimizer = torch.optim.AdamW(agent.mediator.generator.parameters(), lr=1e-2)
    assert task.oracle is not None
    mixture = (WORLD.probabilities(task.oracle) + WORLD.probabilities(model)) / 2
    before = WORLD.kl(mixture, agent.mediator.generator)
    agent.train_mediator(200)
    assert WORLD.kl(mixture, agent.mediator.generator) < 0.1 * before
    assert WORLD.kl(model, agent.policy.generator) == 0  # M learns, not G


def test_cot_lowers_the_exact_jsd() -> None:
    task = toy_task(n_sequences=20_000)
    generator = LSTMSequenceModel(3, 8, 8, init_std=1.0, seed=5)
    assert task.oracle is not None
    before = WORLD.jensen_shannon(task.oracle, generator)
    options = {"learning_rate": 1e-2, "mediator_dropout": 0.0, "mediator_learning_rate": 1e-2, "max_grad_norm": 1.0}
    still(CoT, env_of(task, 64, **FREE), generator, mediator_pretraining=50, **options).learn(64 * 3 * 60)
    assert WORLD.jensen_shannon(task.oracle, generator) < 0.2 * before


# DDO.


def ddo_loss(model: SequenceModel, reference: SequenceModel, real: Tensor, alpha: float, beta: float) -> Tensor:
    """The loss of the paper, over all 27 sequences: a plain reading."""
    ratio = log_likelihoods(model, EVERYTHING).sum(dim=1) - log_likelihoods(reference, EVERYTHING).sum(dim=1).detach()
    d = torch.sigmoid(beta * ratio)
    drawn = probabilities(reference, EVERYTHING).detach()
    return -(real * d.log()).sum() - alpha * (drawn * (1 - d).log()).sum()


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.3, 0.7)])
def test_ddos_played_update_is_the_gradient_of_its_loss(alpha: float, beta: float) -> None:
    model, reference, oracle = new_model(), new_model(8), new_model(9)
    task = toy_task(oracle=oracle, n_sequences=20_000)
    rows = (task.real_sequences("train") * torch.tensor([9, 3, 1])).sum(dim=1)
    real = torch.bincount(rows, minlength=27) / len(rows)
    expected = -gradient(model, ddo_loss(model, reference, real, alpha, beta))
    agent = still(DDO, env_of(task, 96, **FREE), model, reference, alpha=alpha, beta=beta)
    assert_mean_is(ascent_directions(agent, 100), expected)


@pytest.mark.parametrize("reference", [8, 5])
def test_the_real_distribution_minimises_ddos_loss_whatever_the_reference(reference: int) -> None:
    """At G = p the enumerated gradient is 0; the learner's own loss is the same function there."""
    model = new_model(9)
    real = probabilities(model, EVERYTHING).detach()
    at_real = gradient(model, ddo_loss(model, new_model(reference), real, 1.0, 1.0))
    elsewhere = moved(model)
    aside = gradient(elsewhere, ddo_loss(elsewhere, new_model(reference), real, 1.0, 1.0))
    assert at_real.norm() < 1e-5 < 1e-2 < aside.norm()


def test_ddos_negatives_come_from_its_reference_and_not_from_the_generator() -> None:
    model, reference = new_model(), new_model(8)
    with torch.no_grad():
        reference.output.bias[1] += 100
    task = toy_task()
    agent = still(DDO, env_of(task, 4, **FREE), model, reference)
    agent.learn(12)
    batch = agent._batch()
    assert batch.sequences[4:].tolist() == [[1, 1, 1]] * 4
    real = {tuple(row) for row in task.real_sequences("train").tolist()}
    assert {tuple(row) for row in batch.sequences[:4].tolist()} <= real


def test_ddo_comes_nearer_to_the_real_distribution() -> None:
    task = toy_task(n_sequences=20_000)
    generator = LSTMSequenceModel(3, 8, 8, init_std=1.0, seed=5)
    assert task.oracle is not None
    before = WORLD.kl(task.oracle, generator)
    options = {"learning_rate": 1e-2, "max_grad_norm": 1.0}
    still(DDO, env_of(task, 64, **FREE), generator, **options).learn(64 * 3 * 60)
    assert WORLD.kl(task.oracle, generator) < 0.2 * before


# DPG.


def test_dpgs_update_over_all_pairs_is_the_enumerated_one() -> None:
    """Exactly: one update for each pair of different sequences, weighted with the pair's probability under G."""
    model, reference, temperature = new_model(), new_model(8), 1.7
    rewards = TableReward()(EVERYTHING).float()
    log_p = log_likelihoods(model, EVERYTHING).sum(dim=1)
    scores = rewards / temperature + log_likelihoods(reference, EVERYTHING).sum(dim=1).detach() - log_p.detach()
    first = torch.sigmoid(scores[:, None] - scores[None]) - 0.5  # weight of the first of a pair, less the mean weight
    p = log_p.exp().detach().double()
    expected = gradient(model, (2 * p[:, None] * p[None] * first * log_p[:, None]).sum())
    agent = still(DPG, env_of(toy_task(), 2), model, reference, temperature=temperature)
    agent.learn(0)
    mean = torch.zeros_like(expected)
    for pair in itertools.combinations(range(len(EVERYTHING)), 2):  # a pair of equal ones has no gradient
        rows = torch.tensor(pair)
        agent._descend(agent.batch_of(EVERYTHING[rows], rewards[rows], torch.tensor([0, 1])))
        mean -= 2 * p[pair[0]] * p[pair[1]] * flat_gradient(agent.policy).double()
    assert torch.allclose(mean, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_the_target_of_dpg_is_where_its_weights_are_all_equal() -> None:
    """At G = G_0 exp(R / temperature) / Z nothing is left to learn, whatever was drawn."""
    reference = new_model(8)
    rewards = TableReward()(EVERYTHING).double()
    target = WORLD.best_policy(TableReward(), anchor=reference, weight=0.5)
    log_target = torch.from_numpy(WORLD.log_probs(target))
    agent = still(DPG, env_of(toy_task(), 2), new_model(), reference, temperature=0.5)
    batch = agent.batch_of(EVERYTHING, rewards.float(), torch.arange(27))
    object.__setattr__(batch, "old_log_probs", log_target.float())
    torch.testing.assert_close(agent.importance_weights(batch), torch.full((27,), 1 / 27), rtol=1e-4, atol=0)


def test_dpg_comes_near_to_its_target() -> None:
    task = toy_task()
    generator = LSTMSequenceModel(3, 8, 8, init_std=1.0, seed=5)
    reward = TableReward()
    target = WORLD.probabilities(WORLD.best_policy(reward, anchor=copy.deepcopy(generator), weight=0.25))
    before = WORLD.kl(target, generator)
    options = {"learning_rate": 2e-2, "temperature": 0.25, "max_grad_norm": 1.0}
    agent = still(DPG, env_of(task, 64, reward_model=reward), generator, **options).learn(64 * 3 * 50)
    assert WORLD.kl(target, generator) < 0.2 * before
    assert 1 <= agent.logger.name_to_value["train/effective_sample_size"] <= 64 + 1e-3
