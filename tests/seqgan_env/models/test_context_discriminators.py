"""`models.context_discriminators`: against NumPy, and what all have in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqgan_env.models.context_discriminators import GRUDiscriminator, RCNNDiscriminator, TransformerDiscriminator
from seqgan_env.models.discriminators import Discriminator

V, T = 6, 5
CLASSES = [GRUDiscriminator, RCNNDiscriminator, TransformerDiscriminator]


def sequences(rows: int = 12) -> Tensor:
    """Random sequences of all lengths from 1 to T, PAD behind."""
    drawn = torch.randint(V, (rows, T), generator=torch.Generator().manual_seed(0))
    return drawn.masked_fill(torch.arange(T) > torch.arange(rows).unsqueeze(1) % T, V)


def weights_of(model: Discriminator) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}


def numpy_logit(w: dict[str, np.ndarray], features: list[np.ndarray]) -> float:
    """The maximum over the steps, then the output layer."""
    return float(w["output.weight"][0] @ np.max(features, axis=0) + w["output.bias"][0])


@torch.no_grad()
def test_the_rcnn_equals_its_equations_in_numpy_float64() -> None:
    model = RCNNDiscriminator(V, T, embedding_size=4, hidden_size=3, feature_size=7, seed=1).eval()
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    w = weights_of(model)

    def next_context(context: np.ndarray, e: np.ndarray, suffix: str) -> np.ndarray:
        bias = w[f"contexts.bias_ih_l0{suffix}"] + w[f"contexts.bias_hh_l0{suffix}"]
        return np.tanh(w[f"contexts.weight_hh_l0{suffix}"] @ context + w[f"contexts.weight_ih_l0{suffix}"] @ e + bias)

    for sequence in sequences():
        e = [w["embedding.weight"][token] for token in sequence.tolist() if token < V]
        left, right = [w["edges"][0]], [w["edges"][1]]
        for embedded in e[:-1]:
            left.append(next_context(left[-1], embedded, ""))
        for embedded in e[:0:-1]:
            right.insert(0, next_context(right[0], embedded, "_reverse"))
        features = [
            np.tanh(w["latent.weight"] @ np.concatenate([l_i, e_i, r_i]) + w["latent.bias"])
            for l_i, e_i, r_i in zip(left, e, right, strict=True)
        ]
        assert model(sequence.unsqueeze(0)).item() == pytest.approx(numpy_logit(w, features), abs=1e-5)


@torch.no_grad()
def test_the_gru_reads_each_sequence_from_both_of_its_ends() -> None:
    model = GRUDiscriminator(V, T, embedding_size=4, hidden_size=3, seed=1).eval()
    w = weights_of(model)

    def read(e: list[np.ndarray], suffix: str) -> list[np.ndarray]:
        h, states = np.zeros(3), []
        for embedded in e:
            x = np.split(w[f"gru.weight_ih_l0{suffix}"] @ embedded + w[f"gru.bias_ih_l0{suffix}"], 3)
            s = np.split(w[f"gru.weight_hh_l0{suffix}"] @ h + w[f"gru.bias_hh_l0{suffix}"], 3)
            r, z = (1 / (1 + np.exp(-(x[gate] + s[gate]))) for gate in (0, 1))
            h = (1 - z) * np.tanh(x[2] + r * s[2]) + z * h
            states.append(h)
        return states

    for sequence in sequences():
        e = [w["embedding.weight"][token] for token in sequence.tolist() if token < V]
        features = [np.concatenate(pair) for pair in zip(read(e, ""), read(e[::-1], "_reverse")[::-1], strict=True)]
        assert model(sequence.unsqueeze(0)).item() == pytest.approx(numpy_logit(w, features), abs=1e-5)


@pytest.mark.parametrize("model_class", CLASSES)
def test_a_padded_sequence_scores_as_one_of_its_own_length(model_class: type[Discriminator]) -> None:
    model = model_class(V, T, seed=1)
    batch = sequences()
    scores = model.score(batch)
    for row, score in zip(batch, scores, strict=True):
        torch.testing.assert_close(model.score(row[row < V].unsqueeze(0))[0], score, atol=1e-5, rtol=1e-5)
    assert scores.std() > 1e-3
    with torch.no_grad():
        model.embedding.weight[V] = 1e6
    torch.testing.assert_close(model.score(batch), scores)


@pytest.mark.parametrize("model_class", CLASSES)
def test_an_empty_sequence_has_a_finite_score(model_class: type[Discriminator]) -> None:
    assert torch.isfinite(model_class(V, T).score(torch.full((2, T), V))).all()


@pytest.mark.parametrize("model_class", CLASSES)
def test_discriminators_learn_the_order_of_tokens(model_class: type[Discriminator]) -> None:
    """Real sequences climb by one at each step, and false ones are the same tokens turned round."""
    torch.manual_seed(0)
    real = (torch.arange(V).unsqueeze(1) + torch.arange(T)) % V
    batch = torch.cat([real, real.flip(1)])
    labels_real_is_one = torch.arange(2 * V) < V
    model = model_class(V, T, l2=0.0, seed=1).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(batch), labels_real_is_one.float()).backward()
        optimizer.step()
    assert torch.equal(model.score(batch) > 0, labels_real_is_one)


@pytest.mark.parametrize("model_class", CLASSES)
def test_a_seed_gives_the_same_parameters_and_pad_embeds_to_zero(model_class: type[Discriminator]) -> None:
    first, again, other = (model_class(V, T, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if first[name].dim() > 1]
    assert all(not torch.equal(first[name], other[name]) for name in drawn)
    assert first["embedding.weight"][V].tolist() == [0] * 64


@pytest.mark.parametrize("model_class", CLASSES)
def test_dropout_is_on_in_training_and_off_while_scoring(model_class: type[Discriminator]) -> None:
    model, batch = model_class(V, T, dropout=0.5).train(), sequences()
    assert not torch.equal(model(batch), model(batch))
    assert torch.equal(model.score(batch), model.score(batch))


@pytest.mark.parametrize("model_class", CLASSES)
def test_the_penalty_is_half_l2_times_the_squared_output_layer(model_class: type[Discriminator]) -> None:
    model = model_class(V, T, l2=0.2)
    with torch.no_grad():
        model.output.weight.zero_()[0, :2] = torch.tensor([3.0, 4.0])
        model.output.bias.fill_(2.0)
    assert model.penalty().item() == pytest.approx(0.2 * 0.5 * (9 + 16 + 4))


@pytest.mark.parametrize("model_class", CLASSES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 0}, "vocab_size=0"),
        ({"sequence_length": 0}, "sequence_length=0"),
        ({"embedding_size": 0}, "embedding_size=0"),
        ({"dropout": 1.0}, r"dropout=1\.0"),
        ({"l2": -1.0}, r"l2=-1\.0"),
    ],
)
def test_wrong_arguments_are_refused_by_name(model_class: type[Discriminator], arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_class(**({"vocab_size": V, "sequence_length": T} | arguments))


@pytest.mark.parametrize(
    ("model_class", "size"),
    [(GRUDiscriminator, "hidden_size"), (RCNNDiscriminator, "feature_size"), (TransformerDiscriminator, "layers")],
)
def test_sizes_of_one_kind_are_checked_too(model_class: type[Discriminator], size: str) -> None:
    with pytest.raises(ValueError, match=f"{size}=0 must be at least 1"):
        model_class(V, T, **{size: 0})
