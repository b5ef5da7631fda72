"""A pretrained model's tokenizer as the vocabulary of a text: the same ids, EOS, PAD = V, and the text back."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path

import pytest

from seqgan_env.corpora.corpus import CorpusError
from seqgan_env.models.pretrained import library
from seqgan_env.tasks.task import restored_task
from seqgan_env.tasks.text import TextOptions, text_task
from seqgan_env.vocabulary import Vocabulary
from tests.tiny_models import END, V, lines


def test_ids_are_those_of_the_model_and_pad_is_v(tiny_models: Path) -> None:
    task = text_task(tiny_models / "lines.txt", tokenizer=f"hf:{tiny_models / 'gpt2'}", duplicates="keep")
    tokenizer = library("transformers").AutoTokenizer.from_pretrained(tiny_models / "gpt2")
    assert task.vocab_size == V > len(tokenizer)
    assert task.eos_token == tokenizer.eos_token_id
    assert task.names.tokens[V - 1] == f"<unused:{V - 1}>"
    known = {tuple(tokenizer(line).input_ids) for line in lines()}
    for split in ("train", "validation", "test"):
        for row in task.real_sequences(split).tolist():
            tokens = [token for token in row if token not in (V, task.eos_token)]
            assert tuple(tokens) in known
            assert row == [*tokens, *[task.eos_token][: len(row) - len(tokens)], *[V] * (len(row) - len(tokens) - 1)]
            assert task.decode(row) in lines()


@pytest.mark.parametrize("line", ["naïve café 日本 🙂", "don't  stop", "a\ttab"])
def test_any_text_is_turned_into_bytes_and_back(tiny_models: Path, tmp_path: Path, line: str) -> None:
    (tmp_path / "lines.txt").write_text("\n".join([line, "the cat", "a dog", "the dog"]), encoding="utf-8")
    folder = tmp_path / "bytes"
    shutil.copytree(tiny_models / "gpt2", folder)
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = content["model"]["vocab"]
    from tokenizers.pre_tokenizers import ByteLevel

    for letter in ByteLevel.alphabet():  # as GPT-2 has: every byte is a token
        vocab.setdefault(letter, len(vocab))
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 400}))
    task = text_task(tmp_path / "lines.txt", tokenizer=f"hf:{folder}", validation=0.25, test=0.25)
    decoded = [
        task.decode(row) for split in ("train", "validation", "test") for row in task.real_sequences(split).tolist()
    ]
    assert line in decoded


def test_a_token_has_the_text_that_it_has_inside_a_line(tiny_models: Path) -> None:
    task = text_task(tiny_models / "lines.txt", tokenizer=f"hf:{tiny_models / 'gpt2'}")
    texts = task.names.texts()
    assert len(texts) == V
    for row in task.real_sequences("train")[:20].tolist():
        tokens = [token for token in row if token not in (V, task.eos_token)]
        assert "".join(texts[token] for token in tokens) == task.decode(row)
    words = text_task(tiny_models / "lines.txt", unit="word").names
    assert words.texts()[words.encode(["cat"])[0]] == " cat"


def test_a_stored_task_decodes_without_the_model(tiny_models: Path) -> None:
    task = text_task(tiny_models / "lines.txt", tokenizer=f"hf:{tiny_models / 'gpt2'}")
    state = json.loads(json.dumps(task.state()))
    restored = restored_task(state, {}, task.draw_split)
    row = task.real_sequences("test")[0].tolist()
    for other in (restored, copy.deepcopy(restored), pickle.loads(pickle.dumps(restored))):
        assert other.decode(row) == task.decode(row)
        assert other.pad_token == V
    assert "is_pretrained" not in text_task(tiny_models / "lines.txt", unit="word").state()["vocabulary"]
    with pytest.raises(ValueError, match="is_pretrained=True needs the tokenizer"):
        Vocabulary(["a"], is_pretrained=True)


def test_a_text_that_holds_eos_is_refused(tiny_models: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("\n".join([*lines(20), f"the cat {END} the dog"]))
    with pytest.raises(CorpusError, match="which ends a sequence"):
        text_task(tmp_path / "lines.txt", tokenizer=f"hf:{tiny_models / 'gpt2'}")


def test_a_tokenizer_without_eos_and_tokens_without_embeddings_are_refused(tiny_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_models / "gpt2", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 20}))
    with pytest.raises(CorpusError, match="not among its 20 embeddings"):
        text_task(tiny_models / "lines.txt", tokenizer=f"hf:{folder}")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    with pytest.raises(CorpusError, match="has no EOS"):
        text_task(tiny_models / "lines.txt", tokenizer=f"hf:{folder}")


def test_another_unit_or_another_name_is_refused() -> None:
    for options in ({"tokenizer": "gpt2"}, {"tokenizer": "hf:gpt2", "unit": "word"}):
        with pytest.raises(ValueError, match="must be hf:PATH or hf:NAME, with unit auto"):
            TextOptions(**options)


def test_unknown_tokens_are_counted(tiny_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_models / "roberta", folder)
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["unk_token"] = "<unk>"
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "train.txt").write_text("the cat ξ\nthe cat\na dog\n", encoding="utf-8")
    (tmp_path / "held_out.txt").write_text("a cat\n", encoding="utf-8")
    held_out = {name: str(tmp_path / "held_out.txt") for name in ("validation_corpus", "test_corpus")}
    task = text_task(tmp_path / "train.txt", tokenizer=f"hf:{folder}", duplicates="keep", **held_out)
    assert task.names.unknown_token == 3
    train = task.real_sequences("train")
    tokens = int(((train < task.vocab_size) & (train != task.eos_token)).sum())
    assert (train == 3).sum() == 2  # the two bytes of the letter
    assert task.statistics.unknown_rate == {"train": 2 / tokens, "validation": 0.0, "test": 0.0}
