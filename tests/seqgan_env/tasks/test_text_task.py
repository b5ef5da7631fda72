"""`tasks.text`: a corpus becomes a task, and `SeqGAN-Text-v0`."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import seqgan_env  # noqa: F401  (registers the environments)
from seqgan_env.corpora.corpus import CorpusError
from seqgan_env.envs import TextEnv, TextVectorEnv
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.text import TextOptions, text_task
from seqgan_env.testing import check_task
from seqgan_env.vocabulary import Vocabulary
from tests.marks import examples

SPLITS = ("train", "validation", "test")


def corpus(folder: Path, text: str, name: str = "corpus.txt") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def readable(task: Task, split: Any = "train") -> list[str]:
    return [task.vocabulary.decode(row) for row in task.real_sequences(split).tolist()]


def plain_lines(count: int) -> list[str]:
    """Lines of 2 to 5 words, all different for up to 256."""
    words = ["red", "green", "blue", "fish", "bird", "sings", "swims", "flies"]
    return [" ".join(words[(row // 4 // 8**place) % 8] for place in range(2 + row % 4)) for row in range(count)]


# --- what a task holds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["character", "word", "subword"])
def test_every_line_stands_in_one_split_and_decodes_to_itself(tmp_path: Path, unit: str) -> None:
    if unit == "subword":
        pytest.importorskip("tokenizers")
    lines = [f"{line}, {number}!" for number, line in enumerate(plain_lines(100))]
    task = text_task(corpus(tmp_path, "\n".join(lines)), unit=unit, minimum_count=1, subword_vocabulary=80)
    check_task(task)
    assert [len(task.real_sequences(split)) for split in SPLITS] == [80, 10, 10]
    assert set(readable(task)) < set(lines)
    if unit != "word":  # numbers that only a held-out line has are words, but no new characters
        assert sorted(text for split in SPLITS for text in readable(task, split)) == sorted(lines)


def test_ids_are_by_frequency_and_eos_and_unknown_come_last(tmp_path: Path) -> None:
    train = "c a a\nb a\nb a a\nonce b\n" + "a\n" * 8
    task = text_task(
        corpus(tmp_path, train),
        test_corpus=corpus(tmp_path, "a b c new\n", "test.txt"),
        duplicates="keep",
        split_seed=1,
        unit="word",
    )
    assert task.vocabulary.tokens == ("a", "b", "<unk>", "<eos>")
    assert (task.vocab_size, task.eos_token, task.vocabulary.unknown_token) == (4, 3, 2)
    assert task.real_sequences("test").tolist() == [[0, 1, 2, 2]]
    assert task.statistics.unknown_rate["test"] == 0.5
    rows = task.real_sequences("train").tolist()
    assert [0, 3, 4, 4] in rows
    assert task.sequence_length == 4


def test_lines_of_one_length_have_no_eos(tmp_path: Path) -> None:
    task = text_task(corpus(tmp_path, "山 高 水 长\n月 落 乌 啼\n" * 20), duplicates="keep")
    assert task.eos_token is None
    assert task.sequence_length == 4
    assert task.real_sequences("train").max() < task.vocab_size == 8
    check = text_task(corpus(tmp_path, "山 高 水 长\n月 落 乌 啼\n" * 20), duplicates="keep", sequence_length=5)
    assert check.real_sequences("test")[0, 4] == check.eos_token


def test_the_same_corpus_gives_the_same_task(tmp_path: Path) -> None:
    path = corpus(tmp_path, "\n".join(plain_lines(60)))
    first, second, other = text_task(path), text_task(path), text_task(path, split_seed=1)
    assert first.vocabulary.state() == second.vocabulary.state()
    assert all(torch.equal(first.real_sequences(split), second.real_sequences(split)) for split in SPLITS)
    assert readable(first, "test") != readable(other, "test")


def test_case_and_accents_are_brought_into_one_form(tmp_path: Path) -> None:
    path = corpus(tmp_path, "CAFE\u0301 caf\u00e9\n" * 20)
    assert text_task(path, duplicates="keep", lowercase=True).vocabulary.tokens == ("caf\u00e9",)
    assert len(text_task(path, duplicates="keep").vocabulary) == 2
    assert "CAFE\u0301" in text_task(path, duplicates="keep", nfc=False).vocabulary.tokens


def test_scripts_from_right_to_left_and_emoji_come_back(tmp_path: Path) -> None:
    lines = ["שלום, עולם!", "مرحبا (يا) عالم.", "👩‍👩‍👧 ok 👍🏽", "床前 明月 光", "Ü-Ö é à"] * 12
    for unit in ("character", "word"):
        task = text_task(corpus(tmp_path, "\n".join(lines)), unit=unit, duplicates="keep", punctuation="split")
        assert set(readable(task)) == set(lines)


def test_consecutive_lines_stay_in_one_split(tmp_path: Path) -> None:
    lines = [f"stanza {number // 5} line {number % 5}" for number in range(200)]
    task = text_task(corpus(tmp_path, "\n".join(lines)), split_block=5, minimum_count=1)
    splits = [{text.split()[1] for text in readable(task, split)} - {"<unk>"} for split in SPLITS]
    assert len(splits[0]) == 32
    assert not splits[0] & (splits[1] | splits[2])


def test_sentences_of_running_text(tmp_path: Path) -> None:
    text = " ".join(f"{line.capitalize()}." for line in plain_lines(60))
    task = text_task(corpus(tmp_path, text.replace(" s", "\ns")), split_by="sentence", minimum_count=1)
    assert set(readable(task)) < {f"{line.capitalize()}." for line in plain_lines(60)}
    assert sum(task.statistics.sequences.values()) == 60


def test_the_bundled_corpus_is_a_task() -> None:
    task = text_task()
    check_task(task)
    assert sum(task.statistics.sequences.values()) == 6558
    assert 3000 < task.vocab_size < 4000
    assert task.statistics.too_long == 0
    assert all(set(text) < set(map(chr, range(32, 127))) for text in readable(task))


# --- choices, with counts --------------------------------------------------------------------------------------------


def test_longer_sequences_are_an_error_or_cut_or_dropped_and_counted(tmp_path: Path) -> None:
    lines = [
        *plain_lines(60),
        "a very long line of more words than all the others have",
        "and one more of those that are long",
    ]
    path = corpus(tmp_path, "\n".join(lines))
    with pytest.raises(CorpusError, match=r"corpus\.txt: 2 of 62 sequences have over 5 tokens .* the longest 12\)"):
        text_task(path, sequence_length=5)
    cut = text_task(path, sequence_length=5, too_long="cut", minimum_count=1)
    assert (cut.statistics.too_long, sum(cut.statistics.sequences.values())) == (2, 62)
    dropped = text_task(path, sequence_length=5, too_long="drop")
    assert (dropped.statistics.too_long, sum(dropped.statistics.sequences.values())) == (2, 60)
    assert cut.sequence_length == dropped.sequence_length == 5
    assert dict(cut.statistics.lines())["longer than T"] == "2 cut"
    whole = [text for split in SPLITS for text in readable(cut, split)]
    assert "a very long line of" in whole or any(text.startswith("<unk>") for text in whole)
    assert text_task(path).sequence_length == 12


def test_a_horizon_that_is_not_asked_for_stays_below_128(tmp_path: Path) -> None:
    lines = [*plain_lines(60), "word " * 500]
    with pytest.raises(CorpusError, match="1 of 61 sequences have over 128 tokens"):
        text_task(corpus(tmp_path, "\n".join(lines)))
    assert text_task(corpus(tmp_path, "\n".join(lines)), too_long="drop").sequence_length == 5
    assert text_task(corpus(tmp_path, "\n".join(lines)), sequence_length=500).sequence_length == 500


def test_rare_tokens_are_unknown_or_an_error(tmp_path: Path) -> None:
    path = corpus(tmp_path, "\n".join([*["a b c"] * 30, *["a b rare"]]))
    options: dict[str, Any] = {"duplicates": "keep", "split_seed": 0}
    task = text_task(path, **options)
    assert task.vocabulary.tokens == ("a", "b", "c", "<unk>")
    assert sum(text.count("<unk>") for split in SPLITS for text in readable(task, split)) == 1
    with pytest.raises(CorpusError, match=r"1 tokens are not in the vocabulary of 3, most often 'rare'"):
        text_task(path, unknown="error", **options)
    limited = text_task(path, max_vocabulary=1, **options)
    assert limited.vocabulary.tokens == ("a", "<unk>")
    assert limited.statistics.unknown_rate["train"] == pytest.approx(2 / 3)


def test_an_unknown_mark_of_the_corpus_is_the_unknown_token(tmp_path: Path) -> None:
    task = text_task(corpus(tmp_path, "a <unk> b\nb <eos> a\n" * 20), duplicates="keep")
    assert task.vocabulary.tokens == ("a", "b", "<eos>", "<unk>")
    assert task.statistics.unknown_rate["train"] == pytest.approx(1 / 6, abs=0.05)
    longer = text_task(corpus(tmp_path, "a <unk> b\nb <eos> a\nc <eos>\n" * 20), duplicates="keep")
    assert longer.vocabulary.tokens[longer.eos_token] == "<<eos>>"


def test_duplicates_between_splits_are_dropped_kept_or_an_error(tmp_path: Path) -> None:
    train = corpus(tmp_path, "\n".join(plain_lines(40)))
    test = corpus(tmp_path, "\n".join([*plain_lines(40)[:3], "blue blue blue", "blue blue blue"]), "test.txt")
    dropped = text_task(train, test_corpus=test, split_seed=3)
    assert (dropped.statistics.shared, dropped.statistics.sequences["test"]) == (3, 2)
    assert dropped.statistics.repeated == 1
    kept = text_task(train, test_corpus=test, duplicates="keep", split_seed=3)
    assert (kept.statistics.shared, kept.statistics.sequences["test"]) == (3, 5)
    with pytest.raises(CorpusError, match=r"corpus\.txt and .*test\.txt: 3 held-out sequences"):
        text_task(train, test_corpus=test, duplicates="error", split_seed=3)


def test_the_table_tells_of_empty_lines_and_of_what_was_read(tmp_path: Path) -> None:
    path = corpus(tmp_path, "\n\n".join(plain_lines(50)) + "\n")
    task = text_task(path, max_sequences=30)
    table = dict(task.statistics.lines())
    assert table["corpus"] == f"{path} (the first 30 sequences)"
    assert table["sequences"] == "train 24, validation 3, test 3"
    assert table["empty, skipped"] == "29"
    assert table["token"].startswith("words between spaces; auto")
    json.dumps(dataclasses.asdict(task.statistics))


# --- corpora that cannot be used -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no text"),
        (b"\n \n\r\n", "holds no text"),
        (b"only one line\n", "split would be empty .* give more sequences"),
        (b"same\n" * 10, 'would be empty .* choose duplicates="keep"'),
        (b"a b\nc d\ne f\ng h\n", "no token occurs 2 times in the training split; lower minimum_count"),
        (b"x" * 10_000_000, "line 1, byte 0: a line of more than 1,000,000 bytes"),
        (bytes(range(256)) * 10, "line 1, byte 0: a NUL byte"),
        ("é\n".encode("latin-1"), "line 1, byte 0: not UTF-8"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_told_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=rf"corpus\.txt.*{message}"):
        text_task(path)


def test_a_letter_under_a_tower_of_accents_is_told_and_not_sorted_for_minutes(tmp_path: Path) -> None:
    path = corpus(tmp_path, "plain\na" + "\u0301\u0316" * 100_000 + "\n")
    with pytest.raises(CorpusError, match=r"corpus\.txt: sequence 2 has a letter with 200 accents or more.*nfc=False"):
        text_task(path)


def test_train_validation_and_test_files_are_the_splits(tmp_path: Path) -> None:
    files = {
        split: corpus(tmp_path, "\n".join(f"{split} {number}" for number in range(count)), f"{split}.txt")
        for split, count in (("train", 30), ("validation", 4), ("test", 5))
    }
    task = text_task(files["train"], validation_corpus=str(files["validation"]), test_corpus=str(files["test"]))
    assert task.statistics.sequences == {"train": 30, "validation": 4, "test": 5}
    one = text_task(files["train"], validation_corpus=str(files["validation"]), minimum_count=1)
    assert one.statistics.sequences == {"train": 27, "validation": 4, "test": 3}
    assert "validation" not in one.vocabulary.tokens  # the vocabulary is that of the training split
    with pytest.raises(CorpusError, match=r"nowhere\.txt: no such file"):
        text_task(files["train"], validation_corpus="nowhere.txt")


def test_byte_order_marks_are_told_in_the_table(tmp_path: Path) -> None:
    task = text_task(corpus(tmp_path, "\ufeff" + "\n\ufeff".join(plain_lines(40))))
    assert dict(task.statistics.lines())["byte-order marks"] == "39 left out"
    assert not any("\ufeff" in token for token in task.vocabulary.tokens)


def test_a_test_corpus_that_cannot_be_used_is_told_by_name(tmp_path: Path) -> None:
    path = corpus(tmp_path, "\n".join(plain_lines(30)))
    with pytest.raises(CorpusError, match=r"test\.txt.*the test split would be empty"):
        text_task(path, test_corpus=corpus(tmp_path, "\n", "test.txt"))
    with pytest.raises(CorpusError, match=r"nowhere\.txt: no such file"):
        text_task(path, test_corpus="nowhere.txt")


@examples(120)
@given(
    content=st.binary(max_size=400)
    | st.lists(st.text(max_size=12), max_size=40).map(lambda lines: "\n".join(lines).encode())
    | st.lists(st.sampled_from(["a", "b c", "a b", "", "é .", "<unk>", "<eos>"]), max_size=60).map(
        lambda lines: "\n".join(lines).encode()
    ),
    options=st.fixed_dictionaries(
        {},
        optional={
            "unit": st.sampled_from(["character", "word"]),
            "split_by": st.sampled_from(["line", "sentence"]),
            "too_long": st.sampled_from(["cut", "drop"]),
            "sequence_length": st.integers(1, 4),
            "minimum_count": st.integers(1, 3),
            "duplicates": st.sampled_from(["keep", "drop", "error"]),
            "unknown": st.sampled_from(["token", "error"]),
            "split_block": st.integers(1, 3),
            "lowercase": st.booleans(),
        },
    ),
)
def test_any_bytes_are_a_task_or_a_corpus_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, options: dict
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.txt"
    path.write_bytes(content)
    try:
        task = text_task(path, **options)
    except CorpusError as error:
        refusal = str(error)
    else:
        assert len(task.real_sequences("train")) == task.statistics.sequences["train"]
        if not torch.equal(task.real_sequences("train"), task.real_sequences("test")):  # "keep" may make them so
            check_task(task)
        return
    assert refusal.startswith(str(path))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"unit": "syllable"}, ValueError, "unit='syllable' must be one of"),
        ({"split_by": "verse"}, ValueError, "split_by='verse'"),
        ({"too_long": "wrap"}, ValueError, "too_long='wrap'"),
        ({"unknown": "guess"}, ValueError, "unknown='guess'"),
        ({"sequence_length": 0}, ValueError, "sequence_length=0 must be at least 1"),
        ({"minimum_count": 0}, ValueError, "minimum_count=0"),
        ({"max_sequences": 2.5}, TypeError, r"max_sequences=2\.5 must be an int"),
        ({"minimum_count": None}, TypeError, "minimum_count=None"),
        ({"validation": 0}, ValueError, "validation=0 must lie"),
        ({"length": 3}, TypeError, "length"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        text_task(**options)


def test_options_are_plain_values() -> None:
    options = dataclasses.asdict(TextOptions())
    assert json.loads(json.dumps(options)) == options


# --- the quatrains ---------------------------------------------------------------------------------------------------


def test_the_quatrains_have_twenty_characters_and_no_eos(data_folder: Path) -> None:
    folder = data_folder / "corpora" / "chinese_poems"
    if not folder.is_dir():
        pytest.skip(f"no quatrains at {folder}")
    task = text_task(folder / "train.txt", test_corpus=str(folder / "test.txt"), split_block=50, minimum_count=1)
    check_task(task)
    assert task.sequence_length == 20
    assert task.eos_token is None
    assert task.statistics.unit.startswith("words between spaces; auto")
    assert sum(task.statistics.sequences.values()) == 15_973
    assert task.statistics.sequences["test"] == 1_600
    assert task.statistics.tokens == 319_460
    assert task.statistics.unknown_rate["train"] == 0
    assert 0.003 < task.statistics.unknown_rate["test"] < 0.006
    assert task.statistics.shared == 0
    first = (folder / "test.txt").read_text(encoding="utf-8").splitlines()
    assert readable(task, "test")[1:3] == first[1:3]
    assert len(readable(task, "train")[0].split()) == 20


# --- the environment -------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> dict[str, Any]:
    """Keywords of a small environment whose episodes end early."""
    return {"corpus": corpus(tmp_path, "\n".join(plain_lines(60))), "n_rollouts": 2}


@pytest.mark.parametrize("reward_mode", ["action_value", "potential", "terminal"])
def test_both_check_envs_pass(small: dict, reward_mode: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check_env(gym.make("SeqGAN-Text-v0", reward_mode=reward_mode, **small).unwrapped)
    sb3_check_env(gym.make("SeqGAN-Text-v0", reward_mode=reward_mode, **small))


def test_the_default_environment_speaks_of_python() -> None:
    env = gym.make("SeqGAN-Text-v0", reward_model="constant")
    assert isinstance(env.unwrapped, TextEnv)
    sequence = env.unwrapped.task.real_sequences("test")[0].tolist()
    env.reset(seed=0)
    for token in sequence:
        _, _, terminated, _, info = env.step(token)
        if terminated:
            break
    assert terminated
    assert info["sequence"].tolist() == sequence
    assert info["text"] == readable(env.unwrapped.task, "test")[0]
    assert env.unwrapped.action_masks().tolist() == [True] * env.unwrapped.task.vocab_size


def test_eos_ends_an_episode_and_the_text(small: dict) -> None:
    env = gym.make("SeqGAN-Text-v0", reward_model="constant:0.25", **small)
    task = env.unwrapped.task
    env.reset(seed=0)
    env.step(task.vocabulary.encode(["fish"])[0])
    observation, reward, terminated, truncated, info = env.step(task.eos_token)
    assert (reward, terminated, truncated) == (0.25, True, False)
    assert observation.tolist()[2:] == [task.pad_token] * 3
    assert info["text"] == "fish"


def test_a_spec_survives_json(small: dict) -> None:
    env = gym.make("SeqGAN-Text-v0", unit="character", lowercase=True, **small)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.task.vocabulary.tokens == env.unwrapped.task.vocabulary.tokens


def test_one_face_or_many_give_the_same_numbers(small: dict) -> None:
    envs = gym.make_vec("SeqGAN-Text-v0", num_envs=3, autoreset_mode="Disabled", **small)
    assert type(envs) is TextVectorEnv
    singles = [gym.make("SeqGAN-Text-v0", **small) for _ in range(3)]
    envs.reset(seed=5)
    for row, env in enumerate(singles):
        env.reset(seed=5 + row)
    for actions in ([0, 1, 2], [3, 0, 1]):
        _, rewards, *_ = envs.step(np.array(actions))
        expected = [env.step(action)[1] for env, action in zip(singles, actions, strict=True)]
        np.testing.assert_allclose(rewards, expected, rtol=1e-5)


def test_a_vocabulary_of_subwords_needs_nothing_to_be_read_again(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    task = text_task(corpus(tmp_path, "\n".join(plain_lines(60))), unit="subword", subword_vocabulary=40)
    again = Vocabulary.from_state(json.loads(json.dumps(task.vocabulary.state())))
    rows = task.real_sequences("test").tolist()
    assert [again.decode(row) for row in rows] == readable(task, "test")
    assert json.loads(again.tokenizer)["model"]["type"] == "BPE"
