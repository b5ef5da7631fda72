"""Direct discriminative preference: real sequences are preferred to generated ones, without reward model and D.

Rafailov et al. 2023 (DPO, arXiv 2305.18290), Eq. 7, on the pairs of Chen et al. 2024 (SPIN, arXiv 2401.01335):
    L = -E_{Y+ real, Y- ~ G}[ log sigmoid( beta log(G(Y+) / G_ref(Y+)) - beta log(G(Y-) / G_ref(Y-)) ) ].
The logarithm of G / G_ref is the logit of a discriminator between real and generated: generator and discriminator are
one model. At G = G_ref the gradient is beta / 2 times that of maximum likelihood. In: the whole generated sequences of
one update, and equally many real ones. Out: `n_epochs` steps of Adam. The environment's rewards are not used. SPIN
plays rounds: it generates with G_ref, trains on many pairs, then sets G_ref <- G. Here a round has
`updates_per_reference` updates.
Departure: negatives are drawn from G as it learns, not from G_ref. With `updates_per_reference=1` the two are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import Tensor
from torch.nn import functional as F

from agents.real_sequences import RealSequenceLearner
from agents.sequence_learner import SequenceBatch
from seqgan_env.arguments import check_count, check_number


class PreferenceLearner(RealSequenceLearner):
    """DPO's loss on pairs of real and generated sequences.

    Args:
        policy, env, learning_rate, n_steps, n_epochs, max_grad_norm, real_sequences: as in `RealSequenceLearner`.
        beta: temperature of the preference (DPO, SPIN: 0.1).
        updates_per_reference: number of updates after which G_ref <- G; None or 0 keeps the first reference.
        sb3: as in SB3.

    Raises:
        ValueError, TypeError: as `SequenceLearner`; also if beta or updates_per_reference is not finite or out of
            range, or if the real sequences do not fit the environment.
    """

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-2,
        n_steps: int | None = None,
        n_epochs: int = 1,
        beta: float = 0.1,
        updates_per_reference: int | None = 1,
        real_sequences: Tensor | None = None,
        max_grad_norm: float = 1.0,
        **sb3: Any,
    ) -> None:
        check_number("beta", beta, above=0)
        if updates_per_reference is not None:
            check_count("updates_per_reference", updates_per_reference, 0)
        self.beta = beta
        self.updates_per_reference = updates_per_reference
        super().__init__(policy, env, learning_rate, n_steps, n_epochs, max_grad_norm, True, real_sequences, **sb3)

    def loss(self, log_probs: Tensor, batch: SequenceBatch) -> Tensor:
        real, generated = self.implied_logits(log_probs, batch)
        return -F.logsigmoid(real - generated).mean()

    def implied_logits(self, log_probs: Tensor, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """beta log(G / G_ref), the logits of the discriminator that G is: of the real and of the others, (M,) each."""
        assert batch.reference_log_probs is not None
        real, generated = (self.beta * (log_probs - batch.reference_log_probs).sum(dim=1)).chunk(2)
        return real, generated

    def _batch(self) -> SequenceBatch:
        """M real sequences, then M negatives: as many as ended in the buffer."""
        batch = super()._batch()
        real, generated = self.choose_real(len(batch.sequences), batch.sequences), self._negatives(batch)
        # Real sequences have no reward and no environment. Neither is used.
        return self.batch_of(
            torch.cat([real, generated]),
            torch.cat([torch.zeros_like(batch.rewards), batch.rewards]),
            batch.columns.repeat(2),
        )

    def _negatives(self, batch: SequenceBatch) -> Tensor:
        """(M, T) int64, from the sequences that ended in the buffer."""
        return batch.sequences

    def train(self) -> None:
        super().train()
        if self.updates_per_reference and self._n_updates % self.updates_per_reference == 0:
            self.take_reference()
