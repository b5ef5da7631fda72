"""Eq. 5: training the discriminator, as an SB3 callback that turns any SB3 `learn()` into the adversarial game.

min_phi -E_{Y real}[log D_phi(Y)] - E_{Y ~ G}[log(1 - D_phi(Y))]. In: real sequences and a generator. Out: a
discriminator that the environments use as reward model from the next step on, and a roll-out policy in step with the
generator. Algorithm 1's order is kept: after g generator updates, d times fresh negatives from the updated generator
and k epochs on them, then beta <- theta. An off-policy learner's replayed experience then gets the rewards of the new
discriminator, see `replay_rewards`.
Departures from the authors' code: labels are balanced in every batch; the optimizer offers weight decay.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor
from torch.nn import functional as F

from agents.policies import ActorRolloutPolicy, SequencePolicy, can_be_asked
from agents.replay_rewards import RewardSource, check_can_relabel, relabel
from seqgan_env.models.discriminators import Discriminator
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.rewards import DiscriminatorReward, RewardModel
from seqgan_env.rollout_policies import DelayedCopy, RolloutPolicy, sample_sequences
from seqgan_env.tasks.task import Task

_REPORT_SIZE = 1000  # held-out sequences of each kind in a report
_LARGE_BUFFER = 100_000  # transitions; a search for so many takes minutes on CPU, after each round


@dataclass(frozen=True)
class DiscriminatorReport:
    """How the discriminator did in one of the d steps.

    Attributes:
        loss: mean of Eq. 5's two terms over the last epoch, nats per sequence, without the penalty.
        accuracy: share of held-out real and fresh generated sequences told apart; 0.5 is chance.
        calibration_error: mean |confidence - frequency| over ten bins of D's output (expected calibration error).
        mean_real: mean D on held-out real sequences; `mean_generated`: on fresh generated ones. Probabilities.
    """

    loss: float
    accuracy: float
    calibration_error: float
    mean_real: float
    mean_generated: float


class DiscriminatorTrainer(BaseCallback):
    """Retrains D and syncs G_beta between generator updates, with every SB3 algorithm.

    Give the same object to each `learn()` of one game. It hands the reward model and the roll-out policy to the
    environment when learning starts. Negatives come from the distribution that the policy plays, see
    `ActorRolloutPolicy`: of a `SequencePolicy`, an actor-critic policy, or a value-based one with its exploration. From
    any other policy's, they are the sequences that the learner finished last.

    Args:
        discriminator: D_phi; None trains nothing (BLEU, null-reward twins), but still syncs G_beta.
        task: real sequences, "train" as positives and "validation" for the reports; None takes the environment's.
        reward_model: what the environment is to score with; None is `DiscriminatorReward(discriminator)`, or, without
            a discriminator, what the environment has.
        g_steps: generator updates (rollouts of SB3 experience) a round (paper: 1).
        d_steps: times a round that fresh negatives are drawn (paper: 5); 0 leaves D as its pretraining made it.
        k_epochs: epochs on each draw (paper: 3).
        sample_size: positives, and as many negatives, in each draw; None takes all real sequences, as the paper.
        batch_size: sequences a step, half of them real (authors: 64).
        learning_rate: of Adam (authors: 1e-4).
        weight_decay: of AdamW (authors: 0).
        rollout_rate: share of its old parameters that G_beta keeps at a sync (paper: 0, authors' intention: 0.8).
        relabel_replay: whether an off-policy learner's stored rewards are computed anew after each round, under the new
            discriminator and G_beta. With a search (all reward modes but "terminal") the work grows with the buffer.
        on_round: called with the number of the round after each one.
        seed: of negatives and order.
        verbose: as in SB3.

    Attributes:
        rollout_policy: G_beta, made at the first sync; None while the environment's own is used.
        rounds: rounds played.
        last_report: the latest `DiscriminatorReport`.
        mean_reward: of the last rollout's steps; None before, and for off-policy learners.

    Raises:
        ValueError: if g_steps or k_epochs is below 1, d_steps below 0, or batch_size below 2; when learning starts, if
            stored rewards are to be computed anew in a buffer that does not allow it.
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
        rollout_rate: float = 0.0,
        relabel_replay: bool = True,
        on_round: Callable[[int], None] | None = None,
        seed: int = 0,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        for name, value, least in (("g_steps", g_steps, 1), ("d_steps", d_steps, 0), ("k_epochs", k_epochs, 1)):
            if value < least:
                raise ValueError(f"{name}={value} must be at least {least}")
        if batch_size < 2:
            raise ValueError(f"batch_size={batch_size} must be at least 2: one real and one generated sequence")
        self.discriminator = discriminator
        self.reward_model = reward_model
        if reward_model is None and discriminator is not None:
            self.reward_model = DiscriminatorReward(discriminator)
        self.task = task
        self.g_steps = g_steps
        self.d_steps = d_steps
        self.k_epochs = k_epochs
        self.sample_size = sample_size
        self.batch_size = batch_size
        self.rollout_rate = rollout_rate
        self.relabel_replay = relabel_replay
        self.on_round = on_round
        self.rng = np.random.default_rng(seed)
        self.rollout_policy: RolloutPolicy | None = None
        self.rounds = 0
        self.last_report: DiscriminatorReport | None = None
        self.mean_reward: float | None = None
        self.optimizer: torch.optim.Optimizer | None = None
        if discriminator is not None:
            self.optimizer = torch.optim.AdamW(
                discriminator.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True
            )
        self._updates_this_round = 0
        self._update_pending = False
        self._finished_sequences: deque[np.ndarray] = deque(maxlen=10_000)

    # SB3's hooks. SB3 updates the learner after a rollout has ended, so a round is due when the next rollout starts.

    def _on_training_start(self) -> None:
        if self.task is None:
            self.task = self.training_env.get_attr("task", indices=[0])[0]
        self._check_replay()
        self._hand_over_reward_model()
        if self.rollout_policy is None:
            self.sync(self.model)
        self._hand_over_rollout_policy()

    def _on_step(self) -> bool:
        if not can_be_asked(self.model.policy):
            infos = self.locals["infos"]
            self._finished_sequences.extend(info["sequence"] for info in infos if "sequence" in info)
        return True

    def _on_rollout_end(self) -> None:
        self._update_pending = True
        buffer = self.locals.get("rollout_buffer")  # on-policy learners only; emptied before the next rollout starts
        self.mean_reward = None if buffer is None else float(buffer.rewards.mean())

    def _on_rollout_start(self) -> None:
        self._count_update()

    def _on_training_end(self) -> None:
        self._count_update()

    def _count_update(self) -> None:
        """Count a generator update, and play the discriminator's half of the round when g of them are done."""
        if not self._update_pending:
            return
        self._update_pending = False
        self._updates_this_round += 1
        if self._updates_this_round < self.g_steps:
            return
        self._updates_this_round = 0
        if self.discriminator is not None:
            for _ in range(self.d_steps):
                self.train_step(generator_of(self.model))
            self._log()
            self._hand_over_reward_model()
        self.sync(self.model)
        self._hand_over_rollout_policy()
        self._relabel()
        self.rounds += 1
        if self.on_round is not None:
            self.on_round(self.rounds)

    # The discriminator's half of Algorithm 1, also usable without SB3.

    def train_step(self, generator: RolloutPolicy | None) -> DiscriminatorReport | None:
        """One of the d steps: fresh negatives, k epochs of Eq. 5 on them and as many positives, then a report.

        Args:
            generator: what draws the negatives; None takes the learner's finished sequences, and does nothing (returns
                None) until there are some.
        """
        assert self.discriminator is not None
        assert self.task is not None
        real = self.task.real_sequences("train")
        size = len(real) if self.sample_size is None else min(self.sample_size, len(real))
        generated = self._negatives(generator, size)
        if generated is None:
            return None
        device = self.discriminator.device
        real = real[torch.from_numpy(self.rng.permutation(len(real))[: len(generated)])].to(device)
        generated = generated.to(device)
        for _ in range(self.k_epochs):
            loss = self.epoch(real, generated)
        self.last_report = self._report(loss, generator)
        return self.last_report

    def epoch(self, real: Tensor, generated: Tensor) -> float:
        """One pass over as many real as generated sequences, half of each in a batch.

        Args:
            real: (M, T) int64, on the discriminator's device.
            generated: (M, T) int64, likewise.

        Returns:
            The mean of Eq. 5's loss over the batches, nats per sequence.
        """
        assert self.discriminator is not None
        assert self.optimizer is not None
        half = self.batch_size // 2
        real, generated = (rows[torch.from_numpy(self.rng.permutation(len(rows)))] for rows in (real, generated))
        self.discriminator.train()
        losses = []
        for real_batch, generated_batch in zip(real.split(half), generated.split(half), strict=True):
            logits = self.discriminator.member_logits(torch.cat([real_batch, generated_batch]))  # (M, B)
            labels_real_is_one = torch.zeros_like(logits)
            labels_real_is_one[:, : len(real_batch)] = 1
            loss = F.binary_cross_entropy_with_logits(logits, labels_real_is_one)  # Eq. 5
            self.optimizer.zero_grad()
            (loss + self.discriminator.penalty()).backward()
            self.optimizer.step()
            losses.append(loss.item())
        self.discriminator.eval()
        return float(np.mean(losses))

    def _report(self, loss: float, generator: RolloutPolicy | None) -> DiscriminatorReport:
        """Accuracy and calibration on real sequences that D never trains on, and as many newly generated ones."""
        assert self.discriminator is not None
        assert self.task is not None
        validation = self.task.real_sequences("validation")[:_REPORT_SIZE]
        generated = self._negatives(generator, len(validation))
        assert generated is not None
        real_scores = torch.sigmoid(self.discriminator.score(validation[: len(generated)])).cpu().numpy()
        generated_scores = torch.sigmoid(self.discriminator.score(generated)).cpu().numpy()
        probabilities = np.concatenate([real_scores, generated_scores])
        labels_real_is_one = np.repeat([True, False], len(generated))
        return DiscriminatorReport(
            loss=loss,
            accuracy=float(((probabilities > 0.5) == labels_real_is_one).mean()),
            calibration_error=calibration_error(probabilities, labels_real_is_one),
            mean_real=float(real_scores.mean()),
            mean_generated=float(generated_scores.mean()),
        )

    def _negatives(self, generator: RolloutPolicy | None, count: int) -> Tensor | None:
        """Generated sequences (count or fewer, T) int64; None if there are none yet."""
        assert self.task is not None
        if generator is not None:
            return sample_sequences(generator, count, self.task.sequence_length, self.rng, self.task.eos_token)
        recent = list(self._finished_sequences)[-count:]
        return torch.from_numpy(np.stack(recent)) if recent else None

    def sync(self, learner: BaseAlgorithm | BasePolicy | SequenceModel) -> None:
        """beta <- rate * beta + (1 - rate) * theta; the first call copies.

        A policy that no roll-out policy can be made of leaves the environment's own in place.
        """
        generator = generator_of(learner)
        if isinstance(generator, SequenceModel) and isinstance(self.rollout_policy, DelayedCopy):
            self.rollout_policy.update(generator)
        elif isinstance(generator, SequenceModel):
            self.rollout_policy = DelayedCopy(generator, self.rollout_rate)
        elif generator is not None and isinstance(self.rollout_policy, ActorRolloutPolicy):
            self.rollout_policy.follow(generator, self.rollout_rate)
        elif generator is not None:
            self.rollout_policy = generator.frozen_copy()

    def _hand_over_rollout_policy(self) -> None:
        """Give G_beta to the environment, which makes its states anew."""
        if self.rollout_policy is not None:
            self.training_env.env_method("set_rollout_policy", self.rollout_policy)

    def _hand_over_reward_model(self) -> None:
        """Give R to the environment; again after training, for environments in processes of their own have a copy."""
        if self.reward_model is not None:
            self.training_env.env_method("set_reward_model", self.reward_model)

    # Replayed experience of off-policy learners.

    def _replay_buffer(self) -> ReplayBuffer | None:
        """What is to be relabelled; None for on-policy learners, and where stored rewards stay as they are."""
        buffer = getattr(self.model, "replay_buffer", None)
        return buffer if self.relabel_replay else None

    def _check_replay(self) -> None:
        buffer = self._replay_buffer()
        if buffer is None:
            return
        assert self.task is not None
        check_can_relabel(buffer, self.task)
        (mode,) = set(self.training_env.get_attr("reward_mode"))
        size = buffer.buffer_size * buffer.n_envs
        if mode != "terminal" and size > _LARGE_BUFFER:
            warnings.warn(
                f"buffer_size={size} with reward_mode={mode!r}: after each round the search runs again for each prefix "
                "in the buffer. Take a smaller buffer, reward_mode='terminal', or relabel_replay=False.",
                UserWarning,
                stacklevel=2,
            )

    def _relabel(self) -> None:
        """Rewards of the new discriminator and roll-out policy for experience that was collected under older ones."""
        buffer = self._replay_buffer()
        if buffer is None:
            return
        (mdp, *_) = self.training_env.get_attr("mdp", indices=[0])
        if mdp.reward_mode == "terminal" and self.discriminator is None:
            return  # nothing that these rewards follow from has changed
        source = RewardSource(mdp.task, mdp.reward_mode, mdp.reward_model, mdp.rollout_policy, mdp.n_rollouts)
        self.logger.record("replay/relabelled", relabel(buffer, source, self.rng))

    def _log(self) -> None:
        if self.last_report is not None:
            for name, value in vars(self.last_report).items():
                self.logger.record(f"discriminator/{name}", value)


def generator_of(
    learner: BaseAlgorithm | BasePolicy | SequenceModel,
) -> SequenceModel | ActorRolloutPolicy | None:
    """What draws tokens as a learner does, sharing its parameters; None where its distribution cannot be asked for.

    Args:
        learner: an algorithm, its policy (a value-based one then acts greedily), or a sequence model.
    """
    if isinstance(learner, SequenceModel):
        return learner
    policy = learner.policy if isinstance(learner, BaseAlgorithm) else learner
    if isinstance(policy, SequencePolicy):
        return policy.generator
    if not can_be_asked(policy):
        return None
    return ActorRolloutPolicy(policy, exploration_rate_of(learner))


def exploration_rate_of(learner: BaseAlgorithm | BasePolicy) -> float:
    """Epsilon of an epsilon-greedy learner at this moment, 0 of any other. Before it learns, SB3 draws uniformly."""
    if getattr(learner, "num_timesteps", 0) < getattr(learner, "learning_starts", 0):
        return 1.0
    return float(getattr(learner, "exploration_rate", 0.0))


def calibration_error(
    probabilities: npt.NDArray[np.floating], outcomes: npt.NDArray[np.bool_], bins: int = 10
) -> float:
    """Expected calibration error: the mean over sequences of |mean probability - frequency| in their bin.

    Args:
        probabilities: (R,) in [0, 1].
        outcomes: (R,) bool, what happened.
        bins: of equal width.
    """
    which = np.minimum((probabilities * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    gap = np.bincount(which, probabilities, minlength=bins) - np.bincount(which, outcomes, minlength=bins)
    return float(np.abs(gap).sum() / count.sum())
