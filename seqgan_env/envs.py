"""The Gymnasium faces of the sequence MDP: `gym.Env` for one sequence, `VectorEnv` for many.

Both are thin: they hold spaces, seeds and autoreset; everything else is `mdp.SequenceMDP`. For the same seed and the
same actions they give the same numbers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from seqgan_env.mdp import RewardMode, SequenceMDP
from seqgan_env.rendering import rgb_frame, text_frame
from seqgan_env.tasks.music import music_task
from seqgan_env.tasks.oracle import oracle_task
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.text import text_task
from seqgan_env.tasks.toy import toy_task
from seqgan_env.terminal_text import shown

RENDER_MODES = ["ansi", "rgb_array", "human"]


def observation_space(task: Task) -> gym.Space[npt.NDArray[np.int64]]:
    """Box(0, V, (T,), int64): the prefix, padded with PAD = V."""
    space: Any = gym.spaces.Box(0, task.pad_token, (task.sequence_length,), dtype=np.int64)
    return space  # type: ignore[no-any-return]


def action_space(task: Task) -> gym.spaces.Discrete:
    """Discrete(V): the next token."""
    return gym.spaces.Discrete(task.vocab_size)


def check_render_mode(render_mode: str | None) -> None:
    """Raise ValueError for a render mode that does not exist."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode={render_mode!r} must be None or one of {RENDER_MODES}")


def render_row(mdp: SequenceMDP, row: int, render_mode: str) -> str | npt.NDArray[np.uint8]:
    """One sequence of the MDP as text, or as a picture for "rgb_array"."""
    length = int(mdp.lengths[row])
    ids = mdp.tokens[row, :length]
    vocabulary = mdp.task.vocabulary
    tokens = [str(i) if vocabulary is None else vocabulary.tokens[i] for i in ids]
    draw = rgb_frame if render_mode == "rgb_array" else text_frame
    return draw(tokens, mdp.values[row, :length].tolist(), mdp.task.sequence_length)


