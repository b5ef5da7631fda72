"""The Gymnasium faces of the sequence MDP: `gym.Env` for one sequence, `VectorEnv` for many.

Both are thin: they hold spaces, seeds and autoreset; everything else is in `mdp.SequenceMDP`. For the same seed and the
same actions they give the same numbers. Both take a task. The classes that `gym.make` builds, such as `ToyEnv` and
`ToyVectorEnv`, take the fields of the task's options instead of a task. Their docstring is the task's page.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from seqgan_env.keyboard import keys_to_action
from seqgan_env.mdp import RewardMode, SequenceMDP
from seqgan_env.rendering import RENDER_MODES, check_render_mode, render_row, token_names
from seqgan_env.screen import Screen
from seqgan_env.task_files import TASKS, title
from seqgan_env.tasks.task import Task

POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
_ROW_BY_ROW = ("action_masks", "render", "np_random")  # these give one entry per row


def observation_space(task: Task) -> gym.Space[npt.NDArray[np.int64]]:
    """Box(0, V, (T,), int64): the prefix, padded with PAD = V. Where a task has prompts, it begins with the prompt."""
    space: Any = gym.spaces.Box(0, task.pad_token, (task.sequence_length,), dtype=np.int64)
    return space  # type: ignore[no-any-return]


def action_space(task: Task) -> gym.spaces.Discrete:
    """Discrete(V): the next token."""
    return gym.spaces.Discrete(task.vocab_size)


def play_step(
    mdp: SequenceMDP, actions: Any, rngs: Sequence[np.random.Generator], rows: npt.NDArray[np.bool_] | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], dict[int, dict[str, Any]]]:
    """One step of every face: append a token to each row of a mask (None: all rows); see `SequenceMDP.step`.

    Returns:
        (B,) rewards; (B,) bool, which rows are finished; and the `info` of each row that this step has finished.
    """
    before = mdp.finished.copy()
    rewards = mdp.step(actions, rngs, rows)
    ended = mdp.finished.copy()
    now = ended & ~before
    infos: dict[int, dict[str, Any]] = {}
    if now.any():
        columns = mdp.end_info(now)
        for place, row in enumerate(np.flatnonzero(now).tolist()):
            infos[row] = {key: values[place] for key, values in columns.items()}
    return rewards, ended, infos


class SequenceEnv(gym.Env[npt.NDArray[np.int64], np.int64]):
    """One sequence, generated token by token, for any task.

    Args:
        task: vocabulary, horizon, real sequences.
        reward_model: an object or a string, see `components.build_reward_model`; None is a fresh CNN discriminator.
        reward_mode: "action_value", "potential" or "terminal", see `mdp`.
        rollout_policy: an object or a string, see `components.build_rollout_policy`; None is uniform.
        n_rollouts: N, completions per prefix.
        render_mode: None, "ansi", "rgb_array" or "human".
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 4}  # noqa: RUF012 (Gymnasium's name)

    def __init__(
        self,
        task: Task,
        *,
        reward_model: Any = None,
        reward_mode: RewardMode = "action_value",
        rollout_policy: Any = None,
        n_rollouts: int = 16,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode)
        self.task = task
        self.render_mode = render_mode
        self._screen = Screen()
        self.mdp = SequenceMDP(
            task,
            1,
            reward_model=reward_model,
            reward_mode=reward_mode,
            rollout_policy=rollout_policy,
            n_rollouts=n_rollouts,
        )
        self.observation_space = observation_space(task)
        self.action_space = action_space(task)

    @property
    def reward_mode(self) -> RewardMode:
        """How the reward is spread over the steps."""
        return self.mdp.reward_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.int64], dict[str, Any]]:
        """Begin an episode. `options={"prompt": ...}` gives its prompt, a text or P token ids; else one is drawn."""
        expect_known("reset option", options or {}, self.mdp.reset_options)
        super().reset(seed=seed)
        if seed is not None:
            self.mdp.seed_reward_model(self.np_random)
        self.mdp.reset(None, [self.np_random], [(options or {}).get("prompt")])
        if self.render_mode == "human":
            self.render()
        return self.mdp.tokens[0].copy(), {}

    def step(self, action: Any) -> tuple[npt.NDArray[np.int64], float, bool, bool, dict[str, Any]]:
        token = np.asarray(action)
        if token.shape not in ((), (1,)):
            raise ValueError(f"action has shape {token.shape}; expected one token id in 0..{self.task.vocab_size - 1}")
        rewards, ended, infos = play_step(self.mdp, token.reshape(1), [self.np_random])
        if self.render_mode == "human":
            self.render()
        return self.mdp.tokens[0].copy(), float(rewards[0]), bool(ended[0]), False, infos.get(0, {})

    def render(self) -> Any:
        """The sequence so far with Q per token: a str, an RGB array, or printed ("human")."""
        if self.render_mode is None:
            gym.logger.warn("render() needs a render_mode: gym.make(..., render_mode='ansi')")
            return None
        frame = render_row(self.mdp, 0, self.render_mode)
        return self._screen.show(str(frame)) if self.render_mode == "human" else frame

    def set_reward_model(self, reward_model: Any) -> None:
        """Swap the reward model. Through wrappers, call `env.get_wrapper_attr("set_reward_model")(model)`."""
        self.mdp.set_reward_model(reward_model)

    def set_rollout_policy(self, rollout_policy: Any) -> None:
        """Swap G_beta, or announce that its parameters changed."""
        self.mdp.set_rollout_policy(rollout_policy)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """(V,) bool: the tokens that may come next: all of them, but not a mark that only prompts have."""
        return self.task.action_mask()

    def get_keys_to_action(self) -> dict[tuple[str], int]:
        """The keys of `gymnasium.utils.play`, see `keyboard.keys_to_action`."""
        return keys_to_action(token_names(self.task, range(self.task.vocab_size)))


