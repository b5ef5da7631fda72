"""Discriminators D_phi that read every token in the context of both sides: RCNN, bidirectional GRU, Transformer.

The paper names RCNN beside the CNN. All of them embed the tokens, encode each step in its context, and take the maximum
over the steps as in Eq. 11. They end like the CNN: dropout and a linear layer, with L2 on this layer.
In: tokens (B, T) int64, PAD = V after the end. Out: logits (B,).
PAD is never read: a padded sequence has the same score as without padding, for every T.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqgan_env.models.attention import TransformerBlock
from seqgan_env.models.discriminators import Discriminator, check_regularisation, half_squared_norm
from seqgan_env.models.parameters import blank, blank_module, layer_norm, seeded


class ContextDiscriminator(Discriminator):
    """Embedding, `encode` of a subclass, maximum over the read steps, dropout, linear.

    Args:
        vocab_size: V.
        sequence_length: T.
        feature_size: F, the number of features that `encode` returns.
        embedding_size: E.
        dropout: probability of dropping a feature.
        l2: weight of the output layer's squared norm in the loss.
        sizes: sizes of a subclass, by name; each must be at least 1.
    """

    def __init__(
        self,
        vocab_size: int,
        sequence_length: int,
        feature_size: int,
        embedding_size: int,
        dropout: float,
        l2: float,
        **sizes: int,
    ) -> None:
        super().__init__(vocab_size, sequence_length, embedding_size=embedding_size, **sizes, feature_size=feature_size)
        check_regularisation(dropout, l2)
        self.l2 = l2
        self.embedding = blank_module(nn.Embedding, vocab_size + 1, embedding_size, padding_idx=vocab_size)
        self.dropout = nn.Dropout(dropout)
        self.output = blank_module(nn.Linear, feature_size, 1)

    def _draw_parameters(self, seed: int) -> None:
        """Embedding U(-1, 1) as in the CNN; matrices Xavier-uniform; biases 0; layer norms 1 and 0."""
        generator = seeded(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter, generator=generator)
            elif "bias" in name:
                nn.init.zeros_(parameter)
        nn.init.uniform_(self.embedding.weight, -1, 1, generator=generator)
        with torch.no_grad():
            self.embedding.weight[self.vocab_size] = 0  # PAD

    @abstractmethod
    def encode(self, embedded: Tensor, real: Tensor) -> Tensor:
        """Features of each step in its context, differentiable.

        Args:
            embedded: (B, T, E).
            real: (B, T) bool, the steps to read: a sequence's tokens, and always the first step, even if it is PAD.

        Returns:
            (B, T, F); values where `real` is False are not used.
        """

    def forward(self, sequences: Tensor) -> Tensor:
        real = sequences < self.vocab_size
        real[:, 0] = True
        encoded = self.encode(self.embedding(sequences), real)
        features = encoded.masked_fill(~real.unsqueeze(2), -torch.inf).amax(dim=1)
        return self.output(self.dropout(features)).squeeze(1)

    def penalty(self) -> Tensor:
        """l2 * (|W_o|^2 + |b_o|^2) / 2."""
        return self.l2 * half_squared_norm(self.output)


def read_both_ways(network: nn.RNNBase, embedded: Tensor, real: Tensor, start: Tensor | None = None) -> Tensor:
    """States of a bidirectional network, from each sequence's own two ends: (B, T, E) -> (B, T, 2H).

    Args:
        network: batch first, bidirectional, one layer.
        embedded: (B, T, E).
        real: (B, T) bool, the steps to read; at least the first one.
        start: (2, H) states before the first and after the last token; None is zeros.
    """
    lengths = real.sum(dim=1).cpu()
    packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
    batch, steps = real.shape
    states, _ = network(packed, None if start is None else start.unsqueeze(1).repeat(1, batch, 1))
    return pad_packed_sequence(states, batch_first=True, total_length=steps)[0]


class GRUDiscriminator(ContextDiscriminator):
    """A bidirectional GRU: a step's features are the states of both directions.

    Args:
        vocab_size: V.
        sequence_length: T.
        embedding_size: E.
        hidden_size: H, of each direction.
        dropout: probability of dropping a feature.
        l2: weight of the output layer's squared norm in the loss.
        seed: of the initial parameters.
    """

    def __init__(
        self,
        vocab_size: int,
        sequence_length: int,
        embedding_size: int = 64,
        hidden_size: int = 64,
        dropout: float = 0.25,
        l2: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__(
            vocab_size, sequence_length, 2 * hidden_size, embedding_size, dropout, l2, hidden_size=hidden_size
        )
        self.gru = blank_module(nn.GRU, embedding_size, hidden_size, batch_first=True, bidirectional=True)
        self._draw_parameters(seed)

    def encode(self, embedded: Tensor, real: Tensor) -> Tensor:
        return read_both_ways(self.gru, embedded, real)


class RCNNDiscriminator(ContextDiscriminator):
    """Recurrent convolutional network (Lai et al. 2015): each token with its left and right context.

    l_i = tanh(W_l l_{i-1} + W_sl e_{i-1} + b_l), r_i = tanh(W_r r_{i+1} + W_sr e_{i+1} + b_r), where l_1 and r_T are
    learned. A step's features are tanh(W [l_i, e_i, r_i] + b).

    Args:
        vocab_size: V.
        sequence_length: T.
        embedding_size: E.
        hidden_size: H, of each context.
        feature_size: F.
        dropout: probability of dropping a feature.
        l2: weight of the output layer's squared norm in the loss.
        seed: of the initial parameters.
    """

    def __init__(
        self,
        vocab_size: int,
        sequence_length: int,
        embedding_size: int = 64,
        hidden_size: int = 64,
        feature_size: int = 128,
        dropout: float = 0.25,
        l2: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__(
            vocab_size, sequence_length, feature_size, embedding_size, dropout, l2, hidden_size=hidden_size
        )
        self.contexts = blank_module(nn.RNN, embedding_size, hidden_size, batch_first=True, bidirectional=True)
        self.edges = blank(2, hidden_size)  # l_1 and r_T
        self.latent = blank_module(nn.Linear, embedding_size + 2 * hidden_size, feature_size)
        self._draw_parameters(seed)

    def encode(self, embedded: Tensor, real: Tensor) -> Tensor:
        batch = len(embedded)
        # The network's state at a token includes the token; its context is the state of the neighbour.
        left, right = read_both_ways(self.contexts, embedded, real, self.edges).chunk(2, dim=2)
        left_edge, right_edge = self.edges.expand(batch, -1, -1).split(1, dim=1)  # (B, 1, H)
        left = torch.cat([left_edge, left[:, :-1]], dim=1)
        right = torch.cat([torch.where(real[:, 1:, None], right[:, 1:], right_edge), right_edge], dim=1)
        return torch.tanh(self.latent(torch.cat([left, embedded, right], dim=2)))


class TransformerDiscriminator(ContextDiscriminator):
    """A Transformer encoder over the tokens of a sequence, pre-norm, with learned positions.

    Args:
        vocab_size: V.
        sequence_length: T.
        embedding_size: E, the width of all layers.
        layers: Transformer blocks.
        heads: attention heads in each block; E must be a multiple of them.
        dropout: probability of dropping a feature.
        l2: weight of the output layer's squared norm in the loss.
        seed: of the initial parameters.
    """

    def __init__(
        self,
        vocab_size: int,
        sequence_length: int,
        embedding_size: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.25,
        l2: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__(vocab_size, sequence_length, embedding_size, embedding_size, dropout, l2, layers=layers)
        self.positions = blank(sequence_length, embedding_size)
        self.blocks = nn.ModuleList(TransformerBlock(embedding_size, heads) for _ in range(layers))
        self.norm = layer_norm(embedding_size)
        self._draw_parameters(seed)

    def encode(self, embedded: Tensor, real: Tensor) -> Tensor:
        x = embedded + self.positions[: embedded.shape[1]]
        for block in self.blocks:
            x = block(x, visible=real)
        return self.norm(x)
