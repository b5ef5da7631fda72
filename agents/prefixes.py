"""Observations as prefixes of token ids: the check that every reader of observations does first.

A token's id is not a magnitude. So if a wrapper scales, averages or joins observations, an embedding cannot look up the
result. In: observations (B, T) of any dtype, since SB3 casts them to float. Out: int64 token ids, or an error that
names such wrappers and says how to switch them off.
Also finds the longest of nested prefixes, so that a model reads each sequence once and not once for each prefix.
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

_JOINED = (
    "Wrappers that join observations, such as VecFrameStack, cause this. Leave them out: a prefix holds its whole past"
)
_SCALED = (
    "Wrappers that scale observations, such as VecNormalize, cause this. Use VecNormalize(norm_obs=False), "
    "which may still normalise rewards, and leave out NormalizeObservation and the like"
)


def prompt_length_of(env: VecEnv | None) -> int:
    """P, the first tokens of every prefix, which an episode begins with; 0 for an environment without prompts."""
    if env is None:
        return 0
    try:
        (task, *_) = env.get_attr("task", indices=[0])
    except AttributeError:
        return 0
    return int(getattr(task, "prompt_length", 0))


def episode_steps(env: VecEnv) -> int:
    """The largest number of steps of an episode: T, or T - P with prompts of P tokens."""
    assert env.observation_space.shape is not None
    return env.observation_space.shape[0] - prompt_length_of(env)


def prefix_length(space: spaces.Space) -> int:
    """T of an observation space of prefixes, Box(0, V, (T,)).

    Raises:
        ValueError: if it has another number of dimensions, or bounds that are not 0 and a whole number.
    """
    if space.shape is None or len(space.shape) != 1:
        raise ValueError(f"observation_space={space} must have the shape (T,), a prefix of T tokens. {_JOINED}")
    if isinstance(space, spaces.Box):
        low, high = np.unique(space.low), np.unique(space.high)
        if len(low) != 1 or len(high) != 1 or low[0] != 0 or not float(high[0]).is_integer():
            raise ValueError(f"observation_space={space} must be Box(0, V, (T,)), token ids and PAD = V. {_SCALED}")
    return space.shape[0]


def prefix_tokens(observations: Tensor, vocab_size: int, sequence_length: int) -> Tensor:
    """Check that observations are prefixes, and return them as int64 token ids.

    Args:
        observations: (B, T) of any dtype.
        vocab_size: V; PAD = V.
        sequence_length: T.

    Returns:
        (B, T) int64 in 0..V, PAD after the last token.

    Raises:
        ValueError: if they have another shape, hold anything but whole numbers in 0..V, or have a token after PAD.
    """
    if observations.dim() != 2 or observations.shape[1] != sequence_length:
        raise ValueError(
            f"observations have shape {tuple(observations.shape)}, expected (B, {sequence_length}): prefixes of "
            f"{sequence_length} tokens. {_JOINED}"
        )
    tokens = observations.long()
    if not len(tokens):
        return tokens
    least, greatest = torch.aminmax(tokens)
    is_whole = not observations.is_floating_point() or bool((tokens == observations).all())
    if not is_whole or int(least) < 0 or int(greatest) > vocab_size:
        wrong = observations[(tokens != observations) | (tokens < 0) | (tokens > vocab_size)]
        raise ValueError(
            f"observations hold {wrong[0].item()}, expected token ids: whole numbers in 0..{vocab_size}, where "
            f"{vocab_size} is PAD. {_SCALED}"
        )
    is_pad = tokens == vocab_size
    after_pad = is_pad[:, :-1] & ~is_pad[:, 1:]
    if bool(after_pad.any()):
        row = int(after_pad.any(dim=1).nonzero()[0])
        raise ValueError(
            f"observation {tokens[row].tolist()} has a token after PAD = {vocab_size}; a prefix has none. {_JOINED}"
        )
    return tokens


def longest_prefixes(prefixes: Tensor, pad_token: int) -> tuple[Tensor, Tensor]:
    """The prefixes that no other row continues, and for each row the place of one that continues it or equals it.

    Experience of B whole sequences has B * T prefixes, and all of them are read with these B.

    Args:
        prefixes: (M, T) int64, PAD after the last token.
        pad_token: PAD.

    Returns:
        (K, T) int64, the longest prefixes, and (M,) int64 in 0..K-1.
    """
    # Sorted with PAD first, a prefix stands directly before the rows that continue it.
    keys = torch.where(prefixes == pad_token, -1, prefixes).cpu().numpy()
    order = np.lexsort(keys.T[::-1])
    rows = keys[order]
    is_continued = np.zeros(len(rows), dtype=bool)
    is_continued[:-1] = ((rows[:-1] == rows[1:]) | (rows[:-1] == -1)).all(axis=1)
    ends = np.flatnonzero(~is_continued)
    place = np.empty(len(rows), dtype=np.int64)
    place[order] = np.searchsorted(ends, np.arange(len(rows)))
    longest = prefixes[torch.from_numpy(order[ends]).to(prefixes.device)]
    return longest, torch.from_numpy(place).to(prefixes.device)
