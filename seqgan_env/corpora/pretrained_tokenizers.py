"""The tokenizer of a pretrained model as a task's vocabulary: a token has the id that it has in the model.

In: "hf:PATH" or "hf:NAME". Out: a `Vocabulary` of V tokens, where V is the number of rows of the model's output layer.
EOS is the model's EOS. PAD = V, as everywhere in this project; the model's own PAD is an ordinary token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seqgan_env.corpora.corpus import CorpusError, Parts
from seqgan_env.corpora.segmentation import Segmentation
from seqgan_env.corpora.token_table import TokenTable
from seqgan_env.models.pretrained import load_config, load_tokenizer, source_of
from seqgan_env.vocabulary import Vocabulary


@dataclass(frozen=True)
class PretrainedTokenizer:
    """A tokenizer, and what the model says about its tokens.

    Attributes:
        name: "hf:SOURCE".
        backend: a `tokenizers.Tokenizer`.
        vocab_size: V, rows of the model's output layer.
        eos: id of EOS, or None.
        unknown: id of <unk>, or None.
    """

    name: str
    backend: Any
    vocab_size: int
    eos: int | None
    unknown: int | None

    @classmethod
    def of(cls, name: str) -> PretrainedTokenizer:
        """Read it.

        Raises:
            ImportError: without the extra `transformers`.
            ValueError: if there is no such tokenizer.
        """
        source = source_of(name)
        tokenizer = load_tokenizer(source)
        try:
            vocab_size = int(load_config(source).get_text_config().vocab_size)
        except ValueError:  # a tokenizer alone
            vocab_size = len(tokenizer)
        backend = tokenizer.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        return cls(name, backend, vocab_size, tokenizer.eos_token_id, tokenizer.unk_token_id)

    @property
    def segmentation(self) -> Segmentation:
        """How lines are cut."""
        return Segmentation("subword", False, f"subwords of {self.name}")

    def vocabulary(self, table: TokenTable, parts: Parts, length: int) -> tuple[Vocabulary, dict[str, float]]:
        """The vocabulary, and the share of <unk> in each split; the table keeps its ids.

        Raises:
            CorpusError: if a text has EOS in it, or a token that the model does not have, or if sequences differ in
                length and there is no EOS.
        """
        counts = {split: table.counts(rows, length) for split, rows in parts.items()}
        total = np.sum(list(counts.values()), axis=0)
        beyond = [number for number in range(self.vocab_size, len(table.names)) if total[number]]
        if beyond:
            raise CorpusError(
                f"has the token {table.names[beyond[0]]!r}, which {self.name} has in its tokenizer and not among its "
                f"{self.vocab_size:,} embeddings; remove it from the text"
            )
        if self.eos is not None and total[self.eos]:
            raise CorpusError(f"holds {table.names[self.eos]!r}, which ends a sequence of {self.name}; remove it")
        is_shorter = any(bool((table.lengths(rows) < length).any()) for rows in parts.values())
        if self.eos is None and is_shorter:
            raise CorpusError(f"has sequences of different lengths, and {self.name} has no EOS; choose another model")
        names = [table.names[number] if number < len(table.names) else None for number in range(self.vocab_size)]
        tokens = [f"<unused:{number}>" if name is None else name for number, name in enumerate(names)]
        unknown = None if self.unknown is None or self.unknown == self.eos else self.unknown
        rates: dict[str, float] = {
            split: 0.0 if unknown is None else int(count[unknown]) / max(1, int(count.sum()))
            for split, count in counts.items()
        }
        return (
            Vocabulary(
                tokens,
                None if self.eos is None else tokens[self.eos],
                "",
                unknown=None if unknown is None else tokens[unknown],
                tokenizer=self.backend.to_str(),
                is_pretrained=True,
            ),
            rates,
        )
