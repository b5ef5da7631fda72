"""The size of all sequences of a text: P tokens of prompt and T in all; longer sequences are cut, dropped or an error.

In: a table of tokens, the rows of each split. Out: `Fit`: the rows that fit, P and T, and how many did not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from seqgan_env.corpora.corpus import CorpusError, IntArray, Parts, TooLong, expect_filled
from seqgan_env.corpora.token_table import TokenTable

LONGEST_DEFAULT = 128  # the largest T by default: the search of Eq. 4 costs T^2


@dataclass(frozen=True)
class Fit:
    """The size of all sequences, and what had to be left out for it.

    Attributes:
        parts: rows of each split that fit.
        prompt_length: P, 0 without prompts.
        length: T.
        too_long: longer sequences, which were cut or dropped.
        too_short: sequences with fewer tokens than the prompt, which were dropped.
    """

    parts: Parts
    prompt_length: int
    length: int
    too_long: int
    too_short: int


def fitted(
    table: TokenTable,
    sizes: npt.NDArray[np.int64],
    parts: Parts,
    *,
    prompt_length: int | None,
    length: int | None,
    too_long: TooLong,
) -> Fit:
    """The splits after the treatment of longer sequences, P and T.

    Args:
        table: all sequences.
        sizes: (M,) tokens of each prompt, 0 without prompts.
        parts: rows of each split.
        prompt_length: P; None: as in the longest prompt, at most 128; 0 without prompts.
        length: T; None: as in the longest sequence, at most 128 after the prompt.
        too_long: the treatment of longer prompts and sequences. A prompt is cut at its beginning.

    Raises:
        CorpusError: if a split is empty, if there is no room for a response, or for too_long="error".
    """
    too_short = int(sum((table.lengths(rows) < sizes[rows]).sum() for rows in parts.values()))
    if too_short:
        parts = {split: rows[table.lengths(rows) >= sizes[rows]] for split, rows in parts.items()}
        expect_filled(parts, f"its sequences have fewer than prompt_tokens={prompt_length} tokens; lower it")
    rows = np.concatenate(list(parts.values()))
    given, written = sizes[rows], table.lengths(rows) - sizes[rows]
    if prompt_length is None:
        prompt_length = min(int(given.max()), LONGEST_DEFAULT)
    asked = length
    if length is None:
        length = prompt_length + min(int(written.max()), LONGEST_DEFAULT)
    if length <= prompt_length:
        raise CorpusError(
            f"sequence_length={length} leaves no response after prompts of {prompt_length} tokens; choose a larger "
            "sequence_length, or shorter prompts"
        )
    longer = int(((given > prompt_length) | (written > length - prompt_length)).sum())
    if longer and too_long == "error":
        raise CorpusError(_too_long_message(longer, given, written, prompt_length, length))
    if longer and too_long == "drop":
        parts = {
            split: rows[(sizes[rows] <= prompt_length) & (table.lengths(rows) - sizes[rows] <= length - prompt_length)]
            for split, rows in parts.items()
        }
        expect_filled(parts, f"its sequences have more than {length} tokens; choose a larger sequence_length")
        if asked is None:
            rows = np.concatenate(list(parts.values()))
            length = prompt_length + int((table.lengths(rows) - sizes[rows]).max())
    return Fit(parts, prompt_length, length, longer, too_short)


def kept_lengths(
    table: TokenTable, rows: IntArray, sizes: npt.NDArray[np.int64], shape: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """Tokens of some sequences, where longer prompts and responses are cut.

    Args:
        table: all sequences.
        rows: of the sequences.
        sizes: (M,) tokens of all prompts, 0 without prompts.
        shape: P and T.
    """
    prompt_length, length = shape
    written = np.minimum(table.lengths(rows) - sizes[rows], length - prompt_length)
    kept: npt.NDArray[np.int64] = np.minimum(sizes[rows], prompt_length) + written
    return kept


def _too_long_message(count: int, given: IntArray, written: IntArray, prompt_length: int, length: int) -> str:
    """What to say of sequences that are too long: how long the others are, and the choices."""
    if prompt_length:
        return (
            f"{count:,} of {len(given):,} sequences have a prompt of over {prompt_length} tokens or over "
            f"{length - prompt_length} tokens after it (the longest {int(given.max()):,} and {int(written.max()):,}); "
            'choose too_long="cut" or "drop", or a larger sequence_length or prompt_length'
        )
    usual = int(np.quantile(written, 0.95))
    return (
        f"{count:,} of {len(written):,} sequences have over {length} tokens (95 of 100 have at most {usual:,}, "
        f'the longest {int(written.max()):,}); choose too_long="cut" or "drop", or a larger sequence_length'
    )
