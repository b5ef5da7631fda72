"""`rewards`: what scores whole sequences, and what is not taken for a reward."""

from __future__ import annotations

import copy
import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seqgan_env.envs import SequenceVectorEnv
from seqgan_env.measures.bleu import Smoothing
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.monte_carlo import action_values
from seqgan_env.rewards import (
    AnchoredReward,
    BLEUReward,
    ConstantReward,
    DiscriminatorReward,
    LogitReward,
    OracleReward,
    RandomReward,
    RewardModel,
    ShuffledReward,
    load_reward_state,
    reward_state,
    score_sequences,
)
from seqgan_env.rollout_policies import replay
from seqgan_env.tasks.oracle import oracle_task
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences
from tests.toy_world import TableReward, sequence_probabilities

SEQUENCES = enumerate_sequences(3, 3)


class DroppedSum(nn.Module):
    """A discriminator that is not ours: the tokens' sum, through dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, sequences: Tensor) -> Tensor:
        return self.dropout(sequences.float()).sum(dim=1)


def test_a_discriminators_reward_is_the_sigmoid_of_its_logit() -> None:
    discriminator = CNNDiscriminator(3, 3, filters=((1, 4), (2, 4)))
    with torch.no_grad():
        expected = torch.sigmoid(discriminator.eval()(SEQUENCES))
    rewards = DiscriminatorReward(discriminator)(SEQUENCES)
    torch.testing.assert_close(rewards, expected)
    assert not rewards.requires_grad
    assert ((rewards > 0) & (rewards < 1)).all()


@pytest.mark.parametrize("discriminator", [CNNDiscriminator(3, 3, dropout=0.9), DroppedSum()])
def test_dropout_is_off_in_a_discriminators_reward_and_its_mode_is_restored(discriminator: nn.Module) -> None:
    discriminator.train()
    reward = DiscriminatorReward(discriminator)
    assert torch.equal(reward(SEQUENCES), reward(SEQUENCES))
    assert all(module.training for module in discriminator.modules())
    assert not torch.equal(discriminator(SEQUENCES), discriminator(SEQUENCES))


def test_a_module_of_ones_own_is_passed_through_a_sigmoid() -> None:
    rewards = DiscriminatorReward(DroppedSum())(torch.tensor([[0, 0, 0], [2, 1, 0]]))
    assert rewards.tolist() == pytest.approx([0.5, 0.9525741])


def test_a_discriminators_reward_follows_its_training() -> None:
    discriminator = CNNDiscriminator(3, 3)
    reward = DiscriminatorReward(discriminator)
    before = reward(SEQUENCES)
    with torch.no_grad():
        discriminator.output.bias.add_(3.0)
    assert (reward(SEQUENCES) > before).all()


def test_a_logit_reward_is_the_logit() -> None:
    discriminator = CNNDiscriminator(3, 3, filters=((1, 4), (2, 4)), dropout=0.9)
    torch.testing.assert_close(
        torch.sigmoid(LogitReward(discriminator)(SEQUENCES)), DiscriminatorReward(discriminator)(SEQUENCES)
    )


def test_an_anchored_reward_is_less_by_the_weight_times_the_drift(model: LSTMSequenceModel) -> None:
    table = TableReward()
    reward = AnchoredReward(table, model, copy.deepcopy(model), weight=0.5)
    torch.testing.assert_close(reward(SEQUENCES), table(SEQUENCES).float())
    before = model.log_probs(SEQUENCES).sum(dim=1).detach()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    drift = model.log_probs(SEQUENCES).sum(dim=1).detach() - before
    assert drift.abs().max() > 0.1
    torch.testing.assert_close(reward(SEQUENCES), table(SEQUENCES).float() - 0.5 * drift)
    reward.set_anchor()
    torch.testing.assert_close(reward(SEQUENCES), table(SEQUENCES).float())


def test_the_best_generator_for_an_anchored_reward_is_the_tilted_anchor(model: LSTMSequenceModel) -> None:
    """At G = G_0 exp(R / weight) / Z every sequence has the same reward, so that no policy gradient is left."""
    anchor_probabilities = torch.from_numpy(sequence_probabilities(model.requires_grad_(False), SEQUENCES))
    table = TableReward()
    rewards = table(SEQUENCES).double()
    tilted = anchor_probabilities * torch.exp(rewards / 0.5)
    tilted /= tilted.sum()

    class Tilted(LSTMSequenceModel):
        def log_probs(self, sequences: Tensor) -> Tensor:
            row = (sequences * torch.tensor([9, 3, 1])).sum(dim=1)
            return torch.stack([tilted[row].log().float(), torch.zeros(len(row)), torch.zeros(len(row))], dim=1)

    scored = AnchoredReward(table, Tilted(3, 2, 2), model, weight=0.5)(SEQUENCES)
    torch.testing.assert_close(scored, scored[:1].expand(27), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_an_anchor_without_weight_is_refused(model: LSTMSequenceModel, weight: float) -> None:
    with pytest.raises(
        ValueError, match=f"^weight={weight} must be above 0.*; without an anchor use the reward"
    ) as caught:
        AnchoredReward(ConstantReward(), model, model, weight)
    assert str(caught.value).endswith("; without an anchor use the reward model itself")


def test_an_anchor_has_no_gradient(model: LSTMSequenceModel) -> None:
    reward = AnchoredReward(ConstantReward(), model, copy.deepcopy(model), weight=0.5)
    assert not any(parameter.requires_grad for parameter in reward.anchor.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_constant_reward_is_the_same_for_every_sequence() -> None:
    assert ConstantReward()(SEQUENCES).tolist() == [0.5] * 27
    assert ConstantReward(2.0)(SEQUENCES[:2]).tolist() == [2.0, 2.0]
    with pytest.raises(ValueError, match=r"^value=nan"):
        ConstantReward(float("nan"))


def test_a_constant_reward_is_float32_where_the_sequences_are_whatever_the_defaults() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            rewards = ConstantReward()(SEQUENCES)
    finally:
        torch.set_default_dtype(torch.float32)
    assert (rewards.dtype, rewards.device.type) == (torch.float32, "cpu")


def test_the_oracles_reward_is_its_likelihood_a_token(model: LSTMSequenceModel) -> None:
    sequences = torch.tensor([[0, 1, 2], [2, 1, 3]])  # 3 is PAD: a mean over two tokens
    log_probs = model.log_probs(sequences)
    expected = [log_probs[0].mean().exp().item(), log_probs[1, :2].mean().exp().item()]
    assert OracleReward(model)(sequences).tolist() == pytest.approx(expected)


def test_the_oracles_reward_of_one_token_and_of_none(model: LSTMSequenceModel) -> None:
    sequences = torch.tensor([[1, 3, 3], [3, 3, 3]])
    expected = [model.log_probs(sequences)[0, 0].exp().item(), 1.0]
    assert OracleReward(model)(sequences).tolist() == pytest.approx(expected)


def test_any_callable_is_a_reward_model() -> None:
    assert isinstance(lambda sequences: sequences[:, 0].float(), RewardModel)


# States for a checkpoint.


class Counting(ConstantReward):
    """Has a state of its own, and a source of chance."""

    def __init__(self, calls: int, seed: int) -> None:
        super().__init__()
        self.calls = calls
        self.rng = np.random.default_rng(seed)

    def state_dict(self) -> dict[str, int]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.calls = state["calls"]


def test_a_reward_models_state_is_its_own_and_that_of_its_chance() -> None:
    stored, fresh = Counting(7, 1), Counting(0, 2)
    state = reward_state(stored)
    assert state == {"own": {"calls": 7}, "rng": np.random.default_rng(1).bit_generator.state}
    load_reward_state(fresh, state)
    assert fresh.calls == 7
    assert fresh.rng.random() == stored.rng.random()


def test_what_a_reward_model_does_not_have_is_not_in_its_state() -> None:
    plain = ConstantReward()
    assert reward_state(plain) == {}
    load_reward_state(plain, {})
    plain.rng = "no generator"  # type: ignore[attr-defined]
    assert reward_state(plain) == {}
    assert list(reward_state(RandomReward(np.random.default_rng(0)))) == ["rng"]


@pytest.mark.parametrize("kind", ["anchored", "shuffled"])
def test_a_wrapped_reward_models_state_is_that_of_the_one_within_too(model: LSTMSequenceModel, kind: str) -> None:
    def wrapped(calls: int, anchor_scale: float) -> AnchoredReward | ShuffledReward:
        within = Counting(calls, calls)
        if kind == "shuffled":
            return ShuffledReward(within, np.random.default_rng(calls))
        anchor = copy.deepcopy(model)
        with torch.no_grad():
            anchor.output.bias.mul_(anchor_scale)
        return AnchoredReward(within, model, anchor, weight=0.5)

    stored, fresh = wrapped(7, 2.0), wrapped(0, 1.0)
    expected = reward_state(stored.reward_model)
    state = stored.state_dict()
    assert state["reward_model"] == expected
    assert set(state) == ({"anchor", "reward_model"} if kind == "anchored" else {"reward_model"})
    fresh.load_state_dict(state)
    assert fresh.reward_model.calls == 7  # type: ignore[attr-defined]
    assert reward_state(fresh.reward_model) == expected
    if isinstance(fresh, AnchoredReward) and isinstance(stored, AnchoredReward):
        assert torch.equal(fresh.anchor.output.bias, stored.anchor.output.bias)


# Null rewards.


class EveryPermutation:
    """In the place of a generator: deals every order of `count` values in turn, instead of one at random."""

    def __init__(self, count: int) -> None:
        self.orders = itertools.cycle(itertools.permutations(range(count)))

    def permutation(self, values: np.ndarray) -> np.ndarray:
        return values[list(next(self.orders))]


def scores(model: LSTMSequenceModel) -> np.ndarray:
    """grad log G(y_t | Y_{1:t-1}) of every sequence and step, (27, 3, parameters) float64."""
    rows = []
    for sequence in SEQUENCES:
        for t in range(3):
            weights = torch.zeros(1, 3)
            weights[0, t] = 1
            model.zero_grad()
            model.weighted_log_likelihood(sequence[None], weights).backward()
            rows.append(torch.cat([p.grad.flatten() for p in model.parameters()]).double().numpy())
    return np.stack(rows).reshape(27, 3, -1)


def policy_gradients(model: LSTMSequenceModel, task: Task, reward_model: RewardModel, episodes: int) -> np.ndarray:
    """Eq. 7 with the expectation over all 27 sequences exact, once for each search: (episodes, parameters) float64."""
    env = SequenceVectorEnv(task, 27, reward_model=reward_model, rollout_policy=model, n_rollouts=2)
    env.reset(seed=0)
    values = np.empty((episodes, 27, 3))
    for episode in range(episodes):
        for t in range(3):
            values[episode, :, t] = env.step(SEQUENCES[:, t].numpy())[1]
        env.reset()
    probabilities = sequence_probabilities(model, SEQUENCES)
    return np.einsum("eyt,y,ytp->ep", values, probabilities, scores(model))


def test_a_constant_reward_has_zero_expected_policy_gradient(model: LSTMSequenceModel, task: Task) -> None:
    (null,) = policy_gradients(model, task, ConstantReward(0.7), 1)
    (informed,) = policy_gradients(model, task, TableReward(), 1)
    assert np.abs(null).max() < 1e-6
    assert np.abs(informed).max() > 1e-2


def test_a_random_reward_has_zero_expected_policy_gradient(model: LSTMSequenceModel, task: Task) -> None:
    """Over the reward's draws; one draw of it does push."""

    def errors_from_zero(reward_model: RewardModel) -> float:
        gradients = policy_gradients(model, task, reward_model, 200)
        return float(np.abs(gradients.mean(axis=0) / gradients.std(axis=0) * np.sqrt(200)).max())

    assert errors_from_zero(RandomReward(np.random.default_rng(0))) < 4
    assert errors_from_zero(TableReward()) > 20
    (once,) = policy_gradients(model, task, RandomReward(np.random.default_rng(0)), 1)
    assert np.abs(once).max() > 1e-3


