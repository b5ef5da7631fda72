"""Vocabulary: the map between readable tokens and the ids 0..V-1 that the MDP acts with.

In: strings. Out: int64 ids. PAD is V: it fills observations after the end of a prefix and is never an action.
EOS, where a task has one, is an ordinary id and an ordinary action that ends the episode.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt


class Vocabulary:
    """An ordered set of tokens; a token's position is its id.

    Args:
        tokens: V distinct strings, in id order.
        eos: the token that ends a sequence, or None where all sequences have the full length T.
        separator: what `decode` puts between two tokens.

    Raises:
        ValueError: if there are no tokens, tokens repeat, or `eos` is not among them.
    """

    def __init__(self, tokens: Iterable[str], eos: str | None = None, separator: str = " ") -> None:
        self.tokens: tuple[str, ...] = tuple(tokens)
        self.separator = separator
        self._ids = {token: token_id for token_id, token in enumerate(self.tokens)}
        if not self.tokens:
            raise ValueError("tokens is empty; a vocabulary needs at least one token")
        if len(self._ids) != len(self.tokens):
            repeated = next(token for token in self.tokens if self.tokens.count(token) > 1)
            raise ValueError(f"tokens must be distinct, but {repeated!r} occurs more than once")
        if eos is not None and eos not in self._ids:
            raise ValueError(f"eos={eos!r} is not one of the {len(self.tokens)} tokens; add it to tokens")
        self.eos_token: int | None = None if eos is None else self._ids[eos]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def pad_token(self) -> int:
        """PAD = V, the id after the last token."""
        return len(self.tokens)

    def encode(self, tokens: Sequence[str]) -> npt.NDArray[np.int64]:
        """Ids of `tokens`, (len(tokens),) int64. Raises ValueError for a token that is not in the vocabulary."""
        unknown = [token for token in tokens if token not in self._ids]
        if unknown:
            raise ValueError(f"tokens contains {unknown[0]!r}, which is not in this vocabulary of {len(self)}")
        return np.array([self._ids[token] for token in tokens], dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text of `ids` (any iterable of int); PAD and everything from EOS on is left out."""
        words: list[str] = []
        for token_id in ids:
            if int(token_id) in (self.pad_token, self.eos_token):
                break
            words.append(self.tokens[int(token_id)])
        return self.separator.join(words)
