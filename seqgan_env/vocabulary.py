"""Vocabulary: the map between readable tokens and the ids 0..V-1, the actions of the MDP.

In: strings. Out: int64 ids. PAD is V: it fills observations after the end of a prefix and is never an action.
EOS, where a task has one, is an ordinary id and an ordinary action that ends the episode. The unknown token is an
ordinary id, too; it stands for every token that is not in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt


class Vocabulary:
    """An ordered set of tokens; a token's position is its id.

    Args:
        tokens: V distinct strings, in id order.
        eos: the token that ends a sequence, or None where all sequences have the full length T.
        separator: what `decode` puts between two tokens.
        unknown: the token that stands for all others, or None if there are no others.
        replace: pairs (old, new) that `decode` replaces in the text, in this order, before it strips spaces at both
            ends. (" ‿", "") attaches a token with this mark to the one before; ("▁", " ") turns the mark into a space.
        tokenizer: JSON of the tokenizer that cuts text into these tokens (`tokenizers.Tokenizer.from_str`), or None.
        prompt: the mark that fills a short prompt at its left and ends every prompt; `decode` leaves it out. None where
            prompts need none.
        is_pretrained: whether it is the tokenizer of a pretrained model. Its ids are then those of this vocabulary, and
            it turns ids into text: its tokens may be bytes, and a letter may have several.

    Raises:
        ValueError: if there are no tokens, tokens repeat, `eos`, `unknown` or `prompt` is not among them, or the
            tokenizer of a pretrained model is missing.
    """

    def __init__(
        self,
        tokens: Iterable[str],
        eos: str | None = None,
        separator: str = " ",
        *,
        unknown: str | None = None,
        replace: Iterable[tuple[str, str]] = (),
        tokenizer: str | None = None,
        prompt: str | None = None,
        is_pretrained: bool = False,
    ) -> None:
        self.tokens: tuple[str, ...] = tuple(tokens)
        self.separator = separator
        self.replace = tuple((str(found), str(put)) for found, put in replace)
        self.tokenizer = tokenizer
        self.is_pretrained = is_pretrained
        if is_pretrained and tokenizer is None:
            raise ValueError("is_pretrained=True needs the tokenizer; give its JSON")
        self._ids = {token: token_id for token_id, token in enumerate(self.tokens)}
        if not self.tokens:
            raise ValueError("tokens is empty; a vocabulary needs at least one token")
        if len(self._ids) != len(self.tokens):
            repeated = next(token for row, token in enumerate(self.tokens) if self._ids[token] != row)
            raise ValueError(f"tokens must be distinct, but {repeated!r} occurs more than once")
        for name, token in (("eos", eos), ("unknown", unknown), ("prompt", prompt)):
            if token is not None and token not in self._ids:
                raise ValueError(f"{name}={token!r} is not one of the {len(self.tokens)} tokens; add it to tokens")
        self.eos_token: int | None = None if eos is None else self._ids[eos]
        self.unknown_token: int | None = None if unknown is None else self._ids[unknown]
        self.prompt_token: int | None = None if prompt is None else self._ids[prompt]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def pad_token(self) -> int:
        """PAD = V, the id after the last token."""
        return len(self.tokens)

    def encode(self, tokens: Sequence[str]) -> npt.NDArray[np.int64]:
        """Ids of `tokens`, (len(tokens),) int64; the id of the unknown token for a token that is not in the vocabulary.

        Raises:
            ValueError: for a token that is not in the vocabulary, if there is no unknown token.
        """
        if self.unknown_token is None:
            missing = [token for token in tokens if token not in self._ids]
            if missing:
                raise ValueError(f"tokens contains {missing[0]!r}, which is not in this vocabulary of {len(self)}")
        return np.array([self._ids.get(token, self.unknown_token) for token in tokens], dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text of `ids` (any iterable of int); PAD is left out, and so is everything from EOS on."""
        kept: list[int] = []
        for token_id in map(int, ids):
            if token_id in (self.pad_token, self.eos_token):
                break
            if token_id == self.prompt_token:
                continue
            kept.append(token_id)
        if self.is_pretrained:
            return str(self.own_tokenizer.decode(kept, skip_special_tokens=False)).strip()
        text = self.separator.join(self.tokens[token_id] for token_id in kept)
        return self._replaced(text).strip() if self.replace else text

    def texts(self) -> list[str]:
        """The text of each token inside a line, with the space before it where it begins a word; V strings."""
        if self.is_pretrained:
            # Between two others, since decoders treat the first token of a line in their own way.
            lead = self.own_tokenizer.encode("a", add_special_tokens=False).ids
            before = len(self.own_tokenizer.decode(lead))
            rows = [[*lead, number] for number in range(len(self))]
            return [text[before:] for text in self.own_tokenizer.decode_batch(rows, skip_special_tokens=False)]
        return [self._replaced(token).rstrip() or self.separator for token in self.tokens]

    def _replaced(self, text: str) -> str:
        """Text between two separators, since a mark may open or close it, with the marks of `replace` changed."""
        text = self.separator + text + self.separator
        for found, put in self.replace:
            text = text.replace(found, put)
        return text

    @cached_property
    def own_tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer` that cuts text into these tokens; raises ImportError without that library."""
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ImportError(
                "these tokens are subwords, which need tokenizers: pip install 'seqgan-gym[text]'"
            ) from error
        assert self.tokenizer is not None
        return Tokenizer.from_str(self.tokenizer)

    def state(self) -> dict[str, Any]:
        """The vocabulary as JSON values; `from_state` reads them."""
        pretrained = {"is_pretrained": True} if self.is_pretrained else {}
        return pretrained | {
            "tokens": list(self.tokens),
            "eos": None if self.eos_token is None else self.tokens[self.eos_token],
            "separator": self.separator,
            "unknown": None if self.unknown_token is None else self.tokens[self.unknown_token],
            "replace": [list(pair) for pair in self.replace],
            "tokenizer": self.tokenizer,
            **({} if self.prompt_token is None else {"prompt": self.tokens[self.prompt_token]}),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Vocabulary:
        """Make a vocabulary from its `state`, which may have been written as JSON and read again.

        Raises:
            ValueError: if it is not the state of a vocabulary.
        """
        try:
            return cls(
                state["tokens"],
                state["eos"],
                state["separator"],
                unknown=state["unknown"],
                replace=state["replace"],
                tokenizer=state["tokenizer"],
                prompt=state.get("prompt"),
                is_pretrained=state.get("is_pretrained", False),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is not the state of a vocabulary: {type(error).__name__}: {error}") from error
