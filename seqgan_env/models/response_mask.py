"""The mask of what is counted: the tokens of a response, which stand after its prompt and before PAD.

In: sequences (B, T) int64. Out: (B, T) bool. Losses, NLLs, KLs and lengths all go through this one function.
"""

from __future__ import annotations

from torch import Tensor


def counted_tokens(sequences: Tensor, vocab_size: int, prompt_length: int = 0) -> Tensor:
    """The tokens of which a loss, an NLL or a KL is the sum, (B, T) bool: all but PAD and the first P, the prompt.

    Every count goes through this mask, so it is the only place that knows it.

    Args:
        sequences: (B, T) int64, PAD = V after the end.
        vocab_size: V.
        prompt_length: P; 0 where there are no prompts.
    """
    counted = sequences < vocab_size
    counted[:, :prompt_length] = False
    return counted
