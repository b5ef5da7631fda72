"""G_ref: a frozen copy of the generator, used for a KL penalty or for a comparison.

In: a generator. Out: log-probabilities under the copy. The copy is made when the first `learn` begins, so in SeqGAN it
is the generator after maximum likelihood. It is a module. Its `state_dict` holds the parameters and whether they were
taken; SB3's `save` and the checkpoints use it.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from seqgan_env.models.sequence_models import SequenceModel


class Reference(nn.Module):
    """A copy of a generator that no optimizer changes.

    Args:
        generator: the generator to copy; the copy is only valid after `take`.

    Attributes:
        generator: the copy, in evaluation mode.
        taken: () bool, whether `take` was called.
    """

    taken: Tensor

    def __init__(self, generator: SequenceModel) -> None:
        super().__init__()
        self.generator = copy.deepcopy(generator).requires_grad_(False).eval()
        self.register_buffer("taken", torch.tensor(False, device=generator.device))

    def take(self, generator: SequenceModel) -> None:
        """G_ref <- G."""
        self.generator.load_state_dict(generator.state_dict())
        self.taken.fill_(True)

    def log_probs(self, sequences: Tensor) -> Tensor:
        """log G_ref of every token in nats: (M, T) int64 -> (M, T) float32, 0 at PAD, no gradient."""
        return self.generator.log_probs(sequences)
