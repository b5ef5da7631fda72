"""The vocabulary of a text corpus: the frequent tokens of its training split, <unk> for the others, and EOS.

In: a `TokenTable` with ids in any order. Out: a `Vocabulary`, and the same table with the vocabulary's ids.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seqgan_env.corpora.corpus import CorpusError, Parts
from seqgan_env.corpora.segmentation import UNKNOWN, Segmentation
from seqgan_env.corpora.token_table import CHUNK, TokenTable
from seqgan_env.vocabulary import Vocabulary


def index_tokens(
    table: TokenTable,
    parts: Parts,
    length: int,
    segmentation: Segmentation,
    tokenizer: Any,
    minimum_count: int,
    max_vocabulary: int,
    unknown_choice: str,
) -> tuple[Vocabulary, dict[str, float]]:
    """Make the vocabulary of the training split, change the table to its ids, and return it with the <unk> rates.

    Args:
        table: all sequences, whose tokens are changed in place.
        parts: rows of each split.
        length: T.
        segmentation: how the lines were cut.
        tokenizer: the tokenizer of subwords, or None.
        minimum_count: a token that occurs less often in the training split is <unk>; not for subwords.
        max_vocabulary: the largest number of tokens.
        unknown_choice: "token", or "error" if there may be no <unk>.

    Raises:
        CorpusError: if no token is left, or there is a forbidden <unk>.
    """
    names, counts = table.names, {split: table.counts(rows, length) for split, rows in parts.items()}
    if tokenizer is not None:
        known = [number for number, name in enumerate(names) if name != UNKNOWN]
    else:
        frequent = np.flatnonzero(counts["train"] >= minimum_count).tolist()
        known = sorted(
            (number for number in frequent if names[number] != UNKNOWN),
            key=lambda number: (-counts["train"][number], names[number]),
        )[:max_vocabulary]
    if not known:
        raise CorpusError(
            f"no token occurs {minimum_count} times in the training split; lower minimum_count, or choose smaller units"
        )
    is_known = np.zeros(len(names), dtype=bool)
    is_known[known] = True
    unknown = {split: int(count[~is_known].sum()) for split, count in counts.items()}
    if unknown_choice == "error" and any(unknown.values()):
        missing = np.where(is_known, 0, sum(counts.values()))
        raise CorpusError(
            f"{sum(unknown.values()):,} tokens are not in the vocabulary of {len(known):,}, most often "
            f'{names[int(missing.argmax())]!r}; choose unknown="token", or lower minimum_count'
        )
    tokens = [names[number] for number in known] + [UNKNOWN] * any(unknown.values())
    eos = None
    if any(bool((table.lengths(rows) < length).any()) for rows in parts.values()):
        eos = "<eos>"
        while eos in tokens:
            eos = f"<{eos}>"
        tokens.append(eos)
    id_of = np.full(len(names), len(known), dtype=np.int32)
    id_of[known] = np.arange(len(known))
    for start in range(0, len(table.tokens), CHUNK):
        block = table.tokens[start : start + CHUNK]
        block[:] = id_of[block]
    vocabulary = Vocabulary(
        tokens,
        eos,
        segmentation.separator,
        unknown=UNKNOWN if any(unknown.values()) else None,
        replace=segmentation.replace,
        tokenizer=None if tokenizer is None else tokenizer.to_str(),
    )
    return vocabulary, {split: unknown[split] / int(count.sum()) for split, count in counts.items()}
