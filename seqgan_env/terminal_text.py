r"""Text for terminals: control characters are shown, not obeyed, and what a stream cannot encode is replaced.

A corpus, or a run folder of somebody else, may hold tokens such as ESC ]0;title BEL, which a terminal obeys: it renames
the window, moves the cursor, hides lines. On a terminal such a character is written as Python writes it, \x1b. Into a
file or pipe text goes as it is, because a program may want the tokens themselves.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_KEPT = "\n\t"
# These reorder what stands around them, so that a line reads as another one; U+2028 and U+2029 break lines.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BREAKS = frozenset("\u2028\u2029")


class OutputError(OSError):
    """Standard output cannot be written, as on a full disk."""


def is_control(character: str) -> bool:
    """Whether a terminal may obey a character instead of showing it; line end and tab are such characters, too."""
    return unicodedata.category(character) in ("Cc", "Cs") or character in _REORDERING or character in _BREAKS


def visible(text: str, one_line: bool = False) -> str:
    r"""A text whose control characters are shown as Python writes them: \x07, \u202e.

    Args:
        text: any text; applied twice this changes nothing.
        one_line: show line ends and tabs as well, so that the text stays on its line.
    """
    if text.isprintable():  # then none of them is in it
        return text
    kept = "" if one_line else _KEPT
    return "".join(
        character.encode("unicode_escape").decode() if is_control(character) and character not in kept else character
        for character in text
    )


def shown(text: str, stream: TextIO, one_line: bool = False) -> str:
    """What to write of a text to a stream.

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
    """Write a text to standard output, at once, as `shown` makes it.

    Raises:
        OutputError: if it cannot be written.
        BrokenPipeError: if nobody reads it any more.
    """
    with output_errors():
        sys.stdout.write(shown(text, sys.stdout))
        sys.stdout.flush()


@contextmanager
def output_errors() -> Iterator[None]:
    """Turn an OSError of what is done to a stream into an OutputError, so that it is told from those of other files."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.errno, f"standard output cannot be written: {error.strerror or error}") from error


def prepare_streams() -> None:
    """Make standard output and standard error replace what they cannot encode, instead of raising.

    A command calls this first. Otherwise a table with one character that a Western Windows or a file in ASCII does not
    know would end hours of training. Streams that a program has put in their place are left alone.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
