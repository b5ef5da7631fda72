"""How much work the stages do: the paper's sizes, and tiny ones to see that everything runs."""

from __future__ import annotations

from dataclasses import dataclass

from seqgan_env.models.discriminators import named_filters
from seqgan_env.models.window_features import Filters


@dataclass(frozen=True)
class Sizes:
    """How much work the stages do.

    Attributes:
        vocab_size: V.
        sequence_length: T.
        hidden_size: E and H.
        sequences: drawn, scored, or passed over in an epoch.
        batch_size: B of every update and of the search.
        n_rollouts: N.
        plain_rollouts: of the N completions, those that the plain search is timed on.
        discriminator_embedding_size: of a token in D_phi.
        discriminator_steps: steps that are timed together.
        env_steps: steps that a timing takes, counting every environment; in whole episodes, at least one.
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
        """(window, count) pairs of D_phi: the paper's, those that fit T."""
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
