"""DPG: distributional policy gradient. The generator comes near to a given distribution in the forward KL.

Parshakova, Andreoli, Dymetman 2019 (arXiv 1912.08517); Khalifa, Elsahar, Dymetman 2021 (arXiv 2012.11635). The target
is p*(Y) = G_0(Y) exp(R(Y) / temperature) / Z, where G_0 is the generator after maximum likelihood. With the logit of
the best D against G_0 as R, and temperature 1, the target is the real distribution. The gradient
    grad KL(p* || G) = -E_{p*}[grad log G(Y)] = -E_{Y ~ q}[ p*(Y) / q(Y) grad log G(Y) ]
is estimated from sequences of q, the generator before the update, with self-normalised importance weights:
    -sum_i ( w_i - 1/M ) grad log G(Y_i),   w_i = softmax_i( R(Y_i) / temperature + log G_0(Y_i) - log q(Y_i) ).
Z cancels. In: the whole sequences of one update with their R(Y), and G_0. Out: `n_epochs` steps of Adam. Dividing by
the sum makes the estimate biased by O(1/M). Subtracting 1/M, the mean weight, changes no expectation (for one epoch)
and lowers the variance (Korbak et al. 2022, arXiv 2206.00761).
Where KL(G || p*) is minimised instead, the same target gives the KL-anchored policy gradient: `AnchoredReward`.
Departure: q is G itself. The papers keep an older q until a measured divergence from p* falls.
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import Tensor

from agents.sequence_learner import SequenceBatch, SequenceLearner
from seqgan_env.arguments import check_number


class DPG(SequenceLearner):
    """Distributional policy gradient with self-normalised weights.

    Args:
        policy, env, learning_rate, n_steps, n_epochs, max_grad_norm: as in `SequenceLearner`. The environment's rewards
            are logits: reward model "logit", without an anchor.
        temperature: divides R(Y) in the target; above 1 the target stays nearer to G_0.
        sb3: as in SB3.

    Attributes:
        reference: G_0. It is taken when the first `learn` begins.

    Raises:
        ValueError, TypeError: as `SequenceLearner`; also if the temperature is not finite and above 0.
    """

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-3,
        n_steps: int | None = None,
        n_epochs: int = 1,
        temperature: float = 1.0,
        max_grad_norm: float = 1.0,
        **sb3: Any,
    ) -> None:
        check_number("temperature", temperature, above=0)
        self.temperature = temperature
        super().__init__(policy, env, learning_rate, n_steps, n_epochs, max_grad_norm, True, **sb3)

    def loss(self, log_probs: Tensor, batch: SequenceBatch) -> Tensor:
        weights = self.importance_weights(batch)
        return -((weights - 1 / len(weights)) * log_probs.sum(dim=1)).sum()

    def importance_weights(self, batch: SequenceBatch) -> Tensor:
        """w_i, (M,) float32, which sum to 1."""
        assert batch.reference_log_probs is not None
        drift = (batch.old_log_probs - batch.reference_log_probs).sum(dim=1)  # log q(Y) / G_0(Y)
        return torch.softmax(batch.rewards / self.temperature - drift, dim=0)

    def _record(self, batch: SequenceBatch, loss: float, grad_norm: float) -> None:
        super()._record(batch, loss, grad_norm)
        weights = self.importance_weights(batch)
        self.logger.record("train/effective_sample_size", 1 / weights.square().sum().item())  # of M sequences
