"""Tiny random models in the formats of real families, with tokenizers, in folders as `save_pretrained` makes them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

WORDS = "the a cat dog bird sees hears loves big small red old house tree river and or runs sleeps here now".split()  # noqa: SIM905
V = 64  # of the generators; the tokenizer has fewer tokens, as many real ones do
END = "<|endoftext|>"


def lines(count: int = 200, most: int = 5) -> list[str]:
    """Random sentences, always the same."""
    rng = random.Random(0)
    return [" ".join(rng.choice(WORDS) for _ in range(rng.randint(2, most))) for _ in range(count)]


def new_tokenizer(special: list[str], size: int, **roles: str) -> Any:
    """A byte-level tokenizer, as GPT-2 and RoBERTa have it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(lines(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def gpt2(folder: Path, **changes: Any) -> None:
    """A GPT-2: absolute positions, Conv1D layers, tied embeddings, BOS = EOS."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": V, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.3}
    config = GPT2Config(**sizes | {"bos_token_id": 0, "eos_token_id": 0} | changes)
    _save(GPT2LMHeadModel, config, new_tokenizer([END], 60, bos_token=END, eos_token=END), folder)


def llama(folder: Path, **changes: Any) -> None:
    """A Llama: rotary positions, grouped keys, an output layer of its own, no BOS."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": V, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32}
    tokens = {"bos_token_id": None, "eos_token_id": 1, "initializer_range": 0.3}
    config = LlamaConfig(**sizes | heads | tokens | changes)
    _save(LlamaForCausalLM, config, new_tokenizer(["<pad>", "</s>"], 60, eos_token="</s>"), folder)


def roberta(folder: Path, **changes: Any) -> None:
    """A RoBERTa: an encoder whose positions begin after that of PAD; saved with the head of its own training."""
    from transformers import RobertaConfig, RobertaForMaskedLM

    sizes = {"vocab_size": 70, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    more = {"intermediate_size": 24, "max_position_embeddings": 40, "initializer_range": 0.3}
    tokens = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    roles = {"bos_token": "<s>", "cls_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "sep_token": "</s>"}
    tokenizer = new_tokenizer(["<s>", "<pad>", "</s>", "<unk>"], 70, unk_token="<unk>", **roles)
    _save(RobertaForMaskedLM, RobertaConfig(**sizes | more | tokens | changes), tokenizer, folder)


FAMILIES: dict[str, Callable[..., None]] = {"gpt2": gpt2, "llama": llama, "roberta": roberta}


def _save(kind: Any, config: Any, tokenizer: Any, folder: Path) -> None:
    from seqgan_env.models.pretrained import quietly

    with quietly():
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