def test_a_random_reward_is_uniform_and_does_not_know_the_sequence() -> None:
    reward = RandomReward(np.random.default_rng(0))
    same = torch.zeros(20_000, 3, dtype=torch.int64)
    rewards = reward(same).double()
    expected = np.random.default_rng(0).random(20_000, dtype=np.float32)  # the single-precision stream
    np.testing.assert_array_equal(rewards.numpy(), expected.astype(np.float64))
    assert reward(same[:1]).dtype == torch.float32
    assert rewards.min() >= 0
    assert rewards.max() < 1
    assert abs(rewards.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 20_000)
    assert abs(rewards.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / 20_000)
    fresh = RandomReward(np.random.default_rng(0))
    assert torch.equal(fresh(SEQUENCES[:10]).double(), rewards[:10])  # other sequences, the same draws
    assert not torch.equal(reward(same), reward(same))


def test_a_shuffled_reward_keeps_the_values_and_loses_their_places() -> None:
    reward = ShuffledReward(TableReward(), np.random.default_rng(0))
    shuffled, plain = reward(SEQUENCES), TableReward()(SEQUENCES)
    assert torch.equal(shuffled.sort().values, plain.sort().values)
    assert not torch.equal(shuffled, plain)
    assert not torch.equal(reward(SEQUENCES), shuffled)


