"""Sizes of the stages' work: the paper's sizes, and tiny ones to check that everything runs."""

from __future__ import annotations

from dataclasses import dataclass

from seqgan_env.models.discriminators import named_filters
from seqgan_env.models.window_features import Filters


@dataclass(frozen=True)
class Sizes:
    """Sizes of the stages' work.

    Attributes:
        vocab_size: V.
        sequence_length: T.
        hidden_size: E and H.
        sequences: number of sequences to draw, to score, or in an epoch.
        batch_size: B, for every update and for the search.
        n_rollouts: N.
        plain_rollouts: completions in the timing of the plain search, instead of N.
        discriminator_embedding_size: size of a token's embedding in D_phi.
        discriminator_steps: number of steps that are timed together.
        env_steps: steps in one timing, summed over all environments; in whole episodes, at least one.
    """

    vocab_size: int = 5000
    sequence_length: int = 20
    hidden_size: int = 32
    sequences: int = 10_000
    batch_size: int = 64
    n_rollouts: int = 16
    plain_rollouts: int = 2
    discriminator_embedding_size: int = 64
    discriminator_steps: int = 8
    env_steps: int = 12_800

    @property
    def filters(self) -> Filters:
        """(window, count) pairs of D_phi: those of the paper that fit T."""
        return named_filters("paper", self.sequence_length)

    def __str__(self) -> str:
        return (
            f"V={self.vocab_size:,} · T={self.sequence_length} · E=H={self.hidden_size} · batch {self.batch_size} · "
            f"N={self.n_rollouts} · discriminator with the paper's filters"
        )


PAPER_SIZES = Sizes()
QUICK_SIZES = Sizes(
    vocab_size=70,
    sequence_length=3,
    hidden_size=8,
    sequences=64,
    batch_size=8,
    n_rollouts=2,
    plain_rollouts=1,
    discriminator_steps=1,
    env_steps=10,
)
