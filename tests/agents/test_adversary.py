"""`adversary`: the d steps by hand, with a discriminator of one weight."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.adversary import (
    Adversary,
    DiscriminatorConfig,
    DiscriminatorReport,
    calibration_error,
    check_sizes,
    pair_loss,
)
from seqgan_env.models.discriminators import Discriminator
from seqgan_env.tasks.task import Split, Task


class FirstToken(Discriminator):
    """Logit: weight * (first token - 1). Notes what it is asked, and in which mode."""

    def __init__(self, weight: float = 0.5, penalty: float = 0.0) -> None:
        super().__init__(4, 2)
        self.weight = nn.Parameter(torch.tensor([weight]))
        self.factor = penalty
        self.asked: list[tuple[bool, Tensor]] = []

    def forward(self, sequences: Tensor) -> Tensor:
        self.asked.append((self.training, sequences))
        return self.weight * (sequences[:, 0] - 1)

    def penalty(self) -> Tensor:
        return self.factor * self.weight.square().sum()


class TwoMembers(FirstToken):
    """The second member says the opposite of the first."""

    def member_logits(self, sequences: Tensor) -> Tensor:
        logits = self(sequences)
        return torch.stack([logits, -logits])


def numbered(count: int, first: int = 0) -> Tensor:
    """Sequences that all differ: row i is [first + i, 3]."""
    rows = torch.arange(first, first + count)
    return torch.stack([rows, torch.full((count,), 3)], dim=1)


def task_of(train: Tensor, validation: Tensor) -> Task:
    def draw_split(split: Split) -> Tensor:
        return {"train": train, "validation": validation}[split]

    return Task("numbered", 4000, 2, draw_split)


def adversary_of(discriminator: Discriminator, **keywords: Any) -> Adversary:
    return Adversary(discriminator, **{"rng": np.random.default_rng(0), "learning_rate": 0.1} | keywords)


def stepped(weight: float, gradient: float, learning_rate: float, decay: float) -> float:
    """AdamW's first step, from its paper: the decay, then a step of the learning rate."""
    return weight * (1 - learning_rate * decay) - learning_rate * gradient / (abs(gradient) + 1e-8)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("penalty", [0.0, 5.0])
def test_an_epoch_of_one_batch_is_one_step_of_adam_on_eq_5(penalty: float, decay: float) -> None:
    discriminator = FirstToken(0.5, penalty)
    real, generated = torch.tensor([[0, 3], [1, 3]]), torch.tensor([[2, 3], [3, 3]])
    logits = 0.5 * torch.tensor([-1.0, 0.0, 1.0, 2.0])
    probabilities = torch.sigmoid(logits)
    labels = torch.tensor([1.0, 1.0, 0.0, 0.0])
    expected = -(labels * probabilities.log() + (1 - labels) * (1 - probabilities).log()).mean()
    gradient = ((probabilities - labels) * torch.tensor([-1.0, 0.0, 1.0, 2.0])).mean() + 2 * penalty * 0.5
    loss = adversary_of(discriminator, batch_size=4, weight_decay=decay).epoch(real, generated)
    assert loss == pytest.approx(expected.item())  # without the penalty
    assert isinstance(loss, float)
    assert discriminator.weight.grad.item() == pytest.approx(gradient.item())
    assert discriminator.weight.item() == pytest.approx(stepped(0.5, gradient.item(), 0.1, decay))
    assert not discriminator.training


