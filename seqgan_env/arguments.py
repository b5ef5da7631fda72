"""Checks of the numbers that users pass: counts, and finite numbers in a range.

NaN and infinity are never in a range. With such a value a program would run to its end, but its results would mean
nothing.
In: a name for messages, and the value. Out: nothing, or an error with name, value and range.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def check_count(name: str, value: Any, at_least: int = 1) -> None:
    """Check a whole number, such as a size.

    Raises:
        TypeError: if it is not an integer of Python or NumPy.
        ValueError: if it is too small.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r} must be an int")
    if int(value) < at_least:
        raise ValueError(f"{name}={value} must be at least {at_least}")


def check_number(
    name: str,
    value: Any,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
    hint: str = "",
) -> None:
    """Check a finite real number in a range.

    Args:
        name: of the argument.
        value: what was passed.
        at_least, above, at_most, below: the ends of the range; an end that is left out is open.
        hint: what the number is, or what to do; it is added at the end of the message.

    Raises:
        TypeError: if it is not a real number.
        ValueError: if it is NaN, infinite, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r} must be a number")
    number = float(value)
    in_range = at_least <= number <= at_most and above < number < below
    if in_range and math.isfinite(number):
        return
    expected = _range(at_least, above, at_most, below)
    if not math.isfinite(number):
        expected = f"{expected}, and be a finite number" if expected else "be a finite number"
    raise ValueError(f"{name}={value} must {expected}" + (f"; {hint}" if hint else ""))


def _range(at_least: float, above: float, at_most: float, below: float) -> str:
    """What a number must do to lie in the range: "not be negative", "be above 0", "lie in [0, 1)"."""
    if at_most == below == math.inf:
        if at_least == above == -math.inf:
            return ""
        if at_least == 0:
            return "not be negative"
        return f"be above {above:g}" if above > at_least else f"be at least {at_least:g}"
    first = f"({above:g}" if above > at_least else f"[{at_least:g}"
    last = f"{below:g})" if below < at_most else f"{at_most:g}]"
    return f"lie in {first}, {last}"
