"""The global random streams of a game, kept apart from those of the program around it.

PyTorch draws dropout from its global stream. SB3's policies use the same stream when they act and when they are built.
A user's own parts may use the global streams of NumPy or Python. While a game works, it puts its own streams in place
of the global ones; then it puts the program's streams back. So the game depends only on its seed, and the program's
random numbers do not depend on the game.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


class RandomStreams:
    """A context: inside it, the global streams of Python, NumPy and PyTorch are the game's.

    Args:
        seed: seed of all three streams, in 0..2^32-1.
    """

    def __init__(self, seed: int) -> None:
        self._program: dict[str, Any] | None = None
        before = _read()
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        self._game = _read()
        _write(before)

    def __enter__(self) -> None:
        assert self._program is None, "the streams are already in use"
        self._program = _read()
        _write(self._game)

    def __exit__(self, *_: object) -> None:
        assert self._program is not None
        self._game = _read()
        _write(self._program)
        self._program = None

    def state_dict(self) -> dict[str, Any]:
        """The current state of the streams: tensors and plain values."""
        return dict(_read() if self._program is not None else self._game)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what `state_dict` returned. A stream that is missing in it, such as a GPU's, does not change."""
        if self._program is not None:
            _write(state)
        else:
            self._game |= state


def _read() -> dict[str, Any]:
    version, words, gauss = random.getstate()
    _, keys, place, has_gauss, cached_gauss = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.append(keys, place).astype(np.int64)),
        "numpy_gauss": [int(has_gauss), float(cached_gauss)],
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": [version, gauss],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _write(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    if "numpy" in state:
        words: Tensor = state["numpy"]
        has_gauss, cached_gauss = state["numpy_gauss"]
        np.random.set_state(("MT19937", words[:-1].numpy().astype(np.uint32), int(words[-1]), has_gauss, cached_gauss))
    if "python" in state:
        version, gauss = state["python_gauss"]
        random.setstate((version, tuple(state["python"].tolist()), gauss))
