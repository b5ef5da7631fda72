"""Top-k and top-p sampling: a sequence model that draws only likely tokens.

Top-k (Fan et al. 2018, arXiv 1805.04833) keeps the k most likely next tokens. Top-p (Holtzman et al. 2020, arXiv
1904.09751) keeps the smallest set of most likely tokens whose probabilities add up to p or more. The probabilities of
the kept tokens are divided by their sum. With both, top-p looks at what top-k has kept. A temperature comes first.
In: states of a sequence model. Out: probabilities, drawn tokens. It works for every sequence model, and is only for
samples to look at: a game trains and measures the whole distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqgan_env.arguments import check_count, check_number
from seqgan_env.models.sampling import draw_from_masses
from seqgan_env.models.sequence_models import SequenceModel, State

_CELLS = 1 << 22  # probabilities in memory at once
_SEGMENT = 64  # `draw_from_masses` takes a multiple of this, or less


class TruncatedPolicy:
    """A roll-out policy that draws as a sequence model does, among its likely tokens only.

    Args:
        model: the sequence model; its temperature is used, and its parameters are shared.
        top_k: k, at least 1; None keeps all tokens.
        top_p: p, in (0, 1]; 1 keeps all tokens.

    Raises:
        TypeError, ValueError: if top_k or top_p is out of range.
    """

    def __init__(self, model: SequenceModel, top_k: int | None = None, top_p: float = 1.0) -> None:
        if top_k is not None:
            check_count("top_k", top_k)
        check_number("top_p", top_p, above=0, at_most=1)
        self.model = model
        self.top_k = top_k
        self.top_p = top_p
        self.vocab_size = model.vocab_size

    def initial_state(self, batch_size: int) -> State:
        return self.model.initial_state(batch_size)

    def advance(self, state: State, tokens: Tensor) -> State:
        return self.model.advance(state, tokens)

    @torch.no_grad()
    def probabilities(self, state: State) -> Tensor:
        """Probabilities of the next tokens, (R, V) float64: 0 for those that are left out, and the rows sum to 1."""
        logits = self.model.output(self.model.features(state)).double() / self.model.temperature
        return truncated(torch.softmax(logits, dim=1), self.top_k, self.top_p)

    @torch.no_grad()
    def draw(self, state: State, uniforms: Tensor) -> Tensor:
        """(R, N) float32 in [0, 1) -> (R, N) int64."""
        rows, width = len(uniforms), -(-self.vocab_size // _SEGMENT) * _SEGMENT
        width = self.vocab_size if self.vocab_size <= _SEGMENT else width
        tokens = torch.empty(uniforms.shape, dtype=torch.int64, device=uniforms.device)
        block = max(1, _CELLS // self.vocab_size)
        for start in range(0, rows, block):
            some = slice(start, start + block)
            masses = self.probabilities(tuple(part[some] for part in state))
            masses = torch.nn.functional.pad(masses, (0, width - self.vocab_size))
            tokens[some] = draw_from_masses(masses, uniforms[some])
        return tokens


def truncated(probabilities: Tensor, top_k: int | None = None, top_p: float = 1.0) -> Tensor:
    """Keep the likely tokens of each row and divide by their sum; of equal ones, those with the smaller id come first.

    Args:
        probabilities: (R, V) floats, rows sum to 1.
        top_k: k, at least 1; None keeps all.
        top_p: p, in (0, 1]; 1 keeps all.

    Returns:
        (R, V), of the same dtype.
    """
    if (top_k is None or top_k >= probabilities.shape[1]) and top_p >= 1:
        return probabilities
    ranked, tokens = probabilities.sort(dim=1, descending=True, stable=True)
    if top_k is not None:
        ranked[:, top_k:] = 0
        ranked /= ranked.sum(dim=1, keepdim=True)
    if top_p < 1:
        before = ranked.cumsum(dim=1) - ranked  # the sum of the more likely tokens
        ranked = ranked.where(before < top_p, 0)
        ranked /= ranked.sum(dim=1, keepdim=True)
    return torch.zeros_like(probabilities).scatter_(1, tokens, ranked)
