"""`corpora.columns`: a column of text in JSONL, CSV, TSV and Parquet; tables that are damaged."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqgan_env.corpora.columns import Column
from seqgan_env.corpora.corpus import CorpusError
from seqgan_env.corpora.lines import TextSource
from seqgan_env.tasks.text import text_task
from tests.marks import examples

ROWS = [
    {"id": 1, "title": "One", "body": "first, with a comma\nand a second line"},
    {"id": 2, "title": 'The "second"', "body": None},
    {"id": 3, "title": "床前; 明月光", "body": "third"},
]
BODY = ["first, with a comma\nand a second line", None, "third"]


def as_jsonl(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows: list[dict], delimiter: str = ",", end: str = "\r\n") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows: list[dict]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


TABLES = [
    ("a.jsonl", as_jsonl),
    ("a.ndjson", lambda rows: b"\xef\xbb\xbf" + as_jsonl(rows)),
    ("a.JSONL", lambda rows: as_jsonl(rows).replace(b"\n", b"\r\n").rstrip()),
    ("a.csv", as_csv),
    ("excel.csv", lambda rows: b"\xef\xbb\xbf" + as_csv(rows, ";")),
    ("a.tsv", lambda rows: as_csv(rows, "\t", "\n")),
    ("a.parquet", as_parquet),
]


@pytest.mark.parametrize(("name", "table"), TABLES)
def test_a_named_column_is_read_and_nothing_else(tmp_path: Path, name: str, table: object) -> None:
    path = write(tmp_path, name, table(ROWS))  # type: ignore[operator]
    assert list(Column(path, "body")) == BODY
    assert list(Column(path, "title")) == [row["title"] for row in ROWS]
    source = TextSource(path, column="body")
    expected = ["first, with a comma", "and a second line", "third"]
    assert (list(source), source.skipped) == (expected, 1)
    assert (list(source), source.skipped) == (expected, 1)  # it can be walked again
    assert list(TextSource(path, "sentence", column="title", max_sequences=1)) == ["One"]


@pytest.mark.parametrize(("name", "table"), TABLES)
def test_without_a_name_the_column_text_or_the_only_one_is_read(tmp_path: Path, name: str, table: object) -> None:
    named = [{"text": "a", "title": "b"}]
    assert list(TextSource(write(tmp_path, name, table(named)))) == ["a"]  # type: ignore[operator]
    assert list(TextSource(write(tmp_path, name, table([{"line": "c"}])))) == ["c"]  # type: ignore[operator]
    with pytest.raises(CorpusError, match=r"name the column .*--column.*'title', 'body'"):
        TextSource(write(tmp_path, name, table(ROWS)))  # type: ignore[operator]
    with pytest.raises(CorpusError, match=r"has no column 'boddy'.*'title', 'body'"):
        TextSource(write(tmp_path, name, table(ROWS)), column="boddy")  # type: ignore[operator]


def test_a_column_of_numbers_is_told(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"a\.jsonl, line 1: column 'id' holds int, expected text"):
        list(TextSource(write(tmp_path, "a.jsonl", as_jsonl(ROWS)), column="id"))
    path = write(tmp_path, "a.parquet", as_parquet(ROWS))
    with pytest.raises(CorpusError, match=r"a\.parquet: column 'id' holds int, expected text"):
        list(TextSource(path, column="id"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', r"line 2: is not JSON: .*each line must be an object"),
        ("a.jsonl", b'[\n{"text": "a"}\n]', r"line 1: is not JSON"),
        ("a.jsonl", b'[{"text": "a"}]', r"line 1: holds list, expected an object .*jq"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xe9"}', r"line 2, byte 24: not UTF-8"),
        ("a.jsonl", b'{"text": "a \\ud800"}', r"line 1: column 'text' holds half a character"),
        ("a.jsonl", b'{"a": ' + b"[" * 100_000, r"line 1: is not JSON"),
        ("a.jsonl", b"", r"columns of text are none"),
        ("a.csv", b"", r"columns of text are none"),
        ("a.csv", b"text,n\na,1\nb,2,3\n", r"row 3 has 3 fields, but the header has 2"),
        ("a.csv", b'text,n\n"a,1\nb,2\n', r"line 3: is not CSV that can be read: unexpected end"),
        ("a.csv", b"text,text\na,b\n", r"has several columns 'text'"),
        ("a.csv", b"text\na\0b\n", r"line 2, byte 6: a NUL byte"),
        ("a.csv", "text\na\n".encode("utf-16"), r"line 1, byte 0: is UTF-16"),
        ("a.csv", b"text\n" + b"x" * 200_000, r"field larger than field limit .*JSONL"),
    ],
)
def test_a_damaged_table_is_told_with_its_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(CorpusError, match=rf"{name}.*{message}"):
        list(TextSource(path, column=None if b"text,text" not in content else "text"))


def test_a_file_that_is_no_parquet_is_told(tmp_path: Path) -> None:
    content = as_parquet(ROWS)
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    damaged_pages = content[:4] + b"\xff" * (footer - 4) + content[footer:]
    for damaged in (b"", b"PAR1", content[:-20], damaged_pages):
        with pytest.raises(CorpusError, match=r"a\.parquet: is not a Parquet file that can be read"):
            list(TextSource(write(tmp_path, "a.parquet", damaged), column="body"))


def test_parquet_without_its_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"seqgan-gym\[parquet\]"):
        TextSource(write(tmp_path, "a.parquet", b"PAR1"), column="text")


def test_of_a_folder_a_column_chooses_the_tables(tmp_path: Path) -> None:
    write(tmp_path, "b.jsonl", b'{"text": "from b"}\n')
    write(tmp_path, "a.csv", b"text\nfrom a\n")
    write(tmp_path, "readme.txt", b"not this\n")
    assert list(TextSource(tmp_path, column="text")) == ["from a", "from b"]
    assert list(TextSource(tmp_path)) == ["not this"]
    assert list(TextSource(f"{tmp_path}/*.jsonl,{tmp_path}/a.csv", column="text")) == ["from b", "from a"]


def test_a_column_of_plain_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"a\.txt: column='text' is for tables"):
        TextSource(write(tmp_path, "a.txt", b"a\n"), column="text")


def test_a_task_of_a_table_has_no_braces_in_its_vocabulary(tmp_path: Path) -> None:
    lines = [f"a b c{number % 7}" for number in range(60)]
    content = as_jsonl([{"text": line, "n": 1} for line in lines])
    task = text_task(write(tmp_path, "a.jsonl", content), duplicates="keep", minimum_count=1, column="text")
    assert sorted(set(task.vocabulary.tokens) - {"<unk>", "<eos>"}) == ["a", "b", *(f"c{n}" for n in range(7))]


@examples(150)
@given(
    name=st.sampled_from(["fuzz.jsonl", "fuzz.csv", "fuzz.tsv"]),
    content=st.binary(max_size=200)
    | st.text('{}[]":,;\t\n\r\\u0dabtext1null é', max_size=120).map(lambda text: ("text\n" + text).encode()),
)
def test_any_bytes_are_a_table_or_a_corpus_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    path = write(tmp_path_factory.getbasetemp(), name, content)
    with contextlib.suppress(CorpusError):
        assert all(line for line in TextSource(path))


@examples(60)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\ufeff")), min_size=1))
def test_what_the_standard_library_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    rows = [{"n": "1", "text": text} for text in texts]
    for name, table in (("back.jsonl", as_jsonl), ("back.csv", as_csv)):
        path = write(tmp_path_factory.getbasetemp(), name, table(rows))
        assert [text or "" for text in Column(path, "text")] == texts
