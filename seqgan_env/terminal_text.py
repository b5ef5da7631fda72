r"""Text for terminals: control characters are shown, and characters that a stream cannot encode are replaced.

A corpus, or a run folder of somebody else, may hold tokens such as ESC ]0;title BEL. A terminal obeys them: it renames
the window, moves the cursor or hides lines. So on a terminal such a character is written as in Python source, \x1b.
Text for a file or a pipe is not changed, because a program may need the exact tokens.
"""

from __future__ import annotations

import io
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_KEPT = "\n\t"
# These change the order of the text around them, so that a line reads as another one. U+2028 and U+2029 break lines.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BREAKS = frozenset("\u2028\u2029")


class OutputError(OSError):
    """Standard output cannot be written, as on a full disk."""


def is_control(character: str) -> bool:
    """Whether a terminal may obey a character instead of showing it. Line end and tab are such characters, too."""
    return unicodedata.category(character) in ("Cc", "Cs") or character in _REORDERING or character in _BREAKS


def visible(text: str, one_line: bool = False) -> str:
    r"""A text with its control characters written as in Python source: \x07, \u202e.

    Args:
        text: any text; a second call changes nothing more.
        one_line: show line ends and tabs as well, so that the text stays on its line.
    """
    if text.isprintable():  # then it has no control characters
        return text
    kept = "" if one_line else _KEPT
    return "".join(
        character.encode("unicode_escape").decode() if is_control(character) and character not in kept else character
        for character in text
    )


def shown(text: str, stream: TextIO, one_line: bool = False) -> str:
    """The form of a text that can be written to a stream.

    On a terminal control characters are made visible. Characters that the stream cannot encode are replaced by "?".

    Args:
        text: any text.
        stream: where it goes, such as sys.stdout.
        one_line: as in `visible`.
    """
    if stream.isatty():
        text = visible(text, one_line)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.encode(encoding, "replace").decode(encoding)
    return text


def write_output(text: str) -> None:
    """Write a text to standard output in the form that `shown` gives it, and flush.

    Raises:
        OutputError: if it cannot be written.
        BrokenPipeError: if the reader has closed the pipe.
    """
    with output_errors():
        _write_whole(shown(text, sys.stdout), sys.stdout)
        sys.stdout.flush()


def _write_whole(text: str, stream: TextIO) -> None:
    """Write a text. With PYTHONUNBUFFERED the stream drops what the system has not taken, and raises no error."""
    raw = getattr(stream, "buffer", None)
    if not isinstance(raw, io.RawIOBase):
        stream.write(text)
        return
    stream.flush()
    rest = memoryview(text.replace("\n", os.linesep).encode(stream.encoding, stream.errors or "strict"))
    while rest:
        rest = rest[raw.write(rest) or 0 :]


@contextmanager
def output_errors() -> Iterator[None]:
    """Turn an OSError of standard output into an OutputError, so that it is not taken for an error of another file."""
    try:
        yield
    except (BrokenPipeError, OutputError):  # the latter from an inner `output_errors`
        raise
    except OSError as error:
        raise OutputError(error.errno, f"standard output cannot be written: {error.strerror or error}") from error


def prepare_streams() -> None:
    """Make standard output and standard error replace what they cannot encode, instead of raising.

    A command calls this first. Otherwise one character in a table could end hours of training, if a Western Windows or
    an ASCII file cannot encode it. Streams that a program has put in their place are not changed.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
