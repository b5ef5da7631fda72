"""`pretraining`: dropout, weight decay, schedules, label smoothing, averaged weights, tied embeddings."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agents.pretraining import Pretrainer, PretrainingConfig, learning_rate_factor
from seqgan_env.components import GENERATORS, build_generator
from seqgan_env.models.dropout import Dropout
from seqgan_env.models.sequence_models import GRUSequenceModel, LSTMSequenceModel, SequenceModel
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import toy_task
from seqgan_env.testing import check_sequence_model

ALL_ON: dict[str, Any] = {
    "schedule": "cosine",
    "warmup": 0.2,
    "weight_decay": 0.1,
    "dropout": 0.3,
    "embedding_dropout": 0.2,
    "label_smoothing": 0.1,
    "weight_averaging": 0.9,
}


def small_generator(kind: str, **options: Any) -> SequenceModel:
    task = Task("some", 5, 4, lambda split: torch.zeros(1, 4, dtype=torch.int64))
    return build_generator(kind, task, embedding_size=8, hidden_size=8, init_std=0.5, seed=3, **options)


def sequences(count: int = 6) -> Tensor:
    """With V = 5 and T = 4; the second half ends early."""
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (count, 4)))
    tokens[count // 2 :, 2:] = 5
    return tokens


def pretrainer(task: Task, generator: SequenceModel | None = None, **keywords: Any) -> Pretrainer:
    generator = LSTMSequenceModel(3, 8, 8, init_std=0.1, seed=1) if generator is None else generator
    keywords = {"batch_size": 32, "max_epochs": 4, "rng": np.random.default_rng(0)} | keywords
    return Pretrainer(generator, task.real_sequences("train"), task.real_sequences("validation"), **keywords)


def parameters(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def dropout(embedding: float = 0.5, hidden: float = 0.5, variational: bool = False, seed: int = 0) -> Dropout:
    return Dropout(embedding, hidden, variational, torch.Generator().manual_seed(seed))


# Dropout.


def test_what_is_kept_is_scaled_so_that_the_mean_stays() -> None:
    dropped = dropout(hidden=0.2).of_hidden(torch.full((200, 50, 10), 3.0))
    assert sorted(dropped.unique().tolist()) == pytest.approx([0.0, 3 / 0.8])
    assert float((dropped == 0).float().mean()) == pytest.approx(0.2, abs=0.005)


def test_variational_dropout_drops_the_same_entries_at_all_steps() -> None:
    hidden, embedded = torch.ones(30, 7, 10), torch.ones(7, 30, 10)
    for values, steps, drop in (
        (hidden, 1, lambda source: source.of_hidden(hidden)),
        (embedded, 0, lambda source: source.of_embeddings(embedded, 0)),
    ):
        same = drop(dropout(variational=True))
        assert torch.equal(same, same.select(steps, 0).unsqueeze(steps).expand_as(values))
        assert 0.3 < float((same == 0).float().mean()) < 0.7
        other = drop(dropout())
        assert not torch.equal(other, other.select(steps, 0).unsqueeze(steps).expand_as(values))


@pytest.mark.parametrize("rates", [(0.5, 0.0), (0.0, 0.5)], ids=["embeddings", "hidden states"])
@pytest.mark.parametrize("kind", GENERATORS)
def test_every_generator_drops_while_it_is_trained_and_at_no_other_time(kind: str, rates: tuple[float, float]) -> None:
    model, tokens = small_generator(kind), sequences()
    weights = torch.ones(tokens.shape)
    whole = model.weighted_log_likelihood(tokens, weights).detach()
    scores, drawn = model.log_probs(tokens), sample_sequences(model, 20, 4, np.random.default_rng(0))
    before = torch.random.get_rng_state()
    with model.dropping(dropout(*rates)):
        first, second = (model.weighted_log_likelihood(tokens, weights).detach() for _ in range(2))
    with model.dropping(dropout(*rates)):
        again = model.weighted_log_likelihood(tokens, weights).detach()
    assert len({float(whole), float(first), float(second)}) == 3
    assert torch.equal(first, again)  # the same generator's state gives the same masks
    assert torch.equal(model.weighted_log_likelihood(tokens, weights), whole)
    assert torch.equal(model.log_probs(tokens), scores)
    assert torch.equal(sample_sequences(model, 20, 4, np.random.default_rng(0)), drawn)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_hidden_states_that_the_output_layer_reads_are_dropped() -> None:
    """With almost all of them dropped, only the bias is left."""
    model, tokens = small_generator("lstm"), sequences()
    with torch.no_grad(), model.dropping(dropout(0.0, 0.9999)):
        found = model.weighted_log_likelihood(tokens, torch.ones(tokens.shape))
    expected = model.output.bias.detach().log_softmax(0)[tokens[tokens < 5]].sum()
    torch.testing.assert_close(found, expected)


def test_a_model_of_ones_own_that_drops_no_embeddings_says_so() -> None:
    class Own(GRUSequenceModel):
        def drop_embeddings(self, embedded: Tensor, steps_dimension: int) -> Tensor:
            return embedded

    model = Own(5, 8, 8)
    tokens = sequences()
    with model.dropping(dropout(embedding=0.0)):
        model.weighted_log_likelihood(tokens, torch.ones(tokens.shape))
    with (
        pytest.raises(ValueError, match=r"Own.hidden_states drops no embeddings; call self.drop_embeddings"),
        model.dropping(dropout()),
    ):
        model.weighted_log_likelihood(tokens, torch.ones(tokens.shape))


@pytest.mark.parametrize(("embedding", "hidden"), [(1.0, 0.0), (0.0, 1.0), (-0.1, 0.0), (0.0, math.nan)])
def test_rates_that_are_none_are_refused(embedding: float, hidden: float) -> None:
    with pytest.raises(ValueError, match=r"dropout=(1\.0|-0\.1|nan)"):
        dropout(embedding, hidden)


# Loss and optimizer.


@pytest.mark.parametrize("kind", GENERATORS)
def test_label_smoothing_is_the_cross_entropy_with_smoothed_targets(kind: str) -> None:
    model, tokens = small_generator(kind), sequences()
    weights = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(1))
    found = model.weighted_log_likelihood(tokens, weights, label_smoothing=0.3)
    real = tokens < 5
    fed = torch.cat([torch.zeros(len(tokens), 1, dtype=torch.int64), tokens[:, :-1] % 5], dim=1)
    logits = model.hidden_states(fed)[real] @ model.output.weight.t() + model.output.bias
    losses = nn.functional.cross_entropy(logits, tokens[real], reduction="none", label_smoothing=0.3)
    expected = -(losses * weights[real]).sum()
    torch.testing.assert_close(found, expected)
    own, wanted = (
        torch.autograd.grad(value, list(model.parameters()), retain_graph=True) for value in (found, expected)
    )
    for one, other in zip(own, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_schedules_factors() -> None:
    assert [learning_rate_factor("linear", 0.0, done) for done in (0, 0.25, 0.5)] == [1, 0.75, 0.5]
    assert [learning_rate_factor("cosine", 0.0, done) for done in (0, 0.5)] == pytest.approx([1, 0.5])
    assert learning_rate_factor("cosine", 0.0, 1 - 1e-9) == pytest.approx(0)
    assert [learning_rate_factor("constant", 0.5, done) for done in (0, 0.25, 0.5, 0.9)] == [0, 0.5, 1, 1]
    assert [learning_rate_factor("linear", 0.5, done) for done in (0.25, 0.5, 0.75)] == [0.5, 1, 0.5]


def test_the_learning_rate_falls_over_all_steps_of_all_epochs(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = pretrainer(task, batch_size=250, max_epochs=2, schedule="linear", learning_rate=0.8)  # 4 steps an epoch
    rates = []
    step = trainer.optimizer.step
    monkeypatch.setattr(
        trainer.optimizer, "step", lambda: (rates.append(trainer.optimizer.param_groups[0]["lr"]), step())
    )
    trainer.fit()
    assert rates == pytest.approx([0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_weight_decay_is_decoupled(task: Task) -> None:
    """The first step is Adam's, from weights that are first multiplied with 1 - learning rate * decay."""
    sizes = {"batch_size": 1000, "max_epochs": 1, "learning_rate": 0.01, "reshuffle": False}
    plain, decayed = pretrainer(task, **sizes), pretrainer(task, **sizes, weight_decay=0.5)
    start = parameters(plain.generator)
    plain.fit()
    decayed.fit()
    torch.testing.assert_close(parameters(decayed.generator), parameters(plain.generator) - 0.01 * 0.5 * start)


