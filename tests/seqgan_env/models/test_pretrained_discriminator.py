"""Pretrained discriminators: encoders and causal models, logits of sequences and of tokens, other tokenizers."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seqgan_env.components import build_discriminator
from seqgan_env.models.pretrained import library, load_model
from seqgan_env.models.pretrained_discriminator import PretrainedDiscriminator
from seqgan_env.tasks.corpus_task import CorpusTask
from seqgan_env.tasks.oracle import oracle_task
from seqgan_env.tasks.text import text_task
from seqgan_env.testing import check_discriminator
from seqgan_env.testing.scoring import random_sequences
from tests.marks import slow
from tests.tiny_models import roberta

Build = Callable[..., PretrainedDiscriminator]


@pytest.fixture(scope="module")
def task(tiny_models: Path) -> CorpusTask:
    """A text in the tokens of the tiny GPT-2."""
    return text_task(tiny_models / "lines.txt", tokenizer=f"hf:{tiny_models / 'gpt2'}")


@pytest.fixture(scope="module")
def words(tiny_models: Path) -> CorpusTask:
    """The same text in words."""
    return text_task(tiny_models / "lines.txt", unit="word")


def build(folder: Path, task: CorpusTask, **options: Any) -> PretrainedDiscriminator:
    model = PretrainedDiscriminator(task.vocab_size, task.sequence_length, str(folder), task, **options)
    with torch.no_grad():
        model.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    return model.eval()


@pytest.mark.parametrize(
    ("family", "rank"), [("roberta", 4), slow("gpt2", 4), slow("llama", 4), slow("roberta", 0), slow("gpt2", 0)]
)
def test_the_conformance_suite_passes(tiny_models: Path, task: CorpusTask, family: str, rank: int) -> None:
    short = copy.copy(task)
    short.sequence_length = 6
    source = str(tiny_models / family)
    check_discriminator(PretrainedDiscriminator(task.vocab_size, 6, source, short, lora_rank=rank), short)


def of_library(folder: Path, rows: list[list[int]]) -> list[Tensor]:
    """Hidden states of some rows, each read alone by the library: a list of (L, H)."""
    body = load_model("AutoModel", folder, torch.float32)
    with torch.no_grad():
        return [body(input_ids=torch.tensor([row])).last_hidden_state[0] for row in rows]


def test_an_encoder_reads_the_text_with_its_own_tokens(tiny_models: Path, words: CorpusTask) -> None:
    folder = tiny_models / "roberta"
    model = build(folder, words, lora_rank=2)
    assert model.pooling == "mean"
    tokenizer = library("transformers").AutoTokenizer.from_pretrained(folder)
    sequences = words.real_sequences("train")[:6]
    expected = []
    for row, sequence in enumerate(sequences.tolist()):
        texts = [f" {words.names.tokens[number]}" for number in sequence if number < words.vocab_size]
        parts = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        if words.eos_token in sequence:
            parts[-1] = [tokenizer.sep_token_id]
        ids = [tokenizer.cls_token_id, *(number for part in parts for number in part)]
        ids += [] if words.eos_token in sequence else [tokenizer.sep_token_id]
        (hidden,) = of_library(folder, [ids])
        ends = torch.tensor([len(part) for part in parts]).cumsum(dim=0)
        expected.append(model.head(hidden[ends]).mean())
        logits = model.token_logits(sequences[row : row + 1])[0]
        torch.testing.assert_close(logits[: len(parts)], model.head(hidden[ends]).squeeze(1), atol=1e-4, rtol=1e-4)
        assert (logits[len(parts) :] == 0).all()
    torch.testing.assert_close(model(sequences), torch.stack(expected), atol=1e-4, rtol=1e-4)


def test_the_tokens_of_one_family_are_taken_over_as_they_are(tiny_models: Path, task: CorpusTask) -> None:
    model = build(tiny_models / "gpt2", task)
    expected = torch.arange(task.vocab_size)
    named = torch.tensor([not name.startswith("<unused") for name in task.names.tokens])
    assert torch.equal(model.token_ids[:-1, 0][named], expected[named])
    other = build(tiny_models / "roberta", task)
    backend = library("transformers").AutoTokenizer.from_pretrained(tiny_models / "roberta").backend_tokenizer
    for number, name in enumerate(task.names.tokens):
        if number not in (task.eos_token, *range(60, 64)) and backend.token_to_id(name) is not None:
            assert other.token_ids[number].tolist()[:1] == [backend.token_to_id(name)]
    assert int(other.token_ids[task.eos_token, 0]) == 2  # the end of RoBERTa's own sequences


def test_a_causal_model_scores_each_prefix(tiny_models: Path, task: CorpusTask) -> None:
    model = build(tiny_models / "llama", task)
    assert model.pooling == "last"
    sequences = random_sequences(task, 0)
    lengths = (sequences < task.vocab_size).sum(dim=1)
    dense = model.token_logits(sequences)
    assert dense.shape == sequences.shape
    torch.testing.assert_close(dense[torch.arange(len(sequences)), lengths - 1], model(sequences))
    prefix = sequences.clone()
    prefix[:, 3:] = task.vocab_size
    torch.testing.assert_close(model(prefix[:8]), dense[:8, 2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["roberta", "gpt2"])
def test_padding_does_not_change_a_logit(tiny_models: Path, task: CorpusTask, family: str) -> None:
    model = build(tiny_models / family, task)
    sequences = random_sequences(task, 1)
    longest = int((sequences[-8:] < task.vocab_size).sum(dim=1).max())
    torch.testing.assert_close(model(sequences[-8:]), model(sequences[-8:, :longest]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(sequences)[-8:], model(sequences[-8:]), atol=1e-5, rtol=1e-5)


def test_the_mean_of_the_tokens_logits_is_that_of_the_sequence(tiny_models: Path, task: CorpusTask) -> None:
    sequences = random_sequences(task, 2)
    count = (sequences < task.vocab_size).sum(dim=1)
    for family in ("roberta", "gpt2"):
        model = build(tiny_models / family, task, pooling="mean")
        torch.testing.assert_close(model.token_logits(sequences).sum(dim=1) / count, model(sequences))
    first = build(tiny_models / "roberta", task, pooling="first")
    assert not torch.allclose(first(sequences), model(sequences))


def test_gradients_reach_head_and_adapters_alone_also_from_token_logits(tiny_models: Path, task: CorpusTask) -> None:
    for dense in (False, True):
        model = build(tiny_models / "roberta", task).train()
        sequences = random_sequences(task, 0)
        (model.token_logits(sequences) if dense else model(sequences)).sum().backward()
        reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert reached == set(model.state_dict())
        assert {name for name in reached if "lora_" not in name} == {"head.weight", "head.bias"}


def test_training_drops_and_scoring_does_not(tiny_models: Path, task: CorpusTask) -> None:
    model = build(tiny_models / "roberta", task).train()
    sequences = random_sequences(task, 0)
    assert not torch.allclose(model(sequences), model(sequences))
    assert torch.equal(model.score(sequences), model.score(sequences))
    assert model.training


def test_copies_share_the_base_and_a_pickled_one_scores_the_same(tiny_models: Path, task: CorpusTask) -> None:
    model = build(tiny_models / "roberta", task)
    copied = copy.deepcopy(model)
    shared = {id(p) for p in model.parameters()} & {id(p) for p in copied.parameters()}
    assert shared == {id(tensor) for tensor in model.base_tensors()}
    sequences = random_sequences(task, 0)
    again: PretrainedDiscriminator = pickle.loads(pickle.dumps(model))
    assert torch.equal(again.score(sequences), model.score(sequences))


def test_a_seed_draws_the_trained_part_and_no_random_stream_moves(tiny_models: Path, task: CorpusTask) -> None:
    made = []
    for seed, of_the_program in ((3, 0), (3, 1), (4, 1)):
        torch.manual_seed(of_the_program)
        before = torch.get_rng_state()
        source = str(tiny_models / "roberta")
        model = PretrainedDiscriminator(task.vocab_size, task.sequence_length, source, task, seed=seed)
        made.append(list(model.state_dict().values()))
        assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, made[0], made[1]))
    assert not all(map(torch.equal, made[0], made[2]))


def test_a_bfloat16_body_has_a_float32_head(tiny_models: Path, task: CorpusTask) -> None:
    model = build(tiny_models / "roberta", task, dtype="bfloat16")
    logits = model(random_sequences(task, 0))
    assert logits.dtype == torch.float32
    logits.sum().backward()


def test_a_task_without_words_and_a_sequence_that_is_too_long_are_named(
    tiny_models: Path, tmp_path: Path, task: CorpusTask
) -> None:
    with pytest.raises(ValueError, match="tokens of the task 'oracle' are numbers only"):
        build_discriminator(f"hf:{tiny_models / 'roberta'}", oracle_task(5, 3, n_sequences=4))
    roberta(tmp_path / "short", max_position_embeddings=8)
    model = build(tmp_path / "short", task)
    with pytest.raises(ValueError, match=r"has 6 positions, and a sequence has \d+ of its tokens"):
        model(random_sequences(task, 0))
    with pytest.raises(ValueError, match="pooling='max' must be one of"):
        build(tiny_models / "roberta", task, pooling="max")


def test_an_encoder_decoder_is_refused(tiny_models: Path, tmp_path: Path, task: CorpusTask) -> None:
    transformers: Any = library("transformers")
    sizes = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    transformers.T5Model(transformers.T5Config(**sizes)).save_pretrained(tmp_path / "t5")
    transformers.AutoTokenizer.from_pretrained(tiny_models / "roberta").save_pretrained(tmp_path / "t5")
    with pytest.raises(ValueError, match="neither an encoder nor a causal model"):
        build(tmp_path / "t5", task)