class SequenceEnv(gym.Env[npt.NDArray[np.int64], np.int64]):
    """One sequence generated token by token, for any task. The tasks below say what they add.

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
        """How rewards are laid out over the steps."""
        return self.mdp.reward_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.int64], dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.mdp.seed_reward_model(self.np_random)
        self.mdp.reset()
        if self.render_mode == "human":
            self.render()
        return self.mdp.tokens[0].copy(), {}

    def step(self, action: Any) -> tuple[npt.NDArray[np.int64], float, bool, bool, dict[str, Any]]:
        token = np.asarray(action)
        if token.shape not in ((), (1,)):
            raise ValueError(f"action has shape {token.shape}; expected one token id in 0..{self.task.vocab_size - 1}")
        reward = self.mdp.step(token.reshape(1), [self.np_random])[0]
        info = {}
        if self.mdp.finished[0]:
            info = {key: values[0] for key, values in self.mdp.end_info(self.mdp.finished).items()}
        if self.render_mode == "human":
            self.render()
        return self.mdp.tokens[0].copy(), float(reward), bool(self.mdp.finished[0]), False, info

    def render(self) -> Any:
        """The sequence so far with Q per token: a str, an RGB array, or printed ("human")."""
        if self.render_mode is None:
            gym.logger.warn("render() needs a render_mode: gym.make(..., render_mode='ansi')")
            return None
        frame = render_row(self.mdp, 0, self.render_mode)
        if self.render_mode == "human":
            print(shown(str(frame), sys.stdout))
            return None
        return frame

    def set_reward_model(self, reward_model: Any) -> None:
        """Swap the reward model; through wrappers: `env.get_wrapper_attr("set_reward_model")(model)`."""
        self.mdp.set_reward_model(reward_model)

    def set_rollout_policy(self, rollout_policy: Any) -> None:
        """Swap G_beta, or announce that its parameters changed."""
        self.mdp.set_rollout_policy(rollout_policy)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """(V,) bool: the tokens that may come next. All of them, in these tasks."""
        return np.ones(self.task.vocab_size, dtype=bool)


class OracleEnv(SequenceEnv):
    """SeqGAN's synthetic task as a Gymnasium environment.

    ## Description
    Generate a sequence of T tokens that cannot be told from those of an oracle, an LSTM with N(0, 1) parameters
    (Yu et al., AAAI 2017, section 4). Every action appends one token; the transition is deterministic.

    ## Action Space
    `Discrete(V)`: the next token.

    ## Observation Space
    `Box(0, V, (T,), int64)`: the prefix, padded with PAD = V. An id is not a magnitude: use an embedding.

    ## Rewards
    By `reward_mode`: "action_value" (default), Q of Eq. 4 at each step, to be learned from with discount 0;
    "potential", its differences, for learners of discount 1; "terminal", R(Y) at the end only.

    ## Starting State
    The empty prefix.

    ## Episode End
    Terminated after T tokens. Never truncated.

    ## Information
    At the end: `sequence` (T,) int64, and `oracle_nll`, the sequence's NLL under the oracle in nats per token. It never
    enters the reward unless asked for (`reward_model="oracle"`).

    ## Arguments
    - `vocab_size` (5000), `sequence_length` (20);
    - `oracle`: None or an int, the seed of its parameters; or a path, the authors' `.npz` or pickle;
    - `reward_model`, `reward_mode`, `rollout_policy`, `n_rollouts` (16), `render_mode`: see `SequenceEnv`.

    ## Version History
    - v0: first version.
    """

    def __init__(
        self,
        vocab_size: int | None = None,
        sequence_length: int = 20,
        oracle: int | str | Path | None = None,
        *,
        reward_model: Any = None,
        reward_mode: RewardMode = "action_value",
        rollout_policy: Any = None,
        n_rollouts: int = 16,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            oracle_task(vocab_size, sequence_length, oracle),
            reward_model=reward_model,
            reward_mode=reward_mode,
            rollout_policy=rollout_policy,
            n_rollouts=n_rollouts,
            render_mode=render_mode,
        )


class ToyEnv(SequenceEnv):
    """A world of 27 sequences in which everything can be enumerated.

    ## Description
    The oracle task at V = 3 and T = 3, with tokens named a, b, c. For teaching, and for tests against exact values.

    ## Action Space
    `Discrete(V)`: the next token.

    ## Observation Space
    `Box(0, V, (T,), int64)`: the prefix, padded with PAD = V.

    ## Rewards
    As in `OracleEnv`.

    ## Starting State
    The empty prefix.

    ## Episode End
    Terminated after T tokens. Never truncated.

    ## Information
    At the end: `sequence` (T,) int64, `oracle_nll` in nats per token, `text`.

    ## Arguments
    As `OracleEnv`, with `vocab_size` (3), `sequence_length` (3).

    ## Version History
    - v0: first version.
    """

    def __init__(
        self,
        vocab_size: int | None = None,
        sequence_length: int = 3,
        oracle: int | str | Path | None = None,
        *,
        reward_model: Any = None,
        reward_mode: RewardMode = "action_value",
        rollout_policy: Any = None,
        n_rollouts: int = 16,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            toy_task(vocab_size, sequence_length, oracle),
            reward_model=reward_model,
            reward_mode=reward_mode,
            rollout_policy=rollout_policy,
            n_rollouts=n_rollouts,
            render_mode=render_mode,
        )


class TextEnv(SequenceEnv):
    """Text: lines or sentences that cannot be told from those of a corpus (Yu et al., AAAI 2017, section 4).

    ## Description
    Generate a line of text, token by token, that cannot be told from the lines of a file of your own. Every action
    appends a character, a word or a subword; the transition is deterministic.

    ## Action Space
    `Discrete(V)`: the next token; <unk> and EOS, where the corpus needs them, are tokens too.

    ## Observation Space
    `Box(0, V, (T,), int64)`: the prefix, padded with PAD = V. An id is not a magnitude: use an embedding.

    ## Rewards
    As in `OracleEnv`.

    ## Starting State
    The empty prefix.

    ## Episode End
    Terminated by EOS or after T tokens. There is no EOS where all lines have T tokens. Never truncated.

    ## Information
    At the end: `sequence` (T,) int64 with PAD behind EOS, and `text`.

    ## Arguments
    - `corpus`: a UTF-8 text file, a folder of .txt files, a table (.jsonl, .csv, .tsv, .parquet), a pattern, several of
      these with commas between, or hf:NAME[,CONFIG][:SPLIT[:COLUMN]]; None: sentences of Python's documentation, which
      come with this package;
    - `sequence_length`: T; None: as many tokens as the longest line has, at most 128;
    - `validation_corpus`, `test_corpus`, `column`, `split_by`, `unit`, `punctuation`, `too_long`, `minimum_count` and
      the other fields of `tasks.text.TextOptions`;
    - `reward_model`, `reward_mode`, `rollout_policy`, `n_rollouts` (16), `render_mode`: see `SequenceEnv`.

    What the corpus holds, and what was cut, dropped or not known of it, is `env.unwrapped.task.statistics`.

    ## Version History
    - v0: first version.
    """

    def __init__(
        self,
        corpus: str | Path | None = None,
        sequence_length: int | None = None,
        *,
        reward_model: Any = None,
        reward_mode: RewardMode = "action_value",
        rollout_policy: Any = None,
        n_rollouts: int = 16,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            text_task(corpus, sequence_length=sequence_length, **options),
            reward_model=reward_model,
            reward_mode=reward_mode,
            rollout_policy=rollout_policy,
            n_rollouts=n_rollouts,
            render_mode=render_mode,
        )


class MusicEnv(SequenceEnv):
    """Music: melodies that cannot be told from those of a corpus (Yu et al., AAAI 2017, section 4).

    ## Description
    Generate a window of a melody, one pitch per step, that cannot be told from windows of real tunes. Every action
    appends a piano key, a rest or a hold; the transition is deterministic.

    ## Action Space
    `Discrete(V)`: the next token, named by its note, such as C4; rest, hold and EOS where asked for.

    ## Observation Space
    `Box(0, V, (T,), int64)`: the prefix, padded with PAD = V. An id is not a magnitude: use an embedding.

    ## Rewards
    As in `OracleEnv`.

    ## Starting State
    The empty prefix.

    ## Episode End
    Terminated after T tokens, or by EOS with `remainder="keep"`. Never truncated.

    ## Information
    At the end: `sequence` (T,) int64 with PAD behind EOS, and `text`, the names of the notes.

    ## Arguments
    - `corpus`: a MIDI, ABC or text file, a folder of MIDI and ABC files (extra "music"), a pattern, or several of these
      with commas between; None: 42 traditional tunes, which come with this package;
    - `sequence_length` (32): T;
    - `validation_corpus`, `test_corpus`, `step_seconds` (0.4), `step_beats`, `rests`, `holds`, `ornaments`,
      `polyphony`, `remainder`, `keys` and the other fields of `tasks.music.MusicOptions`;
    - `reward_model`, `reward_mode`, `rollout_policy`, `n_rollouts` (16), `render_mode`: see `SequenceEnv`.

    What the corpus holds, and what was dropped of it, is `env.unwrapped.task.statistics`.

    ## Version History
    - v0: first version.
    """

    def __init__(
        self,
        corpus: str | Path | None = None,
        sequence_length: int = 32,
        *,
        reward_model: Any = None,
        reward_mode: RewardMode = "action_value",
        rollout_policy: Any = None,
        n_rollouts: int = 16,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            music_task(corpus, sequence_length=sequence_length, **options),
            reward_model=reward_model,
            reward_mode=reward_mode,
            rollout_policy=rollout_policy,
            n_rollouts=n_rollouts,
            render_mode=render_mode,
        )


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
        """How rewards are laid out over the steps."""
        return self.mdp.reward_mode

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """One generator a row."""
        return tuple(self.rngs)

    def reset(  # type: ignore[override]
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.int64], dict[str, Any]]:
        """Reset all rows, or those of `options["reset_mask"]`, a (B,) bool array; a seed gives row i seed + i."""
        rows = self._reset_rows(options)
        if seed is None or isinstance(seed, int | np.integer):
            seeds = [None if seed is None else int(seed) + row for row in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed has {len(seeds)} entries for num_envs={self.num_envs}; give one a row, or an int")
        for row in np.flatnonzero(rows):
            if seeds[row] is not None:
                self.rngs[row] = seeding.np_random(seeds[row])[0]
        if rows[0] and seeds[0] is not None:
            self.mdp.seed_reward_model(self.rngs[0])  # the rows share it
        self.mdp.reset(rows)
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
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            rewards = self.mdp.step(actions, self.rngs, ~resets)
            if resets.any():
                self.mdp.reset(resets)
        else:
            rewards = self.mdp.step(actions, self.rngs)
        ended = self.mdp.finished.copy()
        infos = self._infos(ended)
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
            self.mdp.reset(ended)
        if self.render_mode == "human":
            self.render()
        return self.mdp.tokens.copy(), rewards, ended, np.zeros(self.num_envs, dtype=bool), infos

    def render(self) -> Any:
        """One frame a row, as in `SequenceEnv.render`."""
        if self.render_mode is None:
            gym.logger.warn("render() needs a render_mode: gym.make_vec(..., render_mode='ansi')")
            return None
        frames = tuple(render_row(self.mdp, row, self.render_mode) for row in range(self.num_envs))
        if self.render_mode == "human":
            print(shown("\n".join(map(str, frames)), sys.stdout))
            return None
        return frames

    def set_reward_model(self, reward_model: Any) -> None:
        """Swap the reward model of all rows."""
        self.mdp.set_reward_model(reward_model)

    def set_rollout_policy(self, rollout_policy: Any) -> None:
        """Swap G_beta of all rows, or announce that its parameters changed."""
        self.mdp.set_rollout_policy(rollout_policy)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """(B, V) bool: the tokens that may come next."""
        return np.ones((self.num_envs, self.task.vocab_size), dtype=bool)

    def _infos(self, ended: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """Gymnasium's vector infos: an array a key, and a mask `_key` of the rows that have it."""
        infos: dict[str, Any] = {}
        if not ended.any():
            return infos
        columns = self.mdp.end_info(ended)
        for row_in_columns, row in enumerate(np.flatnonzero(ended)):
            infos = self._add_info(infos, {key: values[row_in_columns] for key, values in columns.items()}, int(row))
        return infos

    def _reset_rows(self, options: dict[str, Any] | None) -> npt.NDArray[np.bool_]:
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


