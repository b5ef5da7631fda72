"""What the command says: one line on standard output, or what is wrong on standard error with an exit status."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    with suppress(OSError):  # nobody can be told that standard error is full
        print(shown(" ".join(str(message).split()), sys.stderr, one_line=True), file=sys.stderr, flush=True)


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


def expect_writable(out: Path) -> None:
    """Check that a file can be written, before the work whose result it is to hold; nothing is changed.

    Raises:
        ValueError: if not; says why.
    """
    with writing(out):
        is_new = not os.path.lexists(out)
        with out.open("ab"):
            pass
        if is_new:
            out.unlink()


def expect_writable_folder(out: Path) -> None:
    """The same for a folder that is to be made, or for a file in it; what is made for the trial is removed.

    Raises:
        ValueError: if not; says why.
    """
    nearest = out.absolute()
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        raise ValueError(f"out={str(out)!r} cannot be written: {str(nearest)!r} is no folder; choose another place")
    with writing(out):  # tried, not asked for: the permissions of a folder say too little, above all to root
        os.rmdir(tempfile.mkdtemp(prefix=".seqgan-", dir=nearest))
