"""Prompts of a text corpus: from a column, from a separator in each line, or the first k tokens of each sequence.

In: text whose sequences have prompts. Out: lines in which `MARK` stands between prompt and response; sequences in which
every prompt has P tokens; and the token ids of a prompt that a user writes.

A prompt from a column or a line has any length. So it ends with a reserved token, the mark, and a shorter prompt is
filled with this mark at its left: <prompt> <prompt> who are you <prompt>. Prompt and response then stand side by side,
at places that are the same in every sequence. A prompt of the first k tokens needs no mark.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import regex
import torch
from torch import Tensor

from seqgan_env.corpora.columns import TABLES, Column
from seqgan_env.corpora.corpus import CorpusError, IntArray, corpus_files
from seqgan_env.corpora.lines import TextSource, hugging_face_column
from seqgan_env.corpora.segmentation import Segmentation, segmentation_of
from seqgan_env.corpora.token_table import CHUNK, TokenTable
from seqgan_env.vocabulary import Vocabulary

MARK = "\x02"  # between prompt and response, while a corpus is read; no text has this control character
_BYTE_ORDER_MARK = "\ufeff"
_SPACES = regex.compile(r"\s*[\r\n]\s*")


class PromptedSource:
    """Sequences "prompt MARK response", as an iterable that may be iterated several times; see `TextSource`.

    Args:
        corpus: as in `TextSource`; with `prompt_column` tables or a data set.
        prompt_column: the column of the prompts; None: each sequence holds its prompt, before the separator.
        separator: the text that ends the prompt in a line; its first place counts. Used without `prompt_column`.
        max_sequences: stop after this many; None reads all.
        column: the column of the responses, or of whole lines with a separator.

    Attributes:
        name: name of the corpus.
        skipped: rows without a response that the last iteration skipped.
        byte_order_marks: marks inside the text that the last iteration met.

    Raises:
        CorpusError: as `TextSource`; for a line without the separator, or one that holds `MARK` already.
    """

    def __init__(
        self,
        corpus: str | Path | None,
        prompt_column: str | None,
        separator: str | None,
        max_sequences: int | None = None,
        column: str | None = None,
    ) -> None:
        self._separator = separator
        self._max_sequences = max_sequences
        self.skipped = self.byte_order_marks = 0
        self._pairs: Iterable[tuple[str | None, str | None]]
        if prompt_column is None:
            assert separator is not None
            self._lines = TextSource(corpus, column=column)
            self.name = self._lines.name
            self._pairs = _Cut(self._lines, separator)
        else:
            self.name = str(corpus)
            self._pairs = _Columns(corpus, prompt_column, column)

    def __iter__(self) -> Iterator[str]:
        self.skipped = self.byte_order_marks = count = 0
        for prompt, response in self._pairs:
            if self._max_sequences is not None and count >= self._max_sequences:
                break
            texts = [self._plain(text or "") for text in (prompt, response)]
            if not texts[1]:
                self.skipped += 1
                continue
            count += 1
            yield MARK.join(texts)
        if self._separator is not None:
            self.skipped += self._lines.skipped
            self.byte_order_marks += self._lines.byte_order_marks

    def _plain(self, text: str) -> str:
        if MARK in text:
            raise CorpusError("a text holds the control character U+0002, which separates prompts here; remove it")
        self.byte_order_marks += text.count(_BYTE_ORDER_MARK)
        return _SPACES.sub(" ", text.replace(_BYTE_ORDER_MARK, "").strip())


@dataclass(frozen=True)
class _Cut:
    """Lines, cut at the first separator."""

    lines: TextSource
    separator: str

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for number, line in enumerate(self.lines, 1):
            prompt, found, response = line.partition(self.separator)
            if not found and self.separator.strip() and line.endswith(self.separator.rstrip()):
                prompt, found = line.removesuffix(self.separator.rstrip()), self.separator  # an empty response
            if not found:
                raise CorpusError(
                    f"sequence {number} has no {self.separator!r} between prompt and response: {line[:40]!r}; give "
                    "every line one, or choose another prompt_separator"
                )
            yield prompt, response


@dataclass(frozen=True)
class _Columns:
    """Two columns of the same rows."""

    corpus: str | Path | None
    prompt_column: str
    column: str | None

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        if isinstance(self.corpus, str) and self.corpus.startswith("hf:"):
            place = ":".join(self.corpus.split(":")[:3])  # without a COLUMN
            yield from zip(
                hugging_face_column(place, self.prompt_column),
                hugging_face_column(self.corpus, self.column),
                strict=True,
            )
            return
        if self.corpus is None:
            raise CorpusError(f"prompt_column={self.prompt_column!r} needs a corpus with columns; give a table")
        for file in corpus_files(self.corpus, TABLES):
            if file.suffix.lower() not in TABLES:
                raise CorpusError(
                    f"prompt_column={self.prompt_column!r} is for tables ({', '.join(TABLES)}); for plain text choose "
                    "prompt_separator or prompt_tokens",
                    file,
                )
            yield from zip(Column(file, self.prompt_column), Column(file, self.column), strict=True)


@dataclass(frozen=True)
class PromptedSegmentation(Segmentation):
    """Cuts prompt and response, and keeps the mark between them as one token."""

    def pieces(self, part: str) -> list[str]:
        return [part] if part == MARK else super().pieces(part)

    def fields(self, line: str) -> list[str]:
        prompt, mark, response = line.partition(MARK)
        return [*super().fields(prompt), mark, *super().fields(response)]


def prompt_sizes(table: TokenTable) -> npt.NDArray[np.int64]:
    """Tokens of each sequence's prompt with its mark, (M,) int64; every sequence has one mark."""
    places = np.flatnonzero(table.tokens == table.names.index(MARK))
    sizes: npt.NDArray[np.int64] = places - table.offsets[:-1] + 1
    return sizes


