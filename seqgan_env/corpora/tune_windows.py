"""Windows of tunes: the sequences of a music corpus, and the statistics of the corpus.

In: tunes, one symbol per step of the grid. Out: windows of T symbols, and the numbers that are shown before training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqgan_env.corpora.corpus import CorpusStatistics, IntArray
from seqgan_env.corpora.tunes import Tune, without_holds, without_rests

Polyphony = Literal["highest", "drop", "error"]
_NAMED = 5  # files named in the printed table; the others are counted


@dataclass(frozen=True)
class MusicStatistics(CorpusStatistics):
    """Statistics of a music corpus: those of `CorpusStatistics` for its windows, and more about its tunes."""

    tunes: int = 0
    """Tunes that were read."""
    broken: tuple[str, ...] = ()
    """The fault of each skipped file or tune."""
    repaired: int = 0
    """ABC tunes with errors; abc2midi read the rest of them."""
    notes: int = 0
    """Notes of all tunes, without percussion."""
    missed_notes: int = 0
    """Notes that sound at no step of the grid."""
    lost_notes: int = 0
    """Notes of MIDI files that never end or have no length; they are left out."""
    ornaments: int = 0
    """Ornaments of ABC tunes that were removed."""
    refused: tuple[str, ...] = ()
    """Each tune with a directive that would have read another file, and this directive, which was removed."""
    polyphonic_tunes: int = 0
    """Tunes in which more than one note sounds at some step."""
    polyphonic_steps: int = 0
    """Steps at which more than one note sounds."""
    polyphony: Polyphony = "highest"
    """The treatment of such steps: the highest note was taken, or the tune was dropped."""
    short_tunes: int = 0
    """Tunes that give no sequence because they are shorter than T."""
    remainder_steps: int = 0
    """Steps after the last whole window of a tune, and all steps of short tunes."""
    remainder: Literal["drop", "keep"] = "drop"
    """Whether they were dropped, or kept as shorter sequences."""
    unseen_rate: float = 0.0
    """Share of the test tokens that never occur in the training split, 0 to 1."""

    def lines(self) -> list[tuple[str, str]]:
        """The rows of a table to print before training: name and value."""
        done = {"drop": "dropped", "keep": "kept"}
        rows = [
            ("tunes", f"{self.tunes:,}, of which {self.short_tunes:,} shorter than T"),
            ("broken, skipped", f"{len(self.broken):,}"),
            *((f"  {number}", reason) for number, reason in enumerate(self.broken[:_NAMED], start=1)),
            ("ABC errors passed over", f"{self.repaired:,} tunes"),
            ("ABC ornaments", f"{self.ornaments:,} dropped"),
            ("other files, not read", f"{len(self.refused):,}"),
            *((f"  {number}", where) for number, where in enumerate(self.refused[:_NAMED], start=1)),
            ("notes", f"{self.notes:,}, of which {self.missed_notes:,} fall between two steps"),
            ("without an end, left out", f"{self.lost_notes:,} notes"),
            (
                "polyphony",
                f"{self.polyphonic_steps:,} steps in {self.polyphonic_tunes:,} tunes"
                + {"highest": ": the highest note", "drop": ": dropped", "error": ""}[self.polyphony],
            ),
            ("after the last window", f"{self.remainder_steps:,} steps {done[self.remainder]}"),
            ("test tokens not in train", f"{self.unseen_rate:.2%}"),
        ]
        return super().lines() + rows


def tune_windows(
    tunes: Sequence[Tune], length: int, *, prolong_rests: bool, holds: bool, drop_polyphonic: bool, keep_remainder: bool
) -> tuple[list[IntArray], IntArray, int]:
    """Consecutive windows of the symbols of tunes.

    Args:
        tunes: all tunes.
        length: T.
        prolong_rests: whether a rest prolongs the note before it, instead of being a symbol.
        holds: whether HOLD stays a symbol, instead of the note that it holds.
        drop_polyphonic: whether to leave out tunes in which several notes sound at once.
        keep_remainder: whether the rest of a tune after its last whole window is a window, too.

    Returns:
        The windows, each (n,) int64 with n = T, or n < T for a remainder; the index of the tune of each window,
        ascending; and the number of steps after the last whole windows.
    """
    windows: list[IntArray] = []
    tune_of: list[int] = []
    remainders = 0
    for number, tune in enumerate(tunes):
        if tune.polyphonic_steps and drop_polyphonic:
            continue
        symbols = without_rests(tune.symbols) if prolong_rests else tune.symbols.copy()
        struck = without_holds(symbols)
        if holds:  # a window that begins inside a note starts this note
            symbols[::length] = struck[::length]
        else:
            symbols = struck
        whole = len(symbols) // length * length
        remainders += len(symbols) - whole
        stop = len(symbols) if keep_remainder else whole
        found = [symbols[start : start + length] for start in range(0, stop, length)]
        windows += found
        tune_of += [number] * len(found)
    return windows, np.array(tune_of, dtype=np.int64), remainders
