"""`tasks.text` with prompts: of a column, of a line, or of the first tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch

import seqgan_env  # noqa: F401  (registers the environments)
from seqgan_env.corpora.corpus import CorpusError
from seqgan_env.rollout_policies import UniformPolicy
from seqgan_env.tasks.task import Task, restored_task
from seqgan_env.tasks.text import TextOptions, text_task
from seqgan_env.testing import check_task

WORDS = ("red", "green", "blue", "fish", "bird", "sings", "swims", "flies")


def pairs(count: int = 60) -> list[tuple[str, str]]:
    """Prompts of one to four words, and their words in reverse, with a number of its own."""
    made = []
    for row in range(count):
        words = [WORDS[(row // 8**place + place) % 8] for place in range(1 + row % 4)]
        made.append((f"{' '.join(words)} {WORDS[row % 8]}", f"{' '.join(reversed(words))} w{row}"))
    return made


def as_lines(folder: Path, separator: str = " => ") -> str:
    path = folder / "pairs.txt"
    path.write_text("\n".join(separator.join(pair) for pair in pairs()) + "\n", encoding="utf-8")
    return str(path)


def as_table(folder: Path, kind: str = "jsonl") -> str:
    path = folder / f"pairs.{kind}"
    if kind == "jsonl":
        text = "\n".join(json.dumps({"question": prompt, "answer": response}) for prompt, response in pairs())
    else:
        text = "question,answer\n" + "\n".join(",".join(pair) for pair in pairs())
    path.write_text(text + "\n", encoding="utf-8")
    return str(path)


def decoded(task: Task) -> set[tuple[str, str]]:
    """Prompt and response of every sequence, as text."""
    assert task.vocabulary is not None
    p, decode = task.prompt_length, task.vocabulary.decode
    splits: Any = ("train", "validation", "test")
    rows = [row for split in splits for row in task.real_sequences(split).tolist()]
    return {(decode(row[:p]), decode(row[p:])) for row in rows}


@pytest.mark.parametrize("unit", ["character", "word", "subword"])
@pytest.mark.parametrize("source", ["line", "jsonl", "csv"])
def test_every_response_stays_with_its_prompt(tmp_path: Path, unit: str, source: str) -> None:
    if unit == "subword":
        pytest.importorskip("tokenizers")
    options: dict[str, Any] = {"prompt_column": "question", "column": "answer"}
    corpus = as_table(tmp_path, source) if source != "line" else as_lines(tmp_path)
    if source == "line":
        options = {"prompt_separator": " => "}
    task = text_task(corpus, unit=unit, minimum_count=1, unknown="token", subword_vocabulary=90, **options)
    check_task(task)
    known = {(prompt, response) for prompt, response in decoded(task) if "<unk>" not in response}
    assert known <= set(pairs())
    assert len(known) >= 45
    mark = task.vocabulary.prompt_token  # type: ignore[union-attr]
    rows = task.real_sequences("train")
    assert (rows[:, task.prompt_length - 1] == mark).all()  # the mark ends every prompt
    assert not (rows[:, task.prompt_length :] == mark).any()
    assert task.action_mask().tolist() == [token != mark for token in range(task.vocab_size)]


def test_a_short_prompt_is_filled_with_the_mark_at_its_left(tmp_path: Path) -> None:
    task = text_task(as_lines(tmp_path), prompt_separator=" => ", unit="word")
    assert task.prompt_length == 6  # five words and the mark
    encoded = task.checked_prompt("red fish").tolist()
    mark, names = task.vocabulary.prompt_token, task.vocabulary.encode(["red", "fish"])  # type: ignore[union-attr]
    assert encoded == [mark, mark, mark, *names, mark]
    assert any(row[:6].tolist()[:3] == [mark] * 3 for row in task.real_sequences("train"))
    with pytest.raises(ValueError, match="the prompt has 6 tokens; at most 5 are allowed"):
        task.checked_prompt("red red red red red red")


def test_the_first_tokens_of_each_sequence_are_its_prompt_and_shorter_ones_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    lines = [f"a b c{number % 7} d" for number in range(40)] + ["a"] * 3
    path.write_text("\n".join(lines), encoding="utf-8")
    plain = text_task(str(path), unit="word", duplicates="keep")
    task = text_task(str(path), unit="word", duplicates="keep", prompt_tokens=2)
    assert (task.prompt_length, task.sequence_length, task.statistics.too_short) == (2, 4, 3)
    assert plain.statistics.too_short == plain.prompt_length == 0
    assert ("shorter than a prompt", "3 dropped") in task.description()
    assert task.vocabulary.prompt_token is None  # type: ignore[union-attr]
    assert (task.prompts("train") == torch.from_numpy(task.encode_prompt("a b"))).all()


def test_longer_prompts_and_responses_are_cut_on_the_outside(tmp_path: Path) -> None:
    options: dict[str, Any] = {"prompt_separator": " => ", "unit": "word", "minimum_count": 1, "prompt_length": 3}
    with pytest.raises(CorpusError, match="have a prompt of over 3 tokens or over 2 tokens after it"):
        text_task(as_lines(tmp_path), sequence_length=5, **options)
    cut = text_task(as_lines(tmp_path), sequence_length=5, too_long="cut", **options)
    ends = {(" ".join(p.split()[-2:]), " ".join(r.split()[:2])) for p, r in pairs()}
    assert {pair for pair in decoded(cut) if "<unk>" not in "".join(pair)} <= ends
    dropped = text_task(as_lines(tmp_path), sequence_length=5, too_long="drop", **options)
    assert {pair for pair in decoded(dropped) if "<unk>" not in "".join(pair)} <= set(pairs())
    assert dropped.statistics.too_long == cut.statistics.too_long > 0


def test_prompts_of_held_out_corpora_are_read_in_the_same_way(tmp_path: Path) -> None:
    test = tmp_path / "test.txt"
    test.write_text("red red => blue w1\n", encoding="utf-8")
    task = text_task(as_lines(tmp_path), test_corpus=str(test), prompt_separator=" => ", unit="word", minimum_count=1)
    assert task.decode(task.real_sequences("test")[0].tolist()) == "red red => blue w1"


def test_the_environment_tells_prompt_and_response_apart(tmp_path: Path) -> None:
    env = gym.make(
        "SeqGAN-Text-v0",
        corpus=as_lines(tmp_path),
        prompt_separator=" => ",
        unit="word",
        reward_model="bleu",
        n_rollouts=1,
    )
    task = env.unwrapped.task  # type: ignore[attr-defined]
    observation, _ = env.reset(seed=0, options={"prompt": "red fish"})
    assert task.vocabulary.decode(observation) == "red fish"
    env.step(int(task.vocabulary.encode(["blue"])[0]))
    info = env.step(task.eos_token)[4]
    assert (info["prompt"], info["text"]) == ("red fish", "blue")


def test_a_stored_task_still_encodes_prompts(tmp_path: Path) -> None:
    for unit in ("word", "character"):
        task = text_task(as_lines(tmp_path), prompt_separator=" => ", unit=unit, lowercase=True)
        state = json.loads(json.dumps(task.state()))
        copy = restored_task(state, task.tensors(), task.draw_split)
        assert (copy.checked_prompt("Red fish") == task.checked_prompt("red fish")).all()
        assert copy.prompt_length == task.prompt_length
        assert copy.description() == task.description()


def test_bleu_copies_and_nearest_sequences_compare_responses_alone(tmp_path: Path) -> None:
    task = text_task(as_lines(tmp_path), prompt_separator=" => ", unit="word", minimum_count=1, duplicates="keep")
    measures, train = task.measures(), task.real_sequences("train")
    samples = train.clone()
    samples[:, : task.prompt_length] = samples[:, : task.prompt_length].roll(1, 0)  # right responses, wrong prompts
    both = [measures.reference.measure(task.responses(rows)) for rows in (train, samples)]  # type: ignore[attr-defined]
    assert both[0].copied.mean == both[1].copied.mean == 1
    measured = measures.measure_drawn(UniformPolicy(task.vocab_size), samples).corpus
    assert measured is not None
    assert (measured.copied.mean, measured.length.mean) == (1, both[0].length.mean)
    rows, likeness = task.nearest(samples)  # type: ignore[misc]
    assert (likeness == 1).all()
    assert rows.tolist() == list(range(len(train)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prompt_tokens": 1, "prompt_separator": "x"}, ValueError, "prompts come from one place"),
        ({"prompt_tokens": -1}, ValueError, "prompt_tokens=-1 must be at least 0"),
        ({"prompt_separator": ""}, ValueError, "must be a text"),
        ({"prompt_length": 4}, ValueError, "needs prompt_column or prompt_separator"),
        ({"prompt_separator": " => ", "split_by": "sentence"}, ValueError, "choose split_by='line'"),
        ({"prompt_separator": "|"}, CorpusError, "sequence 1 has no '|'"),
        ({"prompt_column": "question"}, CorpusError, "is for tables"),
        ({"prompt_tokens": 60}, CorpusError, "fewer than prompt_tokens=60"),
        ({"prompt_tokens": 3, "sequence_length": 3, "too_long": "cut"}, CorpusError, "leaves no response"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        text_task(as_lines(tmp_path), **options)


def test_rows_without_a_response_are_counted_and_an_empty_prompt_is_a_prompt(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"q": p, "a": r} for p, r in pairs()] + [{"q": "x", "a": None}, {"q": "x"}, {"q": "", "a": "red fish"}]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    task = text_task(str(path), prompt_column="q", column="a", unit="word", minimum_count=1)
    assert task.statistics.skipped == 2
    assert ("", "red fish") in decoded(task)


def test_options_without_prompts_make_the_task_that_they_made_before() -> None:
    options = TextOptions(max_sequences=300, too_long="cut")
    task = options.task()
    assert (task.prompt_length, task.statistics.prompt_length) == (0, 0)
    assert "prompt_length" not in task.state()
    assert "prompt" not in task.state()["vocabulary"]


@pytest.mark.parametrize("unit", ["word", "character", "subword"])
def test_a_text_with_the_tokens_of_another_has_its_mark_and_its_ids(tmp_path: Path, unit: Any) -> None:
    if unit == "subword":
        pytest.importorskip("tokenizers")
    corpus = as_lines(tmp_path)
    options = TextOptions(corpus, prompt_separator=" => ", unit=unit, minimum_count=1, subword_vocabulary=60)
    first = options.task()
    again = TextOptions(corpus, prompt_separator=" => ", minimum_count=1).task_with(first.vocabulary)
    assert torch.equal(again.real_sequences("train"), first.real_sequences("train"))
    assert again.prompt_length == first.prompt_length
    with pytest.raises(CorpusError, match="has no prompts of a column or a line"):
        TextOptions(corpus, prompt_tokens=1).task_with(first.vocabulary)
    with pytest.raises(CorpusError, match=r"has prompts of a column or a line, and .* has none"):
        options.task_with(TextOptions(corpus, unit=unit, minimum_count=1, subword_vocabulary=60).task().vocabulary)


def test_marks_do_not_go_with_the_tokenizer_of_a_pretrained_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no token that could mark prompts"):
        TextOptions(as_lines(tmp_path), prompt_separator=" => ", tokenizer="hf:somewhere")
