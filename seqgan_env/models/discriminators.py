"""Eq. 11-12: discriminators D_phi, the probability that a sequence is real.

In: tokens (B, T) int64, PAD = V after the end. Out: logits (B,); D(Y) = sigmoid(logit). They are float32, or have the
dtype that a discriminator was converted to.
Departures: a sigmoid as in the paper (Eq. 12); the authors' code ends in an equivalent two-way softmax. L2 is on the
output layer only, as in the authors' code; the paper does not say on which weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqgan_env.arguments import check_count, check_number
from seqgan_env.models.parameters import blank, blank_module, seeded
from seqgan_env.models.window_features import Filters, WindowFeatures

# (window, count) pairs, paper's appendix: one list for T = 20, one for T = 32.
PAPER_FILTERS_20: Filters = (
    *((1, 100), (2, 200), (3, 200), (4, 200), (5, 200), (6, 100)),
    *((7, 100), (8, 100), (9, 100), (10, 100), (15, 160), (20, 160)),
)
PAPER_FILTERS_32: Filters = (*PAPER_FILTERS_20[:10], (16, 160), (24, 160), (32, 160))
# A fifth of the arithmetic. At these sizes the short windows carry most of the signal.
LIGHT_FILTERS: Filters = ((1, 64), (2, 128), (3, 128), (4, 64), (5, 64))
# Almost only counts of tokens and pairs: they still generalise when D learns from a few thousand sequences.
SHORT_FILTERS: Filters = ((1, 100), (2, 400))

_SCORE_BATCH = 256
# Larger token tables are not built for scoring.
_TABLE_BYTES = 1 << 30


def named_filters(name: str, sequence_length: int) -> Filters:
    """The filters of a preset, "paper", "light" or "short", without windows that are longer than the sequences.

    Raises:
        ValueError: for another name, or if sequence_length < 1.
    """
    check_count("sequence_length", sequence_length)
    presets = {
        "paper": PAPER_FILTERS_32 if sequence_length >= 32 else PAPER_FILTERS_20,
        "light": LIGHT_FILTERS,
        "short": SHORT_FILTERS,
    }
    if name not in presets:
        raise ValueError(
            f"filters={name!r} is not a preset; choose one of {sorted(presets)} or give (window, count) pairs"
        )
    return tuple((window, count) for window, count in presets[name] if window <= sequence_length)


class Discriminator(nn.Module, ABC):
    """Scores whole sequences: `forward` for training, `score` for rewards.

    Args:
        vocab_size: V.
        sequence_length: T.
        sizes: sizes of a subclass, by name; each must be at least 1.

    Attributes:
        vocab_size: V; token V is PAD.
        sequence_length: T.
    """

    def __init__(self, vocab_size: int, sequence_length: int, **sizes: int) -> None:
        super().__init__()
        for name, size in {"vocab_size": vocab_size, "sequence_length": sequence_length, **sizes}.items():
            check_count(name, size)
        self.vocab_size = vocab_size
        self.sequence_length = sequence_length

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters: float32 unless the discriminator was converted."""
        return next(self.parameters()).dtype

    @abstractmethod
    def forward(self, sequences: Tensor) -> Tensor:
        """Logits that each sequence is real: (B, T) int64 -> (B,). Differentiable; with dropout in training mode."""

    def member_logits(self, sequences: Tensor) -> Tensor:
        """The logits of each of M members, (M, B), for the loss of Eq. 5. A single discriminator has M = 1."""
        logits: Tensor = self(sequences)
        return logits[None]

    def penalty(self) -> Tensor:
        """Regularisation term of the loss of Eq. 5, a scalar; 0 unless a subclass has one."""
        return torch.zeros((), dtype=self.dtype, device=self.device)

    @torch.no_grad()
    def score(self, sequences: Tensor) -> Tensor:
        """Logits without gradient and always without dropout: (R, T) int64 -> (R,)."""
        was_training = self.training
        self.eval()
        try:
            batches = sequences.to(self.device).split(_SCORE_BATCH)
            if len(sequences) == 0:
                return torch.empty(0, dtype=self.dtype, device=self.device)
            return torch.cat([self(batch) for batch in batches])
        finally:
            self.train(was_training)


def check_regularisation(dropout: float, l2: float) -> None:
    """Raise ValueError unless dropout is a probability below 1 and l2 is finite and not negative."""
    check_number("dropout", dropout, at_least=0, below=1, hint="it is the probability of dropping a feature")
    check_number("l2", l2, at_least=0)


def half_squared_norm(layer: nn.Linear) -> Tensor:
    """(|W|^2 + |b|^2) / 2, a scalar with gradient."""
    return 0.5 * (layer.weight.square().sum() + layer.bias.square().sum())


