"""SeqGAN's loops in plain PyTorch, written like the equations. Our speed and our results are compared with them.

The code is idiomatic and vectorised over the batch, but has none of our optimisations. It uses full (B, T, V) logits,
softmax and `torch.multinomial`, `cross_entropy`, `nn.Conv1d`, and a search that completes every prefix from its first
token. The functions read the parameters of our models, so that results can be compared number by number.
In: our models and tokens (B, T) int64 without PAD, on one device. Out: tokens, nats, logits or action values.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import START_TOKEN, LSTMSequenceModel

LSTMState = tuple[Tensor, Tensor]


def zero_state(model: LSTMSequenceModel, batch_size: int) -> LSTMState:
    """(h_0, c_0), two (B, H) float32 tensors of zeros."""
    zeros = torch.zeros(batch_size, model.hidden_size, device=model.device)
    return zeros, zeros


def lstm_step(model: LSTMSequenceModel, embedded: Tensor, state: LSTMState) -> LSTMState:
    """Eq. 9: (h_t, c_t) = g(h_{t-1}, c_{t-1}, x_t) with g an LSTM.

    Args:
        model: gives the parameters.
        embedded: (B, E) float32, x_t.
        state: h_{t-1} and c_{t-1}, (B, H) float32 each.
    """
    h, c = state
    gates = embedded @ model.input_weight + h @ model.recurrent_weight + model.gate_bias  # (B, 4H)
    i, f, o, candidate = gates.chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(candidate)
    return torch.sigmoid(o) * torch.tanh(c), c


def next_logits(model: LSTMSequenceModel, hidden: Tensor) -> Tensor:
    """Eq. 10 before its softmax: c + V h_t, (..., H) -> (..., V) float32."""
    return F.linear(hidden, model.output.weight, model.output.bias)


def sequence_logits(model: LSTMSequenceModel, sequences: Tensor) -> Tensor:
    """Eq. 9-10 over whole sequences: the logits of every y_t given y_1..y_{t-1}, (B, T) int64 -> (B, T, V) float32."""
    start = torch.full_like(sequences[:, :1], START_TOKEN)
    embedded = F.embedding(torch.cat([start, sequences[:, :-1]], dim=1), model.embedding)  # (B, T, E)
    state = zero_state(model, len(sequences))
    hidden = []
    for x_t in embedded.unbind(dim=1):
        state = lstm_step(model, x_t, state)
        hidden.append(state[0])
    return next_logits(model, torch.stack(hidden, dim=1))


@torch.no_grad()
def complete(model: LSTMSequenceModel, prefixes: Tensor, sequence_length: int, generator: torch.Generator) -> Tensor:
    """Eq. 3, one completion of each prefix: read the prefix from its start, then draw y_t ~ softmax(c + V h_t).

    Args:
        model: G_beta.
        prefixes: (B, t) int64, t >= 0.
        sequence_length: T.
        generator: source of all randomness.

    Returns:
        (B, T) int64.
    """
    tokens = torch.full((len(prefixes),), START_TOKEN, dtype=torch.int64, device=model.device)
    state = zero_state(model, len(prefixes))
    columns = []
    for t in range(sequence_length):
        state = lstm_step(model, model.embedding[tokens], state)
        if t < prefixes.shape[1]:
            tokens = prefixes[:, t]
        else:
            probabilities = torch.softmax(next_logits(model, state[0]), dim=1)  # (B, V)
            tokens = torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
        columns.append(tokens)
    return torch.stack(columns, dim=1)


def sample(
    model: LSTMSequenceModel, count: int, sequence_length: int, batch_size: int, generator: torch.Generator
) -> Tensor:
    """Eq. 10: draw whole sequences in batches, (count, T) int64."""
    sizes = torch.arange(count).split(batch_size)
    empty = torch.empty((batch_size, 0), dtype=torch.int64, device=model.device)
    return torch.cat([complete(model, empty[: len(rows)], sequence_length, generator) for rows in sizes])


def prefix_values(
    model: LSTMSequenceModel,
    discriminator: nn.Module,
    sequences: Tensor,
    n_rollouts: int,
    generator: torch.Generator,
) -> Tensor:
    """Eq. 4 for t < T: Q(Y_{1:t-1}, y_t) = (1/N) sum_n D(Y^n), every completion from scratch and in its own batch.

    Args:
        model: G_beta.
        discriminator: D_phi, in evaluation mode; tokens (B, T) -> logits (B,).
        sequences: (B, T) int64.
        n_rollouts: N.
        generator: source of all randomness.

    Returns:
        (B, T - 1) float32.
    """
    batch_size, sequence_length = sequences.shape
    values = torch.zeros(batch_size, sequence_length - 1, device=model.device)
    for t in range(1, sequence_length):
        for _ in range(n_rollouts):
            completed = complete(model, sequences[:, :t], sequence_length, generator)
            values[:, t - 1] += final_values(discriminator, completed)
    return values / n_rollouts


@torch.no_grad()
def final_values(discriminator: nn.Module, sequences: Tensor) -> Tensor:
    """Eq. 4 for t = T: D(Y) of finished sequences, (B, T) int64 -> (B,) float32 probabilities."""
    return torch.sigmoid(discriminator(sequences))


def mle_loss(model: LSTMSequenceModel, sequences: Tensor) -> Tensor:
    """Maximum likelihood: -mean_{b,t} log G(y_t | Y_{1:t-1}), a scalar in nats per token."""
    return F.cross_entropy(sequence_logits(model, sequences).flatten(0, 1), sequences.flatten())


def policy_gradient_loss(model: LSTMSequenceModel, sequences: Tensor, action_values: Tensor) -> Tensor:
    """Eq. 7 as a loss: -sum_{b,t} log G(y_t | Y_{1:t-1}) Q(Y_{1:t-1}, y_t), a scalar; action_values (B, T) float32."""
    losses = F.cross_entropy(sequence_logits(model, sequences).flatten(0, 1), sequences.flatten(), reduction="none")
    return (losses * action_values.flatten()).sum()


def generator_step(
    model: LSTMSequenceModel, optimizer: torch.optim.Optimizer, loss: Tensor, max_grad_norm: float = 5.0
) -> float:
    """Eq. 8: one clipped step against the gradient of a loss; returns the loss."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    optimizer.step()
    return loss.item()


