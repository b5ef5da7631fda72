"""The text task: the real sequences are lines or sentences of the user's corpus.

In: `TextOptions`. Out: a `Task` with a vocabulary that gives text back, and with the statistics of the corpus. The
corpus is read as a stream; only four bytes per token and eight per sequence stay in memory.

A sequence of fewer than T tokens ends with EOS. A sequence of T tokens is full and needs no EOS. So if all sequences
have T tokens, there is no EOS at all. The vocabulary is that of the training split; all other tokens are <unk>.
A sequence may begin with a prompt; see `corpora.prompts`.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
from torch import Tensor

from seqgan_env.corpora.corpus import (
    CorpusError,
    CorpusStatistics,
    Duplicates,
    Parts,
    Split,
    TooLong,
    draw_parts,
    repeated_within,
    resolve_duplicates,
)
from seqgan_env.corpora.lines import SplitBy, TextSource
from seqgan_env.corpora.pretrained_tokenizers import PretrainedTokenizer
from seqgan_env.corpora.prompts import MARK, PromptedSegmentation, PromptedSource, aligned, prompt_sizes
from seqgan_env.corpora.segmentation import (
    SAMPLE_LINES,
    Punctuation,
    Unit,
    choose_segmentation,
    segmentation_of,
    train_tokenizer,
)
from seqgan_env.corpora.text_fit import LONGEST_DEFAULT as LONGEST_DEFAULT
from seqgan_env.corpora.text_fit import fitted, kept_lengths
from seqgan_env.corpora.text_lines import TextLines
from seqgan_env.corpora.token_table import (
    TokenTable,
    chosen_lines,
    padded,
    sequence_key,
    subword_table,
    token_table,
)
from seqgan_env.corpora.vocabularies import index_tokens, index_with
from seqgan_env.models.pretrained import is_pretrained
from seqgan_env.tasks.corpus_task import CorpusTask
from seqgan_env.vocabulary import Vocabulary


@dataclass(frozen=True)
class TextOptions:
    """The corpus, and how it becomes tokens. The fields' docstrings are the help texts of the command line."""

    task_class: ClassVar[type[CorpusTask]] = CorpusTask
    PAGE: ClassVar[
        str
    ] = """Text: lines or sentences that cannot be told from those of a corpus (Yu et al., AAAI 2017, section 4).

    ## Description
    Generate a line of text, token by token, that cannot be told from the lines of a file of your own. Every action
    appends a character, a word or a subword; the transition is deterministic.

    ## Action Space
    `Discrete(V)`: the next token; <unk> and EOS are tokens, too, if the corpus needs them.

    ## Observation Space
    `Box(0, V, (T,), int64)`: the prefix, padded with PAD = V. An id is not a magnitude: use an embedding.

    ## Rewards
    By `reward_mode`: "action_value" (default), Q of Eq. 4 at each step, to be learned from with discount 0;
    "potential", its differences, for learners of discount 1; "terminal", R(Y) at the end only.

    ## Starting State
    The empty prefix; with prompts, the prompt of a random training sequence or `reset(options={"prompt": "..."})`.

    ## Episode End
    Terminated by EOS or after T tokens. There is no EOS if all lines have T tokens. Never truncated.

    ## Information
    At the end: `sequence` (T,) int64 with PAD after EOS, and `text`; with prompts, `text` is the response, and `prompt`
    is there, too.

    ## Arguments
    - `corpus`: a UTF-8 text file, a folder of .txt files, a table (.jsonl, .csv, .tsv, .parquet), a pattern, several of
      these, separated by commas, or hf:NAME,CONFIG:SPLIT:COLUMN (only NAME is needed); None: sentences of Python's
      documentation, which come with this package;
    - `sequence_length`: T; None: the number of tokens of the longest line, at most 128;
    - prompts: `prompt_tokens` (0), the first k tokens of each sequence; or `prompt_column`; or `prompt_separator`;
    - `validation_corpus`, `test_corpus`, `column`, `split_by`, `unit`, `punctuation`, `too_long`, `minimum_count` and
      the other fields of `tasks.text.TextOptions`;
    - `reward_model`, `reward_mode`, `rollout_policy`, `n_rollouts` (16), `render_mode`: see `SequenceEnv`.

    `env.unwrapped.task.statistics` says what the corpus holds, and what was cut, dropped or unknown.

    ## Version History
    - v0: first version.
    """

    corpus: str | None = None
    """UTF-8 text: a file, a folder of .txt files, a table (.jsonl, .csv, .tsv, .parquet), a pattern such as "*.txt",
    several of these, separated by commas, or hf:NAME,CONFIG:SPLIT:COLUMN (only NAME is needed); None: the bundled
    sentences."""
    validation_corpus: str | None = None
    """A separate validation set, of the same kinds; None: a share of the corpus is held out."""
    test_corpus: str | None = None
    """A separate test set, of the same kinds; None: a share of the corpus is held out."""
    column: str | None = None
    """The column of a table or data set that holds the text; None: "text", or the only column of text."""
    prompt_tokens: int = 0
    """Prompts: the first tokens of each sequence, this many; an agent writes the rest. 0: no prompts."""
    prompt_column: str | None = None
    """Prompts: the column of a table or data set that holds them; --column then holds the responses."""
    prompt_separator: str | None = None
    """Prompts: the text between prompt and response in each line, such as " => "; its first place counts."""
    prompt_length: int | None = None
    """P, tokens of a prompt of a column or a line, with the mark at its end; None: as in the longest one."""
    split_by: SplitBy = "line"
    """A sequence is a line, or a sentence of running text."""
    unit: Unit = "auto"
    """A token is a character, a word or a subword; auto examines the text, chooses, and reports its choice."""
    punctuation: Punctuation = "auto"
    """For words: split marks off as tokens, keep all between two spaces as one, or auto: choose by the text."""
    sequence_length: int | None = None
    """T, tokens in a sequence, with its prompt; None: as in the longest one, at most 128 after the prompt [P: poems 20;
    else not said]."""
    too_long: TooLong = "error"
    """The treatment of sequences of more than T tokens; cut and dropped ones are counted."""
    minimum_count: int = 2
    """A token that occurs less often in the training split is <unk>, so that <unk> is learned; not for subwords."""
    max_vocabulary: int = 20_000
    """The largest number of tokens, the most frequent ones; all others are <unk>."""
    subword_vocabulary: int = 4_000
    """For subwords: number of tokens to learn from the training split."""
    tokenizer: str | None = None
    """hf:PATH or hf:NAME: cut the text into the tokens of this pretrained model, as a generator hf:... needs it."""
    unknown: Literal["token", "error"] = "token"
    """The treatment of tokens that are not in the vocabulary: <unk>, with a count, or an error."""
    lowercase: bool = False
    """Change all letters to lower case."""
    nfc: bool = True
    """Bring letters with accents into one form, Unicode's NFC."""
    validation: float = 0.1
    """Share of the sequences for validation; not used with a validation corpus."""
    test: float = 0.1
    """Share of the sequences for the test; not used with a test corpus."""
    split_block: int = 1
    """This many consecutive sequences stay in one split, such as the stanzas of a poem."""
    split_seed: int = 0
    """Seed of the draw of validation and test."""
    duplicates: Duplicates = "drop"
    """Held-out sequences that also occur in an earlier split: drop them, keep them, or raise an error."""
    max_sequences: int | None = None
    """Read only the first sequences of the corpus, this many; None: all."""

    def __post_init__(self) -> None:
        choices = {"split_by": SplitBy, "unit": Unit, "punctuation": Punctuation, "too_long": TooLong}
        for name, kind in (choices | {"duplicates": Duplicates}).items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {get_args(kind)}")
        if self.tokenizer is not None and (not is_pretrained(self.tokenizer) or self.unit not in ("auto", "subword")):
            raise ValueError(
                f"tokenizer={self.tokenizer!r} with unit={self.unit!r} must be hf:PATH or hf:NAME, with unit auto"
            )
        if self.unknown not in ("token", "error"):
            raise ValueError(f"unknown={self.unknown!r} must be 'token' or 'error'")
        least = {"minimum_count": 1, "max_vocabulary": 1, "subword_vocabulary": 3, "split_block": 1}
        may_be_none = {"sequence_length": 1, "max_sequences": 1, "prompt_length": 1}
        for name, smallest in (least | {"prompt_tokens": 0} | may_be_none).items():
            value = getattr(self, name)
            if value is None and name in may_be_none:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name}={value!r} must be an int")
            if value < smallest:
                raise ValueError(f"{name}={value} must be at least {smallest}")
        self._check_prompts()

    def _check_prompts(self) -> None:
        given = {name: getattr(self, name) for name in ("prompt_tokens", "prompt_column", "prompt_separator")}
        given = {name: value for name, value in given.items() if value}
        if len(given) > 1:
            named = ", ".join(f"{name}={value!r}" for name, value in given.items())
            raise ValueError(f"{named}: prompts come from one place; leave the others out")
        if self.prompt_separator == "":
            raise ValueError("prompt_separator='' must be a text; leave it out where there are no prompts")
        if self.marks_prompts and self.split_by != "line":
            raise ValueError(
                f"split_by={self.split_by!r} does not go with prompts of a column or a line; choose split_by='line'"
            )
        if self.tokenizer is not None and self.marks_prompts:
            raise ValueError(
                f"tokenizer={self.tokenizer!r} has no token that could mark prompts of a column or a line; choose "
                "prompt_tokens, or leave the tokenizer out"
            )
        if self.prompt_length is not None and not self.marks_prompts:
            raise ValueError(
                f"prompt_length={self.prompt_length} needs prompt_column or prompt_separator; for the first tokens of "
                "each sequence choose prompt_tokens"
            )

    @property
    def marks_prompts(self) -> bool:
        """Whether prompts come from a column or a line, so that a mark stands between prompt and response."""
        return self.prompt_column is not None or self.prompt_separator is not None

    def lines(self) -> TextLines:
        """The lines of all corpora."""

        def source(corpus: str | None, most: int | None = None) -> TextSource | PromptedSource:
            if self.marks_prompts:
                return PromptedSource(corpus, self.prompt_column, self.prompt_separator, most, self.column)
            return TextSource(corpus, self.split_by, most, self.column)

        sources = {"train": source(self.corpus, self.max_sequences)}
        for split, corpus in (("validation", self.validation_corpus), ("test", self.test_corpus)):
            if corpus is not None:
                sources[split] = source(corpus)
        return TextLines(sources, self.lowercase, self.nfc, self.max_sequences)

    def task(self) -> CorpusTask:
        """Read the corpus; returns and raises as `text_task`."""
        return self.task_with(None)

    def task_with(self, vocabulary: Vocabulary | None) -> CorpusTask:
        """The same with the tokens of another text, so that its model can be trained further on this one.

        Args:
            vocabulary: of the other text; None makes one from the training split.
        """
        lines = self.lines()
        try:
            return _task(self, lines, vocabulary)
        except CorpusError as error:
            if error.source is not None:
                raise
            raise CorpusError(str(error), lines.name) from error


