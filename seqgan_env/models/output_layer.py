"""The output layer of Eq. 10, p(y_t | x_1..x_t) = softmax(c + V h_t), in cache-sized blocks.

A batch of R hidden states has R*V logits. At V = 5,000 they do not fit into any cache, and writing them to memory costs
more than computing them. So all functions here work on blocks of rows whose logits fit into the L2 cache.
In: hidden states (R, H) of the model's dtype. Out: drawn tokens, or log-probabilities in nats, with a gradient if
needed. A float64 model is computed in float64, any other in float32: 16-bit sums over V tokens would be wrong.
Departure from the paper: none. The equations are the same; only the order of the work differs.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from seqgan_env.arguments import check_number

# Logits of one block: small enough for a CPU's caches, and large enough that calls cost little compared with the
# arithmetic (measured: 8 to 16 MiB are best at V = 5,000, and 16 with two threads). On a GPU: enough rows to fill it.
_BLOCK_BYTES = {"cpu": 16 << 20, "cuda": 256 << 20}
# 2^x neither overflows nor underflows float32 (and V-term sums stay finite) while |x| is below this.
_SAFE_EXPONENT = 60.0 / math.log(2)
# At these temperatures float32 logits keep their digits; at 1e-8 rounding alone would change several nats.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 1e-3, 1e3


def exp_logit_blocks(
    hidden: Tensor, weight: Tensor, bias: Tensor, temperature: float = 1.0, columns_multiple: int = 1
) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
    """Yield unnormalised softmax rows, exp(logits - shift), block by block.

    The logits are computed in base 2, and 2^x is taken of them. The vector library behind `torch.exp` is slow on
    processors that are not its maker's: on an AMD EPYC 2^x was 2.2 times as fast.

    Args:
        hidden: (R, H), no gradient.
        weight: (V, H), with the dtype of `hidden`.
        bias: (V,), with the same dtype.
        temperature: logits are divided by it; 1 is the model itself.
        columns_multiple: columns with mass zero are appended until the number of columns is a multiple of this.

    Yields:
        (rows, mass, shift): a slice of the R rows; its (rows, V or more) masses, float32 or float64, in a buffer that
        the next block overwrites; and the (rows, 1) shift that was subtracted from the logits. The shift is None if a
        bound on |logits| (Cauchy-Schwarz) shows that exp is safe without one.
    """
    rows_total, vocab_size = hidden.shape[0], weight.shape[0]
    if rows_total == 0:
        return
    hidden, weight, bias = _of_one_dtype(hidden, weight, bias)
    scale = 1 / (math.log(2) * temperature)  # base 2
    # Few rows read the weight once, so a copy of it would cost more than the product.
    is_copied = rows_total > weight.shape[1]
    if is_copied:  # the bias is one more column: a product with a separate bias would write every logit twice
        weight = torch.cat([weight, bias.unsqueeze(1)], dim=1).mul_(scale)
        hidden = torch.cat([hidden, hidden.new_ones(rows_total, 1)], dim=1)
        bound = weight.norm(dim=1).max() * hidden.norm(dim=1).max()
        needs_shift = not bool(bound < _SAFE_EXPONENT)  # `not <`: a NaN takes the careful path as well
    else:
        hidden, bias, needs_shift = hidden * scale, bias * scale, True
    columns = -(-vocab_size // columns_multiple) * columns_multiple
    if is_copied and columns > vocab_size:  # computed like the others; threads then share them better
        weight = nn.functional.pad(weight, (0, 0, 0, columns - vocab_size))
    block_bytes = _BLOCK_BYTES.get(hidden.device.type, _BLOCK_BYTES["cpu"])
    most_rows = max(1, block_bytes // (4 * columns))
    block_rows = -(-rows_total // -(-rows_total // most_rows))  # blocks of one size
    weight_t = weight.t()
    with _scratch(block_rows * columns, hidden) as memory:
        for start in range(0, rows_total, block_rows):
            rows = slice(start, min(start + block_rows, rows_total))
            mass = memory[: (rows.stop - start) * columns].view(-1, columns)
            logits = mass[:, :vocab_size]
            if is_copied:
                torch.mm(hidden[rows], weight_t, out=mass)
            else:
                torch.addmm(bias, hidden[rows], weight_t, out=logits)
            shift = None
            if needs_shift:
                shift = logits.amax(dim=1, keepdim=True)
                logits.sub_(shift)
                shift = shift * math.log(2)
            mass[:, vocab_size:] = -torch.inf
            yield rows, mass.exp2_(), shift


# A block of memory that this thread does not use at the moment. Allocating it anew costs more than the arithmetic.
_idle = threading.local()


@contextmanager
def _scratch(size: int, like: Tensor) -> Iterator[Tensor]:
    """Uninitialised memory of `size` elements, of the dtype and on the device of `like`."""
    memory: Tensor | None = _idle.__dict__.pop("memory", None)
    if memory is None or memory.dtype != like.dtype or memory.device != like.device or memory.numel() < size:
        memory = like.new_empty(size)
    try:
        yield memory[:size]
    finally:
        _idle.memory = memory


class WeightedLogLikelihood(torch.autograd.Function):
    """sum_r weights_r * log softmax(bias + weight hidden_r)[targets_r], without storing (R, V) logits.

    The weights are known before the backward pass (1/R for MLE, the reward for REINFORCE). So the gradient weights_r *
    (onehot - softmax) is computed while a block of logits is still in the cache. This takes three matrix products;
    recomputing the logits would take four.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: torch.autograd.function.FunctionCtx,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        weights: Tensor,
    ) -> Tensor:
        grad_hidden = torch.empty_like(hidden)
        learns = any(ctx.needs_input_grad[1:3])  # type: ignore[attr-defined]  # a frozen layer: less work
        # Of weight and bias, a column for each token.
        grad_columns = hidden.new_zeros(hidden.shape[1] + 1, len(weight)) if learns else None
        total = hidden.new_zeros((), dtype=torch.float64)
        for rows, mass, shift in exp_logit_blocks(hidden, weight, bias):
            w, y = weights[rows], targets[rows]
            normaliser = mass.sum(dim=1)  # (rows,)
            log_prob = _target_logits(hidden[rows], weight, bias, y) - normaliser.log()
            if shift is not None:
                log_prob -= shift.squeeze(1)
            total += (w * log_prob).sum(dtype=torch.float64)
            scale = -(w / normaliser).unsqueeze(1)  # softmax = mass / normaliser
            torch.mm(mass, weight, out=grad_hidden[rows])
            grad_hidden[rows] *= scale
            if grad_columns is not None:
                grad_columns.addmm_(torch.cat([hidden[rows] * scale, scale], dim=1).t(), mass)
        # The one-hot half of the gradient touches one row of `weight` for each target.
        grad_hidden.addcmul_(weight[targets], weights.unsqueeze(1))
        if grad_columns is None:
            ctx.save_for_backward(grad_hidden)
            return total.to(hidden.dtype)
        grad_weight = grad_columns[:-1].t().contiguous()
        grad_bias = grad_columns[-1].clone()
        grad_weight.index_add_(0, targets, hidden * weights.unsqueeze(1))
        grad_bias.index_add_(0, targets, weights)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        return total.to(hidden.dtype)

    @staticmethod
    def backward(ctx, grad_output: Tensor):  # type: ignore[no-untyped-def, override]
        grad_hidden, *of_layer = ctx.saved_tensors
        grad_weight, grad_bias = (grad_output * part for part in of_layer) if of_layer else (None, None)
        return grad_output * grad_hidden, grad_weight, grad_bias, None, None


