"""`tasks.segmentation`: lines to tokens and back."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqgan_env.corpora.corpus import CorpusError
from seqgan_env.corpora.segmentation import Segmentation, choose_segmentation, train_tokenizer
from seqgan_env.vocabulary import Vocabulary

CHARACTERS = Segmentation("character", False, "")
WORDS = Segmentation("word", False, "")
WORDS_AND_MARKS = Segmentation("word", True, "")


def tokens_of(segmentation: Segmentation, line: str) -> list[str]:
    return [token for field in segmentation.fields(line) for token in segmentation.pieces(field)]


def text_again(segmentation: Segmentation, tokens: list[str]) -> str:
    vocabulary = Vocabulary(sorted(set(tokens)), separator=segmentation.separator, replace=segmentation.replace)
    return vocabulary.decode(vocabulary.encode(tokens).tolist())


@pytest.mark.parametrize(
    ("segmentation", "line", "tokens"),
    [
        (CHARACTERS, "ab c", ["a", "b", " ", "c"]),
        (CHARACTERS, "e\u0301a", ["e\u0301", "a"]),
        (CHARACTERS, "👩‍👩‍👧👍🏽🇫🇷🇩🇪", ["👩‍👩‍👧", "👍🏽", "🇫🇷", "🇩🇪"]),
        (CHARACTERS, "नमस्ते", ["न", "म", "स्ते"]),
        (CHARACTERS, "床前", ["床", "前"]),
        (WORDS, " Yes,  sir.\t", ["Yes,", "sir."]),
        (WORDS_AND_MARKS, "Yes (or no).", ["Yes", "(‿", "or", "no", "‿)", "‿."]),
        (WORDS_AND_MARKS, 'He said "No!"', ["He", "said", '"‿', "No", "‿!", '‿"']),
        (WORDS_AND_MARKS, "don't well-known 3.14 1,000", ["don't", "well-known", "3.14", "1,000"]),
        (WORDS_AND_MARKS, "a/b - c", ["a", "‿/‿", "b", "-", "c"]),
        (WORDS_AND_MARKS, "an <unk> .", ["an", "<unk>", "."]),
        (WORDS_AND_MARKS, "ok👍🏽", ["ok", "‿👍🏽"]),
    ],
)
def test_a_line_becomes_these_tokens(segmentation: Segmentation, line: str, tokens: list[str]) -> None:
    assert tokens_of(segmentation, line) == tokens


@given(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="‿") | st.sampled_from(" .,()'\"-#"), min_size=1
    ),
    st.sampled_from([CHARACTERS, WORDS, WORDS_AND_MARKS]),
)
def test_tokens_give_the_text_back(line: str, segmentation: Segmentation) -> None:
    tokens = tokens_of(segmentation, line)
    if tokens:
        expected = line if segmentation is CHARACTERS else " ".join(line.split())
        assert text_again(segmentation, tokens) == expected
    assert all(tokens)


@pytest.mark.parametrize(
    ("lines", "unit", "reason"),
    [
        (["山 高 水 长", "月 落 乌 啼"], "word", "words between spaces; auto: 100% of the lines have spaces"),
        (["床前明月光", "疑是地上霜"], "character", "only 0% of the lines have spaces"),
        (["床前明月光 疑是地上霜", "举头望明月 低头思故乡"], "character", "a script without spaces"),
        (["我们 喜欢 学习", "他们 不 喜欢"], "word", "100%"),
        (["Anna", "Bob"], "character", "only 0%"),
        (["60 62 64", "65 67 69"], "word", "words between spaces"),
        (["A man rides, alone.", "Two dogs."], "word", "words and punctuation marks"),
        (["a man , riding alone .", "two dogs ."], "word", "words between spaces"),
        (["name " + "ACGT" * 100], "character", "202 characters from space to space"),
    ],
)
def test_auto_chooses_what_fits_and_says_why(lines: list[str], unit: str, reason: str) -> None:
    segmentation = choose_segmentation(lines)
    assert segmentation.unit == unit
    assert reason in segmentation.description


def test_what_is_asked_for_is_done() -> None:
    lines = ["Yes, sir.", "No, sir."]
    assert choose_segmentation(lines, "character").description == "characters (grapheme clusters)"
    assert choose_segmentation(lines, "word", "keep").splits_punctuation is False
    assert choose_segmentation(["yes sir"], "word", "split").splits_punctuation is True


def test_subwords_give_the_text_back_and_are_learned_the_same_way_twice() -> None:
    pytest.importorskip("tokenizers")
    lines = ["the cat sat on the mat.", "the dog sat on the log.", "catalogue, 猫 é"] * 3
    tokenizer = train_tokenizer(lines, 60)
    assert tokenizer.get_vocab_size() <= 60
    assert tokenizer.to_str() == train_tokenizer(iter(lines), 60).to_str()
    segmentation = choose_segmentation(lines, "subword")
    for line in lines:
        assert text_again(segmentation, tokenizer.encode(line).tokens) == line
    assert tokenizer.encode("the").tokens == ["▁the"]


def test_at_most_half_of_the_subwords_are_characters() -> None:
    pytest.importorskip("tokenizers")
    lines = ["".join(chr(0x4E00 + number % 97) for number in range(start, start + 9)) for start in range(97)]
    tokenizer = train_tokenizer(lines, 40)
    assert tokenizer.get_vocab_size() == 40
    assert "<unk>" in tokenizer.encode(lines[0]).tokens


def test_nothing_to_learn_subwords_from_is_told() -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(CorpusError, match="nothing to learn subwords from"):
        train_tokenizer([], 10)


def test_subwords_without_their_library_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"seqgan-gym\[text\]"):
        train_tokenizer(["a"], 10)
