"""Any encoder or causal model of `transformers` as a discriminator: Eq. 12 on top of a pretrained Transformer.

In: tokens (B, T) int64 of the task, PAD = V after the end. Out: logits (B,), and a logit of each token, (B, T).
The model may have another tokenizer than the task. Then each token of the task is replaced by the model's tokens for
its text. So the places of all tokens are known, and no text is cut anew while the game is played.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqgan_env.models.discriminators import Discriminator
from seqgan_env.models.parameters import blank_module, seeded
from seqgan_env.models.pretrained import DTYPES, SharedBase, check_options, load_model, load_tokenizer, with_lora
from seqgan_env.vocabulary import Vocabulary

KIND = "AutoModel"
_POOLINGS = ("auto", "first", "last", "mean")


class PretrainedDiscriminator(SharedBase, Discriminator):
    """A pretrained Transformer with a linear layer on its hidden states, and LoRA adapters as the trained part.

    The sequence has the logit of one hidden state, or of their mean. An encoder sees the whole sequence at each token;
    a causal model only the tokens before it. Copies share the frozen weights, see `SharedBase`.

    Args:
        vocab_size: V of the task.
        sequence_length: T.
        source: folder of the model, or its name on the Hugging Face hub.
        task: its vocabulary says what the tokens mean.
        lora_rank: rank of the LoRA adapters of all linear layers; 0 trains all weights instead.
        lora_alpha: the adapters' output is scaled with alpha / rank.
        pooling: the state that the sequence's logit reads: first, last, mean of its tokens, or auto: last of a causal
            model, mean of an encoder.
        dtype: of the pretrained weights, float32 or bfloat16; everything trained is float32, unless lora_rank is 0.
        seed: of the adapters and of the linear layer.
        folder: a run's own copy of the model, which is read in place of the source.

    Raises:
        ImportError: without the extra `transformers`.
        ValueError: if the model cannot be read, the task has no vocabulary, or an option is wrong.
    """

    token_ids: Tensor

    def __init__(
        self,
        vocab_size: int,
        sequence_length: int,
        source: str,
        task: Any,
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
        pooling: str = "auto",
        dtype: str = "float32",
        seed: int = 0,
        folder: Path | None = None,
    ) -> None:
        super().__init__(vocab_size, sequence_length)
        check_options(dtype, lora_rank)
        if pooling not in _POOLINGS:
            raise ValueError(f"pooling={pooling!r} must be one of {', '.join(_POOLINGS)}")
        if task.vocabulary is None:
            raise ValueError(
                f"discriminator='hf:{source}' reads text, and the tokens of the task {task.name!r} are numbers only; "
                "choose a task with a vocabulary, such as text"
            )
        self.source = source
        place = source if folder is None else folder
        tokenizer = load_tokenizer(place)
        body = load_model(KIND, place, DTYPES[dtype])
        self._set_tokens(task.vocabulary, tokenizer, body.config)
        is_causal = _is_causal(source, body)
        self.pooling = ("last" if is_causal else "mean") if pooling == "auto" else pooling
        # A causal model reads on as in training; only an encoder expects an end.
        self._end = [] if is_causal else _known(tokenizer.sep_token_id, tokenizer.eos_token_id)[:1]
        self.head = blank_module(nn.Linear, body.config.hidden_size, 1)
        with torch.no_grad():
            self.head.weight.normal_(0.0, 0.02, generator=seeded(seed))
            self.head.bias.zero_()
        self.model = with_lora(body, lora_rank, lora_alpha, seed) if lora_rank else body
        self._share_frozen()

    def _set_tokens(self, vocabulary: Vocabulary, tokenizer: Any, config: Any) -> None:
        """The model's tokens of each token of the task: `token_ids` (V + 1, K) int64, -1 after the last.

        PAD has none.
        """
        backend = tokenizer.backend_tokenizer
        unknown = _known(tokenizer.unk_token_id, tokenizer.mask_token_id, tokenizer.eos_token_id, 0)[:1]
        found = backend.encode_batch(vocabulary.texts(), add_special_tokens=False)
        rows = [encoding.ids or unknown for encoding in found]
        if vocabulary.is_pretrained:  # the same string is the same token: GPT-2 and RoBERTa cut text alike
            same = [backend.token_to_id(token) for token in vocabulary.tokens]
            rows = [ids if token is None else [token] for ids, token in zip(rows, same, strict=True)]
        if vocabulary.eos_token is not None:
            rows[vocabulary.eos_token] = _known(tokenizer.sep_token_id, tokenizer.eos_token_id)[:1] or unknown
        table = torch.full((len(rows) + 1, max(map(len, rows))), -1, dtype=torch.int64)
        for number, ids in enumerate(rows):
            table[number, : len(ids)] = torch.tensor(ids)
        self.register_buffer("token_ids", table, persistent=False)
        self._begin = _known(tokenizer.cls_token_id, tokenizer.bos_token_id)[:1]
        self._fill = _known(tokenizer.pad_token_id, config.pad_token_id, 0)[0]
        self._eos_token = vocabulary.eos_token
        self._longest = getattr(config, "max_position_embeddings", None)
        if config.model_type in ("roberta", "xlm-roberta", "camembert"):  # their positions begin after that of PAD
            self._longest -= config.pad_token_id + 1

    def forward(self, sequences: Tensor) -> Tensor:
        hidden, ends, present = self._read(sequences)
        rows = torch.arange(len(hidden), dtype=torch.int64, device=hidden.device)
        if self.pooling == "first":
            pooled = hidden[:, 0]
        elif self.pooling == "last":
            pooled = hidden[rows, ends.amax(dim=1)]
        else:
            of_tokens = hidden[rows.unsqueeze(1), ends] * present.unsqueeze(2)  # (B, T, H)
            pooled = of_tokens.sum(dim=1) / present.sum(dim=1, keepdim=True).clamp(min=1)
        return self.head(pooled).squeeze(1)

    def token_logits(self, sequences: Tensor) -> Tensor:
        """A logit of each token, from the hidden state after it: (B, T) int64 -> (B, T), 0 at PAD. Differentiable.

        With pooling "mean" the logit of a sequence is their mean. With "last" it is that of the last token, and the
        logit of an earlier token is that of the prefix.
        """
        hidden, ends, present = self._read(sequences)
        rows = torch.arange(len(hidden), dtype=torch.int64, device=hidden.device)
        return self.head(hidden[rows.unsqueeze(1), ends]).squeeze(2).masked_fill(~present, 0.0)

    def _read(self, sequences: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The model's hidden states, and where the tokens are in them.

        Returns:
            (B, L, H) float32; the place of each token's last part, (B, T) int64, 0 at PAD; and (B, T) bool, False at
            PAD.

        Raises:
            ValueError: if the model has fewer than L positions.
        """
        present = sequences < self.vocab_size  # (B, T)
        parts = self.token_ids[sequences]  # (B, T, K)
        begin, end = (
            torch.tensor(ids, dtype=torch.int64, device=parts.device).expand(len(parts), -1)
            for ids in (self._begin, self._end)
        )
        if self._end and self._eos_token is not None:  # a sequence with EOS has its end already
            end = end.masked_fill((sequences == self._eos_token).any(dim=1, keepdim=True), -1)
        row = torch.cat([begin, parts.flatten(1), end], dim=1)
        used = row >= 0
        row = row.gather(1, torch.argsort(~used, dim=1, stable=True))  # without gaps: all that is used comes first
        length = int(used.sum(dim=1).max())
        row = row[:, :length]
        if self._longest is not None and length > self._longest:
            raise ValueError(
                f"discriminator='hf:{self.source}' has {self._longest} positions, and a sequence has {length} of its "
                "tokens; choose a shorter sequence_length, or another model"
            )
        ends = ((parts >= 0).sum(dim=2).cumsum(dim=1) - 1 + len(self._begin)).where(present, 0)
        read = row >= 0
        hidden = self.model(input_ids=row.where(read, self._fill), attention_mask=read.long()).last_hidden_state
        return hidden.to(self.head.weight.dtype), ends, present


def _known(*tokens: int | None) -> list[int]:
    """Those that are not None."""
    return [token for token in tokens if token is not None]


@torch.no_grad()
def _is_causal(source: str, body: Any) -> bool:
    """Whether the first hidden state stays the same if the last token changes.

    Raises:
        ValueError: if it is neither an encoder nor a causal model.
    """
    tokens = torch.tensor([[5, 5, 5], [5, 5, 6]], dtype=torch.int64) % body.config.vocab_size
    try:
        hidden = body(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{source!r} is neither an encoder nor a causal model: {error}") from error
    return torch.allclose(hidden[0, 0], hidden[1, 0], atol=1e-6)
