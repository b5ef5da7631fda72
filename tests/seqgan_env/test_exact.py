"""The exact world against definitions written out, and the library's estimators against the exact world."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from seqgan_env.exact import MOST_SEQUENCES, ExactWorld, count_sequences
from seqgan_env.measures.likelihood import measure_generator
from seqgan_env.models.sequence_models import GRUSequenceModel, LSTMSequenceModel
from seqgan_env.monte_carlo import action_values
from seqgan_env.rewards import ConstantReward, OracleReward
from seqgan_env.rollout_policies import NGramPolicy, UniformPolicy, replay, sample_sequences
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences
from seqgan_env.testing import check_rollout_policy
from tests.toy_world import PointPolicy, SuccessorPolicy, TableReward


@pytest.fixture
def world(task: Task) -> ExactWorld:
    return ExactWorld.of(task)


def padded(sequence: tuple[int, ...], eos: int, length: int, pad: int) -> tuple[int, ...]:
    """What is left of a sequence of tokens when it ends at its first EOS."""
    kept = sequence[: sequence.index(eos) + 1] if eos in sequence else sequence
    return kept + (pad,) * (length - len(kept))


def flat(gradient: dict[str, Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in gradient.values()])


@pytest.mark.parametrize(("v", "t"), [(1, 1), (2, 4), (3, 3), (5, 2)])
def test_without_eos_all_sequences_are_there_in_order(v: int, t: int) -> None:
    assert torch.equal(ExactWorld(v, t).sequences, enumerate_sequences(v, t))


@pytest.mark.parametrize(("v", "t", "eos"), [(1, 3, 0), (2, 3, 0), (3, 4, 1), (4, 3, 3)])
def test_with_eos_each_sequence_ends_once_and_is_there_once(v: int, t: int, eos: int) -> None:
    expected = sorted({padded(y, eos, t, v) for y in itertools.product(range(v), repeat=t)})
    world = ExactWorld(v, t, eos)
    assert world.sequences.tolist() == [list(y) for y in expected]
    assert count_sequences(v, t, eos) == len(expected) == len(world)
    assert world.lengths.tolist() == [sum(token < v for token in y) for y in expected]


def test_too_large_a_world_is_refused_and_the_number_is_said() -> None:
    with pytest.raises(ValueError, match="make 3,200,000 sequences; at most 200,000"):
        ExactWorld(20, 5)
    with pytest.raises(ValueError, match=r"about 10\^73 sequences"):
        ExactWorld(5000, 20)
    assert len(ExactWorld(2, 17)) == 2**17 <= MOST_SEQUENCES


@pytest.mark.parametrize(
    ("arguments", "named"), [((0, 3), "vocab_size=0"), ((3, 0), "sequence_length=0"), ((3, 3, 3), "eos_token=3")]
)
def test_arguments_out_of_range_are_named(arguments: tuple[int, ...], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ExactWorld(*arguments)


def test_probabilities_are_products_of_conditionals(world: ExactWorld, model: LSTMSequenceModel) -> None:
    for sequence, probability in zip(world.sequences, world.probabilities(model), strict=True):
        state, expected = model.initial_state(1), 1.0
        for token in sequence:
            expected *= float(torch.softmax(model.output(model.features(state)).detach(), dim=1)[0, token])
            state = model.advance(state, token.view(1))
        assert probability == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("eos", [None, 0, 2])
def test_probabilities_of_all_sequences_sum_to_one(eos: int | None, model: LSTMSequenceModel) -> None:
    world = ExactWorld(3, 4, eos)
    for policy in (model, UniformPolicy(3), PointPolicy(3, 1), SuccessorPolicy(3)):
        assert world.probabilities(policy).sum() == pytest.approx(1, abs=1e-5)


def test_a_world_whose_sequences_all_end_early_has_one_sequence() -> None:
    world = ExactWorld(1, 3, 0)
    assert world.sequences.tolist() == [[0, 1, 1]]
    for policy in (UniformPolicy(1), PointPolicy(1, 0)):
        assert world.probabilities(policy).tolist() == [1.0]


def test_a_policy_that_only_draws_is_known_by_its_draws(world: ExactWorld, model: LSTMSequenceModel) -> None:
    class OnlyDraws:
        vocab_size = 3
        initial_state, advance, draw = model.initial_state, model.advance, model.draw

    exact, by_drawing = world.log_probs(model), world.log_probs(OnlyDraws())
    np.testing.assert_allclose(np.exp(by_drawing), np.exp(exact), atol=2e-4)
    sequences = sample_sequences(model, 200, 3, np.random.default_rng(0))
    ngram = NGramPolicy(sequences, 3, order=1, backoff=0.2)
    first = np.bincount(sequences.flatten().numpy(), minlength=3) / sequences.numel()
    shares = 0.8 * first + 0.2 / 3
    np.testing.assert_allclose(world.probabilities(ngram), shares[world.sequences.numpy()].prod(axis=1), atol=1e-3)


def test_other_vocabularies_and_false_likelihoods_are_refused(world: ExactWorld) -> None:
    class Unnormalised(UniformPolicy):
        def log_probs(self, sequences: Tensor) -> Tensor:
            return super().log_probs(sequences) / math.log(2)  # base 2 instead of e

    with pytest.raises(ValueError, match="vocab_size=4, the world 3"):
        world.probabilities(UniformPolicy(4))
    with pytest.raises(ValueError, match="natural logarithms"):
        world.probabilities(Unnormalised(3))
    with pytest.raises(ValueError, match=r"shape \(5,\), expected \(27,\)"):
        world.probabilities(np.full(5, 0.2))
    with pytest.raises(ValueError, match="sum to 1, got the sum 2"):
        world.entropy(np.full(27, 2 / 27))


@pytest.mark.parametrize("eos", [None, 1])
def test_action_values_satisfy_bellmans_equation(eos: int | None, model: LSTMSequenceModel) -> None:
    world, reward = ExactWorld(3, 4, eos), TableReward(3, 4)
    q, conditionals = world.action_values(reward, model), np.exp(world.log_probs(model))
    rewards = world.rewards(reward)
    values = {}
    for s, sequence in enumerate(world.sequences.tolist()):
        for t in range(world.lengths[s]):
            values[tuple(sequence[: t + 1])] = q[s, t], conditionals[s, t]
    for prefix, (value, _) in values.items():
        successors = [values[(*prefix, token)] for token in range(3) if (*prefix, token) in values]
        if successors:
            assert value == pytest.approx(sum(v * p for v, p in successors), rel=1e-4)
        else:
            (row,) = np.flatnonzero(world.beginning_with(prefix))
            assert value == pytest.approx(rewards[row])
    assert (q[world.sequences.numpy() == 3] == 0).all()


def test_the_search_estimates_the_exact_action_values(world: ExactWorld, model: LSTMSequenceModel) -> None:
    exact = world.action_values(TableReward(), model)
    sequences = world.sequences.numpy().copy()
    sequences[:, 1:] = 3  # prefixes of one token
    lengths = np.ones(27, dtype=np.int64)
    state = replay(model, torch.from_numpy(sequences), torch.from_numpy(lengths))
    rngs = [np.random.default_rng(i) for i in range(27)]
    found = action_values(model, state, sequences, lengths, lengths > 1, TableReward(), 4000, rngs)
    for s, prefix in enumerate(sequences[:, :1]):
        value = world.action_value(prefix.tolist(), TableReward(), model)
        assert value.mean == pytest.approx(exact[s, 0], rel=1e-5)
        assert abs(found[s] - exact[s, 0]) < 5 * value.deviation / math.sqrt(4000)


def test_a_policy_may_complete_prefixes_that_it_never_writes(world: ExactWorld) -> None:
    q = world.action_values(TableReward(), PointPolicy(3, 2))
    rewards = world.rewards(TableReward())
    (row,) = np.flatnonzero(world.beginning_with((0, 1, 2)))
    assert q[row, 1] == pytest.approx(rewards[row])  # 2 is the only continuation of 0 1
    with pytest.raises(ValueError, match=r"prefix=\[0, 5\] begins no sequence"):
        world.action_value((0, 5), TableReward(), UniformPolicy(3))


@pytest.mark.parametrize("eos", [None, 1])
def test_the_gradient_is_that_of_the_objective(eos: int | None) -> None:
    world, reward = ExactWorld(3, 3, eos), TableReward()
    model = GRUSequenceModel(3, 2, 3, init_std=1.0, seed=5)
    gradient = world.gradient(model, reward)
    for name, parameter in model.named_parameters():
        numeric = torch.zeros(parameter.numel())
        flat_parameter = parameter.data.view(-1)
        for i in range(parameter.numel()):
            kept = float(flat_parameter[i])
            ends = []
            for step in (1e-2, -1e-2):
                flat_parameter[i] = kept + step
                ends.append(world.objective(model, reward))
            flat_parameter[i] = kept
            numeric[i] = (ends[0] - ends[1]) / 2e-2
        torch.testing.assert_close(gradient[name].view(-1), numeric, atol=2e-4, rtol=2e-2)


def test_another_rollout_policy_bends_the_gradient_and_a_constant_reward_has_none(
    world: ExactWorld, model: LSTMSequenceModel
) -> None:
    own = flat(world.gradient(model, TableReward()))
    assert torch.allclose(own, flat(world.gradient(model, TableReward(), model)))
    assert (own - flat(world.gradient(model, TableReward(), UniformPolicy(3)))).norm() > 0.05 * own.norm()
    assert flat(world.gradient(model, ConstantReward())).abs().max() < 1e-5
    with pytest.raises(ValueError, match=r"temperature=0\.5"):
        world.gradient(model.at_temperature(0.5), TableReward())


def test_the_best_policy_writes_the_best_sequence(world: ExactWorld) -> None:
    sequence, reward = world.best_sequence(TableReward())
    policy = world.best_policy(TableReward())
    assert reward == world.rewards(TableReward()).max() == pytest.approx(world.objective(policy, TableReward()))
    assert (sample_sequences(policy, 9, 3, np.random.default_rng(0)).numpy() == sequence).all()


def test_the_anchored_optimum_beats_every_neighbour(world: ExactWorld, model: LSTMSequenceModel) -> None:
    weight = 0.3
    best = world.probabilities(world.best_policy(TableReward(), anchor=model, weight=weight))

    def anchored(p: np.ndarray) -> float:
        return world.objective(p, TableReward()) - weight * world.kl(p, model, "sequence")

    rng = np.random.default_rng(0)
    for _ in range(20):
        other = 0.95 * best + 0.05 * rng.dirichlet(np.ones(27))
        assert anchored(other) < anchored(best)
    with pytest.raises(ValueError, match="weight=0"):
        world.best_policy(TableReward(), model, 0)


@pytest.mark.parametrize("eos", [None, 1])
def test_any_distribution_is_a_policy(eos: int | None) -> None:
    world = ExactWorld(3, 4, eos)
    p = np.random.default_rng(0).dirichlet(np.full(len(world), 0.3))
    policy = world.policy(p)
    check_rollout_policy(policy)
    np.testing.assert_allclose(world.probabilities(policy), p, atol=1e-12)
    drawn = sample_sequences(policy, 20_000, 4, np.random.default_rng(1), eos)
    shares = (drawn[:, None] == world.sequences).all(dim=2).double().mean(dim=0).numpy()
    assert np.abs(shares - p).max() < 5 * np.sqrt(p.max() / 20_000)


def test_the_best_discriminator_has_the_lowest_loss(world: ExactWorld, task: Task, model: LSTMSequenceModel) -> None:
    best = world.best_discriminator(task.oracle, model)
    p, g = world.probabilities(task.oracle), world.probabilities(model)
    np.testing.assert_allclose(best, p / (p + g))
    lowest = world.discriminator_loss(best, task.oracle, model)
    for s in range(27):
        for step in (0.01, -0.01):
            other = best.copy()
            other[s] = np.clip(other[s] + step, 1e-9, 1 - 1e-9)
            assert world.discriminator_loss(other, task.oracle, model) > lowest
    m = (p + g) / 2
    divergence = (world.kl(p, m, "sequence") + world.kl(g, m, "sequence")) / 2
    assert world.jensen_shannon(task.oracle, model) == pytest.approx(divergence, rel=1e-6)
    assert world.jensen_shannon(model, model) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("eos", [None, 2])
def test_what_is_measured_estimates_the_exact_nlls(eos: int | None, task: Task, model: LSTMSequenceModel) -> None:
    world = ExactWorld(3, 3, eos)
    test = sample_sequences(task.oracle, 20_000, 3, np.random.default_rng(0), eos)
    metrics = measure_generator(
        model, test, np.random.default_rng(1), oracle=task.oracle, n_samples=20_000, eos_token=eos
    )
    for estimate, exact in (
        (metrics.nll_oracle, world.nll(model, task.oracle)),
        (metrics.nll_test, world.nll(task.oracle, model)),
        (metrics.entropy, world.entropy(model)),
        (metrics.kl_from_oracle, world.kl(model, task.oracle)),
        (metrics.kl_to_oracle, world.kl(task.oracle, model)),
    ):
        assert abs(estimate.mean - exact) < 5 * estimate.standard_error


def test_units_and_impossible_sequences(world: ExactWorld, task: Task) -> None:
    uniform = UniformPolicy(3)
    assert world.entropy(uniform) == pytest.approx(math.log(3))
    assert world.entropy(uniform, "sequence") == pytest.approx(3 * math.log(3))
    assert world.nll(uniform, PointPolicy(3, 0)) == math.inf
    assert world.kl(PointPolicy(3, 0), uniform, "sequence") == pytest.approx(3 * math.log(3))
    with pytest.raises(ValueError, match="per='word'"):
        world.nll(uniform, uniform, "word")  # type: ignore[arg-type]
    likelihood = world.objective(task.oracle, OracleReward(task.oracle))
    assert 1 / 3 < likelihood < 1
