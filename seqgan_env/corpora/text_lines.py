"""The lines of all corpora of a text task, one after the other and normalised: train, validation, test."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping

import regex

from seqgan_env.corpora.corpus import CorpusError
from seqgan_env.corpora.lines import TextSource
from seqgan_env.corpora.prompts import PromptedSource

_TOWER = regex.compile(r"\p{M}{200}")


class TextLines:
    """The lines of all corpora. It may be iterated several times.

    Args:
        sources: "train", then "validation" and "test" where they have a corpus of their own.
        lowercase: change all letters to lower case.
        nfc: bring letters with accents into one form, Unicode's NFC.
        max_sequences: how many sequences of the train corpus are read, for the name; None: all.

    Attributes:
        name: name of all of them.
        first: after a whole iteration, the index of the first line of the "validation" and the "test" corpus, if given.
    """

    def __init__(
        self,
        sources: Mapping[str, TextSource | PromptedSource],
        lowercase: bool = False,
        nfc: bool = True,
        max_sequences: int | None = None,
    ) -> None:
        self._sources = dict(sources)
        self._lowercase = lowercase
        self._nfc = nfc
        self.name = " and ".join(source.name for source in self._sources.values())
        if max_sequences is not None:
            self.name += f" (the first {max_sequences:,} sequences)"
        self.first: dict[str, int] = {}

    @property
    def skipped(self) -> int:
        """Empty lines of the last whole iteration."""
        return sum(source.skipped for source in self._sources.values())

    @property
    def byte_order_marks(self) -> int:
        """Marks inside the text in the last whole iteration."""
        return sum(source.byte_order_marks for source in self._sources.values())

    def __iter__(self) -> Iterator[str]:
        count = 0
        for split, source in self._sources.items():
            if split != "train":
                self.first[split] = count
            for line in source:
                count += 1
                yield line if line.isascii() and not self._lowercase else self._normal(line, count)

    def _normal(self, line: str, number: int) -> str:
        if self._lowercase:
            line = line.lower()
        if not self._nfc:
            return line
        if _TOWER.search(line):  # Python sorts the marks of one letter in quadratic time: 80,000 marks take 20 s
            raise CorpusError(
                f"sequence {number} has a letter with 200 accents or more; remove it, or choose nfc=False"
            )
        return unicodedata.normalize("NFC", line)
