"""The Stable-Baselines3 face of the sequence MDP: one VecEnv over the native vector environment.

SB3 resets finished rows within the step, returns infos as a list, and seeds row i with seed + i. For the same seed and
actions it gives the same numbers as the Gymnasium faces.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

import seqgan_env  # noqa: F401  (registers the environments)
from seqgan_env.envs import SequenceVectorEnv, expect_known

_EPISODES = ("tokens", "lengths", "values")  # attributes of the MDP; G_beta's states are recomputed from them


class SequenceVecEnv(VecEnv):
    """An SB3 VecEnv whose rows share one batched MDP.

    `env_method` and `set_attr` act on the shared MDP, and so on all rows: their `indices` must be None.

    Args:
        env: the native vector environment; its own autoreset mode does not matter here.
    """

    def __init__(self, env: SequenceVectorEnv) -> None:
        self.env = env
        self._actions: np.ndarray | None = None
        self._returns = np.zeros(env.num_envs)
        self._start_time = time.time()
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> VecEnvObs:
        for options in self._options:  # of `set_options`
            expect_known("reset option", options, self.env.mdp.reset_options)
        given = {name: [options.get(name) for options in self._options] for name in self.env.mdp.reset_options}
        observations, _ = self.env.reset(seed=list(self._seeds), options=given)
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        mdp = self.env.mdp
        rewards = mdp.step(self._actions, self.env.rngs)
        self._returns += rewards
        dones = mdp.finished.copy()
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if dones.any():
            columns = mdp.end_info(dones)
            for place, row in enumerate(np.flatnonzero(dones)):
                steps = int(mdp.lengths[row]) - mdp.task.prompt_length
                episode = {"r": float(self._returns[row]), "l": steps, "t": self._elapsed()}
                infos[row] = {
                    **{key: values[place] for key, values in columns.items()},
                    "terminal_observation": mdp.tokens[row].copy(),
                    "TimeLimit.truncated": False,
                    "episode": episode,
                }
            mdp.reset(dones, self.env.rngs)
            self._returns[dones] = 0
        return mdp.tokens.copy(), rewards.astype(np.float32), dones, infos

    def _elapsed(self) -> float:
        return round(time.time() - self._start_time, 6)

    def state_dict(self) -> dict[str, Any]:
        """The state of the episodes: prefixes and their values, returns so far, random states."""
        mdp = self.env.mdp
        begun = bool(mdp.lengths.any())  # a prompt is drawn; or, if sequences differ in length, some are unfinished
        return {
            "episodes": {name: torch.from_numpy(getattr(mdp, name).copy()) for name in _EPISODES} if begun else None,
            "returns": self._returns.tolist(),
            "rngs": [rng.bit_generator.state for rng in self.env.rngs],
        }

    def load_state_dict(self, state: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Set what `state_dict` returned.

        Returns:
            The current observations (B, T), and whether an episode begins there, (B,) bool.
        """
        self.reset()  # this uses up seeds that a learner has set, before the stored states are set
        mdp = self.env.mdp
        for name, tensor in (state["episodes"] or {}).items():
            getattr(mdp, name)[:] = tensor.numpy()
        self._returns[:] = state["returns"]
        for rng, stored in zip(self.env.rngs, state["rngs"], strict=True):
            rng.bit_generator.state = stored
        return mdp.tokens.copy(), mdp.begins

    def close(self) -> None:
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        frames = self.env.render()
        return frames if frames is not None else []

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        value = getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        self._check_all_rows("set_attr", indices)
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> Any:
        if method_name == "action_masks":  # (B, V): a row for each environment
            masks = self.env.action_masks()
            return [masks[row] for row in self._get_indices(indices)]
        self._check_all_rows("env_method", indices)
        value = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [value] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]

    def _check_all_rows(self, caller: str, indices: VecEnvIndices) -> None:
        if indices is not None and sorted(self._get_indices(indices)) != list(range(self.num_envs)):
            raise ValueError(f"{caller}(indices={indices!r}): the rows share one MDP; leave indices out")


def make_sequence_vec_env(env_id: str, num_envs: int = 64, seed: int | None = None, **kwargs: Any) -> SequenceVecEnv:
    """An SB3 VecEnv of a registered environment: `make_sequence_vec_env("SeqGAN-Oracle-v0", 64, n_rollouts=16)`.

    Args:
        env_id: the id of an environment of this project.
        num_envs: B (paper's code: 64).
        seed: row i gets seed + i at the first reset.
        kwargs: the environment's keywords.

    Raises:
        TypeError: if the id makes another kind of environment.
    """
    env = gym.make_vec(env_id, num_envs=num_envs, **kwargs)
    if not isinstance(env, SequenceVectorEnv):
        raise TypeError(f"env_id={env_id!r} makes a {type(env).__name__}; give an id of seqgan_env")
    vec_env = SequenceVecEnv(env)
    if seed is not None:
        vec_env.seed(seed)
    return vec_env
