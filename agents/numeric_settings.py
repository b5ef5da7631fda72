"""Checks of the numbers that a learner is given.

In: a setting's name, value and range. Out: nothing, or an error that names all three.
"""

from __future__ import annotations

import math
from typing import Any


def check_number(name: str, value: Any, least: float, most: float = math.inf, *, above: bool = False) -> None:
    """Check that a setting is a finite number in [least, most].

    Args:
        name: of the argument, for the message.
        value: what was given.
        least, most: the bounds.
        above: whether the value must be greater than `least`, and not equal to it.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is NaN, infinite or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}={value!r} must be a number")
    too_small = value <= least if above else value < least
    if not math.isfinite(value) or too_small or value > most:
        lower = f"above {least:g}" if above else f"at least {least:g}"
        upper = "" if math.isinf(most) else f" and at most {most:g}"
        raise ValueError(f"{name}={value} must be a finite number, {lower}{upper}")


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Check that a setting is an int of at least `least`.

    Raises:
        TypeError: if it is no int.
        ValueError: if it is smaller.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} must be an int")
    if value < least:
        raise ValueError(f"{name}={value} must be at least {least}")
