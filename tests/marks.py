"""Marks of parameters and of property tests."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import settings

# A case that only `pytest -m slow` runs; arguments as of `pytest.param`.
slow = functools.partial(pytest.param, marks=pytest.mark.slow)

# By default each run tries the same few examples. `pytest --hypothesis-profile thorough` tries many, each time others.
settings.register_profile("quick", derandomize=True, max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=200, deadline=None)


def examples(count: int, **more: Any) -> settings:
    """Settings of a property test that tries `count` examples if thorough, a quarter if quick."""
    quick = settings.get_current_profile_name() != "thorough"
    return settings(max_examples=max(10, count // 4) if quick else count, deadline=None, **more)
