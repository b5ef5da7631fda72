"""The state of any on-policy SB3 algorithm as a part of a checkpoint, also of one that has no `state_dict`.

In: an algorithm between two updates. Out: nested dicts of tensors and JSON values: policy with value head, optimizers,
counters, references, and the attributes that a class of somebody's own has added. Its settings are not restored from
here: the configuration holds them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor, nn

from agents.moments import load_moments, moments

# Attributes of SB3 that are no state of learning: the clock, the current episodes (the environment has them), the plan.
_NO_STATE = (
    *("start_time", "planned_timesteps", "policy", "policy_kwargs"),
    *("_last_obs", "_last_episode_starts", "_last_original_obs"),
)


def learner_state(agent: OnPolicyAlgorithm) -> dict[str, Any]:
    """Everything that `learn` depends on, except the environment.

    A class that defines `state_dict` says itself what belongs to its state. For any other class all its attributes are
    stored that are modules, optimizers, numbers, texts, arrays, tensors, NumPy generators, or lists and dicts of them.
    """
    has_own = hasattr(agent, "state_dict")
    state: dict[str, Any] = agent.state_dict() if has_own else _policy_state(agent)  # type: ignore[attr-defined]
    if "state_dict" in vars(type(agent)):
        return state
    left = {name: value for name, value in vars(agent).items() if name not in (*_NO_STATE, *state)}
    return state | {"attributes": {name: _stored(value) for name, value in left.items() if _is_state(value)}}


def load_learner_state(agent: OnPolicyAlgorithm, state: dict[str, Any]) -> None:
    """Set what `learner_state` returned.

    Raises:
        KeyError, RuntimeError, TypeError, ValueError: if it is the state of another learner.
    """
    if hasattr(agent, "load_state_dict"):
        agent.load_state_dict(state)
    else:
        agent.policy.load_state_dict(state["policy"])
        load_moments(agent.policy.optimizer, state["optimizer"])
    for name, value in state.get("attributes", {}).items():
        _restore(agent, name, value)


def resume_episodes(
    agent: OnPolicyAlgorithm, observations: npt.NDArray[np.int64], episode_starts: npt.NDArray[np.bool_]
) -> None:
    """Continue the environment's current episodes in the next `learn`, instead of resetting it.

    Args:
        agent: the algorithm.
        observations: (B, T) current prefixes of the environment.
        episode_starts: (B,) bool, whether a sequence begins there.
    """
    agent._last_obs = observations
    agent._last_episode_starts = episode_starts


def _policy_state(agent: OnPolicyAlgorithm) -> dict[str, Any]:
    return {"policy": dict(agent.policy.state_dict()), "optimizer": moments(agent.policy.optimizer)}


def _is_state(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_state, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_state(inner) for name, inner in value.items())
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    kinds = (bool, int, float, str, np.generic, Tensor, nn.Module, torch.optim.Optimizer, np.random.Generator)
    return value is None or isinstance(value, kinds)


def _stored(value: Any) -> Any:
    """A value as a checkpoint holds it."""
    if isinstance(value, list | tuple):
        return [_stored(inner) for inner in value]
    if isinstance(value, dict):
        return {name: _stored(inner) for name, inner in value.items()}
    if isinstance(value, nn.Module):
        return dict(value.state_dict())
    if isinstance(value, torch.optim.Optimizer):
        return moments(value)
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    return value.item() if isinstance(value, np.generic) else value


def _restore(agent: OnPolicyAlgorithm, name: str, value: Any) -> None:
    """Set an attribute; of a module, an optimizer or a generator only what is in it."""
    now = getattr(agent, name, None)
    if isinstance(now, nn.Module):
        now.load_state_dict(value)
    elif isinstance(now, torch.optim.Optimizer):
        load_moments(now, value)
    elif isinstance(now, np.random.Generator):
        now.bit_generator.state = value
    else:
        setattr(agent, name, _like(now, value))


def _like(now: Any, value: Any) -> Any:
    """A stored value in the form that the attribute has: an array for a tensor, a tuple for a list."""
    if isinstance(now, np.ndarray) and isinstance(value, Tensor):
        return value.numpy().copy()
    if isinstance(now, tuple) and isinstance(value, list):
        return tuple(value)
    if isinstance(value, Tensor):
        return value.clone().to(now.device if isinstance(now, Tensor) else "cpu")
    return value
