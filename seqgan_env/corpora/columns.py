"""A column of text in a table: JSONL, CSV, TSV and Parquet.

In: a file, and the column's name. Out: an iterable of its rows, which may be iterated several times and holds only a
few rows at a time. Python's standard library reads JSONL and CSV. pyarrow reads Parquet, and is needed only for it.

JSONL has an object on each line. The first row of a CSV names its columns; fields are separated by comma, semicolon or
tab: the one that occurs most often in the first row.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from seqgan_env.corpora.corpus import CorpusError
from seqgan_env.corpora.decoding import decoded_rows

TABLES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_TEXT_TYPES = ("string", "large_string", "string_view")  # pyarrow's names
_PYARROW_ERRORS = (OSError, ValueError, KeyError, NotImplementedError)  # its own errors are of these kinds
_ROWS = 1_024  # rows of a Parquet file that are read at once


class Column:
    """The rows of one column of a table, as an iterable that may be iterated several times.

    Each row is a str. It is None if it is empty, or if a JSONL object does not have the column.

    Args:
        path: a file with one of the suffixes `TABLES`.
        column: the column's name. None: the column "text", or the only column of text.

    Attributes:
        column: the name of the column that is read.

    Raises:
        CorpusError: if the file cannot be read, or has no such column of text; during the iteration, for a row that is
            damaged or does not hold text.
        ImportError: for Parquet without pyarrow.
    """

    def __init__(self, path: Path, column: str | None = None) -> None:
        self._path = path
        kind = path.suffix.lower()
        if kind == ".parquet":
            names, texts = _parquet_columns(path)
            self._read = _parquet_rows
        elif kind in (".csv", ".tsv"):
            names = texts = next(_csv_records(path), [])
            self._read = _csv_rows
        else:
            first = next(filter(None, _objects(path)), {})
            names, texts = list(first), [name for name, value in first.items() if isinstance(value, str)]
            self._read = _json_rows
        self.column = _chosen(column, names, texts, path)

    def __iter__(self) -> Iterator[str | None]:
        return self._read(self._path, self.column)


def _chosen(column: str | None, names: Sequence[str], texts: Sequence[str], path: Path) -> str:
    """The column to read."""
    known = ", ".join(map(repr, texts)) or "none"
    if column is None:
        if "text" not in texts and len(texts) != 1:
            raise CorpusError(f"name the column of the text (column, --column); columns of text are {known}", path)
        return "text" if "text" in texts else texts[0]
    if column not in names:
        raise CorpusError(f"has no column {column!r} in its first row; columns of text are {known}", path)
    if list(names).count(column) > 1:
        raise CorpusError(f"has several columns {column!r}; rename all but one", path)
    return column


# --- JSONL -----------------------------------------------------------------------------------------------------------


def _objects(path: Path) -> Iterator[dict[str, Any] | None]:
    """The object of each line; None for an empty line."""
    for number, line in enumerate(decoded_rows(path), start=1):
        if not line.strip():
            yield None
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"is not JSON: {error}; each line must be an object", path, number) from error
        if not isinstance(row, dict):
            raise CorpusError(
                f'holds {type(row).__name__}, expected an object such as {{"text": "..."}} on each line; convert a '
                "list: jq -c '.[]' FILE > FILE.jsonl",
                path,
                number,
            )
        yield row


def _json_rows(path: Path, column: str) -> Iterator[str | None]:
    for number, row in enumerate(_objects(path), start=1):
        text = None if row is None else row.get(column)
        if text is not None and not isinstance(text, str):
            raise CorpusError(f"column {column!r} holds {type(text).__name__}, expected text", path, number)
        if text is not None and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise CorpusError(f"column {column!r} holds half a character: {error.reason}", path, number) from error
        yield text


# --- CSV and TSV -----------------------------------------------------------------------------------------------------


def _csv_records(path: Path) -> Iterator[list[str]]:
    """The records of a file, its header first."""
    lines = decoded_rows(path)
    first = next(lines, "")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        yield from reader
    except csv.Error as error:
        raise CorpusError(
            f"is not CSV that can be read: {error}; repair the row, or convert the file to JSONL", path, reader.line_num
        ) from error


def _csv_rows(path: Path, column: str) -> Iterator[str | None]:
    records = _csv_records(path)
    names = next(records)
    place = names.index(column)
    for number, record in enumerate(records, start=2):
        if record and len(record) != len(names):
            raise CorpusError(
                f"row {number} has {len(record)} fields, but the header has {len(names)}; put fields that contain the "
                "separator in quotes",
                path,
            )
        yield (record[place] or None) if record else None


# --- Parquet ---------------------------------------------------------------------------------------------------------


def _parquet_library() -> Any:
    """pyarrow's reader of Parquet, or an ImportError that names the extra."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Parquet files need pyarrow: pip install 'seqgan-gym[parquet]'") from error
    return pyarrow.parquet


def _parquet_columns(path: Path) -> tuple[list[str], list[str]]:
    """Names of all columns, and of those that hold text."""
    library = _parquet_library()
    try:
        schema = library.read_schema(path)
    except _PYARROW_ERRORS as error:
        raise CorpusError(f"is not a Parquet file that can be read: {error}", path) from error
    texts = [field.name for field in schema if str(getattr(field.type, "value_type", field.type)) in _TEXT_TYPES]
    return list(schema.names), texts


def _parquet_rows(path: Path, column: str) -> Iterator[str | None]:
    library = _parquet_library()
    try:
        with library.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS, columns=[column]):
                yield from _texts(batch.column(0).to_pylist(), column, path)
    except _PYARROW_ERRORS as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"is not a Parquet file that can be read: {error}", path) from error


def _texts(values: Iterable[Any], column: str, path: Path) -> Iterator[str | None]:
    for value in values:
        if value is not None and not isinstance(value, str):
            raise CorpusError(f"column {column!r} holds {type(value).__name__}, expected text", path)
        yield value
