"""From a table of tokens to a vocabulary: the frequent tokens of the training split get ids, the others are <unk>.

In: a `TokenTable`, the rows of each split, their sizes. Out: a `Vocabulary`, and the table with its ids.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from seqgan_env.corpora.corpus import CorpusError, IntArray, Parts
from seqgan_env.corpora.prompts import MARK
from seqgan_env.corpora.segmentation import UNKNOWN, Segmentation
from seqgan_env.corpora.token_table import CHUNK, TokenTable
from seqgan_env.vocabulary import Vocabulary

EOS = "<eos>"
PROMPT = "<prompt>"


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


def indexed(
    table: TokenTable,
    parts: Parts,
    sizes: npt.NDArray[np.int64],
    shape: tuple[int, int],
    segmentation: Segmentation,
    tokenizer: Any,
    bounds: tuple[int, int],
    unknown: Literal["token", "error"],
) -> tuple[Vocabulary, dict[str, float]]:
    """Make the vocabulary of the training split, change the table to its ids, and return it with the <unk> rates.

    Args:
        table: all sequences; changed in place.
        parts: rows of each split.
        sizes: (M,) tokens of all prompts, 0 without prompts.
        shape: P and T.
        segmentation: how lines were cut.
        tokenizer: of subwords, or None.
        bounds: the least count of a token in the training split, and the largest number of tokens.
        unknown: the treatment of all other tokens.

    Raises:
        CorpusError: if no token is frequent enough, or if there are unknown tokens and they are an error.
    """
    names, mark = table.names, MARK if MARK in table.names else None
    # Where prompts have a mark, a cut sequence may keep its last tokens; so all tokens are counted.
    width = shape[1] if mark is None else int(np.diff(table.offsets).max())
    counts = {split: table.counts(rows, width) for split, rows in parts.items()}
    known = _known(names, counts["train"], tokenizer is not None, *bounds)
    is_known = np.zeros(len(names), dtype=bool)
    is_known[known] = True
    if mark is not None:
        is_known[names.index(mark)] = True
    missing = {split: int(count[~is_known].sum()) for split, count in counts.items()}
    if unknown == "error" and any(missing.values()):
        absent = np.where(is_known, 0, sum(counts.values()))
        raise CorpusError(
            f"{sum(missing.values()):,} tokens are not in the vocabulary of {len(known):,}, most often "
            f'{names[int(absent.argmax())]!r}; choose unknown="token", or lower minimum_count'
        )
    tokens = [names[number] for number in known] + [UNKNOWN] * any(missing.values())
    prompt = eos = None
    if mark is not None:
        prompt = _added(PROMPT, tokens)
    rows = np.concatenate(list(parts.values()))
    if bool((table.lengths(rows) - sizes[rows] < shape[1] - shape[0]).any()):
        eos = _added(EOS, tokens)
    id_of = np.full(len(names), len(known), dtype=np.int32)
    id_of[known] = np.arange(len(known))
    if mark is not None:
        id_of[names.index(mark)] = tokens.index(str(prompt))
    for start in range(0, len(table.tokens), CHUNK):
        block = table.tokens[start : start + CHUNK]
        block[:] = id_of[block]
    vocabulary = Vocabulary(
        tokens,
        eos,
        segmentation.separator,
        unknown=UNKNOWN if any(missing.values()) else None,
        replace=segmentation.replace,
        tokenizer=None if tokenizer is None else tokenizer.to_str(),
        prompt=prompt,
    )
    return vocabulary, {split: missing[split] / int(count.sum()) for split, count in counts.items()}


def _known(names: list[str], counts: npt.NDArray[np.int64], is_subword: bool, least: int, most: int) -> list[int]:
    """The numbers of the tokens that the vocabulary has, without the mark of prompts."""
    if is_subword:
        known = [number for number, name in enumerate(names) if name not in (UNKNOWN, MARK)]
    else:
        frequent = np.flatnonzero(counts >= least).tolist()
        known = sorted(
            (number for number in frequent if names[number] not in (UNKNOWN, MARK)),
            key=lambda number: (-counts[number], names[number]),
        )[:most]
    if not known:
        raise CorpusError(
            f"no token occurs {least} times in the training split; lower minimum_count, or choose smaller units"
        )
    return known


def _added(name: str, tokens: list[str]) -> str:
    """Append a token of this name, with more brackets as long as there is one of the same name."""
    while name in tokens:
        name = f"<{name}>"
    tokens.append(name)
    return name
