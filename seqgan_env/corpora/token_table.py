"""All sequences of a text corpus as one array of token ids: four bytes per token, and eight per sequence.

In: lines, and how they are cut. Out: a `TokenTable`, with a key for each line, and tensors of some of its sequences.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqgan_env.corpora.corpus import CorpusError, IntArray
from seqgan_env.corpora.segmentation import Segmentation
from seqgan_env.vocabulary import Vocabulary

CHUNK = 1 << 15  # sequences that are processed together
_CACHED_FIELDS = 1 << 17  # words whose tokens are stored


@dataclass
class TokenTable:
    """All sequences one after another.

    Attributes:
        tokens: (n,) int32 ids.
        offsets: (M + 1,) int64: sequence i is tokens[offsets[i] : offsets[i + 1]].
        names: the token string of each id.
    """

    tokens: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    names: list[str]

    def lengths(self, rows: IntArray) -> npt.NDArray[np.int64]:
        """Tokens of some sequences."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def matrices(self, rows: IntArray, length: int) -> Iterator[npt.NDArray[np.int32]]:
        """Some sequences, cut after `length` tokens and padded with -1, in blocks of (at most CHUNK, length)."""
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            present = np.arange(length) < self.lengths(chunk)[:, None]
            matrix = np.full(present.shape, -1, dtype=np.int32)
            matrix[present] = self.tokens[(self.offsets[chunk][:, None] + np.arange(length))[present]]
            yield matrix

    def counts(self, rows: IntArray, length: int) -> npt.NDArray[np.int64]:
        """(len(names),) int64: how often each token occurs in some sequences, cut after `length` tokens."""
        counts = np.zeros(len(self.names), dtype=np.int64)
        for matrix in self.matrices(rows, length):
            counts += np.bincount(matrix[matrix >= 0], minlength=len(counts))
        return counts


def padded(table: TokenTable, rows: IntArray, length: int, vocabulary: Vocabulary) -> Tensor:
    """Some sequences, (len(rows), length) int64: EOS after the shorter ones, then PAD."""
    sequences = torch.empty((len(rows), length), dtype=torch.int64, device="cpu")
    done = 0
    for ids in table.matrices(rows, length):
        block = torch.from_numpy(ids).long()
        counts = (block >= 0).sum(dim=1)
        block[block < 0] = vocabulary.pad_token
        if vocabulary.eos_token is not None:
            short = (counts < length).nonzero().squeeze(1)
            block[short, counts[short]] = vocabulary.eos_token
        sequences[done : done + len(block)] = block
        done += len(block)
    return sequences


def sequence_key(line: str) -> int:
    """A number that is the same for equal sequences; among a million others, two share one with probability 3e-8."""
    return int.from_bytes(blake2b(line.encode(), digest_size=8).digest(), "little")


def token_table(lines: Iterable[str], segmentation: Segmentation) -> tuple[TokenTable, npt.NDArray[np.uint64]]:
    """Cut every line into tokens, with ids in the order of first occurrence; also return the key of every line."""
    ids: dict[str, int] = {}
    tokens, offsets, keys = array("i"), array("q", [0]), array("Q")
    known: dict[str, list[int]] = {}
    for line in lines:
        fields = segmentation.fields(line)
        for field in fields:
            row = known.get(field)
            if row is None:
                row = [ids.setdefault(piece, len(ids)) for piece in segmentation.pieces(field)]
                if segmentation.unit == "word":
                    if len(known) >= _CACHED_FIELDS:
                        known.clear()
                    known[field] = row
            tokens.extend(row)
        offsets.append(len(tokens))
        keys.append(sequence_key(" ".join(fields)))
    table = TokenTable(np.frombuffer(tokens, np.int32), np.frombuffer(offsets, np.int64), list(ids))
    return table, np.frombuffer(keys, dtype=np.uint64)


def subword_table(lines: Iterable[str], tokenizer: Any, count: int) -> TokenTable:
    """Cut every line into subwords, with the tokenizer's ids."""
    tokens, offsets = array("i"), array("q", [0])
    walk = iter(lines)
    while chunk := list(islice(walk, 1 << 10)):
        for encoding in tokenizer.encode_batch(chunk, add_special_tokens=False):
            tokens.extend(encoding.ids)
            offsets.append(len(tokens))
    if len(offsets) != count + 1:
        raise CorpusError("has changed while it was read; read it again when it no longer changes")
    names = [tokenizer.id_to_token(number) for number in range(tokenizer.get_vocab_size())]
    return TokenTable(np.frombuffer(tokens, np.int32), np.frombuffer(offsets, np.int64), names)


def chosen_lines(lines: Iterable[str], rows: IntArray) -> Iterator[str]:
    """The lines with these indices, which ascend."""
    wanted = iter(rows.tolist())
    row = next(wanted, None)
    for number, line in enumerate(lines):
        if number == row:
            yield line
            row = next(wanted, None)
