"""Eq. 11: features of a sequence by filters of several lengths, f_k = max_i (b_k + w_k . E_{i:i+l-1}).

In: embeddings or tokens. Out: features (R, F), before the relu (relu and max can be swapped).
Two ways give the same numbers. Training multiplies: all windows of a length times all filters of this length are one
large product, and the backward pass adds up the windows at the maxima. Scoring looks up: tokens are discrete, so a
filter's response is a sum of rows of a table, embedding times filter. If neighbouring sequences share a prefix, its
windows are looked up once.
Windows never extend past the end of a sequence, so padding does not affect the result. A sequence that is shorter than
a window has one window, at its beginning, in which PAD adds nothing.
Departure from the paper: none; only the order of the work differs from a convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from seqgan_env.models.parameters import at_least_float32, blank

Filters = Sequence[tuple[int, int]]


class WindowMaxima(torch.autograd.Function):
    """max_i (w_k . E_{i:i+l-1}) for every filter k, with a gradient to embeddings and filters.

    Only windows that lie inside the sequence count, see `beyond_the_end`.

    The backward pass is written by hand. The maximum passes a gradient to only one window for each sequence and filter.
    It is enough to add up these windows, but PyTorch's convolution multiplies by a matrix that is almost all zeros.
    """

    @staticmethod
    def forward(ctx, embedded: Tensor, lengths: Tensor | None, *kernels: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        """Embeddings (T, B, E), step first, lengths (B,) or None for T, and kernels (count, l * E) -> (B, F)."""
        batch, size = embedded.shape[1:]
        maxima, places_of_maxima = [], []
        for kernel in kernels:
            window = kernel.shape[1] // size
            responses = (_windows(embedded, window) @ kernel.t()).view(-1, batch, len(kernel))
            if lengths is not None:
                beyond = beyond_the_end(len(responses), lengths, window).t()
                responses.masked_fill_(beyond.unsqueeze(2), -torch.inf)
            maxima.append(responses.amax(dim=0))
            if any(ctx.needs_input_grad):
                places_of_maxima.append(_last_places(responses, maxima[-1]))
        ctx.save_for_backward(embedded, *kernels, *places_of_maxima)
        return torch.cat(maxima, dim=1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx, grad_maxima: Tensor):  # type: ignore[no-untyped-def, override]
        embedded, *rest = ctx.saved_tensors
        kernels, places_of_maxima = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        steps, batch, size = embedded.shape
        tokens = embedded.reshape(-1, size)
        lanes = torch.arange(batch, dtype=torch.int32, device=embedded.device).unsqueeze(1)
        offsets = torch.arange(0, len(tokens), batch, dtype=torch.int32, device=embedded.device).unsqueeze(1)
        grad_embedded = torch.zeros_like(embedded)
        grad_kernels = []
        grads = grad_maxima.split([len(kernel) for kernel in kernels], dim=1)
        for kernel, places, grad in zip(kernels, places_of_maxima, grads, strict=True):
            count, window = len(kernel), kernel.shape[1] // size
            chosen = places * batch + lanes  # (B, count): rows of `tokens` where the best windows begin
            # w_k += sum_b grad_bk * the window that filter k chose in sequence b, token by token.
            rows = chosen.t().unsqueeze(1) + offsets[:window]  # (count, window, B)
            weights = grad.t().unsqueeze(1).expand_as(rows)
            grad_kernels.append(_weighted_sums(tokens, rows.flatten(0, 1), weights.flatten(0, 1)).view_as(kernel))
            # Each window += sum_k grad_bk * w_k over the filters that chose it; these are runs in the order of the
            # windows.
            order = _argsort(chosen.flatten())
            run_lengths = torch.bincount(chosen.flatten(), minlength=(steps - window + 1) * batch)
            runs = run_lengths.cumsum(dim=0) - run_lengths
            grad_windows = _weighted_sums(kernel, order % count, grad.flatten()[order], runs)
            by_offset = grad_windows.view(-1, batch, window, size)
            for offset in range(window):
                grad_embedded[offset : offset + len(by_offset)] += by_offset[:, :, offset]
        return grad_embedded, None, *grad_kernels


def _windows(embedded: Tensor, length: int) -> Tensor:
    """All windows of a length, one per row, place first: (T, B, E) -> ((T - length + 1) * B, length * E)."""
    return embedded.unfold(0, length, 1).permute(0, 1, 3, 2).reshape(-1, length * embedded.shape[2])


def beyond_the_end(places: int, lengths: Tensor, window: int, first: int = 0) -> Tensor:
    """Which windows extend past the end: (B, places) bool. Place 0 is always valid, since every sequence has it.

    Args:
        places: number of places.
        lengths: (B,) int64, tokens of each sequence.
        window: l.
        first: number of the first place.
    """
    last = (lengths - window).clamp(min=0)
    return torch.arange(first, first + places, dtype=torch.int64, device=lengths.device) > last.unsqueeze(1)


def _last_places(responses: Tensor, maxima: Tensor) -> Tensor:
    """The place of the maximum along dimension 0, the last of several; overwrites the responses.

    (places, B, K) -> (B, K) int32. It makes three passes over memory that is in the cache. Places are float32, since
    bfloat16 cannot count beyond 256.
    """
    is_maximum = at_least_float32(responses.eq_(maxima))
    places = torch.arange(len(responses), dtype=is_maximum.dtype, device=responses.device).view(-1, 1, 1)
    return is_maximum.mul_(places).amax(dim=0).int()


def _weighted_sums(table: Tensor, rows: Tensor, weights: Tensor, offsets: Tensor | None = None) -> Tensor:
    """sum_i weights_i table[rows_i] over each bag. Bags are the rows of a matrix, or runs that begin at the offsets."""
    return F.embedding_bag(rows, table, offsets, mode="sum", per_sample_weights=weights)


def _argsort(keys: Tensor) -> Tensor:
    """Stable sort order of (K,) non-negative integers. NumPy sorts 16-bit keys by digits, ten times as fast on CPU."""
    if keys.device.type == "cpu" and len(keys) and int(keys.max()) < 2**15:
        return torch.from_numpy(np.argsort(keys.numpy().astype(np.int16), kind="stable"))
    return keys.argsort(stable=True)


class WindowFeatures(nn.Module):
    """Filters of several lengths over token embeddings, with the maximum over time.

    Args:
        filters: (window length, count) pairs.
        embedding_size: E.
    """

    def __init__(self, filters: Filters, embedding_size: int) -> None:
        super().__init__()
        self.filters = tuple(filters)
        self.embedding_size = embedding_size
        self.kernels = nn.ParameterList(blank(count, window * embedding_size) for window, count in self.filters)
        self.bias = blank(self.size)
        self._tables: tuple[list[Tensor], list[Tensor]] | None = None

    @property
    def size(self) -> int:
        """F, the number of filters."""
        return sum(count for _, count in self.filters)

    def forward(self, embedded: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features of embedded sequences, differentiable once.

        Args:
            embedded: (T, B, E), step first; zeros at PAD.
            lengths: (B,) int64, tokens of each sequence; None where all have T.

        Returns:
            (B, F).
        """
        maxima: Tensor = WindowMaxima.apply(embedded, lengths, *self.kernels)
        return maxima + self.bias

    def table_bytes(self, vocab_size: int) -> int:
        """Memory of the tables for `look_up`, in bytes."""
        return 4 * vocab_size * sum(window * count for window, count in self.filters)

    @torch.no_grad()
    def look_up(self, sequences: Tensor, tables: Sequence[Tensor], lengths: Tensor | None = None) -> Tensor:
        """The same features by table look-up, without gradient.

        Args:
            sequences: (R, T) int64 in 0..V'-1. Neighbours with a common prefix, such as completions, share its work.
            tables: the tables that `token_tables` makes of the embedding.
            lengths: (R,) int64, tokens of each sequence; None where all have T.

        Returns:
            (R, F).
        """
        shared, leaders, leader_of = shared_prefixes(sequences)
        sequences = sequences.int()  # half the memory traffic of the indices
        maxima = []
        for (window, _), table in zip(self.filters, tables, strict=True):
            offsets = torch.arange(window, dtype=torch.int32, device=table.device) * (len(table) // window)

            def responses(
                rows: Tensor, window: int = window, table: Tensor = table, offsets: Tensor = offsets
            ) -> Tensor:
                index = rows.unfold(1, window, 1) + offsets  # (rows, places, window)
                return F.embedding_bag(index.flatten(0, 1), table, mode="sum").view(*index.shape[:2], -1)

            # Windows that end after the shared prefix are computed for all sequences, those inside it for one of each
            # group.
            first = max(0, shared - window + 1)
            behind = responses(sequences[:, first:])
            if lengths is not None:
                behind.masked_fill_(beyond_the_end(behind.shape[1], lengths, window, first).unsqueeze(2), -torch.inf)
            maximum = behind.amax(dim=1)
            if window <= shared:
                inside = responses(sequences[leaders, :shared])
                if lengths is not None:  # if a shared prefix contains an end, all sequences that share it end there
                    beyond = beyond_the_end(inside.shape[1], lengths[leaders], window)
                    inside.masked_fill_(beyond.unsqueeze(2), -torch.inf)
                maximum = torch.maximum(maximum, inside.amax(dim=1)[leader_of])
            maxima.append(maximum)
        return torch.cat(maxima, dim=1) + self.bias

    @torch.no_grad()
    def token_tables(self, embedding: Tensor) -> list[Tensor]:
        """One (window * V', count) table per filter length, from a (V', E) embedding; rebuilt after a change.

        The values are compared, which costs little compared with the look-ups. PyTorch's version counters would miss
        changes by fused optimizers and by `.data`.
        """
        if self._tables is None:
            empty = [embedding.new_empty(window * len(embedding), count) for window, count in self.filters]
            self._tables = ([], empty)
        sources, tables = self._tables
        if len(sources) == 0 or not all(map(torch.equal, sources, [embedding, *self.kernels])):
            for (window, count), kernel, table in zip(self.filters, self.kernels, tables, strict=True):
                # (V', E) @ (window, E, count), written over the old table: fresh memory costs more than the product
                by_offset = kernel.t().view(window, self.embedding_size, count)
                torch.matmul(embedding, by_offset, out=table.unflatten(0, (window, -1)))
            self._tables = ([source.detach().clone() for source in (embedding, *self.kernels)], tables)
        return tables

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_tables": None}  # derived data is neither copied nor pickled


def shared_prefixes(sequences: Tensor) -> tuple[int, Tensor, Tensor]:
    """A prefix length, and groups of neighbours with the same prefix of this length.

    Args:
        sequences: (R, T) int64.

    Returns:
        (length, leaders, leader_of): the length of a prefix, below T, that at least half of the sequences share with
        the sequence before them; (G,) the rows that begin a group; and (R,) each row's position in `leaders`.
    """
    rows, steps = sequences.shape
    if rows < 2 or steps < 2:
        alone = torch.arange(rows, dtype=torch.int64, device=sequences.device)
        return 0, alone, alone
    agree = (sequences[1:] == sequences[:-1]).cummin(dim=1).values.sum(dim=1)  # tokens shared with the row before
    length = min(int(agree.median()), steps - 1)
    starts = torch.cat([agree.new_ones(1, dtype=torch.bool), agree < length])
    return length, starts.nonzero().squeeze(1), starts.cumsum(dim=0) - 1