class Highway(nn.Module):
    """Highway layer (Srivastava et al. 2015), second half of Eq. 11's features.

    tau = sigmoid(f W_T + b_T);  out = tau * relu(f W_H + b_H) + (1 - tau) * f.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        # W_H and W_T side by side need one matrix product. Input first is a sixth faster than nn.Linear's order.
        self.weight = blank(size, 2 * size)
        self.bias = blank(2 * size)

    def forward(self, features: Tensor) -> Tensor:
        """(B, F) -> (B, F)."""
        transformed, gate = torch.addmm(self.bias, features, self.weight).chunk(2, dim=1)
        return torch.lerp(features, F.relu(transformed), torch.sigmoid(gate))


class CNNDiscriminator(Discriminator):
    """Eq. 11-12: token embedding, convolutions of several windows, max over time, highway, dropout, linear.

    c_i = relu(w * E_{i:i+l-1} + b);  feature = max_i c_i;  D(Y) = sigmoid(W_o highway(features) + b_o).
    Windows lie inside a sequence. A sequence that is shorter than a window has one window, with zeros after its end. So
    a padded sequence has the same score as without padding, for every T.

    Args:
        vocab_size: V.
        sequence_length: T.
        filters: "paper", "light", "short", or (window, count) pairs.
        embedding_size: 64 in the authors' code.
        dropout: probability of dropping a feature, 0.25 in the authors' code (keep probability 0.75).
        l2: weight of the output layer's squared norm in the loss, 0.2 in the authors' code.
        seed: of the initial parameters (embedding U(-1, 1), filters truncated N(0, 0.1^2), biases 0.1, gate bias 0).
    """

    def __init__(
        self,
        vocab_size: int,
        sequence_length: int,
        filters: str | Filters = "paper",
        embedding_size: int = 64,
        dropout: float = 0.25,
        l2: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__(vocab_size, sequence_length, embedding_size=embedding_size)
        check_regularisation(dropout, l2)
        if isinstance(filters, str):
            filters = named_filters(filters, sequence_length)
        if not filters or any(not 1 <= window <= sequence_length or count < 1 for window, count in filters):
            raise ValueError(
                f"filters={filters!r} must be (window, count) pairs with 1 <= window <= T={sequence_length}"
            )
        self.filters = tuple(filters)
        self.l2 = l2
        self.embedding = blank_module(nn.Embedding, vocab_size + 1, embedding_size, padding_idx=vocab_size)
        self.windows = WindowFeatures(self.filters, embedding_size)
        self.highway = Highway(self.windows.size)
        self.dropout = nn.Dropout(dropout)
        self.output = blank_module(nn.Linear, self.windows.size, 1)
        self._reset_parameters(seeded(seed))

    def _reset_parameters(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.embedding.weight.uniform_(-1, 1, generator=generator)
            self.embedding.weight[self.vocab_size] = 0  # PAD
            for weight in (*self.windows.kernels, self.highway.weight, self.output.weight):
                nn.init.trunc_normal_(weight, std=0.1, a=-0.2, b=0.2, generator=generator)
            for bias in (self.windows.bias, self.highway.bias, self.output.bias):
                nn.init.constant_(bias, 0.1)
            self.highway.bias[self.highway.size :] = 0  # b_T

    def forward(self, sequences: Tensor) -> Tensor:
        embedded = self.embedding(sequences.t())  # (T, B, E)
        return self._head(self.windows(embedded, self._lengths(sequences)))

    def _lengths(self, sequences: Tensor) -> Tensor | None:
        """Tokens of each sequence, (B,) int64. None if no sequence ends before T, which saves work."""
        ends_early = bool((sequences[:, -1] == self.vocab_size).any())
        return (sequences != self.vocab_size).sum(dim=1) if ends_early else None

    def _head(self, pooled: Tensor) -> Tensor:
        """relu, highway, dropout, linear. relu and max can be swapped, so relu runs once, on the pooled features."""
        features = self.dropout(self.highway(F.relu(pooled)))
        return self.output(features).squeeze(1)

    def penalty(self) -> Tensor:
        """l2 * (|W_o|^2 + |b_o|^2) / 2."""
        return self.l2 * half_squared_norm(self.output)

    @torch.no_grad()
    def score(self, sequences: Tensor) -> Tensor:
        """Logits without gradient and dropout: (R, T) int64 -> (R,).

        On CPU, looking windows up is about three times as fast as multiplying, if a call scores more tokens than the
        tables have rows. The choice depends only on this call, so results do not depend on earlier calls.
        """
        worth_it = sequences.numel() > self.vocab_size and self.windows.table_bytes(self.vocab_size + 1) <= _TABLE_BYTES
        if not worth_it or self.device.type != "cpu" or self.embedding.weight.dtype != torch.float32:
            return super().score(sequences)
        was_training = self.training
        self.eval()
        try:
            tables = self.windows.token_tables(self.embedding.weight)
            batches = sequences.split(2 * _SCORE_BATCH)
            return torch.cat([self._head(self.windows.look_up(rows, tables, self._lengths(rows))) for rows in batches])
        finally:
            self.train(was_training)