def test_averaged_weights_are_the_running_average_and_what_mle_ends_with(task: Task) -> None:
    trainer = pretrainer(task, batch_size=500, max_epochs=3, weight_averaging=0.75)
    other = pretrainer(task, batch_size=500, max_epochs=3)
    average, step = parameters(other.generator), other._step

    def averaging(batch: Tensor, count: int) -> float:
        nonlocal average
        loss = step(batch, count)
        average = 0.75 * average + 0.25 * parameters(other.generator)
        return loss

    other._step = averaging  # type: ignore[method-assign]
    held_out = [estimate.mean for _, estimate in trainer.fit()]
    plain = [estimate.mean for _, estimate in other.fit()]
    torch.testing.assert_close(parameters(trainer.generator), average)
    final = -trainer.generator.log_probs(task.real_sequences("validation")).double().mean()
    assert held_out[-1] == pytest.approx(final.item(), abs=1e-6)
    assert held_out != pytest.approx(plain, abs=1e-5)


def test_with_patience_the_best_averages_are_kept() -> None:
    few = toy_task(n_sequences={"train": 32, "validation": 500, "test": 1})
    trainer = pretrainer(few, max_epochs=60, patience=60, learning_rate=5e-2, weight_averaging=0.5)
    held_out = [estimate.mean for _, estimate in trainer.fit()]
    assert int(np.argmin(held_out)) < 59
    final = -trainer.generator.log_probs(few.real_sequences("validation")).double().mean()
    assert final.item() == pytest.approx(min(held_out), abs=1e-6)


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_state_that_is_loaded_goes_on_as_the_first_would_have(kind: str, task: Task) -> None:
    def new() -> Pretrainer:
        generator = build_generator(kind, task, embedding_size=8, hidden_size=8, seed=1)
        return pretrainer(task, generator, patience=4, batch_size=250, **ALL_ON)

    whole, first, second = new(), new(), new()
    expected = whole.fit()
    found = [first.epoch(), first.epoch()]
    second.generator.load_state_dict(copy.deepcopy(first.generator.state_dict()))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    found += second.fit()
    assert found == expected
    assert torch.equal(parameters(second.generator), parameters(whole.generator))


