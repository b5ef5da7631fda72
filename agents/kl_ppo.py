"""PPO with a KL penalty to the generator after maximum likelihood, as in RLHF.

Ziegler et al. 2019 (arXiv 1909.08593), Eq. 2; Ouyang et al. 2022 (InstructGPT, arXiv 2203.02155), Eq. 2: the reward of
step t becomes
    r_t - kl_coef * log( G(y_t | Y_{1:t-1}) / G_ref(y_t | Y_{1:t-1}) ),
so that the objective is E[R(Y)] - kl_coef * KL(G || G_ref), nats per sequence. Everything else is SB3's PPO. In: SB3's
experience. Out: SB3's update on the changed rewards. G_ref is the generator at the start of the first `learn`.
Departures: kl_coef is fixed, as in InstructGPT (Ziegler et al. adapt it); there is no pretraining term.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule

from agents.moments import load_moments, moments
from agents.policies import SequencePolicy
from agents.prefixes import episode_steps, prompt_length_of
from agents.reference import Reference
from agents.reinforce import whole_sequences
from seqgan_env.arguments import check_count, check_number

SelfKLPPO = TypeVar("SelfKLPPO", bound="KLPPO")


class KLPPO(PPO):
    """SB3's PPO with a KL penalty to a reference generator in the rewards.

    Args:
        policy: "LSTMPolicy", or a `SequencePolicy` class.
        env: an environment of this project with `reward_mode="potential"` or `"terminal"`, or its id.
        learning_rate: of Adam.
        n_steps: steps of each environment per update; None is the horizon T.
        batch_size: steps of a minibatch; None takes all steps of the update.
        n_epochs, gae_lambda, clip_range, normalize_advantage, ent_coef, vf_coef, max_grad_norm: as in SB3's PPO.
        gamma: discount; with 1 the penalties of a sequence add up to its KL.
        kl_coef: weight of KL(G || G_ref), in reward per nat, per sequence; 0 is plain PPO, without a reference.
        ppo: other arguments of SB3's PPO (target_kl, stats_window_size, tensorboard_log, policy_kwargs, verbose, seed,
            device).

    Attributes:
        reference: G_ref, None without a penalty. It is taken when the first `learn` begins.

    Raises:
        ValueError, TypeError: if a setting is not finite or out of range, batch_size does not divide an update, or the
            policy is not a `SequencePolicy`.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "LSTMPolicy": SequencePolicy,
        "SequencePolicy": SequencePolicy,
        "MlpPolicy": SequencePolicy,  # generic SB3 scripts use this name
    }
    policy: SequencePolicy

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 5e-3,
        n_steps: int | None = None,
        batch_size: int | None = None,
        n_epochs: int = 4,
        gamma: float = 1.0,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        normalize_advantage: bool = True,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        kl_coef: float = 0.05,
        _init_setup_model: bool = True,
        **ppo: Any,
    ) -> None:
        check_number("kl_coef", kl_coef, at_least=0)
        check_number("gamma", gamma, at_least=0, at_most=1)
        check_number("gae_lambda", gae_lambda, at_least=0, at_most=1)
        check_number("ent_coef", ent_coef, at_least=0)
        check_number("vf_coef", vf_coef, at_least=0)
        check_number("max_grad_norm", max_grad_norm, above=0)
        if not callable(learning_rate):
            check_number("learning_rate", learning_rate, at_least=0)
        if not callable(clip_range):
            check_number("clip_range", clip_range, above=0)
        for name, count, least in (("n_steps", n_steps, 1), ("batch_size", batch_size, 2), ("n_epochs", n_epochs, 1)):
            if count is not None:
                check_count(name, count, least)
        # SB3 checks sizes before it knows the environment's horizon. So it first gets sizes that fit, and then ours.
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=2,
            batch_size=2,
            n_epochs=n_epochs,
            gamma=gamma,
            gae_lambda=gae_lambda,
            clip_range=clip_range,
            normalize_advantage=normalize_advantage,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            _init_setup_model=False,
            **ppo,
        )
        self.kl_coef = kl_coef
        if self.env is not None:
            self.n_steps = n_steps or episode_steps(self.env)
            self.batch_size = batch_size or self.n_steps * self.n_envs
            self._check_sizes()
        if _init_setup_model:
            self._setup_model()

    def _check_sizes(self) -> None:
        assert self.env is not None
        steps = self.n_steps * self.n_envs
        if steps < 2 or steps % self.batch_size:
            raise ValueError(
                f"batch_size={self.batch_size} must divide the {steps} steps of an update (n_steps="
                f"{self.n_steps} times n_envs={self.n_envs}, at least 2); leave batch_size out to take all of them"
            )
        try:
            mode = self.env.get_attr("reward_mode", indices=[0])[0]
        except AttributeError:
            return
        if mode == "action_value" and self.gamma != 0:
            warnings.warn(
                f"gamma={self.gamma} with reward_mode='action_value': each reward already holds the whole future; "
                "summing them counts it many times. Use reward_mode='potential'.",
                UserWarning,
                stacklevel=3,
            )

    def _setup_model(self) -> None:
        super()._setup_model()
        if not isinstance(self.policy, SequencePolicy):
            raise ValueError(
                f"policy={type(self.policy).__name__} must be a SequencePolicy: the KL needs its generator"
            )
        self.policy.generator.prompt_length = prompt_length_of(self.env)
        self.reference = Reference(self.policy.generator) if self.kl_coef > 0 else None

    def take_reference(self) -> None:
        """G_ref <- G, now. Without this call the first `learn` does it."""
        if self.reference is None:
            raise ValueError("this KLPPO has no reference; give it a kl_coef above 0")
        self.reference.take(self.policy.generator)

    def _setup_learn(self, *arguments: Any, **keywords: Any) -> Any:
        if self.reference is not None and not bool(self.reference.taken):
            self.take_reference()
        return super()._setup_learn(*arguments, **keywords)

    def train(self) -> None:
        """Compute the advantages of the changed rewards, then update as PPO does."""
        if self.reference is not None:
            self._penalise(self.reference)
        super().train()

    def _penalise(self, reference: Reference) -> None:
        """Compute the advantages again with r_t - kl_coef * log(G / G_ref). The buffer keeps the rewards themselves."""
        buffer = self.rollout_buffer
        sequences, row, step = whole_sequences(
            buffer.observations, buffer.actions[..., 0], buffer.episode_starts, self.policy.generator.vocab_size
        )
        reference_log_probs = reference.log_probs(torch.from_numpy(sequences).to(self.device)).cpu().numpy()
        drift = buffer.log_probs - reference_log_probs[row, step]  # (L, B), nats per token
        assert self._last_obs is not None
        assert self._last_episode_starts is not None
        self.policy.set_training_mode(False)
        with torch.no_grad():
            prefixes = torch.as_tensor(self._last_obs, device=self.device)
            last_values = self.policy.predict_values(prefixes)
        rewards = buffer.rewards
        buffer.rewards = rewards - self.kl_coef * drift
        buffer.compute_returns_and_advantage(last_values=last_values, dones=np.asarray(self._last_episode_starts))
        buffer.rewards = rewards
        self.logger.record("train/reference_kl", float(drift.mean()))  # Monte-Carlo, nats per token

    def learn(
        self: SelfKLPPO,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "KLPPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfKLPPO:
        """Collect experience and update until `total_timesteps` steps are done; as in SB3."""
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    # Saving: SB3's zip, and checkpoints.

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "reference"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, tensors = super()._get_torch_save_params()
        return ([*modules, "reference"] if self.kl_coef > 0 else modules), tensors

    def state_dict(self) -> dict[str, Any]:
        """Everything that `learn` depends on, except the environment: policy, optimizer, reference, counters."""
        return {
            "policy": dict(self.policy.state_dict()),
            "optimizer": moments(self.policy.optimizer),
            "num_timesteps": self.num_timesteps,
            "n_updates": self._n_updates,
            "reference": None if self.reference is None else dict(self.reference.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what `state_dict` returned."""
        self.policy.load_state_dict(state["policy"])
        load_moments(self.policy.optimizer, state["optimizer"])
        self.num_timesteps = state["num_timesteps"]
        self._n_updates = state["n_updates"]
        if self.reference is not None:
            self.reference.load_state_dict(state["reference"])