def mle_epoch(
    model: LSTMSequenceModel,
    optimizer: torch.optim.Optimizer,
    sequences: Tensor,
    batch_size: int,
    generator: torch.Generator,
) -> float:
    """One pass over (M, T) sequences in random order; the mean loss in nats per token."""
    total = 0.0
    for rows in torch.randperm(len(sequences), generator=generator, device=sequences.device).split(batch_size):
        total += generator_step(model, optimizer, mle_loss(model, sequences[rows])) * len(rows)
    return total / len(sequences)


@torch.no_grad()
def negative_log_likelihood(model: LSTMSequenceModel, sequences: Tensor, batch_size: int) -> Tensor:
    """Eq. 13: -(1/T) sum_t log p(y_t | y_1..y_{t-1}) of each sequence, (M, T) int64 -> (M,) float32, nats per token."""
    batches = []
    for batch in sequences.split(batch_size):
        losses = F.cross_entropy(sequence_logits(model, batch).flatten(0, 1), batch.flatten(), reduction="none")
        batches.append(losses.view(batch.shape).mean(dim=1))
    return torch.cat(batches)


class PlainDiscriminator(nn.Module):
    """Eq. 11-12 layer by layer, with a copy of the parameters of our discriminator.

    c_i = relu(w * E_{i:i+l-1} + b);  feature = max_i c_i;  tau = sigmoid(W_T f + b_T);
    highway = tau * relu(W_H f + b_H) + (1 - tau) * f;  D(Y) = sigmoid(W_o highway + b_o).

    Args:
        ours: the discriminator to copy.
    """

    def __init__(self, ours: CNNDiscriminator) -> None:
        super().__init__()
        self.embedding = copy.deepcopy(ours.embedding)
        self.convolutions = nn.ModuleList()
        biases = ours.windows.bias.detach().split([count for _, count in ours.filters])
        for (window, count), kernel, bias in zip(ours.filters, ours.windows.kernels, biases, strict=True):
            convolution = nn.Conv1d(ours.embedding.embedding_dim, count, window)
            by_offset = kernel.detach().view(count, window, -1)
            convolution.load_state_dict({"weight": by_offset.transpose(1, 2), "bias": bias})
            self.convolutions.append(convolution)
        self.dropout = copy.deepcopy(ours.dropout)
        self.output = copy.deepcopy(ours.output)
        self.l2 = ours.l2
        size = ours.highway.size
        self.transform, self.gate = nn.Linear(size, size), nn.Linear(size, size)
        for layer, half in ((self.transform, slice(None, size)), (self.gate, slice(size, None))):
            layer.load_state_dict({"weight": ours.highway.weight[:, half].t(), "bias": ours.highway.bias[half]})
        self.to(ours.device).train(ours.training)

    def forward(self, sequences: Tensor) -> Tensor:
        """Logits that each sequence is real: (B, T) int64 -> (B,) float32."""
        embedded = self.embedding(sequences).transpose(1, 2)  # (B, E, T)
        pooled = [F.relu(convolution(embedded)).amax(dim=2) for convolution in self.convolutions]  # each (B, count)
        features = torch.cat(pooled, dim=1)
        tau = torch.sigmoid(self.gate(features))
        features = tau * F.relu(self.transform(features)) + (1 - tau) * features
        return self.output(self.dropout(features)).squeeze(1)


def discriminator_step(
    discriminator: PlainDiscriminator, optimizer: torch.optim.Optimizer, real: Tensor, generated: Tensor
) -> float:
    """Eq. 5, one step: -E_{Y real}[log D(Y)] - E_{Y ~ G}[log(1 - D(Y))] plus L2 on the output layer.

    Args:
        discriminator: D_phi.
        optimizer: optimizer of its parameters.
        real: (B / 2, T) int64.
        generated: (B / 2, T) int64.

    Returns:
        The mean loss without the penalty, nats per sequence.
    """
    logits = discriminator(torch.cat([real, generated]))
    labels_real_is_one = torch.cat([torch.ones(len(real)), torch.zeros(len(generated))]).to(real.device)
    loss = F.binary_cross_entropy_with_logits(logits, labels_real_is_one)
    output = discriminator.output
    penalty = discriminator.l2 * 0.5 * (output.weight.square().sum() + output.bias.square().sum())
    optimizer.zero_grad()
    (loss + penalty).backward()
    optimizer.step()
    return loss.item()