def test_the_members_of_an_ensemble_each_learn_that_real_is_one() -> None:
    discriminator = TwoMembers(0.5)
    loss = adversary_of(discriminator, batch_size=2).epoch(torch.tensor([[3, 3]]), torch.tensor([[0, 3]]))
    logits = torch.tensor([[1.0, -0.5], [-1.0, 0.5]])
    expected = F.binary_cross_entropy_with_logits(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert loss == pytest.approx(expected.item())


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 4, 2]), (5, [4, 4, 2]), (2, [2] * 5), (64, [10])])
def test_every_batch_is_half_real_and_every_sequence_is_used_once(batch_size: int, sizes: list[int]) -> None:
    discriminator = FirstToken(0.0)
    real, generated = numbered(5), numbered(5, 100)
    adversary = adversary_of(discriminator, batch_size=batch_size, learning_rate=0.0)
    loss = adversary.epoch(real, generated)
    assert [len(batch) for _, batch in discriminator.asked] == sizes
    assert all(training for training, _ in discriminator.asked)
    first, second = ([batch[:, 0].split(len(batch) // 2)[half] for _, batch in discriminator.asked] for half in (0, 1))
    assert sorted(torch.cat(first).tolist()) == real[:, 0].tolist()
    assert sorted(torch.cat(second).tolist()) == generated[:, 0].tolist()
    assert loss == pytest.approx(np.log(2))  # every logit is 0


def test_real_and_generated_sequences_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="zip"):
        adversary_of(FirstToken(), batch_size=2).epoch(numbered(3), numbered(9))


def test_real_and_generated_sequences_are_shuffled_apart_and_anew() -> None:
    discriminator = FirstToken()
    adversary = adversary_of(discriminator)
    for _ in range(2):
        adversary.epoch(numbered(30), numbered(30))
    (_, first), (_, second) = discriminator.asked
    orders = [batch[:, 0].tolist() for whole in (first, second) for batch in whole.split(30)]
    assert len({tuple(order) for order in orders}) == 4
    assert all(sorted(order) == list(range(30)) for order in orders)


def test_gradients_of_one_batch_do_not_reach_the_next() -> None:
    discriminator = FirstToken(0.5)
    adversary = adversary_of(discriminator, batch_size=2, learning_rate=0.0)
    for _ in range(2):
        adversary.epoch(torch.tensor([[3, 3]]), torch.tensor([[1, 3]]))
    assert discriminator.weight.grad.item() == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item() - 1)


def test_a_mean_loss_weighs_batches_alike() -> None:
    discriminator = FirstToken(0.5)
    adversary = adversary_of(discriminator, batch_size=2, learning_rate=0.0)
    loss = adversary.epoch(torch.tensor([[3, 3], [1, 3]]), torch.tensor([[1, 3], [1, 3]]))
    of_3, of_1 = np.log1p(np.exp(-1.0)), np.log(2)
    assert loss == pytest.approx((of_3 + 3 * of_1) / 4)


class Draws:
    """Generated sequences, numbered on from 100; notes how many were asked for."""

    def __init__(self, at_most: int = 10_000) -> None:
        self.asked: list[int] = []
        self.at_most = at_most

    def __call__(self, count: int) -> Tensor:
        self.asked.append(count)
        return numbered(min(count, self.at_most), 100 * len(self.asked))


@pytest.mark.parametrize(("sample_size", "at_most", "used"), [(None, 99, 8), (3, 99, 3), (20, 99, 8), (None, 5, 5)])
def test_a_step_has_k_epochs_on_one_draw_and_as_many_real_sequences(
    sample_size: int | None, at_most: int, used: int
) -> None:
    discriminator, draws = FirstToken(0.1), Draws(at_most)
    adversary = adversary_of(discriminator, k_epochs=2, sample_size=sample_size, batch_size=100)
    report = adversary.step(task_of(numbered(8), numbered(6, 50)), draws)
    assert draws.asked == [8 if sample_size in (None, 20) else 3, 6]
    trained = [batch[:, 0] for training, batch in discriminator.asked if training]
    assert [len(batch) for batch in trained] == [2 * used] * 2
    for half in range(2):  # both epochs see the same sequences
        one, other = (sorted(batch.split(used)[half].tolist()) for batch in trained)
        assert one == other
    real, generated = trained[0].split(used)
    assert len(set(real.tolist())) == used
    assert set(real.tolist()) <= set(range(8))
    assert sorted(generated.tolist()) == list(range(100, 100 + used))
    judged = [batch[:, 0].tolist() for training, batch in discriminator.asked if not training]
    fresh = min(6, at_most)
    assert judged == [list(range(50, 50 + fresh)), list(range(200, 200 + fresh))]
    assert adversary.last_report is report


def test_the_real_sequences_of_a_step_are_chosen_at_random() -> None:
    discriminator = FirstToken(0.1)
    adversary = adversary_of(discriminator, k_epochs=1, sample_size=5)
    for _ in range(2):
        adversary.step(task_of(numbered(30), numbered(2)), Draws())
    chosen = [set(batch[:5, 0].tolist()) for training, batch in discriminator.asked if training]
    assert chosen[0] != chosen[1]
    assert set(range(5)) not in chosen


def test_a_report_is_about_a_thousand_held_out_sequences_at_most() -> None:
    draws, discriminator = Draws(), FirstToken(0.0)
    adversary_of(discriminator, sample_size=1, k_epochs=1).step(task_of(numbered(3), numbered(1500)), draws)
    assert draws.asked == [1, 1000]
    judged = torch.cat([batch[:, 0] for training, batch in discriminator.asked if not training])
    assert judged.tolist() == [*range(1000), *range(200, 1200)]


def test_a_discriminator_in_16_bits_is_reported_in_float32() -> None:
    real = numbered(6)
    adversary = adversary_of(FirstToken(0.5).bfloat16(), learning_rate=1e-9)
    report = adversary.step(task_of(real, real), lambda count: real[:count])
    assert report is not None
    assert report.mean_real == pytest.approx(torch.sigmoid(0.5 * (real[:, 0] - 1)).mean().item(), abs=1e-6)


def test_a_discriminator_that_gives_nan_is_named_with_its_learning_rate() -> None:
    real = numbered(6)
    adversary = adversary_of(FirstToken(float("nan")), learning_rate=0.5)
    with pytest.raises(ValueError, match=r"gives NaN after training with learning_rate=0\.5 .* Lower learning_rate"):
        adversary.step(task_of(real, real), lambda count: real[:count])


def test_where_there_is_nothing_generated_yet_a_step_does_nothing() -> None:
    discriminator = FirstToken(0.5)
    adversary = adversary_of(discriminator)
    assert adversary.last_report is None
    assert adversary.step(task_of(numbered(3), numbered(3)), lambda count: None) is None
    assert adversary.last_report is None
    assert discriminator.weight.item() == 0.5


def test_a_report_by_hand() -> None:
    """D's logits are the tokens less 1: on the real ones 2, 2 and 0, on the generated ones -1, -1 and 2."""
    train, validation = torch.tensor([[1, 3]]), torch.tensor([[3, 3], [3, 3], [1, 3]])
    draws = iter([torch.tensor([[1, 3]]), torch.tensor([[0, 3], [0, 3], [3, 3]])])
    adversary = adversary_of(FirstToken(1.0), learning_rate=0.0, k_epochs=1)
    report = adversary.step(task_of(train, validation), lambda count: next(draws))
    high, low = (1 / (1 + np.exp(-logit)) for logit in (2.0, -1.0))
    assert report == DiscriminatorReport(
        loss=pytest.approx(np.log(2)),
        accuracy=4 / 6,  # 0.5 exactly counts as generated
        calibration_error=pytest.approx((abs(3 * high - 2) + 0.5 + 2 * low) / 6),
        mean_real=pytest.approx((2 * high + 0.5) / 3),
        mean_generated=pytest.approx((high + 2 * low) / 3),
    )
    assert all(type(value) is float for value in vars(report).values())


@pytest.mark.parametrize(
    ("probabilities", "outcomes", "bins", "expected"),
    [
        ([1.0, 1.0], [True, True], 10, 0.0),  # 1 falls in the last bin
        ([0.95, 0.85], [True, False], 10, (0.05 + 0.85) / 2),  # bins of a tenth
        ([0.95, 0.85], [True, False], 5, 0.8 / 2),  # both in the last fifth
        ([1.0, 0.95], [False, True], 10, 0.95 / 2),  # 1 is in the bin below it
        ([0.05, 0.095], [True, False], 10, 0.855 / 2),  # both in the first tenth
        ([0.0, 0.05, 0.1], [True, False, False], 10, (0.95 + 0.1) / 3),  # a bin has its lower end
    ],
)
def test_calibration_error_by_hand(
    probabilities: list[float], outcomes: list[bool], bins: int, expected: float
) -> None:
    error = calibration_error(np.array(probabilities), np.array(outcomes), bins)
    assert error == pytest.approx(expected)
    assert type(error) is float
    if bins == 10:
        assert calibration_error(np.array(probabilities), np.array(outcomes)) == error


def test_the_papers_settings_are_the_defaults() -> None:
    adversary = Adversary(FirstToken(), rng=np.random.default_rng(0))
    assert (adversary.k_epochs, adversary.sample_size, adversary.batch_size) == (3, None, 64)
    (group,) = adversary.optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["fused"]) == (1e-4, 0.0, True)


