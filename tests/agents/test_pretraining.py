"""`pretraining`: maximum likelihood, early stopping, scheduled sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from agents.pretraining import Pretrainer, scheduled_inputs
from agents.runs.checkpoints import split_state
from seqgan_env.models.sequence_models import LSTMSequenceModel, shift_right
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import toy_task


def pretrainer(task: Task, seed: int = 0, **keywords: Any) -> Pretrainer:
    generator = LSTMSequenceModel(3, 8, 8, init_std=0.1, seed=1)
    keywords = {"batch_size": 32, "max_epochs": 4, "rng": np.random.default_rng(seed)} | keywords
    return Pretrainer(generator, task.real_sequences("train"), task.real_sequences("validation"), **keywords)


def parameters(trainer: Pretrainer) -> Tensor:
    return torch.nn.utils.parameters_to_vector(trainer.generator.parameters()).detach().clone()


@pytest.fixture
def skewed_task() -> Task:
    """Real sequences that are far from uniform."""
    return toy_task(oracle=LSTMSequenceModel(3, 4, 5, init_std=2.0, seed=11), n_sequences=400)


def test_training_nll_falls_to_the_entropy_of_the_real_sequences_and_not_below(skewed_task: Task) -> None:
    train = skewed_task.real_sequences("train")
    _, counts = torch.unique(train, dim=0, return_counts=True)
    shares = counts.double() / len(train)
    optimum = float(-(shares * shares.log()).sum()) / 3  # nats per token
    history = pretrainer(skewed_task, max_epochs=50, learning_rate=2e-2).fit()
    losses = [loss for loss, _ in history]
    assert losses[0] > optimum + 0.08
    assert optimum - 1e-6 < min(losses) < optimum + 0.03
    assert losses == pytest.approx(sorted(losses, reverse=True), abs=0.02)


def test_the_held_out_nll_is_that_of_the_validation_sequences(task: Task) -> None:
    trainer = pretrainer(task, max_epochs=1)
    _, held_out = trainer.epoch()
    expected = -trainer.generator.log_probs(task.real_sequences("validation")).double().mean(dim=1).numpy()
    assert held_out.mean == pytest.approx(expected.mean(), abs=1e-6)
    assert held_out.standard_error == pytest.approx(expected.std(ddof=1) / np.sqrt(len(expected)), rel=1e-4)


def test_without_patience_epochs_are_exact_and_the_last_parameters_stay(task: Task) -> None:
    trainer = pretrainer(task, max_epochs=3)
    seen = []
    while not trainer.finished:
        trainer.epoch()
        seen.append(parameters(trainer))
    assert trainer.epochs == len(seen) == 3
    assert torch.equal(parameters(trainer), seen[-1])
    assert trainer.state_dict()["best_parameters"] == {}


def test_zero_epochs_train_nothing(task: Task) -> None:
    trainer = pretrainer(task, max_epochs=0)
    before = parameters(trainer)
    assert trainer.fit() == []
    assert torch.equal(parameters(trainer), before)


def test_early_stopping_goes_back_to_the_best_parameters() -> None:
    """Seven epochs after the best one, the parameters are those of the best again."""
    few = toy_task(n_sequences={"train": 32, "validation": 500, "test": 1})
    trainer = pretrainer(few, max_epochs=200, patience=7, learning_rate=5e-2)
    seen, held_out = [], []
    while not trainer.finished:
        _, estimate = trainer.epoch()
        seen.append(parameters(trainer))
        held_out.append(estimate.mean)
    best = int(np.argmin(held_out))
    assert trainer.epochs == best + 1 + 7 < 200
    assert trainer.best_validation == held_out[best]
    assert torch.equal(parameters(trainer), seen[best])
    assert not torch.equal(seen[best], seen[-2])


def test_early_stopping_at_the_last_epoch_goes_back_as_well() -> None:
    few = toy_task(n_sequences={"train": 32, "validation": 500, "test": 1})
    trainer = pretrainer(few, max_epochs=30, patience=1000, learning_rate=5e-2)
    held_out = [estimate.mean for _, estimate in trainer.fit()]
    assert int(np.argmin(held_out)) < 29
    final = -trainer.generator.log_probs(few.real_sequences("validation")).double().mean()
    assert final.item() == pytest.approx(min(held_out), abs=1e-6)


def test_every_sequence_is_learned_from_once_an_epoch_in_new_order(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = pretrainer(task, batch_size=300)  # 1,000 sequences: the last batch is smaller, and used
    batches: list[Tensor] = []

    def spy(batch: Tensor, count: int) -> float:
        batches.append(batch)
        assert count == batch.numel()
        return 0.0

    monkeypatch.setattr(trainer, "_step", spy)
    trainer.epoch()
    trainer.epoch()
    assert [len(batch) for batch in batches] == [300, 300, 300, 100] * 2
    first, second = torch.cat(batches[:4]), torch.cat(batches[4:])
    assert not torch.equal(first, second)
    as_numbers = [sorted((epoch @ torch.tensor([9, 3, 1])).tolist()) for epoch in (first, second)]
    assert as_numbers[0] == as_numbers[1] == sorted((trainer.sequences @ torch.tensor([9, 3, 1])).tolist())


def test_without_reshuffling_every_epoch_has_the_batches_of_the_given_order(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = pretrainer(task, batch_size=300, reshuffle=False)
    batches: list[Tensor] = []
    monkeypatch.setattr(trainer, "_step", lambda batch, count: batches.append(batch) or 0.0)
    trainer.epoch()
    trainer.epoch()
    assert torch.equal(torch.cat(batches), task.real_sequences("train").repeat(2, 1))


def test_pad_is_neither_learned_from_nor_counted(eos_task: Task) -> None:
    generator = LSTMSequenceModel(4, 4, 4, seed=2)
    sequences = eos_task.real_sequences("train")  # 3 and 5 tokens
    trainer = Pretrainer(
        generator, sequences, sequences, batch_size=2, learning_rate=1e-9, rng=np.random.default_rng(0)
    )
    expected = -generator.log_probs(sequences).sum().item() / 8
    loss, _ = trainer.epoch()
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("curriculum_rate_step", [0.0, 0.2])
def test_a_seed_decides_everything(task: Task, curriculum_rate_step: float) -> None:
    ends = []
    for seed in (0, 0, 1):
        trainer = pretrainer(task, seed, max_epochs=2, curriculum_rate_step=curriculum_rate_step)
        trainer.fit()
        ends.append(parameters(trainer))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


@pytest.mark.parametrize("patience", [None, 2])
@pytest.mark.parametrize("stop_after", [0, 2])
def test_a_restored_pretrainer_continues_bit_for_bit(task: Task, patience: int | None, stop_after: int) -> None:
    keywords = {"max_epochs": 4, "patience": patience, "curriculum_rate_step": 0.1, "learning_rate": 5e-2}
    whole = pretrainer(task, **keywords)
    expected = whole.fit()
    first = pretrainer(task, **keywords)
    history = [first.epoch() for _ in range(stop_after)]
    second = pretrainer(task, seed=99, **keywords)
    second.generator.load_state_dict(first.generator.state_dict())
    second.load_state_dict(first.state_dict())
    history += second.fit()
    assert history == expected
    assert torch.equal(parameters(second), parameters(whole))
    (tensors, plain), (expected, expected_plain) = split_state(second.state_dict()), split_state(whole.state_dict())
    assert plain == expected_plain
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())


def test_a_state_without_its_tensors_is_what_json_can_hold(task: Task) -> None:
    import json

    trainer = pretrainer(task, patience=3)
    assert json.loads(json.dumps(split_state(trainer.state_dict())[1]))["best_validation"] is None
    trainer.epoch()
    plain = split_state(trainer.state_dict())[1]
    assert json.loads(json.dumps(plain)) == plain


def test_a_batch_larger_than_the_data_is_refused(task: Task) -> None:
    with pytest.raises(ValueError, match="batch_size=1001 exceeds the 1000 training sequences; lower it"):
        pretrainer(task, batch_size=1001)


# Scheduled sampling.


@pytest.mark.parametrize("step", [-0.1, 1.1, float("nan")])
def test_a_curriculum_rate_step_that_is_no_probability_is_refused(task: Task, step: float) -> None:
    with pytest.raises(ValueError, match=rf"curriculum_rate_step={step} must lie in \[0, 1\]"):
        pretrainer(task, curriculum_rate_step=step)


def test_an_epoch_at_rate_one_is_mle_bit_for_bit(task: Task) -> None:
    """The first epoch, whatever the step; the second differs."""
    mle, scheduled = pretrainer(task), pretrainer(task, curriculum_rate_step=0.5)
    assert mle.epoch() == scheduled.epoch()
    assert torch.equal(parameters(mle), parameters(scheduled))
    scheduled.rng.bit_generator.state = mle.rng.bit_generator.state  # the same batches again
    mle.epoch()
    scheduled.epoch()
    assert not torch.equal(parameters(mle), parameters(scheduled))


def test_the_held_out_nll_is_teacher_forced_at_every_rate(task: Task) -> None:
    trainer = pretrainer(task, max_epochs=3, curriculum_rate_step=1.0)  # rates 1, 0, 0
    for rate in (1, 0, 0):
        train_nll, held_out = trainer.epoch()
        expected = -trainer.generator.log_probs(task.real_sequences("validation")).double().mean()
        assert held_out.mean == pytest.approx(expected.item(), abs=1e-6), rate
    assert np.isfinite(train_nll)


def test_real_tokens_fed_in_a_row_are_binomial(always_two: LSTMSequenceModel) -> None:
    """As many independent coins of the given probability as there are tokens to feed."""
    rows, tokens, rate = 8_000, 6, 0.3
    real = torch.ones(rows, tokens + 1, dtype=torch.int64)
    inputs = scheduled_inputs(always_two, real, rate, np.random.default_rng(0))
    fed = (inputs[:, 1:] == 1).sum(dim=1).numpy()
    expected = rows * stats.binom.pmf(np.arange(tokens + 1), tokens, rate)
    assert expected.min() > 5
    assert stats.chisquare(np.bincount(fed, minlength=tokens + 1), expected).pvalue > 1e-3


@pytest.fixture
def always_two() -> LSTMSequenceModel:
    model = LSTMSequenceModel(3, 4, 4, init_std=0.1)
    with torch.no_grad():
        model.output.bias.copy_(torch.tensor([-50.0, -50.0, 50.0]))
    return model


def test_rate_one_is_teacher_forcing_exactly(model: LSTMSequenceModel, task: Task) -> None:
    sequences = task.real_sequences("train")
    inputs = scheduled_inputs(model, sequences, 1.0, np.random.default_rng(0))
    assert torch.equal(inputs, shift_right(sequences, 3))


def test_rate_zero_feeds_only_the_generators_own_tokens(always_two: LSTMSequenceModel) -> None:
    inputs = scheduled_inputs(always_two, torch.ones(5, 4, dtype=torch.int64), 0.0, np.random.default_rng(0))
    assert inputs.tolist() == [[0, 2, 2, 2]] * 5


def test_rate_zero_draws_as_free_running_sampling_does(model: LSTMSequenceModel) -> None:
    real = torch.zeros(20_000, 3, dtype=torch.int64)
    inputs = scheduled_inputs(model, real, 0.0, np.random.default_rng(0))
    samples = sample_sequences(model, 20_000, 3, np.random.default_rng(1))
    shares = [
        np.bincount(pairs.numpy() @ np.array([3, 1]), minlength=9) / 20_000 for pairs in (inputs[:, 1:], samples[:, :2])
    ]
    error = np.sqrt(2 * shares[1] * (1 - shares[1]) / 20_000)
    assert (np.abs(shares[0] - shares[1]) < 4 * error + 1e-3).all()
    assert shares[1].std() > 0.05


def test_the_coin_is_drawn_anew_for_every_token_and_every_call(always_two: LSTMSequenceModel) -> None:
    """The authors' graph of 2016 drew it once, and so never mixed."""
    rng = np.random.default_rng(0)
    real = torch.ones(500, 11, dtype=torch.int64)
    first = scheduled_inputs(always_two, real, 0.3, rng)
    second = scheduled_inputs(always_two, real, 0.3, rng)
    assert not torch.equal(first, second)
    is_real = (first[:, 1:] == 1).double()
    assert set(first[:, 1:].unique().tolist()) == {1, 2}
    standard_error = np.sqrt(0.3 * 0.7 / 5000)
    assert abs(is_real.mean().item() - 0.3) < 4 * standard_error
    assert is_real.mean(dim=0).std() < 0.1  # no step has a coin of its own
    assert is_real.mean(dim=1).std() < 0.2  # nor has a sequence: with one coin a row it would be 0.46
    neighbours = np.corrcoef(is_real[:, :-1].flatten(), is_real[:, 1:].flatten())[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(4500)


def test_an_own_token_is_drawn_given_the_mixed_prefix() -> None:
    """A successor model feeds y + 1 after whatever was fed before, real or its own."""
    successor = LSTMSequenceModel(3, 3, 3, init_std=0.0)
    with torch.no_grad():
        successor.embedding.copy_(torch.eye(3))
        successor.input_weight[:, 9:] = 20 * torch.eye(3)  # the cell takes the last token
        successor.gate_bias[0:3] = 20.0  # input gate open
        successor.gate_bias[3:6] = -20.0  # forget gate shut
        successor.gate_bias[6:9] = 20.0  # output gate open
        successor.output.weight.copy_(60 * torch.eye(3).roll(1, dims=0))
    real = torch.tensor([[1, 1, 0, 2, 1, 0]]).repeat(200, 1)
    inputs = scheduled_inputs(successor, real, 0.5, np.random.default_rng(0))
    assert inputs[:, 0].tolist() == [0] * 200
    for t in range(1, 6):
        own, teacher = (inputs[:, t - 1] + 1) % 3, real[:, t - 1]
        assert ((inputs[:, t] == own) | (inputs[:, t] == teacher)).all()
        assert (inputs[:, t] != teacher).any() or (own == teacher).all()


def test_the_rate_falls_by_its_step_each_epoch_and_stops_at_zero(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    def spy(generator: Any, batch: Tensor, real_probability: float, rng: Any) -> Tensor:
        rates.append(real_probability)
        return shift_right(batch, 3)

    monkeypatch.setattr("agents.pretraining.scheduled_inputs", spy)
    pretrainer(task, batch_size=1000, max_epochs=5, curriculum_rate_step=0.3).fit()
    assert rates == pytest.approx([1.0, 0.7, 0.4, 0.1, 0.0])


def test_plain_mle_never_samples(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.pretraining.scheduled_inputs", lambda *_: pytest.fail("sampled"))
    pretrainer(task, max_epochs=1).fit()
