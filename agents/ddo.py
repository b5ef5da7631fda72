"""DDO: direct discriminative optimization. The generator's log-ratio to a frozen reference is the discriminator.

Zheng et al. 2025 (arXiv 2503.01103). The discriminator of Eq. 5 is written as sigmoid( beta log(G(Y) / G_ref(Y)) ):
    L = -E_{Y real}[ log sigmoid(beta log(G / G_ref)) ] - alpha E_{Y ~ G_ref}[ log(1 - sigmoid(beta log(G / G_ref))) ].
With alpha = beta = 1 the best discriminator is that of D = p / (p + G_ref), and so the best G is the real distribution,
whatever the reference is. In: as many real sequences as ended in the update, and as many drawn from G_ref. Out:
`n_epochs` steps of Adam. The environment's rewards and sequences are not used. The paper plays rounds: after each one
G_ref <- G. Here a round has `updates_per_reference` updates.
SPIN is the paired form: it compares a real with a generated sequence, see `preference`.
Departure: the paper draws its negatives once per round; here each update draws fresh ones.
"""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import Tensor
from torch.nn import functional as F

from agents.preference import PreferenceLearner
from agents.sequence_learner import SequenceBatch
from seqgan_env.arguments import check_number
from seqgan_env.rollout_policies import sample_sequences


class DDO(PreferenceLearner):
    """The loss of a discriminator, on a generator.

    Args:
        policy, env, learning_rate, n_steps, n_epochs, max_grad_norm, real_sequences: as in `RealSequenceLearner`.
        alpha: weight of the generated half of the loss.
        beta: factor of the log-ratio in the logit. The smaller it is, the further G goes from G_ref.
        updates_per_reference: number of updates after which G_ref <- G; None or 0 keeps the first reference.
        sb3: as in SB3.

    Raises:
        ValueError, TypeError: as `PreferenceLearner`; also if alpha is not finite or negative.
    """

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-2,
        n_steps: int | None = None,
        n_epochs: int = 1,
        alpha: float = 1.0,
        beta: float = 1.0,
        updates_per_reference: int | None = None,
        max_grad_norm: float = 1.0,
        **sb3: Any,
    ) -> None:
        check_number("alpha", alpha, at_least=0)
        self.alpha = alpha
        super().__init__(
            policy,
            env,
            learning_rate,
            n_steps,
            n_epochs,
            beta,
            updates_per_reference,
            max_grad_norm=max_grad_norm,
            **sb3,
        )

    def loss(self, log_probs: Tensor, batch: SequenceBatch) -> Tensor:
        real, generated = self.implied_logits(log_probs, batch)
        return -F.logsigmoid(real).mean() - self.alpha * F.logsigmoid(-generated).mean()  # 1 - sigmoid(x) = sigmoid(-x)

    def _negatives(self, batch: SequenceBatch) -> Tensor:
        """(M, T) int64, drawn from G_ref."""
        assert self.reference is not None
        assert self.env is not None
        task = self.env.get_attr("task", indices=[0])[0]
        count, horizon = batch.sequences.shape
        prompts = batch.sequences[:, : task.prompt_length]
        return sample_sequences(self.reference.generator, count, horizon, self.rng, task.eos_token, prompts)
