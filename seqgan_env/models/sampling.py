"""Drawing next tokens from hidden states: the hot loop of sampling and of Monte-Carlo search.

A token is drawn by inverse CDF from one uniform number, in two levels: first a segment of 64 neighbouring tokens, then
the token in it. The draw is a function of the uniforms only, so the owner of the random stream decides the result.
In: hidden states (R, H), uniforms (R, N) in [0, 1). Out: int64 tokens (R, N), always in 0..V-1. If masses are NaN or
infinite there is no such token, and an error is raised.
Departure from the authors' code: no multinomial over the whole (rows, V) matrix. The distribution is the same, at far
less cost.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqgan_env.models.output_layer import OutputLayer, exp_logit_blocks
from seqgan_env.models.parameters import at_least_float32

_SEGMENT = 64


def draw_from_masses(masses: Tensor, uniforms: Tensor) -> Tensor:
    """Draw token ids with probabilities proportional to non-negative masses; a token with mass 0 is never drawn.

    Args:
        masses: (R, K) float32 or float64, at least one positive per row; K is a multiple of 64, or below 64.
        uniforms: (R, N) float32 in [0, 1).

    Returns:
        (R, N) int64: N independent draws from each row.

    Raises:
        ValueError: if a row's masses hold NaN or infinity, or are all 0.
    """
    uniforms = uniforms.to(masses.dtype)
    if masses.shape[1] <= _SEGMENT:
        cdf = masses.cumsum(dim=1)
        _check_totals(cdf[:, -1])
        return _inverse_cdf(cdf, uniforms * cdf[:, -1:])
    segments = masses.unflatten(1, (-1, _SEGMENT))  # (R, S, 64)
    segment_masses = segments.sum(dim=2)
    cdf = segment_masses.cumsum(dim=1)
    _check_totals(cdf[:, -1])
    position = uniforms * cdf[:, -1:]  # (R, N)
    segment = _inverse_cdf(cdf, position)
    rest = position - (cdf.gather(1, segment) - segment_masses.gather(1, segment))  # position inside the segment
    inside = segments.gather(1, segment.unsqueeze(2).expand(-1, -1, _SEGMENT)).flatten(0, 1).cumsum(dim=1)  # (R*N, 64)
    token = _inverse_cdf(inside, rest.reshape(-1, 1).clamp_(min=0))
    return segment * _SEGMENT + token.view(segment.shape)


def _check_totals(totals: Tensor) -> None:
    """Raise ValueError unless all totals (R,) are positive and finite; NaN anywhere in a row makes its total NaN."""
    if len(totals):
        least, greatest = torch.aminmax(totals)  # both are NaN if any total is, and a comparison with NaN is False
        if not (least.item() > 0 and greatest.item() < torch.inf):
            raise ValueError(
                "next tokens cannot be drawn: the model gives probabilities that are NaN, infinite or all 0. Its "
                "parameters have probably diverged; continue from an earlier checkpoint with a smaller learning rate"
            )


def _inverse_cdf(cdf: Tensor, position: Tensor) -> Tensor:
    """First column whose cumulative mass exceeds the position.

    Args:
        cdf: (R, K), non-decreasing, with a positive finite total.
        position: (R, N) masses, with the dtype of `cdf`. Rounding may lift a position to the row's total or beyond. It
            is then moved back below the total, so no draw passes the last token with positive mass.

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
        hidden: (R, H), of the layer's dtype.
        uniforms: (R, N) float32 in [0, 1); the N draws of a row share its logits.
        temperature: divides the logits; below 1 sharpens.

    Returns:
        (R, N) int64 in 0..V-1.

    Raises:
        ValueError: if the layer or the states contain NaN or infinity.
    """
    tokens = torch.empty(uniforms.shape, dtype=torch.int64, device=hidden.device)
    multiple = 1 if layer.weight.shape[0] <= _SEGMENT else _SEGMENT
    for rows, masses, _ in exp_logit_blocks(hidden, layer.weight, layer.bias, temperature, multiple):
        tokens[rows] = draw_from_masses(masses, uniforms[rows])
    return tokens


@torch.no_grad()
def draw_from_logits(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Draw from softmax(logits), for models without an `OutputLayer`.

    Args:
        logits: (R, V) floats; -inf is a token that is never drawn.
        uniforms: (R, N) float32 in [0, 1).

    Returns:
        (R, N) int64 in 0..V-1.

    Raises:
        ValueError: if a row contains NaN or +inf, or nothing but -inf.
    """
    masses = torch.softmax(at_least_float32(logits), dim=1)
    if masses.shape[1] > _SEGMENT:
        masses = nn.functional.pad(masses, (0, -masses.shape[1] % _SEGMENT))
    return draw_from_masses(masses, uniforms)
