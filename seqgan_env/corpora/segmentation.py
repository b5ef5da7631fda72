"""From a line of text to its tokens and back: characters, words or subwords.

In: lines. Out: token strings. Joined as the segmentation says, they give the line back; for words and subwords its
white space becomes single spaces.

Characters are grapheme clusters (Unicode Standard Annex 29): a letter with its accents, a flag, or a family of emoji is
one token. Words are separated by white space. If punctuation is split off, a mark has ‿ on a side without a space: 'Yes
(or no).' becomes Yes (‿ or no ‿) ‿. So the exact text can be restored. Subwords are byte-pair encodings of characters,
with ▁ for a space.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import regex

from seqgan_env.corpora.corpus import CorpusError
from seqgan_env.vocabulary import Vocabulary

Unit = Literal["auto", "character", "word", "subword"]
Punctuation = Literal["auto", "split", "keep"]
UNKNOWN = "<unk>"
ATTACHED = "‿"
SPACE = "▁"
SAMPLE_LINES = 2_000  # lines that "auto" examines

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
        splits_punctuation: for words, whether a mark next to a word is a separate token.
        description: the choice in words, with the reason of an automatic one.
    """

    unit: Literal["character", "word", "subword"]
    splits_punctuation: bool
    description: str

    @property
    def separator(self) -> str:
        """The string between two tokens of a text."""
        return " " if self.unit == "word" else ""

    @property
    def replace(self) -> tuple[tuple[str, str], ...]:
        """The replacements that `Vocabulary.decode` makes in the joined tokens."""
        if self.unit == "subword":
            return ((SPACE, " "),)
        return ((" " + ATTACHED, ""), (ATTACHED + " ", "")) if self.splits_punctuation else ()

    def pieces(self, part: str) -> list[str]:
        """Tokens of a field, which is not cut at spaces any more: a word with its marks, or a line of characters."""
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
        """The fields for `pieces`: the words of the line, or the whole line."""
        return line.split() if self.unit == "word" else [line]


def segmentation_of(vocabulary: Vocabulary) -> Segmentation:
    """The segmentation that a vocabulary was made with.

    Raises:
        ValueError: if it was made with another one than those here.
    """
    if vocabulary.tokenizer is not None:
        return Segmentation("subword", False, "subwords of the given vocabulary")
    words = Segmentation("word", True, "words and punctuation marks of the given vocabulary")
    whole = Segmentation("word", False, "words between spaces of the given vocabulary")
    characters = Segmentation("character", False, "characters of the given vocabulary")
    for segmentation in (words, whole, characters):
        if (segmentation.separator, segmentation.replace) == (vocabulary.separator, vocabulary.replace):
            return segmentation
    raise ValueError(
        f"vocabulary with separator={vocabulary.separator!r} and replace={vocabulary.replace} is not that of a text; "
        "take the vocabulary of a run on a text"
    )


def choose_segmentation(lines: Sequence[str], unit: Unit = "auto", punctuation: Punctuation = "auto") -> Segmentation:
    """The given segmentation, or for "auto" one that fits some lines.

    "auto" takes words if at least half of the lines have white space. But it takes characters if the words would be
    longer than 30 characters on average, or longer than 3 in a script without spaces (Chinese, Japanese, Thai, ...).
    Punctuation is split off if marks occur more often at words than alone.

    Args:
        lines: some lines of the corpus, at least one.
        unit: auto, character, word or subword.
        punctuation: for words: auto, split (marks are tokens) or keep (a token is everything between two spaces).
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
    """Whether marks occur more often at the end of a word than alone."""
    attached = alone = 0
    for line in lines:
        for field in line.split():
            alone += _MARK.fullmatch(field) is not None
            attached += _MARKED.fullmatch(field) is not None
    return attached > alone


def train_tokenizer(lines: Iterable[str], size: int, mark: str | None = None) -> Any:
    """A `tokenizers.Tokenizer`: byte-pair encoding of characters, with ▁ for spaces and <unk> for rare characters.

    Args:
        lines: text to learn merges from.
        size: size of its vocabulary, with <unk>. At most half of it are single characters, the most frequent ones.
        mark: a token that is added to it and is never a part of another one; None: there is none.

    Raises:
        ImportError: without the tokenizers library.
        CorpusError: if there is nothing to learn from.
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
    if mark is not None:
        tokenizer.add_special_tokens([mark])
    return tokenizer
