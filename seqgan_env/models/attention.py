"""Attention: the Transformer block of generators and discriminators, and the memory in a generator's state.

In: vectors (B, T, W) of whole sequences, or (R, W) of one more step with the memory of the steps before.
As with recurrent models, two ways give the same numbers: all steps at once, or step by step without recomputing.
Departure from Vaswani et al. 2017: layer norms come before attention and feed-forward layer, so that training needs no
warm-up. Queries, keys and values have no bias: a bias of the keys does not change the softmax, so it would never learn.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqgan_env.arguments import check_count
from seqgan_env.models.parameters import blank_module, layer_norm


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)). The owner draws the parameters.

    Args:
        width: W, of the vectors.
        heads: attention heads; W must be a multiple of them.

    Raises:
        ValueError: if the heads do not share the width evenly.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_count("heads", heads)
        if width % heads:
            raise ValueError(f"heads={heads} must divide the width of the vectors, {width}")
        self.heads = heads
        self.attention_norm = layer_norm(width)
        self.queries_keys_values = blank_module(nn.Linear, width, 3 * width, bias=False)
        self.mix = blank_module(nn.Linear, width, width)
        self.feed_forward_norm = layer_norm(width)
        self.expand = blank_module(nn.Linear, width, 4 * width)
        self.contract = blank_module(nn.Linear, 4 * width, width)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """All steps at once, differentiable.

        Args:
            x: (B, T, W).
            visible: (B, T) bool, the steps that may be attended to; None is causal: every step sees itself and the
                steps before it.

        Returns:
            (B, T, W).
        """
        queries, keys, values = (self._split(part) for part in self._project(x).chunk(3, dim=2))
        mask = None if visible is None else visible[:, None, None, :]
        mixed = F.scaled_dot_product_attention(queries, keys, values, mask, is_causal=visible is None)
        return self._finish(x, mixed.transpose(1, 2).flatten(2))

    def step(self, x: Tensor, memory: Tensor, slot: Tensor) -> Tensor:
        """One more step of each row: remember its key and value, and attend to all slots up to its own.

        Args:
            x: (R, W).
            memory: (R, 2, T, W), keys and values of the steps before; changed in place.
            slot: (R,) int64 in 0..T-1, the slot of each row's step.

        Returns:
            (R, W).
        """
        queries, keys, values = self._project(x).chunk(3, dim=1)
        remember(memory, slot, torch.stack([keys, values], dim=1))
        visible = visible_slots(slot)  # (R, S)
        keys, values = memory[:, :, : visible.shape[1]].unbind(1)  # (R, S, W)
        mixed = F.scaled_dot_product_attention(
            self._split(queries.unsqueeze(1)), self._split(keys), self._split(values), visible[:, None, None, :]
        )
        return self._finish(x, mixed.flatten(1))

    def _project(self, x: Tensor) -> Tensor:
        return self.queries_keys_values(self.attention_norm(x))

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, W) -> (B, heads, T, W / heads)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + self.mix(mixed)
        return x + self.contract(F.gelu(self.expand(self.feed_forward_norm(x))))


def remember(memory: Tensor, slot: Tensor, values: Tensor) -> None:
    """Write values (R, ..., W) into each row's slot (R,) of a memory (R, ..., T, W), in place."""
    index = slot.view(-1, *[1] * (memory.dim() - 1)).expand_as(values.unsqueeze(-2))
    memory.scatter_(-2, index, values.unsqueeze(-2))


def visible_slots(slot: Tensor) -> Tensor:
    """Mask of the slots up to each row's own: (R,) int64 -> (R, S) bool; S is just enough for the longest row."""
    count = int(slot.max()) + 1 if slot.numel() else 0
    return torch.arange(count, dtype=torch.int64, device=slot.device) <= slot.unsqueeze(1)
