"""`tasks.lines`: text from files, folders and data sets; sentences; what is not text."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqgan_env.corpora.corpus import CorpusError
from seqgan_env.corpora.lines import TextSource, split_sentences
from tests.marks import examples


def written(folder: Path, content: bytes, name: str = "corpus.txt") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


# --- lines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"one\rtwo", ["one", "two"]),
        (b"a\nb", ["a", "b"]),
        (b"a", ["a"]),
        (b"\xef\xbb\xbfone\ntwo", ["one", "two"]),
        ("a\u2028b\x0bc\x85d\x0ce\n".encode(), ["a\u2028b\x0bc\x85d\x0ce"]),
        ("  床前明月光 \nשלום עולם\n👩‍👩‍👧\n".encode(), ["床前明月光", "שלום עולם", "👩‍👩‍👧"]),
    ],
)
def test_lines_end_where_files_end_lines_and_nowhere_else(tmp_path: Path, content: bytes, lines: list[str]) -> None:
    assert list(TextSource(written(tmp_path, content))) == lines


def test_empty_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    source = TextSource(written(tmp_path, b"\none\n \t\n\r\ntwo\n\n"))
    assert list(source) == ["one", "two"]
    assert source.skipped == 4
    assert list(source) == ["one", "two"]
    assert source.skipped == 4


def test_a_source_can_be_walked_again_and_stopped(tmp_path: Path) -> None:
    path = written(tmp_path, b"a\nb\nc\n")
    assert list(TextSource(path, max_sequences=2)) == ["a", "b"]
    assert list(TextSource(path, max_sequences=9)) == ["a", "b", "c"]


def test_a_folder_is_all_its_text_files_by_name(tmp_path: Path) -> None:
    written(tmp_path, b"second\n", "b.txt")
    written(tmp_path, b"first", "a.txt")
    written(tmp_path, b"\0", "c.bin")
    assert list(TextSource(tmp_path)) == ["first", "second"]


def test_lines_across_the_blocks_of_reading_are_whole(tmp_path: Path) -> None:
    lines = ["é" * (1 + number % 700) for number in range(6000)]  # 4 MB, so that blocks cut letters and \r\n
    assert list(TextSource(written(tmp_path, "\r\n".join(lines).encode()))) == lines


def test_the_bundled_corpus_has_thousands_of_sentences() -> None:
    lines = list(TextSource())
    assert len(lines) == len(set(lines)) == 6558
    assert lines[0].startswith("The current code generator emits no code for an assert statement")
    assert all(6 <= len(line.split()) <= 30 and line.isascii() for line in lines)


@pytest.mark.parametrize("split_by", ["line", "sentence"])
def test_byte_order_marks_inside_a_text_are_left_out_and_counted(tmp_path: Path, split_by: str) -> None:
    mark = b"\xef\xbb\xbf"  # of files that were put together, the first without an end of its last line
    source = TextSource(written(tmp_path, mark + b"One.\n\n" + mark + b"Two.\n\nThr" + mark + b"ee.\n"), split_by)
    assert list(source) == ["One.", "Two.", "Three."]
    assert source.byte_order_marks == 2  # that at the beginning is no part of the text


def test_a_pattern_and_several_names_are_several_files_each_read_once(tmp_path: Path) -> None:
    for name, text in (("b.txt", b"b"), ("a.txt", b"a"), ("c.md", b"c"), ("sub/d.txt", b"d"), ("x,y[1].txt", b"e")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        written(tmp_path, text, name)
    assert list(TextSource(f"{tmp_path}/[ab].txt")) == ["a", "b"]
    assert list(TextSource(f"{tmp_path}/c.md, {tmp_path}/?.txt,{tmp_path}/a.txt")) == ["c", "a", "b"]
    assert list(TextSource(f"{tmp_path}/**/d.txt")) == ["d"]
    assert list(TextSource(f"{tmp_path}/x,y[1].txt")) == ["e"]  # a name that exists is no pattern
    with pytest.raises(CorpusError, match=r"no file or folder matches this pattern"):
        TextSource(f"{tmp_path}/*.text")
    with pytest.raises(CorpusError, match=r"z\.txt: no such file"):
        TextSource(f"{tmp_path}/a.txt,{tmp_path}/z.txt")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.json", "jq -c"),
        ("a.pdf", "pdftotext"),
        ("a.DOCX", "pandoc"),
        ("a.html", "pandoc"),
        ("a.xlsx", "CSV"),
        ("a.jsonl.gz", "gunzip"),
        ("a.zip", "unzip"),
        ("a.arrow", "Parquet, CSV or JSONL"),
        ("a.npz", "arrays"),
        ("a.png", "picture"),
        ("a.mid", "seqgan train music"),
    ],
)
def test_a_file_that_is_no_text_by_its_suffix_is_refused_with_the_way_to_convert_it(
    tmp_path: Path, name: str, words: str
) -> None:
    with pytest.raises(CorpusError, match=rf"{name}: .*{words}"):
        TextSource(written(tmp_path, b"a b\nc d\n", name))


@pytest.mark.parametrize("name", ["poems", "a.md", "a.tex", "a.TXT", "a.de", "a.csvx"])
def test_another_suffix_says_nothing_and_the_content_decides(tmp_path: Path, name: str) -> None:
    assert list(TextSource(written(tmp_path, b"a b\nc d\n", name))) == ["a b", "c d"]


# --- sentences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One is. Two is! Is three?", ["One is.", "Two is!", "Is three?"]),
        ('He said "No." Then he left.', ['He said "No."', "Then he left."]),
        ("It costs 3.14 dollars, i.e. little. Yes.", ["It costs 3.14 dollars, i.e. little.", "Yes."]),
        ("J. S. Bach met Mr. Smith. They sang.", ["J. S. Bach met Mr. Smith.", "They sang."]),
        ("床前明月光。疑是地上霜！举头？", ["床前明月光。", "疑是地上霜！", "举头？"]),
        ("他说：“走吧。”我们走了。", ["他说：“走吧。”", "我们走了。"]),
        ("هل أنت هنا؟ نعم.", ["هل أنت هنا؟", "نعم."]),
        ("यह एक है। वह दो है।", ["यह एक है।", "वह दो है।"]),
        ("No end here", ["No end here"]),
        ("Wait... what? Yes... Then no.", ["Wait... what?", "Yes...", "Then no."]),
        ("", []),
    ],
)
def test_sentences_end_by_the_rule(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


def test_running_text_is_joined_over_lines_and_cut_at_empty_ones(tmp_path: Path) -> None:
    content = (
        "A Title\n\nThe first\nsentence. The\r\nsecond one. The third\n\n\nis another.\n春眠不\n觉晓。处处\n闻啼鸟\n"
    )
    source = TextSource(written(tmp_path, content.encode()), "sentence")
    assert list(source) == [
        "A Title",
        "The first sentence.",
        "The second one.",
        "The third",
        "is another.",
        "春眠不觉晓。",
        "处处闻啼鸟",
    ]


def test_running_text_without_line_ends_is_cut_as_if_it_had_them(tmp_path: Path) -> None:
    sentences = [f"Sentence {number} is here, with é." for number in range(40_000)]
    running = TextSource(written(tmp_path, " ".join(sentences).encode()), "sentence")
    assert list(running) == sentences
    wrapped = TextSource(written(tmp_path, " ".join(sentences).replace(" is", "\nis").encode()), "sentence")
    assert list(wrapped) == sentences


@pytest.mark.parametrize("character", [".", " ", "。", "A. ", "x", "“", ".)"])
def test_no_text_takes_more_than_linear_time(tmp_path: Path, character: str) -> None:
    path = written(tmp_path, (character * (2_000_000 // len(character))).encode())
    start = time.process_time()
    with contextlib.suppress(CorpusError):  # no sentence ends
        sum(1 for _ in TextSource(path, "sentence"))
    assert time.process_time() - start < 5


# --- what is not text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"good\nb\0d\n", r"corpus\.txt, line 2, byte 6: a NUL byte"),
        (b"good\ncaf\xe9 au lait\n", r"corpus\.txt, line 2, byte 8: not UTF-8: invalid continuation byte \(bytes e9"),
        (b"a\r\nb\rc\n\xff", r"line 4, byte 7: not UTF-8: invalid start byte"),
        (b"cut \xe4\xbd", r"line 1, byte 4: not UTF-8: unexpected end of data"),
        (b"\xef\xbb\xbfa\n\xff", r"line 2, byte 5: not UTF-8"),
        ("text".encode("utf-16"), r"line 1, byte 0: is UTF-16"),
        (b"x" * 10_000_000, r"line 1, byte 0: a line of more than 1,000,000 bytes.*split_by"),
        (b"short\n" + b"x" * 10_000_000 + b"\nshort\n", r"line 2, byte 6: a line of more than 1,000,000 bytes"),
        (b"x" * 2_000_000 + b"\0", r"a line of more than 1,000,000 bytes|NUL"),
    ],
)
def test_what_is_not_text_is_told_with_line_and_byte(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        list(TextSource(written(tmp_path, content)))


def test_the_place_of_a_wrong_byte_is_right_in_the_tenth_megabyte(tmp_path: Path) -> None:
    content = "é line\n".encode() * 1_000_000 + b"\xe9\n"
    with pytest.raises(CorpusError, match="line 1000001, byte 8000000: not UTF-8"):
        list(TextSource(written(tmp_path, content)))


def test_running_text_without_an_end_is_told(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"corpus\.txt: no sentence ends within 1,000,000 characters, after 'xxxx"):
        list(TextSource(written(tmp_path, b"x" * 3_000_000), "sentence"))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = TextSource(written(tmp_path, b"a\n"))
    os.remove(tmp_path / "corpus.txt")
    with pytest.raises(CorpusError, match=r"corpus\.txt: cannot be read: No such file"):
        list(source)


@examples(150)
@given(
    content=st.binary(max_size=300) | st.text(max_size=200).map(str.encode),
    split_by=st.sampled_from(["line", "sentence"]),
)
def test_any_bytes_are_text_or_a_corpus_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, split_by: str
) -> None:
    path = written(tmp_path_factory.getbasetemp(), content, "fuzz.txt")
    try:
        text = content.decode().replace("\ufeff", "")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        with pytest.raises(CorpusError, match=r"fuzz\.txt, line \d+, byte \d+: "):
            list(TextSource(path, split_by))
        return
    lines = list(TextSource(path, split_by))
    assert all(line.strip() == line != "" for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())  # nothing but white space is lost


# --- Hugging Face ----------------------------------------------------------------------------------------------------


@pytest.fixture
def data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that `datasets.load_dataset` reads: two columns of text and one of numbers."""
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    rows = [{"title": f"T{number}", "body": f"line {number}\nmore", "stars": number} for number in range(4)]
    rows[2]["body"] = None
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_a_column_of_a_data_set_is_a_corpus(data_set: Path) -> None:
    source = TextSource(f"hf:{data_set}:train:body")
    assert list(source) == ["line 0", "more", "line 1", "more", "line 3", "more"]
    assert source.skipped == 1
    assert list(TextSource(f"hf:{data_set}:train:title", "sentence", 2)) == ["T0", "T1"]
    assert list(TextSource(f"hf:{data_set}", column="title")) == ["T0", "T1", "T2", "T3"]
    with pytest.raises(CorpusError, match=r"column='body' differs from the column 'title' in the corpus"):
        TextSource(f"hf:{data_set}:train:title", column="body")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "column '' holds no text; columns of text are title, body"),
        (":train:stars", "column 'stars' holds no text"),
        (":dev:title", 'hf:.*: cannot be loaded: .*"dev"'),
    ],
)
def test_a_data_set_without_that_text_is_told(data_set: Path, place: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        TextSource(f"hf:{data_set}{place}")


def test_a_data_set_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"seqgan-gym\[datasets\]"):
        TextSource("hf:captions")
