"""Eq. 6-8: REINFORCE, the policy gradient of SeqGAN, as an SB3 algorithm.

Eq. 6-7: grad J = E_{Y ~ G}[ sum_t grad log G(y_t | Y_{1:t-1}) Q(Y_{1:t-1}, y_t) ].  Eq. 8: theta <- theta + alpha
grad J. In: experience of an SB3 vector environment. Out: one Adam step per batch of experience.
With `reward_mode="action_value"` the reward of a step is Q itself, so the discount is 0. With "potential" and
"terminal" rewards the weight of a step is its return to go, so the discount is 1.
Where sequences differ in length, a sequence may be cut at the end of an update. Its reward then arrives in the next
update, which also credits the tokens before the cut. So every token gets its whole return, and the cuts do not matter.
As in the authors' code the loss is summed over batch and time, and its gradient is then clipped to a global norm of 5.
With Adam this acts as a normalisation. By default there is no baseline and no entropy bonus.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import explained_variance
from torch import Tensor

from agents.moments import load_moments, moments
from agents.policies import SequencePolicy
from agents.prefixes import episode_steps, prefix_tokens, prompt_length_of
from seqgan_env.arguments import check_count, check_number
from seqgan_env.models.sequence_models import shift_right

Baseline = Literal["none", "step_mean", "value", "completions"]
SelfREINFORCE = TypeVar("SelfREINFORCE", bound="REINFORCE")


class REINFORCE(OnPolicyAlgorithm):
    """SeqGAN's generator update on SB3's `OnPolicyAlgorithm`.

    Args:
        policy: "LSTMPolicy", or a `SequencePolicy` class.
        env: an environment of this project, its id, or any environment with Discrete actions over prefixes of tokens.
        learning_rate: alpha of Eq. 8, for Adam (2018 code: 1e-2, 2016 code: 1e-3).
        n_steps: steps of each environment per update; None is the horizon T, one sequence from each.
        gamma: discount; None is 0 for `reward_mode="action_value"` and 1 otherwise.
        baseline: subtracted from the weights; each keeps the gradient unbiased: "none" (the paper), "step_mean" (the
            mean of the other sequences at the same step), "value" (a learned head on the generator's detached state) or
            "completions" (the mean reward of the completions of the prefix, Q_{t-1}: the weight is Q_t - Q_{t-1};
            "action_value" rewards only).
        loss_reduction: "sum" over batch and time (authors' code) or "mean" over tokens.
        ent_coef: weight of the entropy bonus; 0 is the paper. The gradient of G's entropy at a prefix is
            -E_y[grad log G(y) log G(y)], so -log G(y_t | Y_{1:t-1}), in nats, is added to the weight of each step.
        vf_coef: weight of the value head's loss; used with baseline="value".
        max_grad_norm: global norm to which gradients are clipped (authors: 5).
        stats_window_size, tensorboard_log, policy_kwargs, verbose, seed, device: as in SB3.

    Raises:
        ValueError: for an unknown baseline or reduction, or a number that is NaN, infinite or out of its range; if a
            wrapper around the environment changes the width of observations.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "LSTMPolicy": SequencePolicy,
        "SequencePolicy": SequencePolicy,
        "MlpPolicy": SequencePolicy,  # generic SB3 scripts use this name
    }
    policy: SequencePolicy
    # A game calls `learn` once for each update. With its total number of steps here, schedules fall over the whole
    # game.
    planned_timesteps: int | None = None

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-2,
        n_steps: int | None = None,
        gamma: float | None = None,
        baseline: Baseline = "none",
        loss_reduction: Literal["sum", "mean"] = "sum",
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 5.0,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        if baseline not in get_args(Baseline):
            raise ValueError(f"baseline={baseline!r} must be one of {get_args(Baseline)}")
        if loss_reduction not in ("sum", "mean"):
            raise ValueError(f"loss_reduction={loss_reduction!r} must be 'sum' or 'mean'")
        if not callable(learning_rate):
            check_number("learning_rate", learning_rate, at_least=0)
        if n_steps is not None:
            check_count("n_steps", n_steps)
        if gamma is not None:
            check_number("gamma", gamma, at_least=0, at_most=1)
        check_number("ent_coef", ent_coef)
        check_number("vf_coef", vf_coef, at_least=0)
        check_number("max_grad_norm", max_grad_norm, above=0)
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps or 1,
            gamma=0.0,
            gae_lambda=1.0,  # the buffer's returns are then plain discounted sums
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=False,
            sde_sample_freq=-1,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
        )
        self.baseline = baseline
        self.loss_reduction = loss_reduction
        if self.env is not None:
            self.n_steps = n_steps or episode_steps(self.env)
            self.gamma = default_discount(self._reward_mode()) if gamma is None else gamma
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.env is not None:  # given to the constructor, or to `load`
            self._count_responses()
            self._check_width()
            self._check_discount()
            self._check_baseline()

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        super().set_env(env, force_reset)
        self._count_responses()
        self._check_width()
        self._check_discount()
        self._check_baseline()

    def _count_responses(self) -> None:
        """Tell the generator how long the environment's prompts are: their log-probabilities are not counted."""
        if isinstance(self.policy, SequencePolicy):
            self.policy.generator.prompt_length = prompt_length_of(self.env)

    def _check_width(self) -> None:
        """Check that wrappers have not changed the width of the environment's prefixes."""
        assert self.env is not None
        given, own = self.env.observation_space.shape, self.env.unwrapped.observation_space.shape
        if given != own:
            raise ValueError(
                f"{type(self.env).__name__} gives observations of shape {given}, the environment within {own}. A "
                "prefix holds its whole past: leave out wrappers that stack or cut observations, such as VecFrameStack"
            )

    def _reward_mode(self) -> str | None:
        """The environment's reward mode, None where it has none."""
        assert self.env is not None
        try:
            mode: str = self.env.get_attr("reward_mode", indices=[0])[0]
        except AttributeError:
            return None
        return mode

    def _check_discount(self) -> None:
        """Warn of a discount that does not fit the rewards, as after loading an agent of another reward mode."""
        mode = self._reward_mode()
        if mode == "action_value" and self.gamma != 0:
            problem = (
                "each reward already is the action value Q, which holds the whole future; summing them counts it many "
                "times. Use gamma=0, or reward_mode='potential'"
            )
        elif mode in ("terminal", "potential") and self.gamma == 0:
            learned = (
                "the last token alone learns" if mode == "terminal" else "a token learns from its own Q_t - Q_{t-1}"
            )
            problem = f"rewards are to be summed, and {learned}. Use gamma=1, also in REINFORCE.load(..., gamma=1.0)"
        else:
            return
        warnings.warn(f"gamma={self.gamma} with reward_mode={mode!r}: {problem}.", UserWarning, stacklevel=4)

    def _check_baseline(self) -> None:
        if self.baseline == "completions" and (self._reward_mode() != "action_value" or self.gamma != 0):
            raise ValueError(
                "baseline='completions' needs reward_mode='action_value' and gamma=0, and they are "
                f"{self._reward_mode()!r} and {self.gamma}: only there is a reward the value of a prefix"
            )

    def train(self) -> None:
        """Eq. 8: one step of Adam on the experience in the buffer."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        buffer = self.rollout_buffer
        sequences, row, step = whole_sequences(
            buffer.observations, buffer.actions[..., 0], buffer.episode_starts, self.policy.generator.vocab_size
        )
        # Steps before a cut get their return late; their bonus was already counted in the update that they belong to.
        rewarded = buffer.returns - np.float32(self.ent_coef) * buffer.log_probs
        begins = buffer.episode_starts.astype(bool)
        advantages = subtract_baseline(rewarded, step, buffer.values, self.baseline, begins)
        weights = np.zeros(sequences.shape, dtype=np.float32)
        weights[row, step] = advantages
        for column in np.flatnonzero(~begins[0]):  # sequences that began in an earlier buffer
            late = buffer.returns[0, column] - buffer.values[0, column]  # minus what that buffer expected
            weights[row[0, column], : step[0, column]] = late * self.gamma ** np.arange(step[0, column], 0, -1)
        targets, weights_tensor = self._to_device(sequences), self._to_device(weights)

        log_likelihood = self.policy.generator.weighted_log_likelihood(targets, weights_tensor)
        loss = -log_likelihood / (advantages.size if self.loss_reduction == "mean" else 1)
        value_loss = torch.zeros((), device=self.device)
        if self.baseline == "value":
            value_loss = self._value_loss(targets, row, step)
        self.policy.optimizer.zero_grad()
        (loss + self.vf_coef * value_loss).backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()

        self._n_updates += 1
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/policy_gradient_loss", loss.item())
        self.logger.record("train/mean_return", float(buffer.returns.mean()))
        self.logger.record("train/mean_weight", float(advantages.mean()))
        self.logger.record("train/entropy_loss", float(buffer.log_probs.mean()))  # Monte-Carlo, nats per token
        self.logger.record("train/grad_norm", float(grad_norm))
        if self.baseline == "value":
            self.logger.record("train/value_loss", value_loss.item())
            explained = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
            self.logger.record("train/explained_variance", explained)

    def _value_loss(self, sequences: Tensor, row: npt.NDArray[np.int64], step: npt.NDArray[np.int64]) -> Tensor:
        """Mean squared error of the value head; the generator's state is detached, so that only the head learns."""
        generator = self.policy.generator
        with torch.no_grad():
            hidden = generator.hidden_states(shift_right(sequences, generator.vocab_size))  # (S, T, H)
        values = self.policy.value_net(hidden).squeeze(2)[row, step].float()
        return torch.nn.functional.mse_loss(values, self._to_device(self.rollout_buffer.returns))

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, self.planned_timesteps or total_timesteps)

    def state_dict(self) -> dict[str, Any]:
        """Everything that `learn` depends on, except the environment: policy, optimizer, counters.

        Unfinished sequences are in the environment's `state_dict`.
        """
        return {
            "policy": dict(self.policy.state_dict()),
            "optimizer": moments(self.policy.optimizer),
            "num_timesteps": self.num_timesteps,
            "n_updates": self._n_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what `state_dict` returned."""
        self.policy.load_state_dict(state["policy"])
        load_moments(self.policy.optimizer, state["optimizer"])
        self.num_timesteps = state["num_timesteps"]
        self._n_updates = state["n_updates"]

    def _to_device(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def learn(
        self: SelfREINFORCE,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "REINFORCE",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfREINFORCE:
        """Collect experience and update until `total_timesteps` steps are done; as in SB3."""
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)


def default_discount(reward_mode: str | None) -> float:
    """0 if a reward is an action value, which is Eq. 7's weight itself; 1 if the rewards sum to R(Y)."""
    return 0.0 if reward_mode == "action_value" else 1.0


def whole_sequences(
    observations: npt.NDArray[Any],
    actions: npt.NDArray[Any],
    episode_starts: npt.NDArray[Any],
    vocab_size: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Join the experience of single steps to sequences, so that each sequence is computed once, not once per step.

    Args:
        observations: (L, B, T) prefixes before each step, PAD = V.
        actions: (L, B) tokens.
        episode_starts: (L, B), non-zero where an episode begins.
        vocab_size: V.

    Returns:
        sequences (S, T) int64; and for each of the (L, B) steps its row in them and its place in this row. An episode
        that began before the buffer keeps its earlier tokens. An episode that continues after the buffer ends where the
        buffer ends.
    """
    length, batch, horizon = observations.shape
    flat = prefix_tokens(torch.from_numpy(observations).flatten(0, 1), vocab_size, horizon)
    observations = flat.view(length, batch, horizon).numpy()
    begins = episode_starts.astype(bool)
    begins[0] = True
    row = np.cumsum(begins, axis=0) - 1  # per column, then offset by the columns before
    row += np.concatenate([[0], np.cumsum(row[-1] + 1)[:-1]])
    step = (observations < vocab_size).sum(axis=2)  # tokens before the action = place of the action
    ends = np.concatenate([begins[1:], np.ones((1, batch), dtype=bool)])
    sequences = np.empty((int(row.max()) + 1, observations.shape[2]), dtype=np.int64)
    sequences[row[ends]] = observations[ends]
    sequences[row[ends], step[ends]] = actions[ends].astype(np.int64)
    return sequences, row, step


def subtract_baseline(
    returns: npt.NDArray[np.float32],
    step: npt.NDArray[np.int64],
    values: npt.NDArray[np.float32],
    baseline: Baseline,
    begins: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.float32]:
    """Weights of the policy gradient: returns minus a baseline that does not depend on the action, (L, B).

    Args:
        returns: (L, B).
        step: (L, B), the place of each action in its sequence.
        values: (L, B), the value head's predictions before the actions.
        baseline: see `REINFORCE`. "step_mean" leaves the sequence itself out, which keeps the gradient unbiased.
            "completions" takes the return of the step before, which does not depend on this action. The first step has
            "step_mean".
        begins: (L, B), whether an episode begins with the step; None: where it is at place 0, as without prompts.
    """
    if baseline == "value":
        return returns - values
    if baseline == "none":
        return returns
    sums = np.bincount(step.ravel(), returns.ravel())[step]
    counts = np.bincount(step.ravel())[step]
    others = (sums - returns) / np.maximum(counts - 1, 1)
    advantages = np.where(counts > 1, returns - others, 0.0).astype(np.float32)
    if baseline == "completions":
        goes_on = step[1:] > 0 if begins is None else ~begins[1:]  # the row before is the same sequence
        advantages[1:][goes_on] = (returns[1:] - returns[:-1])[goes_on]
    return advantages
