"""Eq. 9-10 with models that look back: a Transformer, and an LSTM with soft attention over its own past.

The paper says that its generator may have soft attention. In: tokens (B, T) int64. Out: as for every `SequenceModel`.
The state holds each fed token in its own slot. So rows of one batch may have prefixes of different lengths, and a step
reads the slots without recomputing them. The number of slots is fixed. So states of any two steps have the same shape,
and rows of one can be copied into the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from seqgan_env.arguments import check_count
from seqgan_env.models.attention import TransformerBlock, remember, visible_slots
from seqgan_env.models.parameters import blank, layer_norm
from seqgan_env.models.sequence_models import LSTMSequenceModel, SequenceModel, State


class PrefixMemory:
    """The shared part of models that look back: a state (h_t, fed, memory, ...) with a slot for each of T fed tokens.

    `fed` (R,) int64 counts the start symbol, too. A finished sequence may be fed further, as the environment does with
    rows that do not step. The resulting state must not be read.

    Attributes:
        sequence_length: T, the longest sequence.
    """

    sequence_length: int

    def features(self, state: State) -> Tensor:
        """h_t (R, H).

        Raises:
            ValueError: if a row has been fed more than the T - 1 tokens before the last.
        """
        if bool((state[1] > self.sequence_length).any()):
            raise self._too_long(int(state[1].max()))
        return state[0]

    def _check_length(self, inputs: Tensor) -> None:
        if inputs.shape[1] > self.sequence_length:
            raise self._too_long(inputs.shape[1])

    def _too_long(self, length: int) -> ValueError:
        return ValueError(
            f"sequence_length={self.sequence_length} of this {type(self).__name__} is too small for token {length} of "
            "a sequence; build the model with the task's sequence_length"
        )

    def _slot(self, state: State) -> Tensor:
        """The slot of the next token, (R,). After the end, tokens overwrite the last slot."""
        return state[1].clamp(max=self.sequence_length - 1)


class TransformerSequenceModel(PrefixMemory, SequenceModel):
    """Eq. 9-10 with g a causal Transformer (Vaswani et al. 2017): pre-norm, learned positions.

    State: h_t (R, H), fed (R,), and keys and values of all layers (R, layers, 2, T, H).

    Args:
        vocab_size: V.
        embedding_size: E; embeddings are projected to H.
        hidden_size: H, the width of all layers.
        init_std: parameters are drawn from N(0, init_std^2); layer norms start at 1 and 0.
        seed: seed of this draw.
        sequence_length: T, the longest sequence.
        layers: Transformer blocks.
        heads: attention heads in each block; H must be a multiple of them.
        tied: the embedding is the output layer's weight (Press & Wolf 2017); E must equal H.

    Raises:
        ValueError: if a size is below 1, `heads` does not divide H, or `tied` and E is not H.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int = 32,
        hidden_size: int = 32,
        init_std: float = 0.1,
        seed: int = 0,
        sequence_length: int = 20,
        layers: int = 2,
        heads: int = 2,
        tied: bool = False,
    ) -> None:
        super().__init__(
            vocab_size, hidden_size, embedding_size=embedding_size, sequence_length=sequence_length, layers=layers
        )
        self.sequence_length = sequence_length
        self.embedding = self._embedding_parameter(embedding_size, tied)
        self.input_weight = blank(embedding_size, hidden_size)
        self.positions = blank(sequence_length, hidden_size)
        self.blocks = nn.ModuleList(TransformerBlock(hidden_size, heads) for _ in range(layers))
        self.norm = layer_norm(hidden_size)
        self._draw_parameters(init_std, seed)

    def initial_state(self, batch_size: int) -> State:
        h = self._zeros(batch_size, self.hidden_size)
        fed = torch.zeros(batch_size, dtype=torch.int64, device=self.device)
        return self._after_start(
            (h, fed, h.new_zeros(batch_size, len(self.blocks), 2, self.sequence_length, h.shape[1]))
        )

    @torch.no_grad()
    def advance(self, state: State, tokens: Tensor) -> State:
        _, fed, memory = state
        memory = memory.clone()  # the old state must not change
        slot = self._slot(state)
        x = torch.addmm(self.positions[slot], self.embedding[tokens], self.input_weight)
        for layer, block in enumerate(cast(Iterable[TransformerBlock], self.blocks)):
            x = block.step(x, memory[:, layer], slot)
        return self.norm(x), fed + 1, memory

    def hidden_states(self, inputs: Tensor) -> Tensor:
        self._check_length(inputs)
        embedded = self.drop_embeddings(nn.functional.embedding(inputs, self.embedding), 1)  # (B, T, E)
        x = embedded @ self.input_weight + self.positions[: inputs.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class AttentionLSTMSequenceModel(PrefixMemory, LSTMSequenceModel):
    """Eq. 9-10 with an LSTM that attends to its own states h_1..h_t (Luong et al. 2015, "general" score).

    a_s = softmax_s(h_t W_a h_s / sqrt(H)) over s <= t, and the output layer reads tanh([sum_s a_s h_s, h_t] W_c). The
    result of the attention is not fed back. So teacher forcing needs only the LSTM's fused call and one attention over
    all steps.
    State: tanh(...) (R, H), fed (R,), all h_s (R, T, H), and the LSTM's h and c (R, H) each.

    Args:
        vocab_size, embedding_size, hidden_size, init_std, seed, tied: as `LSTMSequenceModel`.
        sequence_length: T, the longest sequence.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int = 32,
        hidden_size: int = 32,
        init_std: float = 0.1,
        seed: int = 0,
        sequence_length: int = 20,
        tied: bool = False,
    ) -> None:
        super().__init__(vocab_size, embedding_size, hidden_size, init_std, seed, tied)
        check_count("sequence_length", sequence_length)
        self.sequence_length = sequence_length
        self.query_weight = blank(hidden_size, hidden_size)
        self.mix_weight = blank(2 * hidden_size, hidden_size)
        self._draw_parameters(init_std, seed)  # all again, since there are two more now

    def initial_state(self, batch_size: int) -> State:
        zeros = self._zeros(batch_size, self.hidden_size)
        fed = torch.zeros(batch_size, dtype=torch.int64, device=self.device)
        memory = zeros.new_zeros(batch_size, self.sequence_length, self.hidden_size)
        return self._after_start((zeros, fed, memory, zeros, zeros))

    @torch.no_grad()
    def advance(self, state: State, tokens: Tensor) -> State:
        _, fed, memory, *lstm_state = state
        h, c = super().advance(tuple(lstm_state), tokens)
        memory = memory.clone()  # the old state must not change
        slot = self._slot(state)
        remember(memory, slot, h)
        visible = visible_slots(slot)  # (R, S)
        attended = self._attend(h.unsqueeze(1), memory[:, : visible.shape[1]], visible.unsqueeze(1))
        return attended.squeeze(1), fed + 1, memory, h, c

    def hidden_states(self, inputs: Tensor) -> Tensor:
        self._check_length(inputs)
        h = super().hidden_states(inputs)  # (B, T, H)
        return self._attend(h, h)

    def _attend(self, h: Tensor, memory: Tensor, visible: Tensor | None = None) -> Tensor:
        """(B, Q, H) states attend to (B, S, H) by a mask (B, Q, S), or causally if it is None -> (B, Q, H)."""
        context = nn.functional.scaled_dot_product_attention(
            h @ self.query_weight, memory, memory, visible, is_causal=visible is None
        )
        return torch.tanh(torch.cat([context, h], dim=2) @ self.mix_weight)
