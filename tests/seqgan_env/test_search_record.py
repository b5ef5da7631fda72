"""`search_record`: what is shown of a search is the search of Eq. 3-4."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from seqgan_env.rewards import RandomReward
from seqgan_env.rollout_policies import NGramPolicy, UniformPolicy
from seqgan_env.search_record import likely_tokens, search_records

PAD = 3
REAL = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, 1]])


def weight(sequences: torch.Tensor) -> torch.Tensor:
    """A reward that tells all 27 sequences apart."""
    return (sequences * torch.tensor([9, 3, 1])).sum(dim=1).float()


def prefixes(*rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
    padded = [row + [PAD] * (3 - len(row)) for row in rows]
    return np.array(padded), np.array([len(row) for row in rows])


def test_completions_go_on_from_their_prefix_and_q_is_the_mean_of_their_rewards() -> None:
    records = search_records(UniformPolicy(3), *prefixes([1], [2, 0], [2, 1, 0]), weight, 50, np.random.default_rng(0))
    first, second, whole = records
    assert first.completions.shape == second.completions.shape == (50, 3)
    assert (first.completions[:, 0] == 1).all()
    assert (second.completions[:, :2] == [2, 0]).all()
    assert whole.completions.tolist() == [[2, 1, 0]]
    for record in records:
        assert record.rewards.tolist() == weight(torch.from_numpy(record.completions)).tolist()
        assert record.value == pytest.approx(record.rewards.mean())


def test_q_agrees_with_the_enumerated_expectation() -> None:
    (record,) = search_records(UniformPolicy(3), *prefixes([1]), weight, 4000, np.random.default_rng(1))
    exact = np.mean([9 + 3 * a + b for a, b in itertools.product(range(3), repeat=2)])
    assert record.value == pytest.approx(exact, abs=4 * record.rewards.std() / np.sqrt(4000))


def test_a_sequence_that_ended_early_is_scored_as_it_is() -> None:
    tokens, lengths = prefixes([1, 2], [1, 0])
    ended, goes_on = search_records(UniformPolicy(3), tokens, lengths, weight, 5, np.random.default_rng(0), 2)
    assert ended.completions.tolist() == [[1, 2, PAD]]
    assert goes_on.completions.shape == (5, 3)


def test_looking_leaves_the_stream_of_the_reward_where_it_was() -> None:
    reward = RandomReward(np.random.default_rng(0))
    before = reward.rng.bit_generator.state
    search_records(UniformPolicy(3), *prefixes([1]), reward, 5, np.random.default_rng(0))
    assert reward.rng.bit_generator.state == before

    def fails(sequences: torch.Tensor) -> torch.Tensor:
        reward(sequences)
        raise RuntimeError

    fails.rng = reward.rng  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError):
        search_records(UniformPolicy(3), *prefixes([1]), fails, 5, np.random.default_rng(0))
    assert reward.rng.bit_generator.state == before


def test_likely_tokens_are_all_of_a_small_vocabulary_and_the_most_frequent_of_a_large_one() -> None:
    rng, (prefix,) = np.random.default_rng(0), prefixes([1])[0]
    policy = NGramPolicy(REAL, 3, order=2, backoff=1e-6)
    assert likely_tokens(policy, prefix, 1, 3, rng) == [0, 1, 2]
    assert likely_tokens(policy, prefix, 1, 1, rng) == [2]  # two of three real sequences go on with it
    assert likely_tokens(policy, prefix, 1, 2, rng) == [2, 1]  # and none with 0
