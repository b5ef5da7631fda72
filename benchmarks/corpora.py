"""Artificial text of a given size, to time `seqgan train text`: `python -m benchmarks.corpora FOLDER`.

Words are sequences of syllables, and their frequencies follow Zipf's law. Every second word depends on the word before
it, so that there is something to learn. Measurements on this text show the cost of a run, but nothing about language.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

CONSONANTS, VOWELS = "bcdfghjklmnprstvw", "aeiou"


@dataclass(frozen=True)
class Corpus:
    """Size of a text.

    Attributes:
        file: its name.
        vocab_size: number of words; a short text has only few of them.
        shortest, longest: the smallest and largest number of words in a line.
        lines: number of lines; 0 takes as many as fit into `megabytes`.
        megabytes: size of the text, if `lines` is 0.
        seed: seed of the text; the words do not depend on it.
    """

    file: str
    vocab_size: int
    shortest: int
    longest: int
    lines: int = 0
    megabytes: int = 0
    seed: int = 0


CORPORA = (
    Corpus("captions.txt", 4_600, 7, 37, lines=10_000),
    Corpus("sentences.txt", 8_500, 5, 40, lines=6_000, seed=2),
    Corpus("big.txt", 20_000, 5, 40, megabytes=60, seed=3),
)


def make_words(count: int) -> npt.NDArray[np.str_]:
    """`count` different words, in alphabetical order."""
    rng = np.random.default_rng(1)
    words: set[str] = set()
    while len(words) < count:
        syllables = int(rng.integers(1, 5))
        words.add("".join(str(rng.choice(list(CONSONANTS)) + rng.choice(list(VOWELS))) for _ in range(syllables)))
    return np.array(sorted(words))


def write(corpus: Corpus, folder: Path) -> Path:
    """Write a text, one sequence per line."""
    rng, words = np.random.default_rng(corpus.seed), make_words(corpus.vocab_size)
    rng.shuffle(words)
    frequency = 1 / (np.arange(corpus.vocab_size) + 2.7) ** 1.05
    cumulative = (frequency / frequency.sum()).cumsum()
    path, lines, size = folder / corpus.file, 0, 0
    with path.open("w", encoding="utf-8") as file:
        while lines < corpus.lines or size < corpus.megabytes * 10**6:
            typical = rng.gamma(6, (corpus.shortest + corpus.longest) / 14) + corpus.shortest / 2
            length = int(np.clip(typical, corpus.shortest, corpus.longest))
            tokens = np.searchsorted(cumulative, rng.random(length)).clip(max=corpus.vocab_size - 1)
            follows = rng.random(length)
            for t in np.flatnonzero(follows < 0.5):
                if t > 0:
                    tokens[t] = (tokens[t - 1] * 7919 + 13 + int(follows[t] * 12)) % corpus.vocab_size
            line = " ".join(words[tokens]) + "\n"
            file.write(line)
            lines, size = lines + 1, size + len(line)
    return path


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) == 2 else ".")
    target.mkdir(parents=True, exist_ok=True)
    for one in CORPORA:
        print(write(one, target))
