"""`metrics`: estimates against enumeration in the toy world."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from seqgan_env.measures.likelihood import (
    Estimate,
    GeneratorMetrics,
    distinct_share,
    estimate,
    measure_generator,
    measure_samples,
    negative_log_likelihood,
    nll_per_token,
    real_metrics,
    token_counts,
)
from seqgan_env.models.sequence_models import LSTMSequenceModel, SequenceModel
from seqgan_env.rollout_policies import NGramPolicy, UniformPolicy, sample_sequences
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences
from tests.toy_world import sequence_probabilities

N = 20_000


@pytest.fixture
def test_sequences(task: Task) -> Tensor:
    return sample_sequences(task.oracle, N, 3, np.random.default_rng(5))


@pytest.fixture
def metrics(model: LSTMSequenceModel, task: Task, test_sequences: Tensor) -> GeneratorMetrics:
    return measure_generator(model, test_sequences, np.random.default_rng(6), oracle=task.oracle, n_samples=N)


def exact(weights: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation, a token, of values that are sums over a sequence."""
    mean = weights @ values
    return mean / 3, float(np.sqrt(weights @ (values - mean) ** 2)) / 3


@pytest.mark.parametrize("field", ["nll_oracle", "nll_test", "entropy", "kl_from_oracle", "kl_to_oracle"])
def test_each_measure_agrees_with_enumeration(
    field: str, metrics: GeneratorMetrics, model: LSTMSequenceModel, task: Task
) -> None:
    everything = enumerate_sequences(3, 3)
    g, o = sequence_probabilities(model, everything), sequence_probabilities(task.oracle, everything)
    mean, deviation = {
        "nll_oracle": exact(g, -np.log(o)),
        "nll_test": exact(o, -np.log(g)),
        "entropy": exact(g, -np.log(g)),
        "kl_from_oracle": exact(g, np.log(g / o)),
        "kl_to_oracle": exact(o, np.log(o / g)),
    }[field]
    measured = getattr(metrics, field)
    error = deviation / np.sqrt(N)
    assert abs(measured.mean - mean) < 4 * error
    assert measured.standard_error == pytest.approx(error, rel=0.05)
    if field.startswith("kl"):
        assert measured.mean > 10 * error  # a divergence, and of a model that is another


def test_nll_oracle_and_nll_test_differ_by_the_divergences(metrics: GeneratorMetrics) -> None:
    assert metrics.nll_oracle.mean - metrics.entropy.mean == pytest.approx(metrics.kl_from_oracle.mean)


def test_the_oracle_is_at_distance_zero_from_itself(task: Task, test_sequences: Tensor) -> None:
    metrics = measure_generator(
        task.oracle, test_sequences, np.random.default_rng(0), oracle=task.oracle, n_samples=1000
    )
    assert metrics.kl_from_oracle == Estimate(0.0, 0.0)
    assert metrics.kl_to_oracle == Estimate(0.0, 0.0)
    assert metrics.nll_oracle == metrics.entropy


def test_the_uniform_policy_is_measured_exactly(task: Task, test_sequences: Tensor) -> None:
    metrics = measure_generator(
        UniformPolicy(3), test_sequences, np.random.default_rng(0), oracle=task.oracle, n_samples=N
    )
    everything = enumerate_sequences(3, 3)
    mean, deviation = exact(np.full(27, 1 / 27), -np.log(sequence_probabilities(task.oracle, everything)))
    assert abs(metrics.nll_oracle.mean - mean) < 4 * deviation / np.sqrt(N)
    assert metrics.nll_test.mean == pytest.approx(np.log(3))
    assert metrics.entropy.mean == pytest.approx(np.log(3))
    assert metrics.distinct == 27 / N
    assert metrics.n_samples == N


def test_without_a_likelihood_only_nll_oracle_and_the_distinct_share_are_known(
    task: Task, test_sequences: Tensor
) -> None:
    policy = NGramPolicy(test_sequences, 3)
    metrics = measure_generator(policy, test_sequences, np.random.default_rng(0), oracle=task.oracle, n_samples=N)
    assert metrics.nll_test is None
    assert metrics.entropy is None
    assert metrics.kl_from_oracle is None
    assert metrics.kl_to_oracle is None
    assert metrics.nll_oracle.mean > 0
    assert metrics.distinct == 27 / N


