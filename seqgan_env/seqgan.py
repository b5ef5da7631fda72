"""The environment classes by the name that `gymnasium.pprint_registry()` prints above them.

Gymnasium heads its list by the module of the entry point, and "envs" would not say whose environments these are.
"""

from __future__ import annotations

from typing import Any

from seqgan_env import envs


def __getattr__(name: str) -> Any:
    """A class of `envs`, such as `ToyEnv`."""
    return getattr(envs, name)
