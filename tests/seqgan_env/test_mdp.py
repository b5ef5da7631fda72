"""`mdp`: Eq. 1, the three reward modes, and what changes in the middle of an episode."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqgan_env.mdp import SequenceMDP, is_finished, needs_value, rewards_of
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.rewards import DiscriminatorReward, RandomReward
from seqgan_env.rollout_policies import DelayedCopy, UniformPolicy
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences, toy_task
from tests.marks import examples
from tests.toy_world import (
    DigitsReward,
    PointPolicy,
    SuccessorPolicy,
    TableReward,
    eos_task,
    exact_action_value,
)


def generators(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng(seed + row) for row in range(count)]


def play(mdp: SequenceMDP, actions: list[list[int]], seed: int = 0) -> np.ndarray:
    """Rewards (T, B) of one episode; `actions` holds a row for each step."""
    rngs = generators(mdp.num_sequences, seed)
    mdp.reset()
    return np.array([mdp.step(np.array(step), rngs) for step in actions])


def test_a_step_appends_its_token_and_nothing_else(task: Task) -> None:
    mdp = SequenceMDP(task, 2, reward_model="constant")
    rngs = generators(2)
    assert mdp.tokens.tolist() == [[3, 3, 3], [3, 3, 3]]
    mdp.step(np.array([2, 0]), rngs)
    assert mdp.tokens.tolist() == [[2, 3, 3], [0, 3, 3]]
    mdp.step(np.array([1, 1]), rngs)
    assert mdp.tokens.tolist() == [[2, 1, 3], [0, 1, 3]]
    assert mdp.finished.tolist() == [False, False]
    mdp.step(np.array([0, 2]), rngs)
    assert mdp.tokens.tolist() == [[2, 1, 0], [0, 1, 2]]
    assert mdp.finished.tolist() == [True, True]
    assert mdp.lengths.tolist() == [3, 3]


def test_action_values_land_on_their_row_and_step() -> None:
    mdp = SequenceMDP(toy_task(10, 3), 4, reward_model=DigitsReward(), rollout_policy=SuccessorPolicy(10), n_rollouts=3)
    rewards = play(mdp, [[1, 4, 7, 0], [1, 6, 7, 9], [0, 2, 5, 8]])
    assert rewards.tolist() == [[123, 456, 789, 12], [112, 467, 778, 90], [110, 462, 775, 98]]
    np.testing.assert_array_equal(mdp.values, rewards.T)


def test_action_values_converge_to_enumeration(model: LSTMSequenceModel, task: Task) -> None:
    n = 8000
    mdp = SequenceMDP(task, 2, reward_model=TableReward(), rollout_policy=model, n_rollouts=n)
    rewards = play(mdp, [[1, 2], [0, 2], [2, 1]])
    for row, sequence in enumerate([(1, 0, 2), (2, 2, 1)]):
        for t in range(3):
            expected, deviation = exact_action_value(model, TableReward(), sequence[: t + 1])
            assert abs(rewards[t, row] - expected) <= 4 * deviation / np.sqrt(n) + 1e-7


def test_the_last_step_is_scored_once_and_every_other_n_times(task: Task) -> None:
    reward = TableReward()
    play(SequenceMDP(task, 2, reward_model=reward, n_rollouts=5), [[0, 1], [1, 1], [2, 0]])
    assert [len(batch) for batch in reward.batches] == [10, 10, 2]
    assert reward.batches[2].tolist() == [[0, 1, 2], [1, 1, 0]]


def test_a_terminal_reward_is_scored_once_and_nothing_is_searched(task: Task) -> None:
    reward, policy = TableReward(), SuccessorPolicy(3)
    mdp = SequenceMDP(task, 2, reward_model=reward, reward_mode="terminal", rollout_policy=policy)
    rewards = play(mdp, [[0, 1], [1, 1], [2, 0]])
    assert rewards[:2].tolist() == [[0, 0], [0, 0]]
    assert rewards[2].tolist() == TableReward()(torch.tensor([[0, 1, 2], [1, 1, 0]])).tolist()
    assert [len(batch) for batch in reward.batches] == [2]
    assert policy.advanced_rows == []
    assert np.isnan(mdp.values[:, :2]).all()


@examples(30)
@given(data=st.data(), n_rollouts=st.integers(1, 4), seed=st.integers(0, 1000), with_eos=st.booleans())
def test_potential_rewards_telescope_to_the_terminal_reward(data, n_rollouts: int, seed: int, with_eos: bool) -> None:
    task = eos_task() if with_eos else toy_task(4, 5)
    actions = data.draw(st.lists(st.integers(0, 3), min_size=5, max_size=5))
    totals = {}
    for mode in ("potential", "terminal", "action_value"):
        mdp = SequenceMDP(task, 1, reward_model=TableReward(4, 5), reward_mode=mode, n_rollouts=n_rollouts)
        rngs = generators(1, seed)
        rewards = []
        for action in actions:
            if not mdp.finished[0]:
                rewards.append(mdp.step(np.array([action]), rngs)[0])
        totals[mode] = rewards
    assert sum(totals["potential"]) == pytest.approx(totals["terminal"][-1], abs=1e-12)
    np.testing.assert_allclose(np.cumsum(totals["potential"]), totals["action_value"], atol=1e-12)
    assert sum(totals["terminal"][:-1]) == 0


def test_potential_starts_from_zero_in_every_episode(task: Task) -> None:
    mdp = SequenceMDP(task, 1, reward_model="constant:0.3", reward_mode="potential")
    for _ in range(2):
        assert play(mdp, [[0], [1], [2]])[:, 0].tolist() == pytest.approx([0.3, 0, 0])


@pytest.mark.parametrize("rollout_policy", ["uniform", "oracle"])
def test_a_seed_reproduces_an_episode_bit_for_bit(rollout_policy: str) -> None:
    rewards = [
        play(SequenceMDP(toy_task(), 3, rollout_policy=rollout_policy), [[0, 1, 2], [2, 2, 0], [1, 0, 0]], seed)
        for seed in (7, 7, 8)
    ]
    assert rewards[0].tobytes() == rewards[1].tobytes()
    assert (rewards[0][:2] != rewards[2][:2]).all()


def test_no_prefix_is_ever_recomputed() -> None:
    policy = SuccessorPolicy(5)
    mdp = SequenceMDP(toy_task(5, 4), 3, reward_model="constant", rollout_policy=policy, n_rollouts=2)
    for _ in range(2):  # a second episode costs no more
        policy.advanced_rows.clear()
        play(mdp, [[0, 1, 2]] * 4)
        # Each step advances the 3 prefixes once; their 6 completions advance once for each further token but the last.
        assert policy.advanced_rows == [3, 6, 6, 3, 6, 3, 3]


def test_rows_may_stand_at_different_steps() -> None:
    task = toy_task(10, 4)
    mdp = SequenceMDP(task, 2, reward_model=DigitsReward(), rollout_policy=SuccessorPolicy(10), n_rollouts=2)
    rngs = generators(2)
    assert mdp.step(np.array([5, 1]), rngs).tolist() == [5678, 1234]
    mdp.reset(np.array([False, True]))
    assert mdp.tokens.tolist() == [[5, 10, 10, 10], [10, 10, 10, 10]]
    assert mdp.step(np.array([7, 2]), rngs).tolist() == [5789, 2345]
    only_second = np.array([False, True])
    assert mdp.step(np.array([99, 2]), rngs, only_second).tolist() == [0, 2234]
    assert mdp.lengths.tolist() == [2, 2]
    assert mdp.step(np.array([0, 9]), rngs).tolist() == [5701, 2290]


@pytest.mark.parametrize("reward_mode", ["action_value", "potential", "terminal"])
def test_an_episode_ends_at_eos(eos_task: Task, reward_mode: str) -> None:
    mdp = SequenceMDP(eos_task, 3, reward_model=DigitsReward(), reward_mode=reward_mode, n_rollouts=2)
    rngs = generators(3)
    mdp.step(np.array([0, 3, 1]), rngs)
    assert mdp.finished.tolist() == [False, True, False]
    running = ~mdp.finished
    mdp.step(np.array([3, 0, 2]), rngs, running)
    assert mdp.finished.tolist() == [True, True, False]
    assert mdp.tokens.tolist() == [[0, 3, 4, 4, 4], [3, 4, 4, 4, 4], [1, 2, 4, 4, 4]]
    if reward_mode != "potential":
        assert mdp.values[1, 0] == 34444
        assert mdp.values[0, 1] == 3444
    info = mdp.end_info(mdp.finished)
    assert [sequence.tolist() for sequence in info["sequence"]] == [[0, 3, 4, 4, 4], [3, 4, 4, 4, 4]]
    assert info["text"] == ["a", ""]
    log_probs = eos_task.oracle.log_probs(torch.from_numpy(mdp.tokens))
    expected = [-log_probs[0, :2].sum().item() / 2, -log_probs[1, 0].item()]
    assert info["oracle_nll"] == pytest.approx(expected, rel=1e-5)


def test_what_info_holds_is_a_copy(task: Task) -> None:
    mdp = SequenceMDP(task, 1, reward_model="constant")
    play(mdp, [[0], [1], [2]])
    mdp.end_info(mdp.finished)["sequence"][0][:] = 9
    assert mdp.tokens.tolist() == [[0, 1, 2]]


def test_the_reward_model_can_be_swapped_in_the_middle_of_an_episode(task: Task) -> None:
    mdp = SequenceMDP(task, 1, reward_model="constant:0.2")
    rngs = generators(1)
    first = mdp.step(np.array([0]), rngs)[0]
    mdp.set_reward_model("constant:0.7")
    assert (first, mdp.step(np.array([0]), rngs)[0]) == pytest.approx((0.2, 0.7))


def test_the_roll_out_policy_can_be_swapped_in_the_middle_of_an_episode() -> None:
    mdp = SequenceMDP(toy_task(10, 4), 1, reward_model=DigitsReward(), rollout_policy=PointPolicy(10, 7))
    rngs = generators(1)
    assert mdp.step(np.array([1]), rngs)[0] == 1777
    mdp.set_rollout_policy(PointPolicy(10, 8))
    assert mdp.step(np.array([2]), rngs)[0] == 1288
    mdp.set_rollout_policy(SuccessorPolicy(10))
    assert mdp.step(np.array([3]), rngs)[0] == 1234


def test_a_swapped_in_policy_continues_as_if_it_had_been_there_from_the_start(model: LSTMSequenceModel) -> None:
    from_start = SequenceMDP(toy_task(), 2, reward_model=TableReward(), rollout_policy=model)
    swapped = SequenceMDP(toy_task(), 2, reward_model=TableReward())
    for mdp in (from_start, swapped):
        mdp.step(np.array([1, 2]), generators(2))
    swapped.set_rollout_policy(model)
    values = [mdp.step(np.array([2, 0]), generators(2, 5)) for mdp in (from_start, swapped)]
    assert values[0].tolist() == values[1].tolist()


def test_an_announced_update_of_the_delayed_copy_changes_the_search(model: LSTMSequenceModel) -> None:
    policy = DelayedCopy(model)
    mdp = SequenceMDP(toy_task(), 1, reward_model=DigitsReward(), rollout_policy=policy, n_rollouts=200)
    before = mdp.step(np.array([1]), generators(1))[0]
    with torch.no_grad():
        model.output.bias.copy_(torch.tensor([0.0, 0.0, 80.0]))
    mdp.reset()
    assert mdp.step(np.array([1]), generators(1))[0] == before  # a copy: training alone changes nothing
    policy.follow(model)
    mdp.set_rollout_policy(policy)
    mdp.reset()
    assert mdp.step(np.array([1]), generators(1))[0] == 122
    assert before != 122


def test_the_default_reward_model_is_one_cnn_for_the_whole_life(task: Task) -> None:
    mdp = SequenceMDP(task, 1)
    assert isinstance(mdp.reward_model, DiscriminatorReward)
    assert mdp.reward_model is mdp.reward_model


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_sequences": 0}, ValueError, "num_envs=0"),
        ({"num_sequences": 1.5}, TypeError, r"num_envs=1\.5"),
        ({"n_rollouts": 0}, ValueError, "n_rollouts=0"),
        ({"n_rollouts": True}, TypeError, "n_rollouts=True"),
        ({"n_rollouts": "16"}, TypeError, "n_rollouts='16'"),
        ({"reward_mode": "dense"}, ValueError, "reward_mode='dense' must be one of .*potential"),
        ({"reward_model": 3}, TypeError, "reward_model must be callable"),
        ({"rollout_policy": PointPolicy(4, 0)}, ValueError, "rollout_policy has vocab_size=4"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: dict, error: type[Exception], message: str, task: Task) -> None:
    with pytest.raises(error, match=message):
        SequenceMDP(**({"task": task, "num_sequences": 1} | arguments))


@pytest.mark.parametrize(
    ("actions", "error", "message"),
    [
        (np.array([0.0, 1.0]), TypeError, "actions have dtype float64"),
        (np.array([True, False]), TypeError, "actions have dtype bool"),
        (np.array(["a", "b"]), TypeError, "actions have dtype"),
        (np.array([0, 3]), ValueError, r"action 3 of environment 1 is out of range 0\.\.2"),
        (np.array([-1, 0]), ValueError, "action -1 of environment 0"),
        (np.array([2**63, 0], np.uint64), ValueError, "action 9223372036854775808 of environment 0"),
        (np.array([0]), ValueError, r"actions have shape \(1,\), expected \(2,\)"),
        (np.array([[0, 1]]), ValueError, r"actions have shape \(1, 2\)"),
        (0, ValueError, r"actions have shape \(\)"),
    ],
)
def test_a_wrong_action_is_refused_by_name_and_changes_nothing(
    actions: object, error: type[Exception], message: str, task: Task
) -> None:
    mdp = SequenceMDP(task, 2, reward_model="constant")
    mdp.step(np.array([1, 2]), generators(2))
    with pytest.raises(error, match=message):
        mdp.step(actions, generators(2))
    assert mdp.tokens.tolist() == [[1, 3, 3], [2, 3, 3]]
    assert mdp.lengths.tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_actions_of_any_integer_type_are_tokens(dtype: type, task: Task) -> None:
    mdp = SequenceMDP(task, 1, reward_model="constant")
    mdp.step(np.array([2], dtype), generators(1))
    assert mdp.tokens.tolist() == [[2, 3, 3]]


def test_stepping_a_finished_sequence_is_refused_and_says_what_to_do(task: Task) -> None:
    mdp = SequenceMDP(task, 1, reward_model="constant")
    play(mdp, [[0], [1], [2]])
    with pytest.raises(ValueError, match=r"environment 0 has finished its sequence; call reset\(\)"):
        mdp.step(np.array([0]), generators(1))


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (lambda rows: torch.full((rows,), float("nan")), ValueError, "reward_model returned nan"),
        (lambda rows: torch.zeros(rows, 1), ValueError, "reward_model returned shape"),
        (lambda rows: "good", TypeError, "reward_model must return a tensor"),
    ],
)
@pytest.mark.parametrize("reward_mode", ["action_value", "potential", "terminal"])
def test_a_bad_reward_model_is_refused_by_name(
    returned, error: type[Exception], message: str, reward_mode: str, task: Task
) -> None:
    mdp = SequenceMDP(task, 2, reward_model=lambda sequences: returned(len(sequences)), reward_mode=reward_mode)
    with pytest.raises(error, match=message):
        play(mdp, [[0, 1], [1, 1], [2, 0]])


class FailingOnce(TableReward):
    """Fails when it is asked the first time after `fails` was set."""

    fails = False

    def __call__(self, sequences: torch.Tensor, /) -> torch.Tensor:
        if self.fails:
            self.fails = False
            raise KeyboardInterrupt
        return super().__call__(sequences)


@pytest.mark.parametrize("reward_mode", ["action_value", "potential", "terminal"])
@pytest.mark.parametrize("at", [0, 1, 2, 3, 4])
def test_after_a_failed_reward_the_step_can_be_taken_again(eos_task: Task, reward_mode: str, at: int) -> None:
    """Some rows step, one of them ends; the others, the finished one too, are left alone."""
    model = LSTMSequenceModel(4, 3, 3, init_std=1.0, seed=1)
    runs = []
    for fails in (False, True):
        reward = FailingOnce(4, 5)
        mdp = SequenceMDP(eos_task, 4, reward_model=reward, reward_mode=reward_mode, rollout_policy=model, n_rollouts=3)
        rewards = []
        for t, actions in enumerate([[0, 3, 1, 2], [1, 0, 3, 2], [2, 0, 0, 2], [2, 0, 0, 0], [1, 0, 0, 1]]):
            running = ~mdp.finished
            running[3] &= t != 1  # row 3 waits for one step
            before = [mdp.tokens.copy(), mdp.lengths.copy(), mdp.finished.copy(), mdp.values.copy()]
            if fails and t == at:
                reward.fails = True
                try:
                    mdp.step(np.array(actions), generators(4, t), running)
                except KeyboardInterrupt:
                    for now, then in zip([mdp.tokens, mdp.lengths, mdp.finished, mdp.values], before, strict=True):
                        np.testing.assert_array_equal(now, then)
                else:  # nothing ended, so that a terminal reward was not asked
                    reward.fails = False
                    rewards.append(np.full(4, np.nan))
                    continue
            rewards.append(mdp.step(np.array(actions), generators(4, t), running))
        runs.append((np.array(rewards), mdp.values.copy(), mdp.tokens.copy()))
    asked = ~np.isnan(runs[1][0])
    np.testing.assert_array_equal(runs[1][0][asked], runs[0][0][asked])
    np.testing.assert_array_equal(runs[1][1], runs[0][1])
    np.testing.assert_array_equal(runs[1][2], runs[0][2])


def test_a_reward_given_by_name_draws_anew_from_the_seed(task: Task) -> None:
    def begun(seed: int) -> list[float]:
        mdp.seed_reward_model(np.random.default_rng(seed))
        return mdp.reward_model(torch.zeros(5, 3, dtype=torch.int64)).tolist()

    mdp = SequenceMDP(task, 1, reward_model="random")
    assert begun(1) == begun(1)
    assert begun(1) != begun(2)
    rng = np.random.default_rng(3)
    before = rng.bit_generator.state
    mdp.seed_reward_model(rng)
    assert rng.bit_generator.state == before
    assert rng.bit_generator.seed_seq.n_children_spawned == 1
    assert mdp.reward_model(torch.zeros(1, 3)).item() != np.random.default_rng(3).random(dtype=np.float32)


def test_a_reward_that_is_an_object_or_does_not_draw_is_not_seeded(task: Task) -> None:
    own = RandomReward(np.random.default_rng(7))
    before = own.rng.bit_generator.state
    mdp = SequenceMDP(task, 1, reward_model=own)
    mdp.seed_reward_model(np.random.default_rng(0))
    assert own.rng.bit_generator.state == before
    for reward_model in ("constant", None):
        SequenceMDP(task, 1, reward_model=reward_model).seed_reward_model(np.random.default_rng(0))
    mdp.set_reward_model("random")
    mdp.seed_reward_model(np.random.default_rng(0))
    first = mdp.reward_model(torch.zeros(1, 3)).item()
    mdp.set_reward_model(own)
    mdp.seed_reward_model(np.random.default_rng(0))
    assert own.rng.bit_generator.state == before
    assert first != own(torch.zeros(1, 3)).item()


def test_the_papers_settings_are_the_defaults(task: Task) -> None:
    reward = TableReward()
    mdp = SequenceMDP(task, 2, reward_model=reward)
    assert (mdp.reward_mode, mdp.n_rollouts, mdp.num_sequences) == ("action_value", 16, 2)
    assert mdp.task is task
    assert isinstance(mdp.rollout_policy, UniformPolicy)
    mdp.step(np.array([0, 1]), generators(2))
    assert [len(batch) for batch in reward.batches] == [2 * 16]


def test_an_mdp_begins_empty_and_a_reset_empties_the_rows_that_it_is_given(task: Task) -> None:
    mdp = SequenceMDP(task, 2, reward_model="constant", reward_mode="potential")
    assert [array.dtype for array in (mdp.tokens, mdp.lengths, mdp.finished, mdp.values)] == [
        np.int64, np.int64, np.bool_, np.float64,
    ]  # fmt: skip

    def assert_empty(rows: list[int]) -> None:
        assert (mdp.tokens[rows] == 3).all()
        assert (mdp.lengths[rows] == 0).all()
        assert not mdp.finished[rows].any()
        assert np.isnan(mdp.values[rows]).all()

    assert_empty([0, 1])
    play(mdp, [[0, 1], [1, 2], [2, 0]])
    mdp.reset(np.array([False, True]))
    assert_empty([1])
    assert mdp.tokens[0].tolist() == [0, 1, 2]
    assert (mdp.lengths[0], mdp.finished[0], mdp.values[0].tolist()) == (3, True, [0.5, 0.5, 0.5])
    assert mdp.step(np.array([0, 2]), generators(2), ~mdp.finished).tolist() == [0.0, 0.5]
    mdp.reset()
    assert_empty([0, 1])


def test_a_row_that_begins_anew_completes_as_if_nothing_had_been_before(model: LSTMSequenceModel) -> None:
    mdp = SequenceMDP(toy_task(), 2, reward_model=TableReward(), rollout_policy=model)
    fresh = SequenceMDP(toy_task(), 2, reward_model=TableReward(), rollout_policy=model)
    mdp.step(np.array([2, 0]), generators(2))
    mdp.reset(np.array([True, False]))
    values = mdp.step(np.array([1, 2]), generators(2, 5))
    expected = fresh.step(np.array([1, 0]), generators(2, 5))
    assert values[0] == expected[0]
    assert values[1] != expected[1]


@pytest.mark.parametrize("reward_mode", ["action_value", "potential", "terminal"])
def test_what_info_holds_at_the_end_depends_on_the_task(reward_mode: str) -> None:
    plain = toy_task()
    without = Task("plain", 3, 3, plain.real_sequences)
    mdp = SequenceMDP(without, 2, reward_model="constant", reward_mode=reward_mode)
    play(mdp, [[0, 1], [1, 2], [2, 0]])
    info = mdp.end_info(np.array([False, True]))
    assert list(info) == ["sequence"]
    assert [sequence.tolist() for sequence in info["sequence"]] == [[1, 2, 0]]
    with_oracle = SequenceMDP(plain, 2, reward_model="constant")
    assert with_oracle.end_info(np.zeros(2, dtype=bool)) == {"sequence": [], "text": []}
    play(with_oracle, [[0, 1], [1, 2], [2, 0]])
    (nll,) = with_oracle.end_info(np.array([False, True]))["oracle_nll"]
    assert type(nll) is float
    assert plain.oracle is not None
    log_probs = plain.oracle.log_probs(torch.tensor([[1, 2, 0]])).double()
    assert nll == -log_probs.sum().item() / 3


def test_an_oracles_nats_are_summed_in_float64() -> None:
    task = toy_task()
    assert task.oracle is not None
    everything = enumerate_sequences(3, 3)
    mdp = SequenceMDP(task, 27, reward_model="constant", reward_mode="terminal")
    play(mdp, everything.t().tolist())
    log_probs = task.oracle.log_probs(everything).numpy()
    expected = -log_probs.astype(np.float64).sum(axis=1) / 3
    assert mdp.end_info(mdp.finished)["oracle_nll"] == expected.tolist()
    assert (-log_probs.sum(axis=1) / 3 != expected).any()  # float32 sums would show


def test_whole_sequences_end_at_the_horizon_or_at_eos() -> None:
    lengths, last = np.array([1, 5, 5, 2]), np.array([3, 3, 0, 0])
    assert is_finished(eos_task(), lengths, last).tolist() == [True, True, True, False]
    assert is_finished(toy_task(4, 5), lengths, last).tolist() == [False, True, True, False]


def test_only_a_terminal_reward_waits_for_the_end() -> None:
    finished = np.array([True, False])
    for mode in ("action_value", "potential"):
        assert needs_value(mode, finished).tolist() == [True, True]
    last = needs_value("terminal", finished)
    assert last.tolist() == [True, False]
    assert last is not finished
    assert last.dtype == needs_value("potential", finished).dtype == np.bool_


def test_only_a_potential_is_a_difference() -> None:
    values, previous = np.array([0.5, 0.75]), np.array([0.25, 0.0])
    assert rewards_of("potential", values, previous).tolist() == [0.25, 0.75]
    for mode in ("action_value", "terminal"):
        assert rewards_of(mode, values, previous).tolist() == [0.5, 0.75]


def test_a_finished_row_is_named_and_rows_that_do_not_step_are_not_looked_at(eos_task: Task) -> None:
    mdp = SequenceMDP(eos_task, 3, reward_model="constant")
    mdp.step(np.array([0, 1, 3]), generators(3))
    with pytest.raises(ValueError, match=r"^environment 2 has finished its sequence; call reset\(\) before"):
        mdp.step(np.array([0, 1, 0]), generators(3))
    mdp.step(np.array([0, 1, -7]), generators(3), np.array([True, True, False]))
    with pytest.raises(ValueError, match=r"^action 4 of environment 1 is out of range 0\.\.3$"):
        mdp.step(np.array([0, 4, 9]), generators(3), np.array([True, True, False]))
    with pytest.raises(TypeError, match=r"^actions have dtype float64; expected integer token ids in 0\.\.3$"):
        mdp.step(np.zeros(3), generators(3))
    with pytest.raises(ValueError, match=r"^actions have shape \(2,\), expected \(3,\), one token per sequence$"):
        mdp.step(np.zeros(2, dtype=int), generators(3))


def test_completions_of_the_search_end_at_eos(eos_task: Task) -> None:
    mdp = SequenceMDP(eos_task, 1, reward_model=DigitsReward(), rollout_policy=SuccessorPolicy(4), n_rollouts=2)
    assert mdp.step(np.array([1]), generators(1)).tolist() == [12344]  # 1, 2, then EOS = 3, then PAD = 4


@pytest.mark.parametrize("vocab_size", [1, 3])
def test_rows_that_do_not_step_keep_their_state(vocab_size: int) -> None:
    """Row 1 waits while row 0 steps, and then completes as if it had not waited."""
    model = LSTMSequenceModel(vocab_size, 4, 5, init_std=2.0, seed=11)
    task, token = toy_task(vocab_size, 4), vocab_size - 1
    waits, steps = (
        SequenceMDP(task, 2, reward_model=TableReward(vocab_size, 4), rollout_policy=model) for _ in range(2)
    )
    for mdp in (waits, steps):
        mdp.step(np.array([0, token]), generators(2))
    waits.step(np.array([token, 0]), generators(2, 3), np.array([True, False]))
    values = [mdp.step(np.array([0, token]), generators(2, 5))[1] for mdp in (waits, steps)]
    assert values[0] == values[1]
    assert (waits.lengths.tolist(), steps.lengths.tolist()) == ([3, 2], [2, 2])


def test_neither_a_reset_of_some_rows_nor_a_failed_reward_makes_states_anew() -> None:
    policy, reward = SuccessorPolicy(5), FailingOnce(5, 4)
    mdp = SequenceMDP(toy_task(5, 4), 3, reward_model=reward, rollout_policy=policy, n_rollouts=2)
    for _ in range(2):
        mdp.step(np.array([0, 1, 2]), generators(3))
    mdp.reset(np.array([True, False, False]))
    policy.advanced_rows.clear()
    mdp.step(np.array([0, 1, 2]), generators(3))
    assert policy.advanced_rows == [3, 2, 2]  # the prefixes once, then what row 0 lacks
    reward.fails = True
    with pytest.raises(KeyboardInterrupt):
        mdp.step(np.array([0, 1, 2]), generators(3))
    policy.advanced_rows.clear()
    mdp.step(np.array([0, 1, 2]), generators(3))
    assert policy.advanced_rows == [3, 2]


def test_a_reward_model_given_by_name_is_made_for_the_task(task: Task) -> None:
    mdp = SequenceMDP(task, 1, reward_model="oracle", reward_mode="terminal")
    assert task.oracle is not None
    expected = float(task.oracle.log_probs(torch.tensor([[0, 1, 2]])).mean().exp())
    assert play(mdp, [[0], [1], [2]])[:, 0].tolist() == pytest.approx([0.0, 0.0, expected])
