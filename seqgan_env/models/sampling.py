"""Drawing next tokens from hidden states: the hot loop of sampling and of Monte-Carlo search.

A token is drawn by inverse CDF from one uniform number, in two levels: first a segment of 64 neighbouring tokens, then
the token in it. The draw is a function of the uniforms alone, so who owns the random stream owns the result.
In: hidden states (R, H), uniforms (R, N) in [0, 1). Out: int64 tokens (R, N).
Departure from the authors' code: no multinomial over the whole (rows, V) matrix; equal in distribution, far cheaper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqgan_env.models.output_layer import OutputLayer, exp_logit_blocks

_SEGMENT = 64


def draw_from_masses(masses: Tensor, uniforms: Tensor) -> Tensor:
    """Draw token ids with probability proportional to non-negative masses; a token of mass 0 is never drawn.

    Args:
        masses: (R, K) float32, at least one positive per row; K a multiple of 64, or below 64.
        uniforms: (R, N) float32 in [0, 1).

    Returns:
        (R, N) int64: N independent draws from each row.
    """
    cdf = masses.cumsum(dim=1) if masses.shape[1] <= _SEGMENT else None
    if cdf is not None:
        return _inverse_cdf(cdf, uniforms * cdf[:, -1:])
    segments = masses.unflatten(1, (-1, _SEGMENT))  # (R, S, 64)
    segment_masses = segments.sum(dim=2)
    cdf = segment_masses.cumsum(dim=1)
    position = uniforms * cdf[:, -1:]  # (R, N)
    segment = _inverse_cdf(cdf, position)
    rest = position - (cdf.gather(1, segment) - segment_masses.gather(1, segment))  # how far into the segment
    inside = segments.gather(1, segment.unsqueeze(2).expand(-1, -1, _SEGMENT)).flatten(0, 1).cumsum(dim=1)  # (R*N, 64)
    token = _inverse_cdf(inside, rest.reshape(-1, 1).clamp_(min=0))
    return segment * _SEGMENT + token.view(segment.shape)


def _inverse_cdf(cdf: Tensor, position: Tensor) -> Tensor:
    """First column whose cumulative mass exceeds the position.

    Args:
        cdf: (R, K) float32, non-decreasing.
        position: (R, N) float32 masses. Those that rounding carried to the row's total or beyond are taken back below
            it, so that no draw passes the last token of positive mass.

    Returns:
        (R, N) int64.
    """
    total = cdf[:, -1:]
    below_total = torch.minimum(position, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cdf, below_total, right=True)


@torch.no_grad()
def draw_tokens(layer: OutputLayer, hidden: Tensor, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
    """Draw next tokens from softmax(layer(hidden) / temperature).

    Args:
        layer: the output layer of Eq. 10.
        hidden: (R, H) float32.
        uniforms: (R, N) float32 in [0, 1): N draws share the one set of logits of their row.
        temperature: divides the logits; below 1 sharpens.

    Returns:
        (R, N) int64 in 0..V-1.
    """
    tokens = torch.empty(uniforms.shape, dtype=torch.int64, device=hidden.device)
    multiple = 1 if layer.weight.shape[0] <= _SEGMENT else _SEGMENT
    for rows, masses, _ in exp_logit_blocks(hidden, layer.weight, layer.bias, temperature, multiple):
        tokens[rows] = draw_from_masses(masses, uniforms[rows])
    return tokens


@torch.no_grad()
def draw_from_logits(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Draw from softmax(logits), for models without an output layer of ours.

    Args:
        logits: (R, V) float32.
        uniforms: (R, N) float32 in [0, 1).

    Returns:
        (R, N) int64 in 0..V-1.
    """
    masses = torch.softmax(logits, dim=1)
    if masses.shape[1] > _SEGMENT:
        masses = nn.functional.pad(masses, (0, -masses.shape[1] % _SEGMENT))
    return draw_from_masses(masses, uniforms)
