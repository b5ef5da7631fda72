"""The discriminator's half of Algorithm 1, for every SB3 learner: the steps after the g generator updates of a round.

In: a learner that has just been updated g times. Out: a discriminator that was trained against it (lines 14-16), a
roll-out policy that was updated from it (line 17), and environments that use both. For an off-policy learner the
rewards in its buffer are then recomputed, see `replay_rewards`.
`SeqGAN.train` calls `play` from its loop, `DiscriminatorTrainer` from SB3's hooks.
"""

from __future__ import annotations

import warnings
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from agents.adversary import Adversary, DiscriminatorReport
from agents.policies import ActorRolloutPolicy, SequencePolicy, has_known_distribution
from agents.replay_rewards import RewardSource, check_can_relabel, relabel
from agents.setting_paths import check_counts, check_not_negative, check_shares
from seqgan_env.mdp import RewardMode
from seqgan_env.models.discriminators import Discriminator
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.rewards import DiscriminatorReward, RewardModel
from seqgan_env.rollout_policies import DelayedCopy, RolloutPolicy, sample_sequences
from seqgan_env.tasks.task import Task

_LARGE_BUFFER = 100_000  # transitions; searching so many takes minutes on CPU, after each round


@dataclass(frozen=True)
class GameConfig:
    """The adversarial game: rounds of Algorithm 1 and the reward."""

    rounds: int = 200
    """Adversarial rounds [2016: 800; 2018: 200]."""
    g_steps: int = 1
    """g, generator updates per round [P: 1]."""
    d_steps: int = 5
    """d, draws of fresh negatives per round [P: 5]; 0: D is not trained after its pretraining."""
    k_epochs: int = 3
    """k, discriminator epochs on each draw [P: 3]."""
    reward_model: str = "discriminator"
    """Scores: discriminator, logit (D's), relativistic (less that of real sequences), bleu, random, shuffled,
    constant:0.5, oracle, module:Attribute [P: D]; or a sum: "0.5*discriminator + 1.0*my_module:verifier"."""
    reward_mode: RewardMode = "action_value"
    """How rewards reach prefixes: action_value (Monte-Carlo search), potential, terminal (R(Y) alone) [P: search]."""
    n_rollouts: int = 16
    """N, Monte-Carlo completions of each prefix [P: 16]; 1 for PG-BLEU [2016]."""
    rollout_rate: float = 0.0
    """Share of its old parameters that G_beta keeps at an update [P: 0; 2016, 2018: 0.8, without effect]."""
    anchor_weight: float = 0.0
    """Weight of KL(G || G after MLE), nats per sequence, in the reward: it keeps G where D was trained [P: 0]."""
    measure_every: int = 5
    """Adversarial rounds between measurements [2016, 2018: 5]."""

    def __post_init__(self) -> None:
        check_counts(self, rounds=0, g_steps=1, d_steps=0, k_epochs=1, n_rollouts=1, measure_every=1)
        check_shares(self, "rollout_rate")
        check_not_negative(self, "anchor_weight")


