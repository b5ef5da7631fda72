"""An SB3 callback that turns any SB3 `learn()` into the adversarial game of Algorithm 1.

In: real sequences and an SB3 learner. Out: a discriminator that the environments use as reward model from the next step
on, and a roll-out policy that follows the generator. The order is that of Algorithm 1. After g generator updates the
discriminator gets d draws of fresh negatives, with k epochs on each. Then beta <- theta.
Eq. 5 is in `adversary`, a round in `adversarial_rounds`; this file counts the updates.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents.adversarial_rounds import AdversarialRounds
from agents.adversarial_rounds import generator_of as generator_of
from agents.adversary import DiscriminatorLoss, check_loss, check_sizes
from agents.adversary import DiscriminatorReport as DiscriminatorReport
from agents.adversary import calibration_error as calibration_error
from agents.policies import has_known_distribution
from seqgan_env.models.discriminators import Discriminator
from seqgan_env.rewards import RewardModel
from seqgan_env.tasks.task import Task


class DiscriminatorTrainer(AdversarialRounds, BaseCallback):
    """Trains D and updates G_beta between generator updates, with every SB3 algorithm.

    Give the same object to each `learn()` of one game. It hands the reward model and the roll-out policy to the
    environment when learning starts. Negatives are drawn from the distribution that the policy plays, see
    `ActorRolloutPolicy`. This works for a `SequencePolicy`, an actor-critic policy, and a value-based one with its
    exploration. For any other policy, negatives are the sequences that the learner finished last.

    Args:
        discriminator: D_phi; with None nothing is trained (BLEU, null-reward twins), but G_beta is still updated.
        task: real sequences, "train" as positives and "validation" for the reports; None takes the environment's.
        reward_model: the reward model for the environment; None is `DiscriminatorReward(discriminator)`. Without a
            discriminator, None keeps the environment's own.
        g_steps: generator updates (rollouts of SB3 experience) per round (paper: 1).
        d_steps: draws of fresh negatives per round (paper: 5); with 0, D is not trained after its pretraining.
        k_epochs: epochs on each draw (paper: 3).
        sample_size: positives, and as many negatives, in each draw; None takes all real sequences, as the paper.
        batch_size: sequences per step, half of them real (authors: 64).
        learning_rate: of Adam (authors: 1e-4).
        weight_decay: of AdamW (authors: 0).
        loss: "logistic", Eq. 5, or "bradley_terry", on pairs of a real and a generated sequence.
        rollout_rate: share of its old parameters that G_beta keeps at an update (paper: 0, authors' intention: 0.8).
        relabel_replay: whether the rewards in an off-policy learner's buffer are recomputed after each round, with the
            new discriminator and G_beta. With a search (all reward modes but "terminal") the work grows with the
            buffer.
        on_round: called after each round, with the number of the round.
        seed: of the negatives and of the order of the sequences.
        verbose: as in SB3.

    Attributes:
        adversary: trains D; None without a discriminator.
        rollout_policy: G_beta, made at its first update; None as long as the environment's own is used.
        rounds: rounds played.
        last_report: the latest `DiscriminatorReport`.
        mean_reward: mean reward of a step in the last SB3 rollout; None before the first one, and for off-policy
            learners.

    Raises:
        ValueError: if g_steps or k_epochs is below 1, d_steps below 0, or batch_size below 2; when learning starts, if
            the rewards of a buffer cannot be recomputed although `relabel_replay` is on.
    """

    def __init__(
        self,
        discriminator: Discriminator | None,
        task: Task | None = None,
        *,
        reward_model: RewardModel | None = None,
        g_steps: int = 1,
        d_steps: int = 5,
        k_epochs: int = 3,
        sample_size: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.0,
        loss: DiscriminatorLoss = "logistic",
        rollout_rate: float = 0.0,
        relabel_replay: bool = True,
        on_round: Callable[[int], None] | None = None,
        seed: int = 0,
        verbose: int = 0,
    ) -> None:
        BaseCallback.__init__(self, verbose)
        if g_steps < 1:
            raise ValueError(f"g_steps={g_steps} must be at least 1")
        check_loss(loss)
        check_sizes(k_epochs, batch_size)  # also where there is no discriminator
        AdversarialRounds.__init__(
            self,
            discriminator,
            task,
            reward_model=reward_model,
            d_steps=d_steps,
            k_epochs=k_epochs,
            sample_size=sample_size,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            loss=loss,
            rollout_rate=rollout_rate,
            relabel_replay=relabel_replay,
            seed=seed,
        )
        self.g_steps = g_steps
        self.on_round = on_round
        self._updates_this_round = 0
        self._update_pending = False

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """The optimizer of D."""
        return None if self.adversary is None else self.adversary.optimizer

    # SB3's hooks. SB3 updates the learner after a rollout has ended, so a round is due when the next rollout starts.

    def _on_training_start(self) -> None:
        self.begin(self.model)

    def _on_step(self) -> bool:
        if not has_known_distribution(self.model.policy):
            infos = self.locals["infos"]
            self._finished_sequences.extend(info["sequence"] for info in infos if "sequence" in info)
        return True

    def _on_rollout_end(self) -> None:
        self._update_pending = True
        self.note_experience(self.model)  # on-policy learners empty their buffer before the next rollout starts

    def _on_rollout_start(self) -> None:
        self._count_update()

    def _on_training_end(self) -> None:
        self._count_update()

    def _count_update(self) -> None:
        """Count a generator update. After g of them, play the discriminator's half of the round."""
        if not self._update_pending:
            return
        self._update_pending = False
        self._updates_this_round += 1
        if self._updates_this_round < self.g_steps:
            return
        self._updates_this_round = 0
        self.play(self.model)
        if self.on_round is not None:
            self.on_round(self.rounds)
