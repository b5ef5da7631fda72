"""The memory of a pretrained Transformer as a state: keys and values of each row's prefix in fixed slots.

In: for each layer keys (R, heads, T, d) and values (R, heads, T, d'), and the slot (R,) of each row's next token. Out:
new tensors with the next token in its slot. Rows may have prefixes of different lengths.
This module imports `transformers`, so it is itself imported where a model is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from seqgan_env.models.attention import visible_slots


class _SlotLayer(DynamicLayer):
    """A layer's memory; `update` writes one token for each row, into new tensors.

    Args:
        keys, values: (R, heads, T, d), not changed.
        slot: (R,) int64 in 0..T-1.
        used: number of slots that attention reads; no slot of a row lies beyond it.
    """

    def __init__(self, keys: Tensor, values: Tensor, slot: Tensor, used: int) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.device, self.is_initialized = keys.device, True
        self._slot, self._used = slot, used

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys = self._written(self.keys, key_states)
        self.values = self._written(self.values, value_states)
        return self.keys[:, :, : self._used], self.values[:, :, : self._used]

    def _written(self, memory: Tensor, new: Tensor) -> Tensor:
        index = self._slot.view(-1, 1, 1, 1).expand_as(new)
        return memory.scatter(2, index, new.to(memory.dtype))

    def get_seq_length(self) -> int:
        return self._used - 1


def read_one_token(
    body: Any, tokens: Tensor, slot: Tensor, memory: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One more token for each row.

    Args:
        body: a Transformer of `transformers` without its output layer.
        tokens: (R,) int64.
        slot: (R,) int64, its place in each row.
        memory: keys and values of each layer in turn.

    Returns:
        The body's hidden states (R, H), and the new memory.
    """
    visible = visible_slots(slot)  # (R, S)
    layers = [
        _SlotLayer(keys, values, slot, visible.shape[1]) for keys, values in zip(memory[::2], memory[1::2], strict=True)
    ]
    hidden_dtype = memory[0].dtype
    hidden_beyond = torch.finfo(hidden_dtype).min
    mask = torch.zeros(visible.shape, dtype=hidden_dtype, device=slot.device).masked_fill_(~visible, hidden_beyond)
    found = body(
        input_ids=tokens.unsqueeze(1),
        position_ids=slot.unsqueeze(1),
        attention_mask=mask[:, None, None, :],
        cache=Cache(layers=layers),
        use_cache=True,
    )
    return found.last_hidden_state[:, 0], tuple(part for layer in layers for part in (layer.keys, layer.values))


def memory_shapes(body: Any, token: int, device: torch.device) -> list[tuple[int, int]]:
    """(heads, d) of the keys and the values of each layer in turn.

    Raises:
        ValueError: if a layer remembers something else than keys and values of all tokens.
    """
    cache = DynamicCache()
    body(input_ids=torch.full((1, 2), token, dtype=torch.int64, device=device), cache=cache, use_cache=True)
    shapes: list[tuple[int, int]] = []
    for layer in cache.layers:
        for part in (layer.keys, layer.values):
            if not isinstance(part, Tensor) or part.dim() != 4 or part.shape[2] != 2:
                raise ValueError(f"its layers remember {type(layer).__name__}")
            shapes.append((part.shape[1], part.shape[3]))
    return shapes