class AdversarialRounds:
    """Trains D, updates G_beta, hands both to the environments, and counts the rounds.

    Args:
        discriminator: D_phi; with None nothing is trained (BLEU, null-reward twins), but G_beta is still updated.
        task: real sequences, "train" as positives and "validation" for the reports; None takes the environment's.
        reward_model: the reward model for the environment; None is `DiscriminatorReward(discriminator)`. Without a
            discriminator, None keeps the environment's own.
        d_steps: draws of fresh negatives per round (paper: 5); with 0, D is not trained after its pretraining.
        rollout_rate: share of its old parameters that G_beta keeps at an update (paper: 0, authors' intention: 0.8).
        relabel_replay: whether the rewards in an off-policy learner's buffer are recomputed after each round, with the
            new discriminator and G_beta.
        seed: of the negatives and of the order of the sequences.
        eq5: arguments of `Adversary`: k_epochs, sample_size, batch_size, learning_rate, weight_decay, loss.

    Attributes:
        adversary: trains D; None without a discriminator.
        rollout_policy: G_beta, made at its first update; None as long as the environment's own is used.
        rounds: rounds played.
        mean_reward: mean reward of a step in the last SB3 rollout; None before the first one, and for off-policy
            learners.

    Raises:
        ValueError: if d_steps is below 0, or an argument of `Adversary` is out of range; in `begin`, if the rewards of
            a buffer cannot be recomputed although `relabel_replay` is on.
    """

    def __init__(
        self,
        discriminator: Discriminator | None,
        task: Task | None = None,
        *,
        reward_model: RewardModel | None = None,
        d_steps: int = 5,
        rollout_rate: float = 0.0,
        relabel_replay: bool = True,
        seed: int = 0,
        **eq5: Any,
    ) -> None:
        if d_steps < 0:
            raise ValueError(f"d_steps={d_steps} must be at least 0")
        self.rng = np.random.default_rng(seed)
        self.adversary = None if discriminator is None else Adversary(discriminator, rng=self.rng, **eq5)
        self.reward_model = reward_model
        if reward_model is None and discriminator is not None:
            self.reward_model = DiscriminatorReward(discriminator)
        self.task = task
        self.d_steps = d_steps
        self.rollout_rate = rollout_rate
        self.relabel_replay = relabel_replay
        self.rollout_policy: DelayedCopy | ActorRolloutPolicy | None = None
        self.rounds = 0
        self.mean_reward: float | None = None
        self._finished_sequences: deque[np.ndarray] = deque(maxlen=10_000)

    @property
    def discriminator(self) -> Discriminator | None:
        """D_phi, if it is trained."""
        return None if self.adversary is None else self.adversary.discriminator

    @property
    def last_report(self) -> DiscriminatorReport | None:
        """The latest report on D."""
        return None if self.adversary is None else self.adversary.last_report

    def begin(self, learner: BaseAlgorithm) -> None:
        """Line 3 of Algorithm 1, beta <- theta, unless it is done; then hand R and G_beta to the environment."""
        if self.task is None:
            self.task = _env(learner).get_attr("task", indices=[0])[0]
        self._check_replay(learner)
        self._hand_over_reward_model(learner)
        if self.rollout_policy is None:
            self.sync(learner)
        self._hand_over_rollout_policy(learner)

    def play(self, learner: BaseAlgorithm) -> None:
        """Lines 14-17 of Algorithm 1, after the generator's g updates."""
        if self.adversary is not None:
            for _ in range(self.d_steps):  # lines 14-16: fresh negatives, k epochs on them
                self.train_step(generator_of(learner))
            for name, value in ({} if self.last_report is None else vars(self.last_report)).items():
                learner.logger.record(f"discriminator/{name}", value)
            self._hand_over_reward_model(learner)
        self.sync(learner)  # line 17: beta <- theta
        self._hand_over_rollout_policy(learner)
        self._relabel(learner)
        self.rounds += 1

    def note_experience(self, learner: BaseAlgorithm) -> None:
        """Store the mean reward of the experience in an on-policy learner's buffer."""
        buffer = getattr(learner, "rollout_buffer", None)
        self.mean_reward = None if buffer is None else float(buffer.rewards.mean())

    # Training of the discriminator; it also works without SB3.

    def train_step(self, generator: RolloutPolicy | None) -> DiscriminatorReport | None:
        """One of the d steps: fresh negatives, k epochs of Eq. 5 on them and as many positives, then a report.

        Args:
            generator: draws the negatives; None takes the learner's finished sequences. Until there are some, nothing
                is done and None is returned.
        """
        assert self.adversary is not None
        assert self.task is not None
        return self.adversary.step(self.task, lambda *wanted: self._negatives(generator, *wanted))

    def epoch(self, real: Tensor, generated: Tensor) -> float:
        """One pass of Eq. 5, see `Adversary.epoch`."""
        assert self.adversary is not None
        return self.adversary.epoch(real, generated)

    def _negatives(self, generator: RolloutPolicy | None, count: int, prompts: Tensor | None = None) -> Tensor | None:
        """Generated sequences (count or fewer, T) int64; None if there are none yet. Row i answers prompt i."""
        assert self.task is not None
        if generator is not None:
            task = self.task
            return sample_sequences(generator, count, task.sequence_length, self.rng, task.eos_token, prompts)
        recent = list(self._finished_sequences)[-count:]
        return torch.from_numpy(np.stack(recent)) if recent else None

    # G_beta.

    def sync(self, learner: BaseAlgorithm | BasePolicy | SequenceModel) -> None:
        """beta <- rate * beta + (1 - rate) * theta; the first call copies.

        If no roll-out policy can be made of the learner's policy, the environment keeps its own.
        """
        generator: Any = generator_of(learner)
        if generator is None:
            return
        if self.rollout_policy is not None:
            self.rollout_policy.follow(generator)
        elif isinstance(generator, SequenceModel):
            self.rollout_policy = DelayedCopy(generator, self.rollout_rate)
        else:
            self.rollout_policy = generator.delayed_copy(self.rollout_rate)

    def _hand_over_rollout_policy(self, learner: BaseAlgorithm) -> None:
        """Give G_beta to the environment, which computes its states again."""
        if self.rollout_policy is not None:
            _env(learner).env_method("set_rollout_policy", self.rollout_policy)

    def _hand_over_reward_model(self, learner: BaseAlgorithm) -> None:
        """Give R to the environment; again after training, because environments in other processes hold a copy."""
        if self.reward_model is not None:
            _env(learner).env_method("set_reward_model", self.reward_model)

    # Replayed experience of off-policy learners.

    def _replay_buffer(self, learner: BaseAlgorithm) -> ReplayBuffer | None:
        """The buffer with rewards to recompute; None for on-policy learners, and if `relabel_replay` is off."""
        buffer = getattr(learner, "replay_buffer", None)
        return buffer if self.relabel_replay else None

    def _check_replay(self, learner: BaseAlgorithm) -> None:
        buffer = self._replay_buffer(learner)
        if buffer is None:
            return
        assert self.task is not None
        check_can_relabel(buffer, self.task)
        (mode,) = set(_env(learner).get_attr("reward_mode"))
        size = buffer.buffer_size * buffer.n_envs
        if mode != "terminal" and size > _LARGE_BUFFER:
            warnings.warn(
                f"buffer_size={size} with reward_mode={mode!r}: after each round the search runs again for each prefix "
                "in the buffer. Take a smaller buffer, reward_mode='terminal', or relabel_replay=False.",
                UserWarning,
                stacklevel=2,
            )

    def _relabel(self, learner: BaseAlgorithm) -> None:
        """Recompute the rewards in the replay buffer with the current discriminator and roll-out policy."""
        buffer = self._replay_buffer(learner)
        if buffer is None:
            return
        (mdp, *_) = _env(learner).get_attr("mdp", indices=[0])
        if mdp.reward_mode == "terminal" and self.adversary is None:
            return  # nothing has changed that these rewards depend on
        source = RewardSource(mdp.task, mdp.reward_mode, mdp.reward_model, mdp.rollout_policy, mdp.n_rollouts)
        learner.logger.record("replay/relabelled", relabel(buffer, source, self.rng))

    # Checkpoints.

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next round depends on: D with its optimizer, G_beta, the counter, the random state.

        The reward model's own state is not included: its maker saves it.
        """
        finished = self._finished_sequences
        return {
            "adversary": None if self.adversary is None else self.adversary.state_dict(),
            "rollout_policy": None if self.rollout_policy is None else self.rollout_policy.state_dict(),
            "rounds": self.rounds,
            "mean_reward": self.mean_reward,
            "finished_sequences": torch.from_numpy(np.stack(finished)) if finished else None,
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any], learner: BaseAlgorithm | BasePolicy | SequenceModel) -> None:
        """Set what `state_dict` returned.

        Args:
            state: from a trainer with the same arguments.
            learner: G_beta is made as a copy of it, then its parameters are replaced.
        """
        if self.adversary is not None:
            self.adversary.load_state_dict(state["adversary"])
        if state["rollout_policy"] is not None:
            self.sync(learner)
            assert self.rollout_policy is not None
            self.rollout_policy.load_state_dict(state["rollout_policy"])
        self.rounds = state["rounds"]
        self.mean_reward = state["mean_reward"]
        finished = state["finished_sequences"]
        self._finished_sequences.extend([] if finished is None else finished.numpy())
        self.rng.bit_generator.state = state["rng"]


def generator_of(
    learner: BaseAlgorithm | BasePolicy | SequenceModel,
) -> SequenceModel | ActorRolloutPolicy | None:
    """A roll-out policy that draws tokens as the learner does, and shares its parameters.

    None if the distribution of its policy is not known.

    Args:
        learner: an algorithm, its policy (a value-based one then acts greedily), or a sequence model.
    """
    if isinstance(learner, SequenceModel):
        return learner
    policy = learner.policy if isinstance(learner, BaseAlgorithm) else learner
    if isinstance(policy, SequencePolicy):
        return policy.generator
    if not has_known_distribution(policy):
        return None
    return ActorRolloutPolicy(policy, exploration_rate_of(learner))


def exploration_rate_of(learner: BaseAlgorithm | BasePolicy) -> float:
    """Current epsilon of an epsilon-greedy learner, 0 of any other. It is 1 before learning starts, as in SB3."""
    if getattr(learner, "num_timesteps", 0) < getattr(learner, "learning_starts", 0):
        return 1.0
    return float(getattr(learner, "exploration_rate", 0.0))


def _env(learner: BaseAlgorithm) -> Any:
    """The learner's vector environment."""
    env = learner.get_env()
    assert env is not None
    return env
