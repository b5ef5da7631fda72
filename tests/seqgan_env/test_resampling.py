"""Residual-energy resampling: the distribution of what is picked, against enumeration, and the NLL of its limit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from seqgan_env.measures.likelihood import LikelihoodModel, nll_per_token
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.resampling import ResidualModel, log_mean_exp, resample
from seqgan_env.rollout_policies import sample_sequences
from tests.toy_world import WORLD, TableReward, mixed_length_task

RNG = np.random.default_rng(0)
GENERATOR = LSTMSequenceModel(3, 3, 4, init_std=1.0, seed=5)


def logit(sequences: torch.Tensor) -> torch.Tensor:
    """A different one for each sequence, from -2 to 2."""
    return 4 * TableReward()(sequences) - 2


def shares(sequences: torch.Tensor) -> np.ndarray:
    """How often each of the 27 sequences stands in a sample."""
    index = (sequences * torch.tensor([9, 3, 1])).sum(dim=1).numpy()
    return np.bincount(index, minlength=27) / len(index)


def picked(proposals: int) -> np.ndarray:
    """The probability of each sequence to be picked among so many proposals, from all groups of them."""
    g, weights = WORLD.probabilities(GENERATOR), np.exp(logit(WORLD.sequences).numpy())
    groups = np.array(list(itertools.product(range(27), repeat=proposals)))  # (27^M, M)
    each = g[groups].prod(axis=1, keepdims=True) * weights[groups] / weights[groups].sum(axis=1, keepdims=True)
    return np.bincount(groups.ravel(), each.ravel(), minlength=27)


def assert_drawn_from(found: np.ndarray, expected: np.ndarray, count: int) -> None:
    errors = np.sqrt(expected * (1 - expected) / count)
    assert (np.abs(found - expected) <= 4.5 * errors).all()


@pytest.mark.parametrize("proposals", [1, 2, 3])
def test_a_finite_number_of_proposals_gives_the_enumerated_distribution(proposals: int) -> None:
    count = 40_000
    expected = picked(proposals)
    assert expected.sum() == pytest.approx(1)
    drawn = resample(GENERATOR, logit, count, proposals, 3, np.random.default_rng(0))
    assert_drawn_from(shares(drawn.sequences), expected, count)
    if proposals > 1:  # far from the limit, which would else pass as well
        limit = WORLD.probabilities(WORLD.best_policy(logit, anchor=GENERATOR))
        assert np.abs(expected - limit).max() > 0.02


def test_many_proposals_give_the_generator_times_the_exponential_of_the_logit() -> None:
    limit = WORLD.probabilities(WORLD.best_policy(logit, anchor=GENERATOR))
    drawn = resample(GENERATOR, logit, 4_000, 400, 3, np.random.default_rng(0))
    assert_drawn_from(shares(drawn.sequences), limit, 4_000)
    exact = np.log(WORLD.probabilities(GENERATOR) @ np.exp(logit(WORLD.sequences).numpy()))
    assert abs(drawn.log_z.mean - exact) < 4 * drawn.log_z.standard_error < 0.01


def test_the_nll_of_the_limit_is_that_of_the_generator_less_the_held_out_gain() -> None:
    exact = float(np.log(WORLD.probabilities(GENERATOR) @ np.exp(logit(WORLD.sequences).numpy())))
    model = ResidualModel(GENERATOR, logit, exact)
    assert isinstance(model, LikelihoodModel)
    limit = WORLD.best_policy(logit, anchor=GENERATOR)
    np.testing.assert_allclose(WORLD.probabilities(model), WORLD.probabilities(limit), atol=1e-5)
    held_out = sample_sequences(LSTMSequenceModel(3, 3, 4, 1.0, 9), 500, 3, np.random.default_rng(0))
    gain = (logit(held_out).mean().item() - exact) / 3  # nats per token
    assert nll_per_token(model, held_out).mean == pytest.approx(nll_per_token(GENERATOR, held_out).mean - gain)


def test_with_the_logit_of_the_best_discriminator_the_limit_is_the_real_distribution() -> None:
    real = LSTMSequenceModel(3, 3, 4, init_std=1.0, seed=9)

    def best(sequences: torch.Tensor) -> torch.Tensor:
        return (real.log_probs(sequences) - GENERATOR.log_probs(sequences)).sum(dim=1)

    drawn = resample(GENERATOR, best, 2_000, 200, 3, np.random.default_rng(0))
    assert_drawn_from(shares(drawn.sequences), WORLD.probabilities(real), 2_000)
    assert abs(drawn.log_z.mean) < 4 * drawn.log_z.standard_error


def test_sequences_of_all_lengths_are_picked_whole() -> None:
    task = mixed_length_task()
    generator = LSTMSequenceModel(6, 4, 4, init_std=0.5, seed=0)
    drawn = resample(generator, TableReward(6, 7), 200, 5, 7, np.random.default_rng(0), task.eos_token)
    assert drawn.sequences.shape == (200, 7)
    ended = (drawn.sequences == 5).int().cumsum(dim=1)
    assert ((drawn.sequences == 6) == (ended - (drawn.sequences == 5).int() > 0)).all()


def test_log_mean_exp_on_literal_numbers() -> None:
    found = log_mean_exp(np.log(np.array([1.0, 3.0])))
    assert found.mean == pytest.approx(np.log(2))
    assert found.standard_error == pytest.approx(1.0 / 2)  # deviation sqrt(2), over sqrt(2), over the mean 2
    assert log_mean_exp(np.array([1000.0, 1000.0])).mean == 1000.0


@pytest.mark.parametrize("name", ["count", "proposals"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
        resample(
            GENERATOR, logit, **{"count": 1, "proposals": 1, name: 0}, sequence_length=3, rng=np.random.default_rng(0)
        )
