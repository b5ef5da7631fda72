"""PyTorch's recurrent models as sequence models: the same distribution, read and written exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seqgan_env.models.attention_models import TransformerSequenceModel
from seqgan_env.models.sequence_models import GRUSequenceModel, LSTMSequenceModel
from seqgan_env.models.torch_weights import from_torch, to_torch
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.testing import check_sequence_model

V, E, H, T = 7, 3, 5, 6
KINDS = (nn.GRU, nn.LSTM)


def parts(kind: type[Any], scale: float = 2.0, **options: Any) -> tuple[nn.Embedding, Any, nn.Linear]:
    torch.manual_seed(1)
    modules = nn.Embedding(V, E), kind(E, H, **options), nn.Linear(H, V)
    for parameter in (p for module in modules for p in module.parameters()):
        nn.init.normal_(parameter, std=scale)
    return modules


def log_probs_in_pytorch(embedding: nn.Embedding, network: Any, output: nn.Linear, sequences: Tensor) -> Tensor:
    inputs = torch.cat([torch.zeros_like(sequences[:, :1]), sequences[:, :-1]], dim=1)
    embedded = embedding(inputs)
    hidden = network(embedded)[0] if network.batch_first else network(embedded.transpose(0, 1))[0].transpose(0, 1)
    return torch.log_softmax(output(hidden), dim=2).gather(2, sequences.unsqueeze(2)).squeeze(2).detach()


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"bias": False}])
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_pytorch_is_read_exactly(kind: type[Any], options: dict[str, Any]) -> None:
    modules = parts(kind, **options)
    model = from_torch(*modules)
    sequences = torch.randint(V, (50, T))
    expected = log_probs_in_pytorch(*modules, sequences)
    torch.testing.assert_close(model.log_probs(sequences), expected, atol=1e-5, rtol=1e-5)
    check_sequence_model(model)  # drawing and stepping too


def test_the_second_bias_of_a_gru_makes_the_difference() -> None:
    modules = parts(nn.GRU)
    exact, without = from_torch(*modules), from_torch(*modules)
    with torch.no_grad():
        without.gate_bias += without.recurrent_bias  # as if both stood outside r * (...)
        without.recurrent_bias.zero_()
    samples = sample_sequences(exact, 2000, T, np.random.default_rng(0))
    assert float((without.log_probs(samples) - exact.log_probs(samples)).abs().max()) > 0.5  # nats


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_copied_with_dtype_and_can_learn(kind: type[Any]) -> None:
    modules = [module.double() for module in parts(kind)]
    model = from_torch(*modules)
    assert model.dtype == torch.float64
    model.weighted_log_likelihood(torch.zeros(1, T, dtype=torch.int64), torch.ones(1, T)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    before = modules[1].weight_hh_l0.clone()
    with torch.no_grad():
        model.recurrent_weight.zero_()
    assert torch.equal(modules[1].weight_hh_l0, before)


@pytest.mark.parametrize(
    "model",
    [
        LSTMSequenceModel(V, E, H, 1.0, 3),
        GRUSequenceModel(V, E, H, 1.0, 3),
        GRUSequenceModel(V, E, H, 1.0, 3, recurrent_bias=True),
    ],
)
def test_a_model_goes_to_pytorch_and_comes_back(model: LSTMSequenceModel | GRUSequenceModel) -> None:
    sequences = torch.randint(V, (50, T))
    modules = to_torch(model)
    expected = model.log_probs(sequences)
    torch.testing.assert_close(log_probs_in_pytorch(*modules, sequences), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(from_torch(*modules).log_probs(sequences), expected)


def test_without_a_second_bias_a_gru_keeps_its_parameters() -> None:
    assert list(GRUSequenceModel(V, E, H).state_dict()) == [
        *("embedding", "input_weight", "recurrent_weight", "gate_bias", "output.weight", "output.bias")
    ]
    assert "recurrent_bias" in GRUSequenceModel(V, E, H, recurrent_bias=True).state_dict()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"network": nn.GRU(E, H, num_layers=2)}, ValueError, "must have one layer"),
        ({"network": nn.GRU(E, H, bidirectional=True)}, ValueError, "one direction"),
        ({"network": nn.LSTM(E, H, proj_size=2)}, ValueError, "no projection"),
        ({"network": nn.RNN(E, H)}, TypeError, "network is a RNN"),
        ({"embedding": nn.Embedding(V + 1, E)}, ValueError, "num_embeddings=8 must be 7"),
        ({"embedding": nn.Embedding(V, E + 1)}, ValueError, "embedding_dim=4 must be 3"),
        ({"embedding": nn.Embedding(V, E, max_norm=1.0)}, ValueError, "max_norm=1.0"),
        ({"output": nn.Linear(H + 1, V)}, ValueError, "in_features=6 must be 5"),
        ({"output": nn.Identity()}, TypeError, "output is a Identity"),
    ],
)
def test_what_cannot_be_read_exactly_is_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    given = dict(zip(("embedding", "network", "output"), parts(nn.GRU), strict=True)) | change
    with pytest.raises(error, match=message):
        from_torch(**given)


def test_only_recurrent_models_go_to_pytorch() -> None:
    with pytest.raises(TypeError, match="got TransformerSequenceModel"):
        to_torch(TransformerSequenceModel(V))
