"""Reads the tunes of a music corpus, and of a separate validation set and test set.

In: names of files, folders and patterns, and the grid. Out: the tunes in this order, and the faults of files and tunes
that cannot be used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from seqgan_env.corpora.corpus import CorpusError, corpus_files
from seqgan_env.corpora.tunes import Grid, Tune, read_tunes

SUFFIXES = (".mid", ".midi", ".abc")  # the suffixes that are read from a folder


@dataclass
class TuneFiles:
    """The result of reading.

    Attributes:
        tunes: tunes of all corpora, one corpus after another.
        broken: the fault of each skipped file or tune.
        files: all files.
        first: split -> index of the first tune of its corpus.
    """

    tunes: list[Tune] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    first: dict[str, int] = field(default_factory=dict)

    @property
    def are_text(self) -> bool:
        """Whether no file is MIDI or ABC. The grid of the tunes is then that of the text."""
        return all(file.suffix.lower() not in SUFFIXES for file in self.files)


def read_tune_files(corpora: Mapping[str, str | Path | None], grid: Grid, skip_broken: bool = True) -> TuneFiles:
    """The tunes of some corpora.

    Args:
        corpora: split -> file, folder, pattern or several, as in `corpus_files`; None is left out.
        grid: the times at which a tune is sampled.
        skip_broken: go on after files and tunes that cannot be used, if at least one of each corpus can.

    Raises:
        CorpusError: if no file of a corpus can be used, or if one cannot be used and skip_broken is False.
        ImportError: for MIDI and ABC without symusic.
    """
    read = TuneFiles()
    for split, corpus in corpora.items():
        if corpus is not None:
            read.first[split] = len(read.tunes)
            _read_corpus(corpus, grid, skip_broken, read)
    return read


def _read_corpus(corpus: str | Path, grid: Grid, skip_broken: bool, read: TuneFiles) -> None:
    """Read one corpus and add it to the result."""
    errors: list[CorpusError] = []
    before = len(read.tunes)
    files = corpus_files(corpus, SUFFIXES)
    for file in files:
        try:
            found, wrong = read_tunes(file, grid)
        except CorpusError as error:
            found, wrong = [], [error]
        read.tunes += found
        errors += wrong
        if errors and not skip_broken:
            raise errors[0]
    if len(read.tunes) == before:
        if len(files) == 1:
            raise errors[0]
        raise CorpusError(f"none of {len(files)} files can be used; the first: {errors[0]}", corpus)
    read.broken += map(str, errors)
    read.files += files