class SequenceVectorEnv(VectorEnv[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[Any]]):
    """B sequences generated side by side, natively batched, for any task.

    Row i behaves like a single environment with seed `seed + i`.

    Args:
        task: vocabulary, horizon, real sequences.
        num_envs: B.
        autoreset_mode: Gymnasium's enum or its string: NEXT_STEP (default), SAME_STEP or DISABLED. When disabled, reset
            finished rows with `reset(options={"reset_mask": mask})`.
        reward_model, reward_mode, rollout_policy, n_rollouts, render_mode: as in `SequenceEnv`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": RENDER_MODES, "render_fps": 4}  # type: ignore[misc]

    def __init__(
        self,
        task: Task,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        reward_model: Any = None,
        reward_mode: RewardMode = "action_value",
        rollout_policy: Any = None,
        n_rollouts: int = 16,
        render_mode: str | None = None,
    ) -> None:
        check_render_mode(render_mode)
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = type(self).metadata | {"autoreset_mode": self.autoreset_mode}  # type: ignore[misc]
        self.task = task
        self.num_envs = num_envs
        self.render_mode = render_mode
        self._screen = Screen()
        self.mdp = SequenceMDP(
            task,
            num_envs,
            reward_model=reward_model,
            reward_mode=reward_mode,
            rollout_policy=rollout_policy,
            n_rollouts=n_rollouts,
        )
        self.single_observation_space = observation_space(task)
        self.single_action_space = action_space(task)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.rngs = [seeding.np_random()[0] for _ in range(num_envs)]
        self._has_reset = False

    @property
    def reward_mode(self) -> RewardMode:
        """How the reward is spread over the steps."""
        return self.mdp.reward_mode

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """One generator per row."""
        return tuple(self.rngs)

    def reset(  # type: ignore[override]
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.int64], dict[str, Any]]:
        """Reset all rows, or those of `options["reset_mask"]`, (B,) bool. An int as seed gives row i seed + i.
        `options["prompt"]` is a list of B prompts, where None draws one, or a text for all rows.
        """
        rows = self._reset_rows(options)
        if seed is None or isinstance(seed, int | np.integer):
            seeds = [None if seed is None else int(seed) + row for row in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed has {len(seeds)} entries for num_envs={self.num_envs}; give one per row, or an int")
        for row in np.flatnonzero(rows):
            if seeds[row] is not None:
                self.rngs[row] = seeding.np_random(seeds[row])[0]
        if rows[0] and seeds[0] is not None:
            self.mdp.seed_reward_model(self.rngs[0])  # the rows share it
        self.mdp.reset(rows, self.rngs, (options or {}).get("prompt"))
        self._has_reset = True
        if self.render_mode == "human":
            self.render()
        return self.mdp.tokens.copy(), {}

    def step(
        self, actions: Any
    ) -> tuple[
        npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]
    ]:
        """Append one token to every row; (B,) integers -> observations, rewards, terminations, truncations, infos."""
        if not self._has_reset:
            raise gym.error.ResetNeeded("call reset() before the first step()")
        resets = self.mdp.finished.copy()
        goes_on = ~resets if self.autoreset_mode is AutoresetMode.NEXT_STEP else None
        rewards, ended, rows = play_step(self.mdp, actions, self.rngs, goes_on)
        if goes_on is not None and resets.any():
            self.mdp.reset(resets, self.rngs)
            ended &= ~resets
        infos: dict[str, Any] = {}
        for place, info in rows.items():
            infos = self._add_info(infos, info, place)
        if self.autoreset_mode is AutoresetMode.SAME_STEP and ended.any():
            final_obs = np.full(self.num_envs, None, dtype=object)
            for row in np.flatnonzero(ended):
                final_obs[row] = self.mdp.tokens[row].copy()
            infos = {
                "final_obs": final_obs,
                "_final_obs": ended.copy(),
                "final_info": infos,
                "_final_info": ended.copy(),
            }
            self.mdp.reset(ended, self.rngs)
        if self.render_mode == "human":
            self.render()
        return self.mdp.tokens.copy(), rewards, ended, np.zeros(self.num_envs, dtype=bool), infos

    def render(self) -> Any:
        """One frame per row, as in `SequenceEnv.render`."""
        if self.render_mode is None:
            gym.logger.warn("render() needs a render_mode: gym.make_vec(..., render_mode='ansi')")
            return None
        frames = tuple(render_row(self.mdp, row, self.render_mode) for row in range(self.num_envs))
        return self._screen.show("\n".join(map(str, frames))) if self.render_mode == "human" else frames

    def set_reward_model(self, reward_model: Any) -> None:
        """Swap the reward model of all rows."""
        self.mdp.set_reward_model(reward_model)

    def set_rollout_policy(self, rollout_policy: Any) -> None:
        """Swap G_beta of all rows, or announce that its parameters changed."""
        self.mdp.set_rollout_policy(rollout_policy)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """(B, V) bool: the tokens that may come next."""
        return np.tile(self.task.action_mask(), (self.num_envs, 1))

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method, or read an attribute, and give one result for each row, as Gymnasium's vector environments do.

        The rows share one MDP, so a method such as `set_reward_model` is called once, for all of them.
        """
        value = getattr(self, name)
        result = value(*args, **kwargs) if callable(value) else value
        if name in _ROW_BY_ROW and result is not None:
            return tuple(result)
        return (result,) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Read an attribute; the result has one entry per row."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of all rows.

        Args:
            name: of the attribute.
            values: its value, or a list or tuple with the same value for each row.

        Raises:
            ValueError: if the number of values is not B, or if the values differ. The rows share one MDP.
        """
        if isinstance(values, list | tuple):
            if len(values) != self.num_envs:
                raise ValueError(f"values has {len(values)} entries for num_envs={self.num_envs}; give one per row")
            if any(value is not values[0] and value != values[0] for value in values):
                raise ValueError(f"set_attr({name!r}): the rows share one MDP, so they take one value; got {values}")
            values = values[0]
        setattr(self, name, values)

    def _reset_rows(self, options: dict[str, Any] | None) -> npt.NDArray[np.bool_]:
        expect_known("reset option", options or {}, ("reset_mask", *self.mdp.reset_options))
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return np.ones(self.num_envs, dtype=bool)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"options['reset_mask'] must be a bool array, got {type(mask).__name__}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask'] must have shape ({self.num_envs},) and at least one True, got {mask}"
            )
        return mask.copy()


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """The enum of a mode, its value ("NextStep") or its name ("NEXT_STEP")."""
    if isinstance(mode, AutoresetMode):
        return mode
    for candidate in AutoresetMode:
        if mode in (candidate.value, candidate.name):
            return candidate
    raise ValueError(f"autoreset_mode={mode!r} must be one of {[candidate.value for candidate in AutoresetMode]}")


# Each task has one class per face, such as `envs.ToyEnv` and `envs.ToyVectorEnv`. It is made at its first use.


def _face_of(options: type[Any], face: type[Any], name: str, first: tuple[str, ...]) -> type[Any]:
    """Make a subclass of a face that builds its task from keywords: the fields of the task's options.

    Args:
        options: the options class of a task.
        face: `SequenceEnv` or `SequenceVectorEnv`.
        name: of the new class.
        first: parameters of the face that come before the options.
    """
    parameters = [p for p in inspect.signature(face).parameters.values() if p.name != "task"]
    own = [inspect.Parameter(field.name, POSITIONAL, default=field.default) for field in fields(options)]
    leading = [p.replace(kind=POSITIONAL) for p in parameters if p.name in first]
    signature = inspect.Signature([*leading, *own, *(p for p in parameters if p.name not in first)])

    def __init__(self: Any, *args: Any, **keywords: Any) -> None:
        expect_known(f"{name}: keyword", keywords, signature.parameters)
        given = signature.bind(*args, **keywords).arguments
        of_task = {field.name: given.pop(field.name) for field in fields(options) if field.name in given}
        face.__init__(self, options(**of_task).task(), **given)

    page = options.PAGE if face is SequenceEnv else f"Natively batched: {options.PAGE}"
    body = {"__init__": __init__, "__doc__": page, "__module__": __name__, "__signature__": signature}
    return type(name, (face,), body)


def __getattr__(name: str) -> Any:
    """The environment classes of the tasks, such as `ToyEnv` and `ToyVectorEnv`."""
    for task in TASKS:
        for face, suffix, first in ((SequenceVectorEnv, "VectorEnv", ("num_envs",)), (SequenceEnv, "Env", ())):
            if name == f"{title(task)}{suffix}":
                globals()[name] = _face_of(TASKS[task], face, name, first)
                return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def expect_known(what: str, given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise TypeError for an unknown name. The message gives the most similar known name, then all known names.

    Args:
        what: the kind of name, for the message.
        given: name -> value.
        known: the names that exist.
    """
    known = list(known)
    for name in given:
        if name not in known:
            similar = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {similar[0]!r}?" if similar else ";"
            listed = f"known are {', '.join(known)}" if known else "there are none"
            raise TypeError(f"{what} {name!r} is unknown{hint} {listed}")