def text_task(corpus: str | Path | None = None, **options: Any) -> CorpusTask:
    """Real sequences from text, in three splits, with a vocabulary and statistics.

    Args:
        corpus: as in `TextOptions`.
        options: the other fields of `TextOptions`.

    Returns:
        A task whose `statistics` say what was read, chosen, cut, dropped and unknown.

    Raises:
        TypeError: for an option that does not exist.
        ValueError: for an option out of range.
        CorpusError: a ValueError, for a corpus that cannot be used; it names the file and the remedy.
        ImportError: if the library for subwords or a data set is missing.
    """
    return TextOptions(corpus=None if corpus is None else str(corpus), **options).task()


def _task(options: TextOptions, lines: TextLines, given: Vocabulary | None = None) -> CorpusTask:
    sample = [line.replace(MARK, " ") for line in islice(lines, SAMPLE_LINES)]
    if not sample:
        raise CorpusError("holds no text; give a corpus of at least three sequences")
    pretrained = None if options.tokenizer is None else PretrainedTokenizer.of(options.tokenizer)
    segmentation = choose_segmentation(sample, options.unit, options.punctuation)
    if pretrained is not None:
        segmentation = pretrained.segmentation
    elif given is not None:
        segmentation = segmentation_of(given)
        if options.marks_prompts is (given.prompt_token is None):
            raise CorpusError(
                f"has {'' if options.marks_prompts else 'no '}prompts of a column or a line, and the text of the given "
                f"vocabulary has {'none' if options.marks_prompts else 'some'}; choose the prompts as there"
            )
    if options.marks_prompts:
        segmentation = PromptedSegmentation(**vars(segmentation))
    tokenizer = None
    if segmentation.unit == "subword":
        keys = np.frombuffer(array("Q", map(sequence_key, lines)), dtype=np.uint64)
        parts, shared = _split(options, keys, lines)
        if pretrained is not None:
            tokenizer = pretrained.backend
        elif given is not None:
            tokenizer = given.own_tokenizer
        else:
            learnt = (line.replace(MARK, " ") for line in chosen_lines(lines, parts["train"]))
            tokenizer = train_tokenizer(learnt, options.subword_vocabulary, MARK if options.marks_prompts else None)
        table = subword_table(lines, tokenizer, len(keys))
    else:
        table, keys = token_table(lines, segmentation)
        parts, shared = _split(options, keys, lines)
    sizes = prompt_sizes(table) if options.marks_prompts else np.full(len(keys), options.prompt_tokens)
    asked = options.prompt_length if options.marks_prompts else options.prompt_tokens
    fit = fitted(table, sizes, parts, prompt_length=asked, length=options.sequence_length, too_long=options.too_long)
    parts, shape = fit.parts, (fit.prompt_length, fit.length)
    if pretrained is not None:
        vocabulary, unknown_rate = pretrained.vocabulary(table, parts, fit.length)
    elif given is not None:
        vocabulary, unknown_rate = given, index_with(table, parts, sizes, shape, given, options.unknown)
    else:
        limits = (options.minimum_count, options.max_vocabulary, options.unknown)
        vocabulary, unknown_rate = index_tokens(table, parts, sizes, shape, segmentation, tokenizer, *limits)
    lengths = kept_lengths(table, np.concatenate(list(parts.values())), sizes, shape)
    statistics = CorpusStatistics(
        source=lines.name,
        unit=segmentation.description,
        sequences={split: len(rows) for split, rows in parts.items()},
        vocab_size=len(vocabulary),
        sequence_length=fit.length,
        tokens=int(lengths.sum()),
        length_min=int(lengths.min()),
        length_median=float(np.median(lengths)),
        length_mean=float(lengths.mean()),
        length_max=int(lengths.max()),
        unknown_rate=unknown_rate,
        repeated=repeated_within(keys, parts),
        shared=shared,
        duplicates=options.duplicates,
        too_long=fit.too_long,
        too_long_choice=options.too_long,
        skipped=lines.skipped,
        byte_order_marks=lines.byte_order_marks,
        prompt_length=fit.prompt_length,
        too_short=fit.too_short,
    )
    return CorpusTask(
        "text",
        len(vocabulary),
        fit.length,
        _Splits(table, parts, sizes, shape, vocabulary),
        eos_token=vocabulary.eos_token,
        vocabulary=vocabulary,
        statistics=statistics,
        prompt_length=fit.prompt_length,
    )


@dataclass(frozen=True)
class _Splits:
    """The sequences of each split, made from the table of tokens at their first use."""

    table: TokenTable
    parts: Parts
    sizes: npt.NDArray[np.int64]
    shape: tuple[int, int]
    vocabulary: Vocabulary

    def __call__(self, split: Split) -> Tensor:
        if self.vocabulary.prompt_token is None:
            return padded(self.table, self.parts[split], self.shape[1], self.vocabulary)
        return aligned(self.table, self.parts[split], self.sizes, self.shape, self.vocabulary)


def _split(options: TextOptions, keys: npt.NDArray[np.uint64], lines: TextLines) -> tuple[Parts, int]:
    """The rows of each split, and how many held-out sequences also occur in an earlier split."""
    parts = draw_parts(
        np.arange(len(keys)) // options.split_block,
        validation=options.validation,
        test=options.test,
        seed=options.split_seed,
        first_validation=lines.first.get("validation"),
        first_test=lines.first.get("test"),
    )
    return resolve_duplicates(keys, parts, options.duplicates)
