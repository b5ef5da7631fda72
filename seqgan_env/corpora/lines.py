"""Reads text, sequence by sequence: from files, folders, tables, a Hugging Face data set or the bundled corpus.

In: the place of the text, and whether a sequence is a line or a sentence. Out: an iterable of strings, none of them
empty. It can be iterated any number of times, and holds about a megabyte at a time. Files are UTF-8; lines end only
with \
, \\r or \\r\
. Anything else than text raises a `CorpusError` with file, line and byte. A byte-order mark (U+FEFF) is never part of a
sequence; marks inside the text are counted.

Sentences. A sentence ends after 。！？｡ and after . ! ? … ؟ ۔ । ॥ ։ ። if white space and then anything but a lower-case
letter follows. Closing quotes and brackets belong to the sentence. A full stop after an initial (J. S. Bach) or after
Mr Mrs Ms Dr Prof St does not end a sentence. An empty line always ends one. Other line ends count as a space, but as
nothing within Chinese and Japanese.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

import regex

from seqgan_env.corpora.columns import TABLES, Column
from seqgan_env.corpora.corpus import CorpusError, corpus_files
from seqgan_env.corpora.decoding import decode_line, without_byte_order_mark
from seqgan_env.corpora.formats import expect_text

SplitBy = Literal["line", "sentence"]
Piece = tuple[str, bool]  # a text, and whether it is at the end of its line
BUNDLED = "python_documentation.txt"
SUFFIXES = (".txt", ".text")
_MARK = "\ufeff"
_BLOCK = 1 << 20  # bytes read at once
_LONGEST = 1_000_000  # bytes of a line, characters of a sentence
_FLUSH = 1 << 18  # characters of running text that are searched for sentences at once

_WIDE, _NARROW, _CLOSERS = "。！？｡", ".!?…؟۔।॥։።", ")\\]}»”’\"'」』）】》"
# With the look-behind, a run of marks is tried only from its beginning. Without it, a megabyte of dots takes hours.
_SENTENCE_END = regex.compile(
    rf"[{_WIDE}][{_WIDE}{_NARROW}]*+[{_CLOSERS}]*+|(?<![{_NARROW}])[{_NARROW}]++[{_CLOSERS}]*+(?=\s++[^\s\p{{Ll}}])"
)
_ABBREVIATION = regex.compile(r"(?:\p{Lu}|(?:\p{L}\.)+\p{L}|Mr|Mrs|Ms|Dr|Prof|St)")
_UNSPACED_ENDS = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\u3000-\u303f\uff00-\uffef]{2}")
_LINE_END = regex.compile(r"\r\n|\r|\n")


class TextSource:
    """Sequences of text, as an iterable that may be iterated several times.

    Args:
        corpus: a text file; a folder, from which all .txt and .text files are read in the order of their names; a table
            (.jsonl, .ndjson, .csv, .tsv, .parquet); a pattern such as "poems/*.txt"; several of these, separated by
            commas; "hf:NAME,CONFIG:SPLIT:COLUMN" (only NAME is needed), a data set of the Hugging Face hub or a folder
            that its library can load; None: the bundled sentences of Python's documentation.
        split_by: whether a sequence is a line or a sentence. Each row of a table is a separate text.
        max_sequences: stop after this many; None reads all.
        column: the column of a table or data set that holds the text; with a folder, its tables are then read. None:
            the column "text", or the only one that holds text.

    Attributes:
        name: name of the corpus, for messages and tables.
        skipped: empty lines or rows that the last iteration skipped; empty lines of running text are not counted.
        byte_order_marks: marks inside the text that the last iteration met.

    Raises:
        CorpusError: if there is no such corpus, or if its kind cannot be read; during the iteration, if it cannot be
            read as text.
        ImportError: if the library for a data set or a Parquet file is missing.
    """

    def __init__(
        self,
        corpus: str | Path | None = None,
        split_by: SplitBy = "line",
        max_sequences: int | None = None,
        column: str | None = None,
    ) -> None:
        self.split_by = split_by
        self.max_sequences = max_sequences
        self.skipped = self.byte_order_marks = 0
        self.name = "sentences of Python's documentation (bundled)" if corpus is None else str(corpus)
        self._parts: list[Path | Iterable[Any]] = []
        if corpus is None:
            self._parts = [Path(str(resources.files("seqgan_env.corpora") / "data" / BUNDLED))]
        elif isinstance(corpus, str) and corpus.startswith("hf:"):
            self._parts = [hugging_face_column(corpus, column)]
        else:
            files = corpus_files(corpus, SUFFIXES if column is None else TABLES)
            self._parts = [_readable(file, column) for file in files]

    def __iter__(self) -> Iterator[str]:
        return islice(self._sequences(), self.max_sequences)

    def _sequences(self) -> Iterator[str]:
        self.skipped = self.byte_order_marks = 0
        for document in self._documents():
            pieces = self._without_marks(document)
            if self.split_by == "sentence":
                yield from _sentences(pieces, self.name)
                continue
            for text, _ in pieces:
                line = text.strip()
                if line:
                    yield line
                else:
                    self.skipped += 1

    def _documents(self) -> Iterator[Iterator[Piece]]:
        """The documents: each is a text file, or a row of a table or data set."""
        for part in self._parts:
            if isinstance(part, Path):
                yield _file_pieces(part, whole_lines=self.split_by == "line")
                continue
            for row in part:
                if row is None:
                    self.skipped += 1
                elif not isinstance(row, str):
                    raise CorpusError(f"a row of its column holds {type(row).__name__}, expected text", self.name)
                else:
                    yield ((line, True) for line in _LINE_END.split(row.rstrip("\r\n")))

    def _without_marks(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Count and remove byte-order marks."""
        for text, ends_line in pieces:
            if _MARK in text:
                self.byte_order_marks += text.count(_MARK)
                text = text.replace(_MARK, "")
            yield text, ends_line


