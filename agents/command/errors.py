"""What the command says: one line on standard output, or what is wrong on standard error with an exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seqgan_env.terminal_text import shown, visible, write_output


def complain(message: object, status: int) -> int:
    """Print a message as one line on standard error, whatever it was, and return the status."""
    warn(f"seqgan: error: {message}")
    return status


def say(message: object) -> None:
    """Write one line to standard output."""
    line = str(message)
    write_output((visible(line, one_line=True) if sys.stdout.isatty() else line) + "\n")


def warn(message: object) -> None:
    """Write one line to standard error, whatever the message holds."""
    print(shown(" ".join(str(message).split()), sys.stderr, one_line=True), file=sys.stderr)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Name the argument when its path cannot be written.

    Raises:
        ValueError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"out={str(out)!r} cannot be written: {reason}; choose another place") from error


def check_seed(seed: int) -> None:
    """Raise ValueError for a negative seed."""
    if seed < 0:
        raise ValueError(f"seed={seed} must be at least 0")
