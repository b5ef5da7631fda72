"""From a line of text to its tokens and back: characters, words or subwords.

In: lines. Out: token strings, which joined as the segmentation says give the line back, with its white space made
single spaces (words and subwords).

Characters are grapheme clusters (Unicode Standard Annex 29): a letter with its accents, a flag, or a family of emoji is
one token. Words are what stands between white space; where punctuation is split off, marks carry ‿ on the side where no
space is, so 'Yes (or no).' is Yes (‿ or no ‿) ‿. and the text comes back exactly. Subwords are byte-pair encodings of
characters, with ▁ for a space.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import regex

from seqgan_env.corpora.corpus import CorpusError

Unit = Literal["auto", "character", "word", "subword"]
Punctuation = Literal["auto", "split", "keep"]
UNKNOWN = "<unk>"
ATTACHED = "‿"
SPACE = "▁"
SAMPLE_LINES = 2_000  # lines that "auto" looks at

_CLUSTER = regex.compile(r"\X")
_WORD = r"[\p{L}\p{M}\p{N}_]++(?:['’\-][\p{L}\p{M}\p{N}_]++|(?<=\p{N})[.,:](?=\p{N})[\p{L}\p{M}\p{N}_]++)*+"
_PIECE = regex.compile(rf"({_WORD})|(\X)")  # a word or a mark
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]")
_LETTER = regex.compile(r"\p{L}")
_MARK = regex.compile(r"[.,;:!?]")
_MARKED = regex.compile(r".*[^.,;:!?][.,;:!?]")


@dataclass(frozen=True)
class Segmentation:
    """How lines are cut.

    Attributes:
        unit: character, word or subword.
        splits_punctuation: for words, whether a mark beside a word is a token of its own.
        description: the choice in words, with its reason where it was made by looking.
    """

    unit: Literal["character", "word", "subword"]
    splits_punctuation: bool
    description: str

    @property
    def separator(self) -> str:
        """What stands between two tokens of a text."""
        return " " if self.unit == "word" else ""

    @property
    def replace(self) -> tuple[tuple[str, str], ...]:
        """What `Vocabulary.decode` replaces in the joined tokens."""
        if self.unit == "subword":
            return ((SPACE, " "),)
        return ((" " + ATTACHED, ""), (ATTACHED + " ", "")) if self.splits_punctuation else ()

    def pieces(self, part: str) -> list[str]:
        """Tokens of what cannot be cut at a space any more: a field of a line of words, or a line of characters."""
        if self.unit == "character":
            return list(part) if part.isascii() else _CLUSTER.findall(part)
        if not self.splits_punctuation or part == UNKNOWN:
            return [part]
        tokens: list[str] = []
        after_mark = False
        for word, mark in _PIECE.findall(part):
            if tokens and word and after_mark:
                tokens[-1] += ATTACHED
            tokens.append(ATTACHED + mark if tokens and mark else word or mark)
            after_mark = bool(mark)
        return tokens

    def fields(self, line: str) -> list[str]:
        """What `pieces` is to cut: the line's words between white space, or the whole line."""
        return line.split() if self.unit == "word" else [line]


def choose_segmentation(lines: Sequence[str], unit: Unit = "auto", punctuation: Punctuation = "auto") -> Segmentation:
    """The segmentation that is asked for, or that fits some lines.

    "auto" takes words where at least half of the lines have white space, unless the words would be longer than 30
    characters on average, or longer than 3 in a script that is written without spaces (Chinese, Japanese, Thai, ...):
    then characters. Punctuation is split off where marks more often stand at words than alone.

    Args:
        lines: some of the corpus, at least one.
        unit: auto, character, word or subword.
        punctuation: for words: auto, split (marks are tokens) or keep (a token is all between two spaces).
    """
    reason = ""
    if unit == "auto":
        unit, reason = _fitting_unit(lines)
    if unit in ("character", "subword"):
        name = "characters (grapheme clusters)" if unit == "character" else "subwords (byte-pair encoding)"
        return Segmentation(unit, False, name + reason)
    splits = punctuation == "split" or (punctuation == "auto" and _marks_are_attached(lines))
    return Segmentation("word", splits, ("words and punctuation marks" if splits else "words between spaces") + reason)


def _fitting_unit(lines: Sequence[str]) -> tuple[Literal["character", "word"], str]:
    """Characters or words, and why."""
    fields = [field for line in lines for field in line.split()]
    spaced = sum(len(line.split()) > 1 for line in lines) / len(lines)
    if spaced < 0.5:
        return "character", f"; auto: only {spaced:.0%} of the lines have spaces"
    mean = sum(map(len, fields)) / len(fields)
    text = "".join(fields)
    if mean > 3 and len(_UNSPACED.findall(text)) > 0.5 * len(_LETTER.findall(text)):
        return "character", "; auto: a script without spaces"
    if mean > 30:
        return "character", f"; auto: {mean:.0f} characters from space to space"
    return "word", f"; auto: {spaced:.0%} of the lines have spaces"


def _marks_are_attached(lines: Iterable[str]) -> bool:
    """Whether more marks stand at the end of a word than alone."""
    attached = alone = 0
    for line in lines:
        for field in line.split():
            alone += _MARK.fullmatch(field) is not None
            attached += _MARKED.fullmatch(field) is not None
    return attached > alone


def train_tokenizer(lines: Iterable[str], size: int) -> Any:
    """A `tokenizers.Tokenizer`: byte-pair encoding of characters, with ▁ for spaces and <unk> for rare characters.

    Args:
        lines: text to learn merges from.
        size: of its vocabulary, <unk> included; at most half of it are single characters, the most frequent ones.

    Raises:
        ImportError: without the tokenizers library.
        CorpusError: if there is nothing to learn.
    """
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError as error:
        raise ImportError("unit='subword' needs tokenizers: pip install 'seqgan-gym[text]'") from error
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, special_tokens=[UNKNOWN], limit_alphabet=size // 2, show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    if tokenizer.get_vocab_size() < 2:
        raise CorpusError("the text has nothing to learn subwords from; choose unit='character'")
    return tokenizer
