"""The vocabulary of a text corpus: the frequent tokens of its training split, <unk> for the others, and EOS.

In: a `TokenTable` with ids in any order. Out: a `Vocabulary`, and the same table with the vocabulary's ids.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from seqgan_env.corpora.corpus import CorpusError, Parts, Split
from seqgan_env.corpora.prompts import MARK
from seqgan_env.corpora.segmentation import UNKNOWN, Segmentation
from seqgan_env.corpora.token_table import CHUNK, TokenTable
from seqgan_env.vocabulary import Vocabulary


def index_tokens(
    table: TokenTable,
    parts: Parts,
    sizes: npt.NDArray[np.int64],
    shape: tuple[int, int],
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
        sizes: (M,) tokens of all prompts, 0 without prompts.
        shape: P and T.
        segmentation: how the lines were cut.
        tokenizer: the tokenizer of subwords, or None.
        minimum_count: a token that occurs less often in the training split is <unk>; not for subwords.
        max_vocabulary: the largest number of tokens.
        unknown_choice: "token", or "error" if there may be no <unk>.

    Raises:
        CorpusError: if no token is left, or there is a forbidden <unk>.
    """
    names, counts = table.names, _counts(table, parts, shape[1])
    known = _known(names, counts["train"], tokenizer is not None, minimum_count, max_vocabulary)
    is_known = np.zeros(len(names), dtype=bool)
    is_known[known] = True
    mark = names.index(MARK) if MARK in names else None
    if mark is not None:
        is_known[mark] = True
    unknown = {split: int(count[~is_known].sum()) for split, count in counts.items()}
    if unknown_choice == "error" and any(unknown.values()):
        missing = np.where(is_known, 0, sum(counts.values()))
        raise CorpusError(
            f"{sum(unknown.values()):,} tokens are not in the vocabulary of {len(known):,}, most often "
            f'{names[int(missing.argmax())]!r}; choose unknown="token", or lower minimum_count'
        )
    tokens = [names[number] for number in known] + [UNKNOWN] * any(unknown.values())
    prompt = None if mark is None else _added("<prompt>", tokens)
    eos = _added("<eos>", tokens) if _some_are_shorter(table, parts, sizes, shape) else None
    id_of = np.full(len(names), len(known), dtype=np.int32)
    id_of[known] = np.arange(len(known))
    if prompt is not None:
        id_of[mark] = tokens.index(prompt)
    _replace_ids(table, id_of)
    vocabulary = Vocabulary(
        tokens,
        eos,
        segmentation.separator,
        unknown=UNKNOWN if any(unknown.values()) else None,
        replace=segmentation.replace,
        tokenizer=None if tokenizer is None else tokenizer.to_str(),
        prompt=prompt,
    )
    return vocabulary, {split: unknown[split] / int(count.sum()) for split, count in counts.items()}


def index_with(
    table: TokenTable,
    parts: Parts,
    sizes: npt.NDArray[np.int64],
    shape: tuple[int, int],
    vocabulary: Vocabulary,
    unknown_choice: str,
) -> dict[str, float]:
    """Change a table to the ids of a vocabulary that was made from another text, and return the <unk> rates.

    Args:
        table, parts, sizes, shape, unknown_choice: as `index_tokens`.
        vocabulary: its tokens.

    Raises:
        CorpusError: if there is a token that the vocabulary does not have, and it has no <unk> or none may be used; if
            a text holds EOS; or if sequences differ in length and it has no EOS.
    """
    counts = _counts(table, parts, shape[1])
    total = np.sum(list(counts.values()), axis=0)
    ids = {name: number for number, name in enumerate(vocabulary.tokens)}
    if vocabulary.prompt_token is not None:
        ids[MARK] = vocabulary.prompt_token
    id_of = np.array([ids.get(name, -1) for name in table.names], dtype=np.int32)
    is_unknown = (id_of < 0) | (id_of == vocabulary.unknown_token)
    unknown = {split: int(count[is_unknown].sum()) for split, count in counts.items()}
    if any(unknown.values()) and (vocabulary.unknown_token is None or unknown_choice == "error"):
        missing = table.names[int(np.where(is_unknown, total, 0).argmax())]
        raise CorpusError(
            f"{sum(unknown.values()):,} tokens are not in the given vocabulary, most often {missing!r}, and "
            + ("none may be <unk>" if vocabulary.unknown_token is not None else "it has no <unk>")
            + "; remove them, or train a new model"
        )
    if vocabulary.eos_token is not None and total[id_of == vocabulary.eos_token].any():
        raise CorpusError(f"holds {vocabulary.tokens[vocabulary.eos_token]!r}, which ends a sequence; remove it")
    if _some_are_shorter(table, parts, sizes, shape) and vocabulary.eos_token is None:
        raise CorpusError(
            f"has sequences of fewer than {shape[1]} tokens, and the given vocabulary has no EOS; remove them, or "
            "train a new model"
        )
    id_of[is_unknown] = -1 if vocabulary.unknown_token is None else vocabulary.unknown_token
    _replace_ids(table, id_of)
    return {split: unknown[split] / max(1, int(count.sum())) for split, count in counts.items()}


def _counts(table: TokenTable, parts: Parts, length: int) -> dict[Split, npt.NDArray[np.int64]]:
    """How often each token occurs in each split.

    Where prompts have a mark, a cut sequence may keep its last tokens; so all tokens are counted.
    """
    width = int(np.diff(table.offsets).max()) if MARK in table.names else length
    return {split: table.counts(rows, width) for split, rows in parts.items()}


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


def _some_are_shorter(table: TokenTable, parts: Parts, sizes: npt.NDArray[np.int64], shape: tuple[int, int]) -> bool:
    """Whether some sequence has fewer tokens after its prompt than there is room for, so that EOS must end it."""
    room = shape[1] - shape[0]
    return any(bool((table.lengths(rows) - sizes[rows] < room).any()) for rows in parts.values())


def _added(name: str, tokens: list[str]) -> str:
    """Append a token of this name, with more brackets as long as there is one of the same name."""
    while name in tokens:
        name = f"<{name}>"
    tokens.append(name)
    return name


def _replace_ids(table: TokenTable, id_of: npt.NDArray[np.int32]) -> None:
    """Change all ids of a table, in place."""
    for start in range(0, len(table.tokens), CHUNK):
        block = table.tokens[start : start + CHUNK]
        block[:] = id_of[block]
