"""Decodes the bytes of a file as UTF-8; an error names the place.

In: bytes. Out: str, or a `CorpusError` with file, line and byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from seqgan_env.corpora.corpus import CorpusError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONGEST_ROW = 1 << 26  # bytes of a row of a table


def without_byte_order_mark(first: bytes, path: Path) -> bytes:
    """A file's first bytes, without a UTF-8 byte-order mark.

    Raises:
        CorpusError: if they begin like UTF-16.
    """
    if first[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise CorpusError("is UTF-16, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8 FILE", path, 1, 0)
    return first.removeprefix(BYTE_ORDER_MARK)


def decode_line(raw: bytes, path: Path, line: int, offset: int) -> str:
    """Text of a line that begins at the byte `offset` of a file, without its end.

    Raises:
        CorpusError: if it contains a NUL byte or is not UTF-8.
    """
    nul = raw.find(b"\0")
    if nul >= 0:
        raise CorpusError(
            "a NUL byte: this is a binary file, not text; give a UTF-8 text file", path, line, offset + nul
        )
    try:
        return raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        found = raw[error.start : error.end].hex(" ")
        raise CorpusError(
            f"not UTF-8: {error.reason} (bytes {found}); convert it, such as: iconv -f LATIN1 -t UTF-8 FILE",
            path,
            line,
            offset + error.start,
        ) from error


def decoded_rows(path: Path) -> Iterator[str]:
    """The lines of a table, decoded, each with \\n at its end; a line ends at \\n only.

    Raises:
        CorpusError: if the file cannot be read, is not UTF-8, or has a line of more than 64 MiB.
    """
    try:
        with path.open("rb") as file:
            line, offset = 0, 0
            while raw := file.readline(_LONGEST_ROW + 1):
                line += 1
                if len(raw) > _LONGEST_ROW:
                    raise CorpusError(
                        f"a row of more than {_LONGEST_ROW:,} bytes; is this a table?", path, line, offset
                    )
                size = len(raw)
                raw = without_byte_order_mark(raw, path) if line == 1 else raw
                yield decode_line(raw, path, line, offset + size - len(raw)) + "\n"
                offset += size
    except OSError as error:
        raise CorpusError(f"cannot be read: {error.strerror or error}", path) from error
