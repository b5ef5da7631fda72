"""The relativistic reward: how much more real a sequence looks than real sequences do.

Jolicoeur-Martineau 2019 (relativistic average GAN, arXiv 1807.00734): R(Y) = C(Y) - E_{Y' real}[ C(Y') ], where C is
the logit of the discriminator. In: sequences (R, T) int64. Out: (R,) floats, in nats where D is trained with Eq. 5.
It belongs to a D that is trained on pairs, `--discriminator.loss bradley_terry`. Such a D knows logits only up to a
constant, and the mean over real sequences removes it.
The mean is the same for all sequences that are scored together. So with a baseline, or in a learner that compares
sequences with each other, this reward teaches the same as "logit"; without one it moves the weights to about 0.
"""

from __future__ import annotations

from torch import Tensor, nn

from seqgan_env.rewards import LogitReward

REAL_SEQUENCES = 256  # whose mean logit is taken; they are scored again with each batch, because D changes


class RelativisticReward(LogitReward):
    """The logit of a sequence, less the mean logit of real sequences.

    Args:
        discriminator: D_phi; its trainer holds the same object.
        real_sequences: (K, T) int64, PAD after the end.

    Raises:
        ValueError: if there are no real sequences.
    """

    def __init__(self, discriminator: nn.Module, real_sequences: Tensor) -> None:
        if not len(real_sequences):
            raise ValueError("real_sequences is empty; give at least one, whose logit the others are compared with")
        super().__init__(discriminator)
        self.real_sequences = real_sequences

    def __call__(self, sequences: Tensor, /) -> Tensor:
        return self.logits(sequences) - self.logits(self.real_sequences).mean()