def test_every_order_of_a_shuffled_batch_is_as_likely() -> None:
    reward = ShuffledReward(lambda sequences: sequences[:, 0].double(), np.random.default_rng(0))
    batch = torch.tensor([[0], [1], [2]])
    orders = [tuple(reward(batch).tolist()) for _ in range(6_000)]
    counts = np.array([orders.count(order) for order in itertools.permutations((0.0, 1.0, 2.0))])
    assert counts.sum() == 6_000
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5  # chi-squared, 5 degrees of freedom, p = 0.001


def test_over_all_shuffles_every_prefix_and_finished_sequence_has_the_same_value(model: LSTMSequenceModel) -> None:
    """Two completions each of two prefixes and a finished sequence make one batch of 5: 120 orders."""
    sequences, lengths = np.array([[0, 3, 3], [1, 2, 3], [2, 2, 2]]), np.array([1, 2, 3])
    state = replay(model, torch.from_numpy(sequences), torch.from_numpy(lengths))

    def values(reward_model: RewardModel) -> np.ndarray:
        rngs = [np.random.default_rng(row) for row in range(3)]  # the same completions each time
        return action_values(model, state, sequences, lengths, lengths == 3, reward_model, 2, rngs)

    plain = values(TableReward())
    shuffled = ShuffledReward(TableReward(), EveryPermutation(5))  # type: ignore[arg-type]
    mean_over_shuffles = np.mean([values(shuffled) for _ in range(120)], axis=0)
    batch_mean = (2 * plain[0] + 2 * plain[1] + plain[2]) / 5
    np.testing.assert_allclose(mean_over_shuffles, batch_mean, rtol=1e-12)
    assert np.ptp(plain) > 0.1


