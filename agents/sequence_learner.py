"""The shared part of learners of whole sequences: SB3's machinery around a loss on the tokens' log-probabilities.

SB3 collects steps. These learners need whole sequences Y with their rewards R(Y). Each learner is one equation: a loss
that depends on the generator only through log G(y_t | Y_{1:t-1}). In: experience of an SB3 vector environment. Out:
`n_epochs` steps of Adam on the sequences that ended in it. If the end of an update cuts a sequence, the whole sequence
is used in the update in which it ends. Its first tokens were then drawn one update earlier. The old policy in a ratio
is the generator at the beginning of the update.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from torch import Tensor

from agents.moments import load_moments, moments
from agents.policies import SequencePolicy
from agents.prefixes import episode_steps
from agents.reference import Reference
from agents.reinforce import REINFORCE, whole_sequences
from seqgan_env.arguments import check_count, check_number

SelfSequenceLearner = TypeVar("SelfSequenceLearner", bound="SequenceLearner")


@dataclass(frozen=True)
class SequenceBatch:
    """Sequences that ended in one update, with their values before the update.

    Attributes:
        sequences: (M, T) int64, PAD after the end.
        rewards: (M,) float32, R(Y).
        columns: (M,) int64, the environment of each sequence.
        old_log_probs: (M, T) float32, log G of each token before the update, nats; 0 at PAD and at the prompt.
        reference_log_probs: (M, T) float32, the same for log G_ref; None for learners without a reference.
        is_token: (M, T) bool, the tokens that count: False at PAD and at the prompt.
    """

    sequences: Tensor
    rewards: Tensor
    columns: Tensor
    old_log_probs: Tensor
    reference_log_probs: Tensor | None
    is_token: Tensor


class SequenceLearner(REINFORCE):
    """An SB3 algorithm that learns from whole sequences. A subclass gives `loss`.

    Args:
        policy: "LSTMPolicy", or a `SequencePolicy` class.
        env: an environment of this project, or its id. `reward_mode="terminal"` is enough, and is the fastest: only
            R(Y) is used, so no search is needed.
        learning_rate: of Adam.
        n_steps: steps of each environment per update; None is the horizon T.
        n_epochs: steps of Adam on each batch.
        max_grad_norm: global norm to which gradients are clipped.
        has_reference: whether the learner needs G_ref.
        sb3: stats_window_size, tensorboard_log, policy_kwargs, verbose, seed, device, as in SB3.

    Attributes:
        reference: G_ref, None without one. It is taken when the first `learn` begins.

    Raises:
        ValueError, TypeError: if a setting is not finite or out of range, or an update holds too few sequences.
    """

    least_sequences: ClassVar[int] = 2  # in an update; a group of one cannot be compared
    needs_sequences: ClassVar[bool] = True  # only R(Y) is used: a game then makes no search
    unused_arguments: ClassVar[tuple[str, ...]] = ("baseline", "loss_reduction", "ent_coef", "vf_coef")  # of REINFORCE

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule,
        n_steps: int | None = None,
        n_epochs: int = 1,
        max_grad_norm: float = 1.0,
        has_reference: bool = False,
        _init_setup_model: bool = True,
        **sb3: Any,
    ) -> None:
        if not callable(learning_rate):
            check_number("learning_rate", learning_rate, at_least=0)
        if n_steps is not None:
            check_count("n_steps", n_steps)
        check_count("n_epochs", n_epochs)
        check_number("max_grad_norm", max_grad_norm, above=0)
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            max_grad_norm=max_grad_norm,
            _init_setup_model=False,
            **sb3,
        )
        self.n_epochs = n_epochs
        self.has_reference = has_reference
        self.reference: Reference | None = None
        if self.env is not None:
            self._check_group()
        if _init_setup_model:
            self._setup_model()

    @abstractmethod
    def loss(self, log_probs: Tensor, batch: SequenceBatch) -> Tensor:
        """The loss as a function of log G of each token, (M, T) float32 in nats, 0 at PAD: a differentiable scalar."""

    def _setup_model(self) -> None:
        super()._setup_model()
        if not isinstance(self.policy, SequencePolicy):
            raise ValueError(f"policy={type(self.policy).__name__} must be a SequencePolicy: its generator is trained")
        if self.has_reference:
            self.reference = Reference(self.policy.generator)
        self._begun_rewards = np.zeros(self.n_envs)  # of the unfinished sequences

    def _check_group(self) -> None:
        assert self.env is not None
        horizon = episode_steps(self.env)
        if self.n_envs * self.n_steps < self.least_sequences * horizon:
            raise ValueError(
                f"n_steps={self.n_steps} with {self.n_envs} environment(s) makes less than "
                f"{self.least_sequences} sequences of {horizon} tokens per update; use more environments, or "
                f"n_steps={self.least_sequences * horizon}"
            )

    def _count_responses(self) -> None:
        super()._count_responses()
        reference: Reference | None = getattr(self, "reference", None)  # not there yet while the model is set up
        if reference is not None:
            reference.generator.prompt_length = self.policy.generator.prompt_length

    def longest_response(self, log_probs: Tensor) -> int:
        """T - P: the columns of (M, T) log-probabilities that can count; T without prompts."""
        return log_probs.shape[1] - self.policy.generator.prompt_length

    def take_reference(self) -> None:
        """G_ref <- G, now. Without this call the first `learn` does it."""
        if self.reference is None:
            raise ValueError(f"this {type(self).__name__} has no reference; give it a coefficient above 0")
        self.reference.take(self.policy.generator)

    def _setup_learn(self, *arguments: Any, **keywords: Any) -> Any:
        if self.reference is not None and not bool(self.reference.taken):
            self.take_reference()
        return super()._setup_learn(*arguments, **keywords)

    def train(self) -> None:
        """`n_epochs` steps of Adam on the sequences that ended in the buffer; none if none ended."""
        self._update_learning_rate(self.policy.optimizer)
        self.policy.set_training_mode(False)
        batch = self._batch()
        if not len(batch.sequences):
            return
        for _ in range(self.n_epochs):
            loss, grad_norm = self._descend(batch)
        self._n_updates += 1
        self._record(batch, loss, grad_norm)

    def _descend(self, batch: SequenceBatch) -> tuple[float, float]:
        """One step of Adam; returns the loss before the step, and the norm of its gradient before clipping.

        The gradient is sum_t (d loss / d log G_t) (d log G_t / d theta), as for a weighted log-likelihood.
        """
        generator = self.policy.generator
        self.policy.set_training_mode(False)  # the ratio to the old policy must not depend on dropout
        log_probs = generator.log_probs(batch.sequences).requires_grad_()
        loss = self.loss(log_probs, batch)
        (weights,) = torch.autograd.grad(loss, log_probs)
        self.policy.set_training_mode(True)
        self.policy.optimizer.zero_grad()
        generator.weighted_log_likelihood(batch.sequences, weights).backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()
        return loss.item(), float(grad_norm)

    def _batch(self) -> SequenceBatch:
        """The sequences that ended in the buffer."""
        buffer = self.rollout_buffer
        sequences, rewards, columns, self._begun_rewards = finished_sequences(
            buffer.observations,
            buffer.actions[..., 0],
            buffer.rewards,
            buffer.episode_starts,
            np.asarray(self._last_episode_starts),
            self._begun_rewards,
            self.policy.generator.vocab_size,
            last_reward_counts=self._reward_mode() == "action_value",
        )
        return self.batch_of(
            self._to_device(sequences), self._to_device(rewards.astype(np.float32)), self._to_device(columns)
        )

    def batch_of(self, sequences: Tensor, rewards: Tensor, columns: Tensor) -> SequenceBatch:
        """A batch with the log-probabilities of the current generator and of the reference."""
        return SequenceBatch(
            sequences,
            rewards,
            columns,
            self.policy.generator.log_probs(sequences),
            None if self.reference is None else self.reference.log_probs(sequences),
            self.policy.generator.counted(sequences),
        )

    def _record(self, batch: SequenceBatch, loss: float, grad_norm: float) -> None:
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", loss)
        self.logger.record("train/grad_norm", grad_norm)
        self.logger.record("train/sequences", len(batch.sequences))
        self.logger.record("train/mean_return", batch.rewards.mean().item())
        tokens = int(batch.is_token.sum())
        self.logger.record("train/entropy_loss", batch.old_log_probs.sum().item() / tokens)  # nats per token
        if batch.reference_log_probs is not None:
            drift = (batch.old_log_probs - batch.reference_log_probs).sum().item() / len(batch.sequences)
            self.logger.record("train/reference_kl", drift)  # Monte-Carlo KL(G || G_ref), nats per sequence

    def learn(
        self: SelfSequenceLearner,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfSequenceLearner:
        """Collect experience and update until `total_timesteps` steps are done; as in SB3."""
        name = tb_log_name or type(self).__name__
        return super().learn(total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)

    # Saving: SB3's zip, and checkpoints.

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "reference"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, tensors = super()._get_torch_save_params()
        return ([*modules, "reference"] if self.has_reference else modules), tensors

    def state_dict(self) -> dict[str, Any]:
        """Everything that `learn` depends on, except the environment: policy, optimizer, reference, counters."""
        return {
            "policy": dict(self.policy.state_dict()),
            "optimizer": moments(self.policy.optimizer),
            "num_timesteps": self.num_timesteps,
            "n_updates": self._n_updates,
            "begun_rewards": torch.from_numpy(self._begun_rewards.copy()),
            "reference": None if self.reference is None else dict(self.reference.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what `state_dict` returned."""
        self.policy.load_state_dict(state["policy"])
        load_moments(self.policy.optimizer, state["optimizer"])
        self.num_timesteps = state["num_timesteps"]
        self._n_updates = state["n_updates"]
        self._begun_rewards = state["begun_rewards"].numpy().copy()
        if self.reference is not None:
            self.reference.load_state_dict(state["reference"])


