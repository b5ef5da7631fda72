"""Marks of parameters."""

from __future__ import annotations

import functools

import pytest

# A case that only `pytest -m slow` runs; arguments as of `pytest.param`.
slow = functools.partial(pytest.param, marks=pytest.mark.slow)