def test_a_shuffled_reward_leaves_one_bth_of_the_policy_gradient(model: LSTMSequenceModel) -> None:
    """B = 2 whole sequences: all 729 batches and both orders. Their own reward is half of what is dealt out."""
    rewards = TableReward()
    whole = scores(model).sum(axis=1)  # grad log G(Y)
    probabilities = sequence_probabilities(model, SEQUENCES)
    shuffled = ShuffledReward(rewards, EveryPermutation(2))  # type: ignore[arg-type]
    expected = np.zeros(whole.shape[1])
    for pair in itertools.product(range(27), repeat=2):
        batch = list(pair)
        dealt = np.mean([shuffled(SEQUENCES[batch]).numpy() for _ in range(2)], axis=0)
        expected += probabilities[batch].prod() * (dealt @ whole[batch]) / 2
    exact = (probabilities * rewards(SEQUENCES).numpy()) @ whole
    np.testing.assert_allclose(expected, exact / 2, atol=1e-6)
    assert np.abs(exact).max() > 1e-2


def test_a_shuffle_over_one_sequence_hides_nothing() -> None:
    reward = ShuffledReward(TableReward(), np.random.default_rng(0))
    assert torch.equal(reward(SEQUENCES[:1]), TableReward()(SEQUENCES[:1]))


def test_a_shuffled_reward_checks_what_it_shuffles() -> None:
    with pytest.raises(ValueError, match=r"reward_model returned nan for sequence \[0, 0, 0\]"):
        ShuffledReward(lambda sequences: torch.full((27,), float("nan")), np.random.default_rng(0))(SEQUENCES)


# BLEU.


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [
        ([0, 1, 2], 1.0),
        ([0, 1, 1], (2 / 3 * 1 / 2 * 0.1 / 1) ** (1 / 3)),
        ([2, 1, 0], (3 / 3 * 0.1 / 2 * 0.1 / 1) ** (1 / 3)),
        ([1, 1, 1], (1 / 3 * 0.1 / 2 * 0.1 / 1) ** (1 / 3)),
        ([0, 1, 4], (2 / 2 * 1 / 1 * 0.1 / 1) ** (1 / 3) * np.exp(1 - 3 / 2)),  # 4 is PAD
        ([3, 3, 3], 0.0),
    ],
)
def test_a_bleu_reward_is_bleu_3_against_the_real_sequences(sequence: list[int], expected: float) -> None:
    reward = BLEUReward(torch.tensor([[0, 1, 2]]), 4, share=1.0, rng=np.random.default_rng(0))
    assert reward(torch.tensor([sequence])).tolist() == pytest.approx([expected])


def test_a_bleu_rewards_settings_reach_it() -> None:
    real, sequence = torch.tensor([[0, 1, 2]]), torch.tensor([[2, 1, 0]])
    rng = np.random.default_rng(0)
    assert BLEUReward(real, 4, smoothing="skip", rng=rng)(sequence).tolist() == [1.0]
    assert BLEUReward(real, 4, smoothing="none", rng=rng)(sequence).tolist() == [0.0]
    assert BLEUReward(real, 4, max_order=2, rng=rng)(sequence).tolist() == pytest.approx([0.05**0.5])