class OracleVectorEnv(SequenceVectorEnv):
    """`OracleEnv`, natively batched: `gym.make_vec("SeqGAN-Oracle-v0", num_envs=B)`.

    Args:
        vocab_size, sequence_length, oracle: as in `OracleEnv`.
        kwargs: as in `SequenceVectorEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        vocab_size: int | None = None,
        sequence_length: int = 20,
        oracle: int | str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(oracle_task(vocab_size, sequence_length, oracle), num_envs, **kwargs)


class ToyVectorEnv(SequenceVectorEnv):
    """`ToyEnv`, natively batched: `gym.make_vec("SeqGAN-Toy-v0", num_envs=B)`.

    Args:
        vocab_size, sequence_length, oracle: as in `ToyEnv`.
        kwargs: as in `SequenceVectorEnv`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        vocab_size: int | None = None,
        sequence_length: int = 3,
        oracle: int | str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(toy_task(vocab_size, sequence_length, oracle), num_envs, **kwargs)


class TextVectorEnv(SequenceVectorEnv):
    """`TextEnv`, natively batched: `gym.make_vec("SeqGAN-Text-v0", num_envs=B, corpus="lines.txt")`.

    Args:
        corpus, sequence_length: as in `TextEnv`.
        autoreset_mode, reward_model, reward_mode, rollout_policy, n_rollouts, render_mode: as in `SequenceVectorEnv`.
        options: the other fields of `tasks.text.TextOptions`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        corpus: str | Path | None = None,
        sequence_length: int | None = None,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        reward_model: Any = None,
        reward_mode: RewardMode = "action_value",
        rollout_policy: Any = None,
        n_rollouts: int = 16,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            text_task(corpus, sequence_length=sequence_length, **options),
            num_envs,
            autoreset_mode=autoreset_mode,
            reward_model=reward_model,
            reward_mode=reward_mode,
            rollout_policy=rollout_policy,
            n_rollouts=n_rollouts,
            render_mode=render_mode,
        )


class MusicVectorEnv(SequenceVectorEnv):
    """`MusicEnv`, natively batched: `gym.make_vec("SeqGAN-Music-v0", num_envs=B, corpus="tunes/")`.

    Args:
        corpus, sequence_length: as in `MusicEnv`.
        autoreset_mode, reward_model, reward_mode, rollout_policy, n_rollouts, render_mode: as in `SequenceVectorEnv`.
        options: the other fields of `tasks.music.MusicOptions`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        corpus: str | Path | None = None,
        sequence_length: int = 32,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        reward_model: Any = None,
        reward_mode: RewardMode = "action_value",
        rollout_policy: Any = None,
        n_rollouts: int = 16,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            music_task(corpus, sequence_length=sequence_length, **options),
            num_envs,
            autoreset_mode=autoreset_mode,
            reward_model=reward_model,
            reward_mode=reward_mode,
            rollout_policy=rollout_policy,
            n_rollouts=n_rollouts,
            render_mode=render_mode,
        )
