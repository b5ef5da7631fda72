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
    right = np.asarray(plain(expected), dtype=np.float64)
    found = values(answer, right.shape, look_at)
    wrong = ~np.isclose(found, right, rtol=tolerance, atol=tolerance)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        where = f" at place {list(place)}" if found.ndim else ""
        raise AssertionError(f"The answer is {found[place]:.5g}{where}, which is not right. {look_at}")


def values(answer: Any, shape: tuple[int, ...], look_at: str) -> npt.NDArray[np.float64]:
    """An answer as an array of finite numbers.

    Args:
        answer: number, list, array or tensor of the student.
        shape: what it must have; () for one number.
        look_at: what to read or to do where it has not.

    Raises:
        AssertionError: if the answer is missing, no number, of another shape, or not finite.
    """
    found = plain(filled(answer, look_at))
    try:
        numbers = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        raise AssertionError(f"The answer is of type {type(answer).__name__}, expected numbers. {look_at}") from None
    if numbers.shape != shape:
        raise AssertionError(f"The answer has shape {numbers.shape}, expected {shape}. {look_at}")
    if not np.isfinite(numbers).all():
        raise AssertionError(f"The answer has a value that is not finite: {numbers}. {look_at}")
    return numbers


def plain(answer: Any) -> Any:
    """A tensor as an array, anything else as it is."""
    return answer.detach().cpu().numpy() if hasattr(answer, "detach") else answer


def number(answer: Any, look_at: str) -> float:
    """An answer that is one number.

    Raises:
        AssertionError: if it is missing, or something else.
    """
    return float(values(answer, (), look_at))


def of_kind(answer: Any, kind: type, look_at: str) -> Any:
    """The answer itself, an object of a class.

    Raises:
        AssertionError: if it is missing, or of another class.
    """
    found = filled(answer, look_at)
    if not isinstance(found, kind):
        raise AssertionError(f"The answer is of type {type(found).__name__}, expected {kind.__name__}. {look_at}")
    return found


def entry(answer: Any, key: str, look_at: str) -> Any:
    """What stands under a key of a dictionary of the student.

    Raises:
        AssertionError: if there is no dictionary, or no such key.
    """
    found = of_kind(answer, dict, look_at)
    if key not in found:
        raise AssertionError(f"The dictionary has no key {key!r}. {look_at}")
    return found[key]


def letter(answer: Any, letters: str, look_at: str) -> str:
    """The letter of a statement.

    Raises:
        AssertionError: if it is missing, or not one of `letters`.
    """
    found = filled(answer, look_at)
    if not isinstance(found, str) or len(found) != 1 or found not in letters:
        raise AssertionError(f'Give one letter of {", ".join(letters)}, in quotes, as in "{letters[0]}". {look_at}')
    return found


def raises_nothing(test: Any, subject: Any, look_at: str) -> None:
    """A test of the student that must pass.

    Raises:
        AssertionError: if it fails.
    """
    said = failure(test, subject)
    if said is not None:
        what = f"with {said!r}" if said else "at an `assert` without a message"
        raise AssertionError(f"Your test fails for a correct implementation, {what}. {look_at}")


def catches(test: Any, subject: Any, look_at: str) -> None:
    """A test of the student that must fail with an AssertionError.

    Raises:
        AssertionError: if it passes.
    """
    if failure(test, subject) is None:
        raise AssertionError(f"Your test passes for an implementation with a mistake. {look_at}")


def failure(test: Any, subject: Any) -> str | None:
    """The message with which a test of the student fails; None if it passes.

    Raises:
        AssertionError: if there is no test, or if it raises an error of another kind.
    """
    if not callable(test):
        raise AssertionError("There is no test of this name yet. Run the cell that defines it, above this check.")
    try:
        test(subject)
    except AssertionError as error:
        return str(error)
    except Exception as error:
        name, implementation = getattr(test, "__name__", ""), getattr(subject, "__name__", "an implementation")
        raise AssertionError(
            f"Your test {name} raised {type(error).__name__} for {implementation}: {error}. A test says what is wrong "
            f"with `assert`. Call {name}({implementation}) in a cell of its own to see the line."
        ) from error
    return None