def test_without_an_oracle_the_generators_own_measures_remain(model: LSTMSequenceModel, test_sequences: Tensor) -> None:
    metrics = measure_generator(model, test_sequences, np.random.default_rng(0), n_samples=100)
    assert metrics.nll_oracle is metrics.kl_from_oracle is metrics.kl_to_oracle is None
    assert metrics.nll_test.mean > 0
    assert metrics.entropy.mean > 0


def test_a_lower_temperature_lowers_nll_oracle_and_raises_nll_test(task: Task, test_sequences: Tensor) -> None:
    whole, sharp = (
        measure_generator(
            task.oracle.at_temperature(t), test_sequences, np.random.default_rng(0), oracle=task.oracle, n_samples=N
        )
        for t in (1.0, 0.5)
    )
    for measure, sign in (("nll_oracle", -1), ("nll_test", 1)):
        difference = getattr(sharp, measure) - getattr(whole, measure)
        assert sign * difference.mean > 10 * difference.standard_error


def test_samples_end_at_eos() -> None:
    model = LSTMSequenceModel(3, 2, 2)
    with torch.no_grad():
        model.output.bias.copy_(torch.tensor([0.0, 0.0, 60.0]))
    metrics = measure_generator(
        model, torch.tensor([[2, 3, 3]]), np.random.default_rng(0), oracle=model, n_samples=50, eos_token=2
    )
    assert metrics.distinct == 1 / 50  # all are EOS at once
    assert metrics.entropy.mean == pytest.approx(0.0, abs=1e-5)  # a float32 logit of 60 is exact to 4e-6


def test_the_nll_of_a_sequence_is_a_mean_over_its_tokens(model: LSTMSequenceModel) -> None:
    sequences = torch.tensor([[0, 1, 2], [2, 1, 3]])
    log_probs = model.log_probs(sequences).double().numpy()
    expected = [-log_probs[0].sum() / 3, -log_probs[1].sum() / 2]
    np.testing.assert_allclose(negative_log_likelihood(model, sequences), expected)


def test_a_standard_error_is_the_deviation_over_the_root_of_the_count() -> None:
    measured = estimate(np.array([1.0, 2.0, 3.0, 6.0]))
    assert measured.mean == 3.0
    assert measured.standard_error == pytest.approx(np.sqrt(14 / 3) / 2)


def test_one_value_has_no_standard_error() -> None:
    measured = estimate(np.array([1.5]))
    assert measured.mean == 1.5
    assert np.isnan(measured.standard_error)


def test_two_values_have_one() -> None:
    assert estimate(np.array([1.0, 3.0])) == Estimate(2.0, 1.0)


def test_tokens_weigh_the_mean_and_its_error_is_that_of_a_ratio() -> None:
    values, tokens = np.array([1.0, 4.0, 2.0]), np.array([1, 2, 3])
    mean = (1 * 1 + 2 * 4 + 3 * 2) / 6
    residuals = tokens * (values - mean) / 2  # the mean number of tokens is 2
    measured = estimate(values, tokens)
    assert measured.mean == pytest.approx(mean)
    assert measured.standard_error == pytest.approx(np.sqrt((residuals**2).sum() / 2 / 3))


def test_an_empty_sequence_and_one_token_both_count_as_one() -> None:
    assert token_counts(torch.tensor([[3, 3], [0, 3], [0, 2]]), 3).tolist() == [1, 1, 2]


def test_errors_of_independent_estimates_add_in_squares() -> None:
    assert Estimate(3.0, 0.3) - Estimate(1.0, 0.4) == Estimate(2.0, pytest.approx(0.5))


def test_an_estimate_prints_mean_and_error() -> None:
    assert str(Estimate(8.7361, 0.0124)) == "8.736 ±0.012"


