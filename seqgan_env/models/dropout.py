"""Dropout for sequence models while they are pretrained (Srivastava et al. 2014).

With probability p an entry is set to 0, and the others are divided by 1 - p, so that the mean stays. The masks come
from a generator of their own. So the global random stream does not advance, and a seed gives the same run.
In: embeddings or hidden states, with a dimension of steps. Out: the same shape and dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqgan_env.arguments import check_number


class Dropout:
    """What is dropped in one training step; see `SequenceModel.dropping`.

    Args:
        embedding: probability of dropping an entry of a token's embedding, in [0, 1).
        hidden: probability of dropping an entry of h_t, which the output layer reads, in [0, 1).
        variational: one mask for all steps of a sequence (Gal & Ghahramani 2016), instead of a new one for each step.
        generator: source of the masks, on the model's device.

    Raises:
        ValueError: if a probability is not in [0, 1).
    """

    def __init__(self, embedding: float, hidden: float, variational: bool, generator: torch.Generator) -> None:
        for name, rate in (("embedding dropout", embedding), ("dropout", hidden)):
            check_number(name, rate, at_least=0, below=1)
        self.embedding = embedding
        self.hidden = hidden
        self.variational = variational
        self.generator = generator
        self.embeddings_dropped = False

    def of_embeddings(self, embedded: Tensor, steps_dimension: int) -> Tensor:
        """Embeddings of the fed tokens with some entries dropped."""
        self.embeddings_dropped = True
        return self._drop(embedded, self.embedding, steps_dimension)

    def of_hidden(self, hidden: Tensor) -> Tensor:
        """(B, T, H) hidden states with some entries dropped."""
        return self._drop(hidden, self.hidden, steps_dimension=1)

    def _drop(self, values: Tensor, rate: float, steps_dimension: int) -> Tensor:
        if rate == 0:
            return values
        shape = list(values.shape)
        if self.variational:
            shape[steps_dimension] = 1
        uniforms = torch.rand(shape, generator=self.generator, dtype=torch.float32, device=values.device)
        return values * (uniforms >= rate).to(values.dtype) / (1 - rate)
