"""PyTorch's own recurrent language models, `nn.LSTM` and `nn.GRU`, as the sequence models of Eq. 9-10, and back.

So a model that was trained elsewhere can be an oracle, a generator or a roll-out policy. PyTorch keeps the gates in
rows, for an LSTM in the order i, f, c, o, and has two biases. The two biases of an LSTM are always added, so their sum
is enough. A GRU's second bias is kept apart, see `GRUSequenceModel`.
In: embedding, network and output layer. Out: a `SequenceModel` with copies of their numbers, with the same dtype and on
the same device; or the other way round. Token 0 is fed first, from a state of zeros. For a network that was trained
with another start symbol, the distribution of the first token is therefore different.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seqgan_env.models.parameters import blank_module
from seqgan_env.models.sequence_models import GRUSequenceModel, LSTMSequenceModel


def from_torch(
    embedding: nn.Embedding, network: nn.LSTM | nn.GRU, output: nn.Linear
) -> LSTMSequenceModel | GRUSequenceModel:
    """The sequence model that computes `output(network(embedding(tokens)))`, with copied numbers.

    Args:
        embedding: the embedding of V tokens.
        network: one layer, one direction, no projection; with or without batch_first.
        output: gives the logits of V tokens.

    Raises:
        TypeError: if a part is of another kind.
        ValueError: if the network has another form, or if the sizes do not fit together.
    """
    _check_parts(embedding, network, output)
    sizes = (output.out_features, embedding.embedding_dim, network.hidden_size)
    given = network.state_dict()
    weight: Tensor = given["weight_ih_l0"]
    no_bias = torch.zeros(len(weight), dtype=weight.dtype, device=weight.device)
    first, second = given.get("bias_ih_l0", no_bias), given.get("bias_hh_l0", no_bias)
    model: LSTMSequenceModel | GRUSequenceModel
    if isinstance(network, nn.LSTM):
        model = LSTMSequenceModel(*sizes)
        values = {
            "input_weight": _lstm_columns(weight),
            "recurrent_weight": _lstm_columns(given["weight_hh_l0"]),
            "gate_bias": _lstm_columns(first + second),
        }
    else:
        model = GRUSequenceModel(*sizes, recurrent_bias=True)
        values = {"input_weight": weight.t(), "recurrent_weight": given["weight_hh_l0"].t()}
        values |= {"gate_bias": first, "recurrent_bias": second}
    values |= {"embedding": embedding.weight, "output.weight": output.weight}
    values["output.bias"] = torch.zeros_like(model.output.bias) if output.bias is None else output.bias
    model.to(dtype=weight.dtype, device=weight.device)
    model.load_state_dict(values)
    return model


def to_torch(model: LSTMSequenceModel | GRUSequenceModel) -> tuple[nn.Embedding, nn.LSTM | nn.GRU, nn.Linear]:
    """PyTorch's modules with the same numbers: embedding, network (batch first), output layer.

    Raises:
        TypeError: if the model is neither an LSTM nor a GRU.
    """
    if type(model) not in (LSTMSequenceModel, GRUSequenceModel):
        raise TypeError(f"model must be an LSTMSequenceModel or a GRUSequenceModel, got {type(model).__name__}")
    vocab_size, embedding_size = model.embedding.shape
    embedding = blank_module(nn.Embedding, vocab_size, embedding_size)
    output = blank_module(nn.Linear, model.hidden_size, vocab_size)
    network: nn.LSTM | nn.GRU
    if isinstance(model, LSTMSequenceModel):
        network = blank_module(nn.LSTM, embedding_size, model.hidden_size, batch_first=True)
        values = {
            "weight_ih_l0": _lstm_rows(model.input_weight),
            "weight_hh_l0": _lstm_rows(model.recurrent_weight),
            "bias_ih_l0": _lstm_rows(model.gate_bias),
            "bias_hh_l0": torch.zeros_like(model.gate_bias),
        }
    else:
        network = blank_module(nn.GRU, embedding_size, model.hidden_size, batch_first=True)
        second = model.state_dict().get("recurrent_bias", torch.zeros_like(model.gate_bias))
        values = {"weight_ih_l0": model.input_weight.t(), "weight_hh_l0": model.recurrent_weight.t()}
        values |= {"bias_ih_l0": model.gate_bias, "bias_hh_l0": second}
    for module in (embedding, network, output):
        module.to(dtype=model.dtype, device=model.device)
    network.load_state_dict(values)
    embedding.load_state_dict({"weight": model.embedding})
    output.load_state_dict(model.output.state_dict())
    return embedding, network, output


def _lstm_columns(rows: Tensor) -> Tensor:
    """(4 H, ...) with PyTorch's gates i, f, c, o in rows -> (..., 4 H) with our order i, f, o, c in columns."""
    i, f, c, o = rows.chunk(4, dim=0)
    return torch.cat([i, f, o, c], dim=0).t()


def _lstm_rows(columns: Tensor) -> Tensor:
    """The way back: (..., 4 H) -> (4 H, ...)."""
    i, f, o, c = columns.chunk(4, dim=-1)
    return torch.cat([i, f, c, o], dim=-1).t()


def _check_parts(embedding: nn.Embedding, network: nn.LSTM | nn.GRU, output: nn.Linear) -> None:
    kinds: dict[str, tuple[nn.Module, Any]] = {
        "embedding": (embedding, nn.Embedding),
        "network": (network, (nn.LSTM, nn.GRU)),
        "output": (output, nn.Linear),
    }
    for name, (part, kind) in kinds.items():
        if not isinstance(part, kind):
            raise TypeError(
                f"{name} is a {type(part).__name__}; expected nn.Embedding, then nn.LSTM or nn.GRU, then nn.Linear"
            )
    if network.num_layers != 1 or network.bidirectional or network.proj_size:
        raise ValueError(
            f"network={network} must have one layer, one direction and no projection; only these can be read"
        )
    if embedding.max_norm is not None:
        raise ValueError(
            f"embedding has max_norm={embedding.max_norm}, which changes its rows when they are read; set it to None"
        )
    for name, size, needed in (
        ("embedding.num_embeddings", embedding.num_embeddings, output.out_features),
        ("embedding.embedding_dim", embedding.embedding_dim, network.input_size),
        ("output.in_features", output.in_features, network.hidden_size),
    ):
        if size != needed:
            raise ValueError(
                f"{name}={size} must be {needed}, to fit the other parts; rows of PAD or a start symbol go"
            )
