"""What the labs' tests say: an answer that is missing, of another kind or another value is told where to look."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def filled(answer: Any, look_at: str) -> Any:
    """The answer itself.

    Args:
        answer: a name of the notebook, or what a function of the student returned.
        look_at: what to read or to do, in words.

    Raises:
        AssertionError: if there is none yet.
    """
    if answer is None or answer is ...:
        raise AssertionError(f"There is no answer yet: it still is `...`, or the function returns nothing. {look_at}")
    return answer


def ask(function: Any, *arguments: Any) -> Any:
    """What a function of the student returns.

    Raises:
        AssertionError: if there is no function, or if it raises an error.
    """
    if not callable(function):
        raise AssertionError("There is no function of this name yet. Run the cell that defines it, above this test.")
    try:
        return function(*arguments)
    except Exception as error:
        kind = type(error).__name__
        raise AssertionError(
            f"Your function {getattr(function, '__name__', '')} raised {kind}: {error}. Call it in a cell of its "
            "own to see the line. If an earlier answer is missing, give that first."
        ) from error


def parts(answer: Any, count: int, look_at: str) -> tuple[Any, ...]:
    """The `count` things that a function returned together.

    Raises:
        AssertionError: if they are more, or fewer, or none.
    """
    found = filled(answer, look_at)
    if not isinstance(found, tuple | list) or len(found) != count:
        raise AssertionError(f"Return {count} things, as in `return a, b`. {look_at}")
    return tuple(found)


def close(answer: Any, expected: Any, look_at: str, tolerance: float = 1e-3) -> None:
    """Numbers that must agree, within `tolerance` absolutely or of their size.

    Args:
        answer: number, array or tensor of the student.
        expected: what is right.
        look_at: what to read or to do where it differs.
        tolerance: absolute and relative.

    Raises:
        AssertionError: if the answer is missing, no number, of another shape, or too far away.
    """
    found, right = numbers(filled(answer, look_at), look_at), numbers(expected, look_at)
    if found.shape != right.shape:
        raise AssertionError(f"The answer has shape {found.shape}, expected {right.shape}. {look_at}")
    if not np.isfinite(found).all():
        raise AssertionError(f"The answer has a value that is not finite: {found}. {look_at}")
    wrong = ~np.isclose(found, right, rtol=tolerance, atol=tolerance)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        where = f" at place {list(place)}" if found.ndim else ""
        raise AssertionError(f"The answer is {found[place]:.5g}{where}, which is not right. {look_at}")


def numbers(answer: Any, look_at: str) -> npt.NDArray[np.float64]:
    """An answer as an array of float64.

    Raises:
        AssertionError: if it is none.
    """
    value = answer.detach().cpu().numpy() if hasattr(answer, "detach") else answer
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise AssertionError(f"The answer is a {type(answer).__name__}, expected numbers. {look_at}") from None


def raises_nothing(test: Any, subject: Any, look_at: str) -> None:
    """A test of the student that must pass.

    Raises:
        AssertionError: if it fails.
    """
    try:
        test(subject)
    except AssertionError as error:
        raise AssertionError(f"Your test fails for a correct implementation, with {str(error)!r}. {look_at}") from None


def catches(test: Any, subject: Any, look_at: str) -> None:
    """A test of the student that must fail with an AssertionError.

    Raises:
        AssertionError: if it passes.
    """
    try:
        test(subject)
    except AssertionError:
        return
    raise AssertionError(f"Your test passes for an implementation with a mistake. {look_at}")