def finished_sequences(
    observations: npt.NDArray[Any],
    actions: npt.NDArray[Any],
    rewards: npt.NDArray[Any],
    episode_starts: npt.NDArray[Any],
    dones: npt.NDArray[Any],
    begun_rewards: npt.NDArray[np.float64],
    vocab_size: int,
    last_reward_counts: bool = False,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Find the sequences that ended in experience of single steps, with R(Y).

    Args:
        observations: (L, B, T) prefixes before each step, PAD = V.
        actions: (L, B) tokens.
        rewards: (L, B).
        episode_starts: (L, B), non-zero where an episode begins.
        dones: (B,), whether the last step ended its episode.
        begun_rewards: (B,), for sequences that began before this experience: the sum of their earlier rewards.
        vocab_size: V.
        last_reward_counts: whether R(Y) is the last reward ("action_value") instead of the sum of all rewards.

    Returns:
        sequences (M, T) int64, R(Y) (M,) float64, environments (M,) int64, and `begun_rewards` for the next call (B,).
    """
    sequences, row, _ = whole_sequences(observations, actions, episode_starts, vocab_size)
    goes_on = ~episode_starts[0].astype(bool)
    totals = np.bincount(row.ravel(), rewards.ravel().astype(np.float64), minlength=len(sequences))
    totals[row[0]] += np.where(goes_on, begun_rewards, 0.0)
    ends = np.concatenate([episode_starts[1:].astype(bool), dones.astype(bool)[None]])  # (L, B)
    columns = np.broadcast_to(np.arange(ends.shape[1]), ends.shape)[ends]
    found = row[ends]
    returns = rewards[ends].astype(np.float64) if last_reward_counts else totals[found]
    return sequences[found], returns, columns, np.where(dones.astype(bool), 0.0, totals[row[-1]])