def test_noise_outscores_real_sequences_where_unmatched_orders_are_skipped_and_only_there() -> None:
    """Why "skip", which the authors' code came to, is not the default."""
    task = oracle_task(5000, 20, n_sequences=1000)
    real = task.real_sequences("test")
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 5000, (1000, 20)))
    gaps = {}  # in standard errors
    for smoothing in get_args(Smoothing):
        reward = BLEUReward(
            task.real_sequences("train"), 5000, share=1.0, smoothing=smoothing, rng=np.random.default_rng(0)
        )
        good, bad = reward(real), reward(noise)
        gaps[smoothing] = float((good.mean() - bad.mean()) / ((good.var() + bad.var()) / 1000).sqrt())
    assert gaps["none"] > 2
    assert gaps["epsilon"] > 10
    assert gaps["skip"] < -10


@pytest.mark.parametrize(("share", "count"), [(None, 8), (0.25, 5), (1.0, 20), (0.001, 1)])
def test_a_bleu_rewards_references_are_a_random_share(share: float | None, count: int) -> None:
    """Sequence i has token i alone, so that it scores 1 if it is a reference and 0 if not."""
    real = torch.arange(20)[:, None].repeat(1, 3)
    keywords = {} if share is None else {"share": share}
    chosen = [BLEUReward(real, 20, rng=np.random.default_rng(seed), **keywords)(real) for seed in (0, 0, 1)]
    assert chosen[0].tolist().count(1.0) == count
    assert chosen[0].tolist().count(0.0) == 20 - count
    assert torch.equal(chosen[0], chosen[1])
    assert torch.equal(chosen[0], chosen[2]) == (count == 20)


@pytest.mark.parametrize("share", [0.0, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=rf"share={share} must lie in \(0, 1\]"):
        BLEUReward(SEQUENCES, 3, share=share, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "returned", [torch.tensor([1.0, 2.0]), torch.tensor([1, 2]), [1, 2.0], np.array([1.0, 2.0], np.float32)]
)
def test_tensors_arrays_and_lists_of_numbers_are_rewards(returned: object) -> None:
    rewards = score_sequences(lambda sequences: returned, SEQUENCES[:2])
    assert rewards.tolist() == [1.0, 2.0]
    assert rewards.dtype == np.float64


def test_rewards_carry_no_gradient() -> None:
    weight = torch.ones(2, requires_grad=True)
    assert score_sequences(lambda sequences: 3 * weight, SEQUENCES[:2]).tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (torch.tensor([0.5, float("nan")]), ValueError, r"reward_model returned nan for sequence \[0, 0, 1\]"),
        (torch.tensor([float("inf"), 0.5]), ValueError, r"reward_model returned inf for sequence \[0, 0, 0\]"),
        (torch.zeros(3), ValueError, r"reward_model returned shape \(3,\) for 2 sequences"),
        (torch.zeros(2, 1), ValueError, r"reward_model returned shape \(2, 1\)"),
        (torch.tensor(0.5), ValueError, r"reward_model returned shape \(\)"),
        (0.5, ValueError, r"reward_model returned shape \(\)"),
        ("high", TypeError, "reward_model must return a tensor of 2 numbers, got str"),
        ({"a": 1}, TypeError, "reward_model must return a tensor of 2 numbers, got dict"),
        ([None, object()], TypeError, "reward_model must return a tensor of 2 numbers, got list"),
        ([[1.0], [1.0, 2.0]], TypeError, "reward_model must return a tensor of 2 numbers, got list"),
    ],
)
def test_what_is_not_a_finite_number_a_sequence_is_refused(
    returned: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        score_sequences(lambda sequences: returned, SEQUENCES[:2])


def named_reward(sequences: Tensor) -> Tensor:
    return torch.zeros(3)


class NamedReward:
    def __call__(self, sequences: Tensor) -> Tensor:
        return torch.full((2,), float("nan"))


class ListReward:
    def __call__(self, sequences: Tensor) -> list[str]:
        return ["a", "b"]


@pytest.mark.parametrize(
    ("reward_model", "error", "name"),
    [
        (named_reward, ValueError, "named_reward"),
        (NamedReward(), ValueError, "NamedReward"),
        (ListReward(), TypeError, "ListReward"),
    ],
)
def test_a_refused_reward_model_is_named(reward_model: RewardModel, error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=rf"; the reward model is {name}$"):
        score_sequences(reward_model, SEQUENCES[:2])
