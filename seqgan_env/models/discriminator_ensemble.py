"""An ensemble of discriminators: D(Y) = sigmoid(mean of the members' logits).

In: tokens (B, T) int64, PAD = V after the end. Out: logits (B,).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from seqgan_env.models.discriminators import Discriminator


class DiscriminatorEnsemble(Discriminator):
    """Discriminators of any kinds that score as one, by the mean of their logits.

    Each member learns alone, with its own loss of Eq. 5 on the same batches. They differ in architecture, initial
    parameters and dropout. They also memorise different things, and these errors partly cancel in the mean.

    Args:
        members: one or more discriminators for the same vocabulary and length; they are not copied.

    Raises:
        ValueError: if there are no members, if one is given twice, or if their sizes differ.
    """

    def __init__(self, members: Sequence[Discriminator]) -> None:
        if not members:
            raise ValueError("members is empty; an ensemble needs at least one discriminator")
        if len(set(map(id, members))) < len(members):
            raise ValueError("members holds the same discriminator twice; give each its own seed")
        sizes = [(member.vocab_size, member.sequence_length) for member in members]
        if len(set(sizes)) > 1:
            raise ValueError(f"members have different (vocab_size, sequence_length): {sizes}; they must be equal")
        super().__init__(*sizes[0])
        self.members = nn.ModuleList(members)

    def _members(self) -> Iterable[Discriminator]:
        return cast(Iterable[Discriminator], self.members)

    def forward(self, sequences: Tensor) -> Tensor:
        return self.member_logits(sequences).mean(dim=0)

    def member_logits(self, sequences: Tensor) -> Tensor:
        """Logits of each of M members, (M, B)."""
        return torch.stack([member(sequences) for member in self._members()])

    def penalty(self) -> Tensor:
        """The mean of the members' penalties."""
        return torch.stack([member.penalty() for member in self._members()]).mean()

    @torch.no_grad()
    def score(self, sequences: Tensor) -> Tensor:
        """Logits without gradient and dropout, by the members' own `score`: (R, T) int64 -> (R,)."""
        return torch.stack([member.score(sequences) for member in self._members()]).mean(dim=0)