def aligned(
    table: TokenTable, rows: IntArray, sizes: npt.NDArray[np.int64], shape: tuple[int, int], vocabulary: Vocabulary
) -> Tensor:
    """Some sequences, (len(rows), T) int64, whose responses all begin at place P: EOS after shorter ones, then PAD.

    Args:
        table: of vocabulary ids.
        rows: of the sequences.
        sizes: of all prompts, with their marks. A longer prompt loses its first tokens.
        shape: P and T.
        vocabulary: with a mark.
    """
    prompt_length, length = shape
    assert vocabulary.prompt_token is not None
    sequences = np.empty((len(rows), length), dtype=np.int64)
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        first, last = table.offsets[chunk][:, None], table.offsets[chunk + 1][:, None]
        place = first + sizes[chunk][:, None] - prompt_length + np.arange(length)  # in the table
        block = np.full(place.shape, vocabulary.pad_token, dtype=np.int64)
        block[place < first] = vocabulary.prompt_token
        present = (place >= first) & (place < last)
        block[present] = table.tokens[place[present]]
        if vocabulary.eos_token is not None:
            block[place == last] = vocabulary.eos_token
        sequences[start : start + CHUNK] = block
    return torch.from_numpy(sequences)


def encode_text(vocabulary: Vocabulary, text: str) -> npt.NDArray[np.int64]:
    """The token ids of a text, cut as the corpus was cut, (n,) int64.

    How the corpus was cut follows from the vocabulary. A token that is unknown as it stands is tried in lower case.

    Raises:
        ValueError: for a token that is not in the vocabulary, if it has no unknown token.
    """
    if vocabulary.tokenizer is not None:
        found = vocabulary.own_tokenizer.encode(text, add_special_tokens=False)
        return np.array(found.ids, dtype=np.int64) if vocabulary.is_pretrained else vocabulary.encode(found.tokens)
    known, segmentation = set(vocabulary.tokens), segmentation_of(vocabulary)
    tried = []
    for form in (unicodedata.normalize("NFC", text), text):
        pieces = [piece for field in segmentation.fields(form) for piece in segmentation.pieces(field)]
        pieces = [piece if piece in known or piece.lower() not in known else piece.lower() for piece in pieces]
        tried.append((sum(piece not in known for piece in pieces), pieces))
    return vocabulary.encode(min(tried, key=lambda found: found[0])[1])


def marked_prompt(vocabulary: Vocabulary, ids: npt.NDArray[np.int64], prompt_length: int) -> npt.NDArray[np.int64]:
    """A prompt of P tokens, (P,) int64: marks, the given ids, one mark.

    Raises:
        ValueError: if there are P ids or more.
    """
    assert vocabulary.prompt_token is not None
    missing = prompt_length - 1 - len(ids)
    if missing < 0:
        raise ValueError(f"the prompt has {len(ids)} tokens; at most {prompt_length - 1} are allowed: shorten it")
    mark = vocabulary.prompt_token
    return np.concatenate([np.full(missing, mark, dtype=np.int64), ids, np.array([mark], dtype=np.int64)])