def test_regularisation_holds_a_generator_back_from_its_few_sequences() -> None:
    few = toy_task(
        oracle=LSTMSequenceModel(3, 4, 5, init_std=2.0, seed=11),
        n_sequences={"train": 64, "validation": 2000, "test": 1},
    )
    sizes: dict[str, Any] = {"max_epochs": 40, "learning_rate": 3e-2, "batch_size": 16}
    plain = pretrainer(few, **sizes).fit()[-1][1].mean
    for regularised in ({"weight_decay": 1.0}, {"dropout": 0.5, "embedding_dropout": 0.2}, {"label_smoothing": 0.1}):
        assert pretrainer(few, **sizes, **regularised).fit()[-1][1].mean < plain - 0.01, regularised


# Settings.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "step"}, r"pretraining.schedule='step' must be one of constant, linear, cosine"),
        ({"warmup": 1.5}, r"pretraining.warmup=1.5 must lie in \[0, 1\]"),
        ({"weight_decay": -1.0}, r"pretraining.weight_decay=-1.0 must be finite and not negative"),
        ({"dropout": 1.0}, r"pretraining.dropout=1.0 must lie in \[0, 1\)"),
        ({"embedding_dropout": -0.1}, r"pretraining.embedding_dropout=-0.1 must lie in \[0, 1\)"),
        ({"weight_averaging": 1.0}, r"pretraining.weight_averaging=1.0 must lie in \[0, 1\)"),
        ({"label_smoothing": 2.0}, r"pretraining.label_smoothing=2.0 must lie in \[0, 1\]"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PretrainingConfig(**changes)


def test_all_settings_reach_the_pretrainer(task: Task) -> None:
    config = PretrainingConfig(**ALL_ON, variational=True)
    generator = LSTMSequenceModel(3, 8, 8)
    splits = (task.real_sequences("train"), task.real_sequences("validation"))
    trainer = config.pretrainer(generator, *splits, np.random.default_rng(0))
    assert trainer.optimizer.defaults["weight_decay"] == 0.1
    names = [name for name in (*ALL_ON, "variational") if name != "weight_decay"]
    assert {name: getattr(trainer, name) for name in names} == {name: getattr(config, name) for name in names}


# Tied embeddings.


@pytest.mark.parametrize("kind", GENERATORS)
def test_tied_embeddings_are_the_output_layers_weight(kind: str, task: Task) -> None:
    model = small_generator(kind, tied=True)
    assert model.embedding is model.output.weight
    assert sum(p.numel() for p in small_generator(kind).parameters()) - sum(p.numel() for p in model.parameters()) == 40
    check_sequence_model(model)
    duplicate = copy.deepcopy(model).double()
    assert duplicate.embedding is duplicate.output.weight
    generator = build_generator(kind, task, embedding_size=8, hidden_size=8, tied=True)
    trainer = pretrainer(task, generator, batch_size=500, **ALL_ON)
    trainer.fit()
    assert trainer.generator.embedding is trainer.generator.output.weight


def test_tied_embeddings_need_equal_sizes() -> None:
    with pytest.raises(ValueError, match=r"tied=True needs embedding_size=8 equal to hidden_size=16"):
        LSTMSequenceModel(5, 8, 16, tied=True)