def _readable(file: Path, column: str | None) -> Path | Column:
    """The path of a text file, or the column of a table.

    Raises:
        CorpusError: for another kind of file, or for a column of a file without columns.
    """
    if file.suffix.lower() in TABLES:
        return Column(file, column)
    expect_text(file)
    if column is not None:
        raise CorpusError(f"column={column!r} is for tables ({', '.join(TABLES)}), but this is plain text", file)
    return file


def split_sentences(text: str) -> list[str]:
    """Split a text without line ends into sentences, by the rule above; the rest after the last end is one, too."""
    sentences, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        if match.group()[0] == "." and _is_abbreviation(text, start, match.start()):
            continue
        sentences.append(text[start : match.end()].strip())
        start = match.end()
    rest = text[start:].strip()
    return [*sentences, rest] if rest else sentences


def _is_abbreviation(text: str, start: int, stop: int) -> bool:
    """Whether the word before `stop` is an initial or a title."""
    words = text[max(start, stop - 16) : stop].split()
    return bool(words) and _ABBREVIATION.fullmatch(words[-1].lstrip("([{\"'“‘«")) is not None


def _sentences(pieces: Iterator[Piece], name: str) -> Iterator[str]:
    """Sentences of running text; line ends may be anywhere."""
    parts: list[str] = []
    size, at_line_start = 0, True
    for text, ends_line in chain(pieces, [("", True)]):
        if at_line_start and ends_line and not text.strip():  # an empty line ends a paragraph
            yield from split_sentences("".join(parts))
            parts, size = [], 0
            continue
        if at_line_start and parts:
            parts.append(_joint(parts[-1], text))
        parts.append(text.rstrip() if ends_line else text)
        size += len(text)
        at_line_start = ends_line
        if size >= _FLUSH:
            *whole, rest = split_sentences("".join(parts)) or [""]
            if len(rest) > _LONGEST:
                raise CorpusError(
                    f"no sentence ends within {_LONGEST:,} characters, after {rest[:20]!r}; is this prose?", name
                )
            yield from whole
            # Only the space at the end of the rest is lost. It matters if the line goes on.
            spaced = text[-1:].isspace() and not ends_line
            parts, size = [rest + " " if spaced else rest], 0


def _joint(before: str, after: str) -> str:
    """The replacement of a line end: a space, or nothing between two characters of a script without spaces."""
    return "" if _UNSPACED_ENDS.fullmatch(before[-1:] + after.lstrip()[:1]) else " "


def _file_pieces(path: Path, whole_lines: bool) -> Iterator[Piece]:
    """A file's lines, decoded; without `whole_lines` long lines come in pieces."""
    try:
        with path.open("rb") as file:
            yield from _decoded_pieces(file, path, whole_lines)
    except OSError as error:
        raise CorpusError(f"cannot be read: {error.strerror or error}", path) from error


def _decoded_pieces(file: BinaryIO, path: Path, whole_lines: bool) -> Iterator[Piece]:
    # bytes.splitlines cuts only at
    # , \r and \r
    # ; str.splitlines would also cut at a form feed or at U+2028.
    rest, line = without_byte_order_mark(file.read(3), path), 1
    offset = file.tell() - len(rest)
    while block := file.read(_BLOCK):
        lines = (rest + block).splitlines(keepends=True)
        rest = lines.pop()  # it may go on in the next block, and so may a \r\n
        for raw in lines:
            yield decode_line(raw, path, line, offset), True
            offset += len(raw)
            line += 1
        if len(rest) > _LONGEST:
            # Without the last character: some of its bytes may still be missing.
            stop = len(rest) - next((back for back in range(1, 5) if rest[-back] & 0xC0 != 0x80), 0)
            text = decode_line(rest[:stop], path, line, offset)
            if whole_lines:
                raise CorpusError(
                    f"a line of more than {_LONGEST:,} bytes, but a line must be a sequence; for running text choose "
                    'split_by="sentence"',
                    path,
                    line,
                    offset,
                )
            yield text, False
            rest, offset = rest[stop:], offset + stop
    for raw in rest.splitlines(keepends=True):  # a file of three bytes may have several lines
        yield decode_line(raw, path, line, offset), True
        offset += len(raw)
        line += 1


def hugging_face_column(corpus: str, column: str | None) -> Iterable[Any]:
    """The rows of a column of text of "hf:NAME,CONFIG:SPLIT:COLUMN"; raises if COLUMN and `column` differ."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError(f"corpus={corpus!r} needs datasets: pip install 'seqgan-gym[datasets]'") from error
    name, _, place = corpus.removeprefix("hf:").partition(":")
    split, _, named = place.partition(":")
    if named and column not in (None, named):
        raise CorpusError(f"column={column!r} differs from the column {named!r} in the corpus; leave one out", corpus)
    column = named or column or ""
    name, _, config = name.partition(",")
    try:
        data = datasets.load_dataset(name, config or None, split=split or "train")
    except Exception as error:  # the hub, a network and readers of many formats may raise almost any error
        raise CorpusError(f"cannot be loaded: {type(error).__name__}: {error}", corpus) from error
    texts = [key for key, kind in data.features.items() if getattr(kind, "dtype", "") in ("string", "large_string")]
    if not column:
        column = "text" if "text" in texts else texts[0] if len(texts) == 1 else ""
    if column not in texts:
        raise CorpusError(
            f"column {column!r} holds no text; columns of text are {', '.join(texts) or 'none'}: "
            f"hf:{name}:{split or 'train'}:COLUMN",
            corpus,
        )
    rows: Iterable[Any] = data[column]
    return rows