def test_the_distinct_share_counts_different_rows() -> None:
    assert distinct_share(torch.tensor([[0, 1], [1, 0], [0, 1], [0, 1]])) == 0.5
    assert distinct_share(torch.tensor([[0, 1], [1, 0]])) == 1.0


def nats_and_tokens(model: SequenceModel, sequences: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """What a whole sequence costs, and how many tokens it has."""
    return -model.log_probs(sequences).double().sum(dim=1).numpy(), (sequences < 4).sum(dim=1).numpy()


def test_where_lengths_differ_all_nats_are_divided_by_all_tokens(eos_task: Task) -> None:
    generator, rng = LSTMSequenceModel(4, 3, 3, init_std=1.0, seed=2), np.random.default_rng(3)
    samples, tested = (sample_sequences(policy, 50, 5, rng, 3) for policy in (generator, UniformPolicy(4)))
    metrics = measure_samples(generator, samples, tested, eos_task.oracle)
    own, counts = nats_and_tokens(generator, samples)
    by_oracle, _ = nats_and_tokens(eos_task.oracle, samples)
    test_nats, test_counts = nats_and_tokens(generator, tested)
    test_by_oracle, _ = nats_and_tokens(eos_task.oracle, tested)
    assert len(set(counts)) > 2
    assert len(set(test_counts)) > 2
    for measured, nats, tokens in (
        (metrics.nll_oracle, by_oracle, counts),
        (metrics.entropy, own, counts),
        (metrics.kl_from_oracle, by_oracle - own, counts),
        (metrics.nll_test, test_nats, test_counts),
        (metrics.kl_to_oracle, test_nats - test_by_oracle, test_counts),
        (nll_per_token(generator, tested), test_nats, test_counts),
    ):
        assert measured.mean == pytest.approx(nats.sum() / tokens.sum(), rel=1e-5)
        assert measured.standard_error == pytest.approx(estimate(nats / tokens, tokens).standard_error, rel=1e-4)


def test_samples_are_drawn_as_long_as_the_test_set_and_end_at_eos(eos_task: Task) -> None:
    tested = torch.tensor([[0, 1, 3, 4, 4], [2, 2, 2, 2, 2]])
    samples = sample_sequences(eos_task.oracle, 40, 5, np.random.default_rng(8), 3)
    assert (samples == 4).any()
    drawn = measure_generator(eos_task.oracle, tested, np.random.default_rng(8), n_samples=40, eos_token=3)
    assert drawn == measure_samples(eos_task.oracle, samples, tested)


def test_real_sequences_have_the_oracles_nll_and_their_distinct_share(eos_task: Task) -> None:
    real = torch.tensor([[0, 3, 4, 4, 4], [1, 2, 0, 2, 3], [0, 3, 4, 4, 4]])
    nats, tokens = nats_and_tokens(eos_task.oracle, real)
    measured = real_metrics(real, 4, eos_task.oracle)
    assert measured.nll_oracle == nll_per_token(eos_task.oracle, real)
    assert measured.nll_oracle.mean == pytest.approx(nats.sum() / tokens.sum())
    assert real_metrics(real, 4) == GeneratorMetrics(None, None, None, None, None, 2 / 3, 3)
    assert real_metrics(real, 4, eos_task.oracle) == GeneratorMetrics(
        measured.nll_oracle, None, None, None, None, 2 / 3, 3
    )


def test_one_sample_is_enough_and_the_paper_draws_100_000(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def draw(policy: object, count: int, *others: object) -> Tensor:
        asked.append(count)
        return torch.zeros((1, 3), dtype=torch.int64)

    monkeypatch.setattr("seqgan_env.measures.likelihood.sample_sequences", draw)
    rng, tested = np.random.default_rng(0), torch.tensor([[0, 1, 2]])
    measure_generator(UniformPolicy(3), tested, rng)
    measure_generator(UniformPolicy(3), tested, rng, n_samples=1)
    assert asked == [100_000, 1]


def test_no_samples_are_refused(model: LSTMSequenceModel, test_sequences: Tensor) -> None:
    with pytest.raises(ValueError, match="n_samples=0"):
        measure_generator(model, test_sequences, np.random.default_rng(0), n_samples=0)
