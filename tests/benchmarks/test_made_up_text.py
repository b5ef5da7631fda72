"""`corpora`: texts of the size that was asked for, the same at every call."""

from __future__ import annotations

from pathlib import Path

from benchmarks.corpora import Corpus, make_words, write


def test_a_text_has_the_lines_the_lengths_and_the_words_that_were_asked_for(tmp_path: Path) -> None:
    corpus = Corpus("a.txt", vocab_size=30, shortest=3, longest=6, lines=200)
    lines = write(corpus, tmp_path).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 200
    assert {len(line.split()) for line in lines} == {3, 4, 5, 6}
    assert {word for line in lines for word in line.split()} == set(make_words(30))
    assert write(corpus, tmp_path).read_text(encoding="utf-8").splitlines() == lines


def test_a_text_ends_when_it_has_its_megabytes(tmp_path: Path) -> None:
    size = write(Corpus("b.txt", vocab_size=30, shortest=5, longest=40, megabytes=1), tmp_path).stat().st_size
    assert 10**6 <= size < 10**6 + 40 * 9  # at most a line too long
