"""`vocabulary`: tokens and ids."""

from __future__ import annotations

import json

import numpy as np
import pytest

from seqgan_env.vocabulary import Vocabulary


def test_a_tokens_id_is_its_position() -> None:
    vocabulary = Vocabulary(["c", "a", "b"])
    ids = vocabulary.encode(["a", "b", "c", "a"])
    assert ids.tolist() == [1, 2, 0, 1]
    assert ids.dtype == np.int64
    assert len(vocabulary) == 3


def test_pad_is_the_id_after_the_last_token() -> None:
    assert Vocabulary("abcd").pad_token == 4


def test_decode_undoes_encode() -> None:
    vocabulary = Vocabulary("abc", separator="")
    assert vocabulary.decode(vocabulary.encode("cab")) == "cab"


def test_decode_puts_the_separator_between_tokens() -> None:
    assert Vocabulary("abc").decode([2, 0]) == "c a"
    assert Vocabulary("abc", separator="-").decode([2, 0, 1]) == "c-a-b"


@pytest.mark.parametrize(("ids", "text"), [([0, 1, 3, 3], "a b"), ([0, 2, 1], "a"), ([2], ""), ([], "")])
def test_decode_stops_at_pad_and_at_eos(ids: list[int], text: str) -> None:
    assert Vocabulary("ab.", eos=".").decode(ids) == text


def test_eos_is_an_ordinary_id_and_absent_unless_named() -> None:
    assert Vocabulary("ab.", eos=".").eos_token == 2
    assert Vocabulary("ab.").eos_token is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": []}, "tokens is empty"),
        ({"tokens": ["a", "b", "a"]}, "tokens must be distinct, but 'a'"),
        ({"tokens": ["a"], "eos": "."}, r"eos='\.'"),
    ],
)
def test_a_wrong_vocabulary_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vocabulary(**arguments)


def test_encoding_an_unknown_token_names_it() -> None:
    with pytest.raises(ValueError, match="'z', which is not in this vocabulary of 3"):
        Vocabulary("abc").encode(["a", "z"])


def test_what_is_not_in_the_vocabulary_is_the_unknown_token() -> None:
    vocabulary = Vocabulary(["a", "<unk>", "b"], unknown="<unk>")
    assert vocabulary.encode(["b", "z", "<unk>"]).tolist() == [2, 1, 1]
    assert vocabulary.unknown_token == 1
    assert vocabulary.decode([0, 1]) == "a <unk>"
    assert Vocabulary("ab").unknown_token is None
    with pytest.raises(ValueError, match="unknown='<unk>' is not one of the 2 tokens"):
        Vocabulary("ab", unknown="<unk>")


@pytest.mark.parametrize(
    ("tokens", "separator", "replace", "text"),
    [
        (["Yes", "(‿", "no", "‿)", "‿."], " ", [(" ‿", ""), ("‿ ", "")], "Yes (no)."),
        (["‿.", "Yes", "(‿"], " ", [(" ‿", ""), ("‿ ", "")], ". Yes ("),
        (["▁the", "▁cat", "s", "▁"], "", [("▁", " ")], "the cats"),
        (["a", "b"], "", [], "ab"),
    ],
)
def test_decode_replaces_the_marks_of_attached_tokens(
    tokens: list[str], separator: str, replace: list[tuple[str, str]], text: str
) -> None:
    vocabulary = Vocabulary(tokens, separator=separator, replace=replace)
    assert vocabulary.decode(range(len(tokens))) == text


def test_a_vocabulary_comes_back_from_its_state_and_json() -> None:
    vocabulary = Vocabulary(
        ["‿.", "é", "<unk>", "<eos>"], "<eos>", unknown="<unk>", replace=[(" ‿", "")], tokenizer='{"model": 1}'
    )
    again = Vocabulary.from_state(json.loads(json.dumps(vocabulary.state())))
    assert vars(again) == vars(vocabulary)
    assert again.decode([1, 0, 3]) == "é."
    plain = Vocabulary("ab", separator="")
    assert vars(Vocabulary.from_state(plain.state())) == vars(plain)


@pytest.mark.parametrize("state", [{}, {"tokens": None}, Vocabulary("ab").state() | {"replace": 3}])
def test_the_state_of_something_else_is_refused(state: dict) -> None:
    with pytest.raises(ValueError, match="not the state of a vocabulary"):
        Vocabulary.from_state(state)
