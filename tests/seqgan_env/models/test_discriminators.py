"""`models.discriminators`: Eq. 11-12 against NumPy, and scoring against `forward`."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqgan_env.models.discriminators import (
    LIGHT_FILTERS,
    PAPER_FILTERS_20,
    PAPER_FILTERS_32,
    CNNDiscriminator,
    Discriminator,
    Highway,
    named_filters,
)

V, T = 6, 5


@pytest.fixture
def discriminator() -> CNNDiscriminator:
    return CNNDiscriminator(V, T, filters=((1, 3), (2, 4), (5, 2)), embedding_size=4, dropout=0.5, seed=1)


def sequences(rows: int = 40, seed: int = 0) -> Tensor:
    """Random sequences; the last five have 5, 4, 3, 2 tokens and one, then PAD."""
    drawn = torch.randint(V, (rows, T), generator=torch.Generator().manual_seed(seed))
    for length in range(1, min(rows, T) + 1):
        drawn[-length, length:] = V
    return drawn


def numpy_logits(model: CNNDiscriminator, batch: Tensor) -> list[float]:
    """Eq. 11-12 as they read, window by window inside the sequence, in float64; PAD embeds to zero."""
    weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    table = weights["embedding.weight"].copy()
    table[V] = 0
    kernels = [weights[f"windows.kernels.{number}"] for number in range(len(model.filters))]
    logits = []
    for sequence in batch.tolist():
        length = sum(token < V for token in sequence)
        features = []
        for kernel, (window, _) in zip(kernels, model.filters, strict=True):
            for w in kernel:
                b = weights["windows.bias"][len(features)]
                c = [
                    max(0, w @ np.concatenate([table[token] for token in sequence[i : i + window]]) + b)
                    for i in range(max(length - window, 0) + 1)
                ]
                features.append(max(c))
        f = np.array(features)
        W, b = weights["highway.weight"], weights["highway.bias"]
        tau = 1 / (1 + np.exp(-(f @ W[:, len(f) :] + b[len(f) :])))
        highway = tau * np.maximum(f @ W[:, : len(f)] + b[: len(f)], 0) + (1 - tau) * f
        logits.append(float(weights["output.weight"][0] @ highway + weights["output.bias"][0]))
    return logits


def test_the_cnn_equals_its_equations_in_numpy_float64(discriminator: CNNDiscriminator) -> None:
    batch = sequences(12)
    expected = numpy_logits(discriminator, batch)
    assert np.ptp(expected) > 0.01
    with torch.no_grad():
        np.testing.assert_allclose(discriminator.eval()(batch), expected, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 40, 1500])  # by `forward`, by tables, by tables in several batches
def test_score_equals_forward_in_evaluation_mode(discriminator: CNNDiscriminator, rows: int) -> None:
    batch = sequences(rows)
    scores = discriminator.score(batch)
    assert (discriminator.windows._tables is not None) is (rows > 1)
    assert not scores.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(scores, discriminator.eval()(batch), atol=1e-5, rtol=1e-5)


def test_pad_contributes_a_zero_embedding(discriminator: CNNDiscriminator) -> None:
    assert discriminator.embedding.weight[V].abs().sum() == 0
    batch = sequences()
    discriminator.train()(batch).sum().backward()
    assert discriminator.embedding.weight.grad[V].abs().sum() == 0  # and it stays zero


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_while_scoring_and_the_mode_is_restored(
    discriminator: CNNDiscriminator, rows: int, training: bool
) -> None:
    batch = sequences(rows)
    discriminator.train(training)
    first, second = discriminator.score(batch), discriminator.score(batch)
    assert torch.equal(first, second)
    assert all(module.training is training for module in discriminator.modules())
    assert not torch.equal(discriminator.train()(batch), discriminator(batch))  # dropout does something


def test_the_mode_is_restored_when_scoring_fails(discriminator: CNNDiscriminator) -> None:
    discriminator.train()
    with pytest.raises(IndexError):
        discriminator.score(torch.full((1, T), V + 1))
    assert discriminator.training


@pytest.mark.parametrize("options", [{"foreach": False}, {"foreach": True}, {"fused": True}])
def test_scores_follow_an_optimizer_step(discriminator: CNNDiscriminator, options: dict) -> None:
    batch = sequences()
    before = discriminator.score(batch)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=0.05, **options)
    discriminator(batch).sum().backward()
    optimizer.step()
    after = discriminator.score(batch)
    assert (after - before).abs().max() > 1e-2
    with torch.no_grad():
        torch.testing.assert_close(after, discriminator.eval()(batch), atol=1e-5, rtol=1e-5)


def test_scores_follow_a_change_that_autograd_does_not_see(discriminator: CNNDiscriminator) -> None:
    batch = sequences()
    before = discriminator.score(batch)
    discriminator.embedding.weight.data[:V] *= 2.0
    after = discriminator.score(batch)
    assert not torch.equal(before, after)
    with torch.no_grad():
        torch.testing.assert_close(after, discriminator.eval()(batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("assign", [False, True])
def test_scores_follow_load_state_dict(discriminator: CNNDiscriminator, assign: bool) -> None:
    batch = sequences()
    other = CNNDiscriminator(V, T, filters=discriminator.filters, embedding_size=4, seed=2)
    before = discriminator.score(batch)
    discriminator.load_state_dict(copy.deepcopy(other.state_dict()), assign=assign)
    after = discriminator.score(batch)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, other.score(batch))


@pytest.mark.parametrize("part", ["embedding.weight", "windows.kernels.1", "windows.bias"])
def test_scores_follow_a_change_of_a_single_parameter(discriminator: CNNDiscriminator, part: str) -> None:
    batch = sequences()
    before = discriminator.score(batch)
    with torch.no_grad():
        discriminator.get_parameter(part).mul_(2.0)
    after = discriminator.score(batch)
    assert not torch.equal(before, after)
    with torch.no_grad():
        torch.testing.assert_close(after, discriminator.eval()(batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_score_alike_and_share_nothing(discriminator: CNNDiscriminator, duplicate) -> None:
    batch = sequences()
    before = discriminator.score(batch)
    twin = duplicate(discriminator)
    assert torch.equal(twin.score(batch), before)
    with torch.no_grad():
        twin.embedding.weight[:V].mul_(-1.0)
    assert not torch.equal(twin.score(batch), before)
    assert torch.equal(discriminator.score(batch), before)


def test_scores_do_not_depend_on_earlier_calls(discriminator: CNNDiscriminator) -> None:
    fresh = copy.deepcopy(discriminator)
    discriminator.score(sequences())
    assert torch.equal(discriminator.score(sequences(1)), fresh.score(sequences(1)))


def test_the_highway_layer_mixes_by_its_gate() -> None:
    highway = Highway(2)
    with torch.no_grad():
        highway.weight.zero_()
        highway.bias.copy_(torch.tensor([2.0, -5.0, np.log(3.0), 0.0]))  # relu: 2, 0; gates: 3/4, 1/2
    out = highway(torch.tensor([[4.0, 8.0]]))
    assert out[0].tolist() == pytest.approx([0.75 * 2 + 0.25 * 4, 0.5 * 0 + 0.5 * 8])


def test_the_penalty_is_half_l2_times_the_squared_output_layer() -> None:
    model = CNNDiscriminator(V, T, filters=((1, 2),), l2=0.2)
    with torch.no_grad():
        model.output.weight.copy_(torch.tensor([[3.0, 4.0]]))
        model.output.bias.fill_(2.0)
    assert model.penalty().item() == pytest.approx(0.2 * 0.5 * (9 + 16 + 4))


def test_all_parameters_get_gradients(discriminator: CNNDiscriminator) -> None:
    loss = F.binary_cross_entropy_with_logits(discriminator(sequences()), torch.ones(40)) + discriminator.penalty()
    loss.backward()
    for name, parameter in discriminator.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_initial_parameters_are_the_authors() -> None:
    model = CNNDiscriminator(500, 20)
    embedding = model.embedding.weight[:500]
    assert -1 <= embedding.min() < -0.99
    assert 0.99 < embedding.max() <= 1
    for weight in (*model.windows.kernels, model.highway.weight):
        assert weight.abs().max() <= 0.2  # two deviations: truncated
        assert weight.std().item() == pytest.approx(0.088, abs=0.01)
    assert all((bias == 0.1).all() for bias in (model.windows.bias, model.output.bias))
    assert model.highway.bias.unique().tolist() == pytest.approx([0.0, 0.1])
    assert model.highway.bias[-1] == 0
    assert model.embedding.embedding_dim == 64
    assert model.dropout.p == 0.25


def test_a_seed_gives_the_same_parameters_and_another_seed_others() -> None:
    first, again, other = (CNNDiscriminator(V, T, filters=((1, 2),), seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


def test_the_papers_filters() -> None:
    windows = [window for window, _ in PAPER_FILTERS_20]
    counts = [count for _, count in PAPER_FILTERS_20]
    assert windows == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20]
    assert counts == [100, 200, 200, 200, 200, 100, 100, 100, 100, 100, 160, 160]
    assert list(PAPER_FILTERS_32[-3:]) == [(16, 160), (24, 160), (32, 160)]
    assert PAPER_FILTERS_32[:10] == PAPER_FILTERS_20[:10]


@pytest.mark.parametrize(
    ("name", "length", "last"),
    [("paper", 20, (20, 160)), ("paper", 32, (32, 160)), ("paper", 3, (3, 200)), ("light", 20, (5, 64))],
)
def test_a_preset_has_no_window_longer_than_the_sequences(name: str, length: int, last: tuple[int, int]) -> None:
    filters = named_filters(name, length)
    assert filters[-1] == last
    assert filters[0][0] == 1
    assert named_filters("light", 20) == LIGHT_FILTERS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 0}, "vocab_size=0"),
        ({"sequence_length": 0}, "sequence_length=0"),
        ({"filters": "papers"}, "filters='papers'"),
        ({"filters": ()}, r"filters=\(\)"),
        ({"filters": ((6, 1),)}, "T=5"),
        ({"filters": ((0, 1),)}, "filters="),
        ({"filters": ((1, 0),)}, "filters="),
        ({"dropout": 1.0}, r"dropout=1\.0"),
        ({"dropout": -0.1}, r"dropout=-0\.1"),
        ({"l2": -1.0}, r"l2=-1\.0"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CNNDiscriminator(**({"vocab_size": V, "sequence_length": T} | arguments))


def test_a_preset_needs_sequences_of_a_token_at_least() -> None:
    with pytest.raises(ValueError, match="sequence_length=0"):
        named_filters("light", 0)


class Bag(Discriminator):
    """A discriminator of one's own: a weight for each token, with dropout."""

    def __init__(self) -> None:
        super().__init__(V, T)
        self.dropout = nn.Dropout(0.5)
        self.weights = nn.EmbeddingBag(V + 1, 1, mode="sum")

    def forward(self, batch: Tensor) -> Tensor:
        return self.dropout(self.weights(batch)).squeeze(1)


def test_a_discriminator_of_ones_own_scores_without_dropout_and_has_no_penalty() -> None:
    model = Bag().train()
    batch = sequences(600)
    scores = model.score(batch)
    assert torch.equal(scores, model.weights(batch).squeeze(1))
    assert model.training
    assert model.penalty().item() == 0
    assert model.score(batch[:0]).shape == (0,)