def test_a_restored_adversary_goes_on_as_the_first_would_have() -> None:
    first, second = (adversary_of(FirstToken(weight), batch_size=4) for weight in (0.5, 0.9))
    task = task_of(numbered(6), numbered(3))
    assert first.state_dict()["last_report"] is None
    second.load_state_dict(first.state_dict())
    assert second.last_report is None
    first.step(task, Draws())
    second.load_state_dict(first.state_dict())
    assert second.last_report == first.last_report
    assert isinstance(second.last_report, DiscriminatorReport)
    first.rng, second.rng = np.random.default_rng(5), np.random.default_rng(5)
    assert first.step(task, Draws()) == second.step(task, Draws())
    assert torch.equal(first.discriminator.weight, second.discriminator.weight)


def test_sizes_that_are_too_small_are_refused_and_the_least_are_not() -> None:
    for k_epochs, batch_size, message in (
        (0, 2, r"^k_epochs=0 must be at least 1$"),
        (1, 1, r"^batch_size=1 must be at least 2: one real and one generated sequence$"),
    ):
        with pytest.raises(ValueError, match=message):
            check_sizes(k_epochs, batch_size)
        with pytest.raises(ValueError, match=message):
            adversary_of(FirstToken(), k_epochs=k_epochs, batch_size=batch_size)
    check_sizes(1, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, r"^discriminator\.batch_size=0 must be at least 1"),
        ({"sample_size": 0}, r"^discriminator\.sample_size=0 must be at least 1"),
        ({"pretraining_steps": -1}, r"^discriminator\.pretraining_steps=-1 must be at least 0"),
        ({"learning_rate": 0.0}, r"^discriminator\.learning_rate=0\.0 must be above 0"),
        ({"weight_decay": -0.1}, r"^discriminator\.weight_decay=-0\.1 must be finite and not negative"),
    ],
)
def test_settings_out_of_range_are_refused_and_the_least_are_not(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiscriminatorConfig(**changes)
    DiscriminatorConfig(batch_size=1, sample_size=1, pretraining_steps=0, weight_decay=0.0)


def test_complete_settings_name_every_option_and_keep_the_given_ones() -> None:
    given = DiscriminatorConfig(options={"dropout": 0.4}, learning_rate=0.5)
    complete = given.complete()
    assert complete.options["dropout"] == 0.4
    assert {"embedding_size", "l2"} <= set(complete.options)
    assert replace(complete, options=given.options) == given
    with pytest.raises(ValueError, match=r"^discriminator\.momentum=1: discriminator='cnn' has no such option"):
        DiscriminatorConfig(options={"momentum": 1}).complete()


# Pairs.


def test_a_step_on_pairs_by_hand() -> None:
    """The logits of a pair differ by w times the difference of their first tokens, which is 2."""
    discriminator = FirstToken(weight=0.5)
    adversary = adversary_of(discriminator, batch_size=8, loss="bradley_terry")
    real, generated = torch.tensor([[3, 3]] * 4), torch.tensor([[1, 3]] * 4)
    loss = adversary.epoch(real, generated)
    assert loss == pytest.approx(-np.log(1 / (1 + np.exp(-0.5 * 2))), abs=1e-6)
    assert discriminator.weight.item() == pytest.approx(0.6, abs=1e-6)  # Adam's first step is one learning rate


def test_the_logit_of_the_best_discriminator_minimises_the_loss_of_pairs_whatever_its_constant() -> None:
    """All 36 pairs of six real and six generated sequences: exact expectations."""
    real, generated = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 1, 2, 2, 2, 2])
    pairs = torch.cartesian_prod(torch.arange(6), torch.arange(6))
    columns = torch.cat([real[pairs[:, 0]], generated[pairs[:, 1]]])
    best = torch.log(torch.tensor([3.0, 2.0, 1.0]) / torch.tensor([1.0, 1.0, 4.0]))
    for constant in (0.0, 7.0):
        logits = (best + constant).requires_grad_()
        pair_loss(logits[columns][None], 36).backward()
        assert logits.grad is not None
        assert logits.grad.abs().max() < 1e-6
    flat = torch.zeros(3, requires_grad=True)
    pair_loss(flat[columns][None], 36).backward()
    assert flat.grad is not None
    assert flat.grad.abs().max() > 0.1


class Shifted(FirstToken):
    """The same, with a constant that pairs cannot see."""

    def forward(self, sequences: Tensor) -> Tensor:
        return super().forward(sequences) + 50


def test_the_report_on_pairs_does_not_depend_on_the_constant_that_they_leave_open() -> None:
    task = task_of(numbered(64), numbered(64, first=2000))
    reports = []
    for kind in (FirstToken, Shifted):
        adversary = adversary_of(kind(weight=1e-3), batch_size=16, loss="bradley_terry", learning_rate=1e-4)
        reports.append(adversary.step(task, lambda count: numbered(count, first=1000)))
    assert reports[0] is not None
    assert reports[1] is not None
    assert reports[0].accuracy == reports[1].accuracy
    assert reports[0].mean_real == pytest.approx(reports[1].mean_real, abs=1e-4)
    assert reports[0].mean_real + reports[0].mean_generated == pytest.approx(1.0, abs=1e-4)


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="loss='hinge' must be one of"):
        adversary_of(FirstToken(), loss="hinge")
    with pytest.raises(ValueError, match="loss='hinge'"):
        DiscriminatorConfig(loss="hinge")  # type: ignore[arg-type]