def _of_one_dtype(hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All three as float32, or as float64 if one of them is float64."""
    if hidden.dtype is weight.dtype is torch.float32:  # the usual case, without further checks
        return hidden, weight, bias
    dtype = torch.promote_types(torch.promote_types(hidden.dtype, weight.dtype), torch.float32)
    return hidden.to(dtype), weight.to(dtype), bias.to(dtype)


def _target_logits(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """bias[y_r] + weight[y_r] . hidden_r for each row r, (R,)."""
    return (weight[targets] * hidden).sum(dim=1) + bias[targets]


class OutputLayer(nn.Module):
    """Eq. 10: p(y_t = v) = softmax_v(bias + weight h_t).

    Args:
        hidden_size: H.
        vocab_size: V.
    """

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(vocab_size, hidden_size, dtype=torch.float32, device="cpu"))
        self.bias = nn.Parameter(torch.zeros(vocab_size, dtype=torch.float32, device="cpu"))

    def forward(self, hidden: Tensor) -> Tensor:
        """All logits (..., V) of hidden states (..., H), for small batches and for any kind of gradient."""
        return nn.functional.linear(hidden.to(self.weight.dtype), self.weight, self.bias)

    @torch.no_grad()
    def log_probs(self, hidden: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
        """log p(targets_r | hidden_r) in nats, (R,) float32 (float64 for a float64 model), in blocks, without gradient.

        Args:
            hidden: (R, H), of the layer's dtype.
            targets: (R,) int64 in 0..V-1.
            temperature: divides the logits; below 1 sharpens.
        """
        parts = _of_one_dtype(hidden, self.weight, self.bias)
        result = _target_logits(*parts, targets) / temperature
        for rows, mass, shift in exp_logit_blocks(*parts, temperature):
            result[rows] -= mass.sum(dim=1).log()
            if shift is not None:
                result[rows] -= shift.squeeze(1)
        return result

    def weighted_log_likelihood(self, hidden: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """sum_r weights_r log p(targets_r | hidden_r), a scalar in nats with a gradient to hidden and parameters.

        Args:
            hidden: (R, H), of the layer's dtype, with gradient.
            targets: (R,) int64 in 0..V-1.
            weights: (R,) constant floats; rows with weight 0 are skipped.
        """
        kept = weights != 0
        if not bool(kept.all()):
            hidden, targets, weights = hidden[kept], targets[kept], weights[kept]
        parts = _of_one_dtype(hidden, self.weight, self.bias)
        result: Tensor = WeightedLogLikelihood.apply(*parts, targets, weights.to(parts[0].dtype))
        return result

    def weighted_mean_margin(self, hidden: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """sum_r weights_r (mean_v logit_v - logit of targets_r), which label smoothing adds; arguments as above.

        The normaliser of the softmax cancels, so no row of V logits is needed.
        """
        hidden, weight, bias = _of_one_dtype(hidden, self.weight, self.bias)
        kept = weights != 0
        hidden, targets, weights = hidden[kept], targets[kept], weights[kept].to(hidden.dtype)
        direction = weight.mean(dim=0) - weight[targets]  # (R, H)
        margins = (hidden * direction).sum(dim=1) + bias.mean() - bias[targets]
        return (weights * margins).sum()

    def reset_parameters(self, std: float, generator: torch.Generator) -> None:
        """Draw weight and bias from N(0, std^2)."""
        with torch.no_grad():
            self.weight.normal_(0.0, std, generator=generator)
            self.bias.normal_(0.0, std, generator=generator)


def check_temperature(temperature: float) -> None:
    """Raise ValueError if float32 logits cannot be divided by the temperature without losing their digits."""
    hint = "1 samples the model itself; predict(deterministic=True) gives the most likely tokens"
    check_number("temperature", temperature, at_least=LOWEST_TEMPERATURE, at_most=HIGHEST_TEMPERATURE, hint=hint)
