"""`monte_carlo`: Eq. 3-4 against enumeration, and the slips that such a search invites."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.monte_carlo import action_values
from seqgan_env.rollout_policies import DelayedCopy, RolloutPolicy, UniformPolicy, complete_sequences, replay
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences
from tests.toy_world import (
    DigitsReward,
    PointPolicy,
    SuccessorPolicy,
    TableReward,
    exact_action_value,
    sequence_probabilities,
)

PREFIXES = [prefix for length in (1, 2, 3) for prefix in itertools.product(range(3), repeat=length)]


def search(
    policy: RolloutPolicy,
    prefixes: list,
    reward_model,
    n_rollouts: int,
    *,
    horizon: int = 3,
    eos_token: int | None = None,
    seeds: list[int] | None = None,
) -> np.ndarray:
    """Q of the last token of each prefix."""
    sequences = np.full((len(prefixes), horizon), policy.vocab_size)
    for row, prefix in enumerate(prefixes):
        sequences[row, : len(prefix)] = prefix
    lengths = np.array([len(prefix) for prefix in prefixes])
    finished = (lengths == horizon) | np.array([prefix[-1] == eos_token for prefix in prefixes])
    state = replay(policy, torch.from_numpy(sequences), torch.from_numpy(lengths))
    rngs = [np.random.default_rng(seed) for seed in (range(len(prefixes)) if seeds is None else seeds)]
    return action_values(policy, state, sequences, lengths, finished, reward_model, n_rollouts, rngs, eos_token)


@pytest.mark.parametrize("completes", ["lstm", "oracle", "uniform"])
def test_search_converges_to_the_enumerated_action_values(completes: str, model: LSTMSequenceModel, task: Task) -> None:
    exact_model = {"lstm": model, "oracle": task.oracle, "uniform": None}[completes]
    policy = UniformPolicy(3) if exact_model is None else exact_model
    reward = TableReward()
    n = 8000
    values = search(policy, PREFIXES, reward, n)
    table = TableReward()
    for prefix, value in zip(PREFIXES, values, strict=True):
        expected, deviation = exact_action_value(exact_model, table, prefix)
        assert abs(value - expected) <= 4 * deviation / np.sqrt(n) + 1e-7, prefix


def test_search_converges_to_the_arithmetic_mean_and_not_to_the_geometric(model: LSTMSequenceModel) -> None:
    n = 8000
    (value,) = search(model, [(1,)], TableReward(), n)
    expected, deviation = exact_action_value(model, TableReward(), (1,))
    log_mean, _ = exact_action_value(model, lambda sequences: TableReward()(sequences).log(), (1,))
    error = deviation / np.sqrt(n)
    assert abs(value - expected) < 4 * error
    assert abs(value - np.exp(log_mean)) > 20 * error


def test_two_completions_of_known_reward_average_arithmetically() -> None:
    rewards = iter([torch.tensor([0.1, 0.9])])
    (value,) = search(UniformPolicy(3), [(0,)], lambda sequences: next(rewards), 2)
    assert value == pytest.approx(0.5)  # the geometric mean is 0.3


def test_rewards_land_on_their_own_row() -> None:
    # Completions of 1, 4, 7 count up; with N = 3 a reshape to (N, B) would average over different rows.
    values = search(SuccessorPolicy(10), [(1,), (4,), (7,), (2, 5)], DigitsReward(), 3, horizon=3)
    assert values.tolist() == [123, 456, 789, 256]


def test_rewards_of_mixed_finished_and_open_rows_land_on_their_own_row() -> None:
    prefixes = [(9, 9, 9), (1,), (8, 8, 8), (2, 5), (0, 0, 7)]
    values = search(SuccessorPolicy(10), prefixes, DigitsReward(), 4)
    assert values.tolist() == [999, 123, 888, 256, 7]


def test_only_finished_rows_need_no_state() -> None:
    sequences = np.array([[1, 2, 3], [4, 5, 6]])
    values = action_values(
        UniformPolicy(10), None, sequences, np.array([3, 3]), np.ones(2, dtype=bool), DigitsReward(), 5, []
    )
    assert values.tolist() == [123, 456]


def test_a_finished_sequence_is_scored_once_and_an_open_prefix_n_times_in_one_call() -> None:
    reward = TableReward()
    search(UniformPolicy(3), [(0, 1, 2), (1,), (2, 2)], reward, 16)
    assert [len(batch) for batch in reward.batches] == [2 * 16 + 1]
    search(UniformPolicy(3), [(0, 1, 2)], reward, 16)
    assert len(reward.batches[1]) == 1


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_completions_start_with_the_prefix_and_are_full(length: int) -> None:
    prefix = (2, 0, 1, 2)[:length]
    reward = TableReward(3, 4)
    search(UniformPolicy(3), [prefix], reward, 200, horizon=4)
    (scored,) = reward.batches
    assert len(scored) == (200 if length < 4 else 1)
    assert (scored[:, :length] == torch.tensor(prefix)).all()
    assert (scored < 3).all()
    # Every continuation occurs, so that no step is skipped or fixed.
    assert len(torch.unique(scored, dim=0)) == 3 ** (4 - length)


def test_completions_stop_at_eos() -> None:
    reward = TableReward(4, 5)
    search(UniformPolicy(4), [(0,), (1, 3), (2, 2, 2, 2)], reward, 50, horizon=5, eos_token=3)
    (scored,) = reward.batches
    assert len(scored) == 101
    for row in scored.tolist():
        end = row.index(3) + 1 if 3 in row else 5
        assert row[end:] == [4] * (5 - end)
        assert 4 not in row[:end]


def test_search_with_eos_converges_to_the_enumerated_action_values(model: LSTMSequenceModel) -> None:
    eos, n = 2, 8000
    everything = enumerate_sequences(3, 3)
    after = ((everything == eos).cumsum(dim=1) - (everything == eos).long()) > 0
    kinds = torch.unique(everything.masked_fill(after, 3), dim=0)
    prefixes = [(0,), (1,), (2,), (0, 1), (1, 0), (1, 2)]
    values = search(model, prefixes, TableReward(), n, eos_token=eos)
    for prefix, value in zip(prefixes, values, strict=True):
        completions = kinds[(kinds[:, : len(prefix)] == torch.tensor(prefix)).all(dim=1)]
        weights = sequence_probabilities(model, completions)
        weights /= weights.sum()
        rewards = TableReward()(completions).numpy()
        expected = weights @ rewards
        error = np.sqrt(weights @ (rewards - expected) ** 2 / n)
        assert abs(value - expected) <= 4 * error + 1e-7, prefix


def test_a_row_does_not_depend_on_the_rows_beside_it(model: LSTMSequenceModel) -> None:
    prefixes = [(0,), (1, 2), (2, 2, 2), (1,)]
    together = search(model, prefixes, TableReward(), 7)
    for row, prefix in enumerate(prefixes):
        assert search(model, [prefix], TableReward(), 7, seeds=[row])[0] == together[row]


def test_the_same_seed_gives_the_same_values_and_another_seed_others(model: LSTMSequenceModel) -> None:
    first, again, other = (search(model, [(0,)], TableReward(), 5, seeds=[seed])[0] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_values_follow_the_roll_out_policy() -> None:
    assert search(PointPolicy(10, 4), [(1,)], DigitsReward(), 2).tolist() == [144]
    assert search(PointPolicy(10, 5), [(1,)], DigitsReward(), 2).tolist() == [155]


def test_the_values_follow_an_update_of_the_delayed_copy(model: LSTMSequenceModel) -> None:
    policy = DelayedCopy(model)
    before = search(policy, [(1,)], DigitsReward(), 2000)[0]
    with torch.no_grad():
        model.output.bias.copy_(torch.tensor([0.0, 0.0, 60.0]))
    assert search(policy, [(1,)], DigitsReward(), 2000)[0] == before
    policy.follow(model)
    assert search(policy, [(1,)], DigitsReward(), 2000)[0] == 122
    assert before != 122


def test_common_uniforms_complete_each_prefix_of_a_sequence_with_the_same_chance(model: LSTMSequenceModel) -> None:
    """Token t of a completion comes from column t, so the prefix that holds the drawn token has the same completion."""
    rng = np.random.default_rng(0)
    uniforms = rng.random((1, 1, 3), dtype=np.float32)
    seen: list[torch.Tensor] = []

    def reward(sequences: torch.Tensor) -> torch.Tensor:
        seen.append(sequences.clone())
        return torch.zeros(len(sequences))

    state = model.advance(model.initial_state(1), torch.tensor([1]))
    common = {"reward_model": reward, "n_rollouts": 1, "rngs": [rng], "common_uniforms": uniforms}
    prefix = np.array([[1, 3, 3]])
    action_values(model, state, prefix, np.array([1]), np.array([False]), **common)
    (first,) = seen
    longer = prefix.copy()
    longer[0, 1] = int(first[0, 1])
    state = model.advance(state, first[:, 1])
    action_values(model, state, longer, np.array([2]), np.array([False]), **common)
    assert torch.equal(seen[1], first)


@pytest.mark.parametrize("common", [False, True])
def test_each_rows_completions_come_from_its_own_numbers(model: LSTMSequenceModel, common: bool) -> None:
    """Of rows of mixed length, one of them finished: N draws of each missing token, from the row's own stream."""
    sequences = np.array([[2, 2, 2, 2], [0, 3, 3, 3], [1, 2, 3, 3], [0, 0, 1, 3]])
    lengths, n = np.array([4, 1, 2, 3]), 6
    numbers = np.random.default_rng(9).random((4, n, 4), dtype=np.float32)
    reward = TableReward(3, 4)
    state = replay(model, torch.from_numpy(sequences), torch.from_numpy(lengths))
    rngs = [np.random.default_rng(row) for row in range(4)]
    values = action_values(
        model, state, sequences, lengths, lengths == 4, reward, n, rngs, None, numbers if common else None
    )
    (scored,) = reward.batches
    for row in (1, 2, 3):
        length = int(lengths[row])
        own = np.random.default_rng(row).random((n, 4 - length), dtype=np.float32)
        uniforms = torch.from_numpy(numbers[row, :, length:] if common else own)
        prefix = torch.from_numpy(sequences[row : row + 1])
        expected = complete_sequences(
            model, replay(model, prefix, torch.tensor([length])), prefix, torch.tensor([length]), uniforms[None]
        )
        assert torch.equal(scored[(row - 1) * n : row * n], expected)
        assert values[row] == pytest.approx(TableReward(3, 4)(expected).mean().item())
    assert values.dtype == np.float64
    if common:
        assert [rng.random() for rng in rngs] == [np.random.default_rng(row).random() for row in range(4)]  # unmoved


def test_the_policy_is_given_float32_uniforms_below_one(model: LSTMSequenceModel) -> None:
    class Watch(UniformPolicy):
        def draw(self, state: tuple[torch.Tensor, ...], uniforms: torch.Tensor) -> torch.Tensor:
            assert uniforms.dtype == torch.float32
            assert ((uniforms >= 0) & (uniforms < 1)).all()
            return super().draw(state, uniforms)

    search(Watch(3), [(0,), (1, 2)], TableReward(), 4)
