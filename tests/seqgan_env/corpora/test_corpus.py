"""`tasks.corpus`: files, splits and the table that is told before training."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seqgan_env.corpora.corpus import (
    CorpusError,
    CorpusStatistics,
    corpus_files,
    draw_parts,
    repeated_within,
    resolve_duplicates,
)

SPLITS = ("train", "validation", "test")


def distinct(count: int) -> list[tuple[str, ...]]:
    return [(str(number),) for number in range(count)]


def split(
    sequences: list[tuple[str, ...]], groups: list[int] | None = None, duplicates: str = "drop", **choices: Any
) -> dict[str, list[int]]:
    """The rows of each split, as the tasks make them: drawn in groups, then without duplicates."""
    first: dict[tuple[str, ...], int] = {}
    keys = np.array([first.setdefault(sequence, row) for row, sequence in enumerate(sequences)], np.int64)
    group_of = np.arange(len(keys)) if groups is None else np.array(groups)
    parts = draw_parts(group_of, **{"validation": 0.1, "test": 0.1, "seed": 0} | choices)
    return {name: rows.tolist() for name, rows in resolve_duplicates(keys, parts, duplicates)[0].items()}


# --- the split -------------------------------------------------------------------------------------------------------


def test_a_seed_means_the_same_split_for_ever() -> None:
    assert split(distinct(10), seed=0) == {
        "train": [0, 1, 3, 4, 5, 6, 7, 9],
        "validation": [8],
        "test": [2],
    }
    assert split(distinct(10), seed=1) != split(distinct(10), seed=0)


@given(
    count=st.integers(3, 60),
    group_size=st.integers(1, 7),
    validation=st.floats(0.01, 0.45),
    test=st.floats(0.01, 0.45),
    seed=st.integers(0, 2**32 - 1),
    kinds=st.integers(1, 60),
)
@example(count=4, group_size=1, validation=0.375, test=0.375, seed=0, kinds=1)  # two times two for the held-out splits
def test_every_split_has_sequences_no_group_straddles_two_and_all_is_used_once(
    count: int, group_size: int, validation: float, test: float, seed: int, kinds: int
) -> None:
    sequences = [(str(number % kinds),) for number in range(count)]
    groups = [number // group_size for number in range(count)]
    arguments = {"validation": validation, "test": test, "seed": seed, "duplicates": "keep"}
    if len(set(groups)) < 3:
        with pytest.raises(CorpusError, match="would be empty"):
            split(sequences, groups, **arguments)
        return
    parts = split(sequences, groups, **arguments)
    assert all(parts.values())
    assert sorted(row for rows in parts.values() for row in rows) == list(range(count))
    assert all(rows == sorted(rows) for rows in parts.values())
    split_of = {row: split for split, rows in parts.items() for row in rows}
    assert all(split_of[row] == split_of[group_size * groups[row]] for row in range(count))


def test_shares_are_those_asked_for() -> None:
    parts = split(distinct(1000), validation=0.05, test=0.2)
    assert [len(parts[split]) for split in SPLITS] == [750, 50, 200]


def test_a_group_that_is_larger_than_a_share_goes_to_training() -> None:
    groups = [0] * 90 + list(range(1, 11))
    for seed in range(20):
        parts = split(distinct(100), groups, validation=0.05, test=0.05, seed=seed)
        assert [len(parts[split]) for split in SPLITS] == [90, 5, 5]


def test_a_test_set_of_its_own_stays_whole() -> None:
    parts = split(distinct(30), first_test=20, validation=0.25)
    assert parts["test"] == list(range(20, 30))
    assert len(parts["validation"]) == 5
    assert max(parts["train"] + parts["validation"]) == 19


def test_sets_of_their_own_stay_whole_and_the_rest_is_drawn_as_without_them() -> None:
    shares = {"validation": 0.25, "test": 0.25, "seed": 5}
    both = draw_parts(np.arange(30), first_validation=20, first_test=25, **shares)
    assert [both[split].tolist() for split in SPLITS] == [list(range(20)), list(range(20, 25)), list(range(25, 30))]
    one = draw_parts(np.arange(25), first_validation=20, **shares)
    assert one["validation"].tolist() == list(range(20, 25))
    assert len(one["test"]) == 5
    assert sorted([*one["train"], *one["test"]]) == list(range(20))
    with pytest.raises(CorpusError, match="the validation split would be empty"):
        draw_parts(np.arange(25), first_validation=25, first_test=25, **shares)


def test_a_held_out_sequence_that_is_also_in_train_is_dropped_kept_or_an_error() -> None:
    sequences = [*distinct(8), ("1",), ("x",), ("1",), ("x",)]  # from 8 on the test set
    choices = {"first_test": 8, "validation": 0.2, "seed": 3}
    kept = split(sequences, duplicates="keep", **choices)
    assert kept["test"] == [8, 9, 10, 11]
    dropped = split(sequences, duplicates="drop", **choices)
    assert dropped == {**kept, "test": [9, 11]}  # what repeats within the test set stays
    with pytest.raises(CorpusError, match=r"2 held-out sequences .* \(the first is sequence 9\)"):
        split(sequences, duplicates="error", **choices)


def test_shared_and_repeated_sequences_are_counted() -> None:
    keys = np.array([1, 1, 2, 2, 3, 1, 3, 4])
    parts = {"train": np.array([0, 1, 2]), "validation": np.array([3, 4]), "test": np.array([5, 6, 7])}
    resolved, shared = resolve_duplicates(keys, parts, "drop")
    assert shared == 3
    assert {split: rows.tolist() for split, rows in resolved.items()} == {
        "train": [0, 1, 2],
        "validation": [4],
        "test": [7],
    }
    assert repeated_within(keys, parts) == 1


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_sequences_cannot_be_split(count: int) -> None:
    with pytest.raises(CorpusError, match="split would be empty"):
        split(distinct(count))


def test_one_sequence_over_and_over_is_told_with_the_remedy() -> None:
    with pytest.raises(CorpusError, match=r'validation split would be empty .* choose duplicates="keep"'):
        split([("a",)] * 50)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"validation": 0.0}, r"validation=0\.0 must lie between"),
        ({"test": 1.0}, r"test=1\.0 must lie between"),
        ({"test": float("nan")}, r"test=nan must lie between"),
        ({"validation": 0.5, "test": 0.5}, "leave nothing to train on"),
        ({"seed": -1}, "seed=-1"),
        ({"duplicates": "merge"}, "duplicates='merge' must be one of"),
    ],
)
def test_a_wrong_argument_of_the_split_is_refused_by_name(keywords: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split(distinct(10), **keywords)


def test_a_million_sequences_are_split_in_arrays() -> None:
    parts = draw_parts(np.arange(1_000_000), validation=0.1, test=0.1, seed=0)
    assert [len(parts[split]) for split in SPLITS] == [800_000, 100_000, 100_000]
    assert isinstance(parts["train"], np.ndarray)


# --- files -----------------------------------------------------------------------------------------------------------


def test_the_files_of_a_folder_come_by_name_and_by_suffix(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("z.txt", "a.TXT", "b/c.txt", "b/d.md", ".hidden.txt"):
        (tmp_path / name).write_text("x")
    found = corpus_files(tmp_path, (".txt",))
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a.TXT", "b/c.txt", "z.txt"]


def test_a_single_file_may_have_any_suffix(tmp_path: Path) -> None:
    file = tmp_path / "poems"
    file.write_text("x")
    assert corpus_files(file, (".txt",)) == [file]


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "a.txt").write_text("x")
    (inner / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    assert corpus_files(tmp_path, (".txt",)) == [inner / "a.txt"]


def test_a_folder_that_is_linked_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("x")
    (tmp_path / "again").symlink_to(tmp_path / "real", target_is_directory=True)
    assert len(corpus_files(tmp_path, (".txt",))) == 1


def test_a_folder_without_such_files_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("x")
    with pytest.raises(CorpusError, match=r"no \.txt, \.text file in this folder of 1 files"):
        corpus_files(tmp_path, (".txt", ".text"))


@pytest.mark.parametrize("path", ["no/such/file", "", "a\0b"])
def test_a_path_that_leads_nowhere_is_told(tmp_path: Path, path: str) -> None:
    with pytest.raises(CorpusError, match=r"no such file|no \.txt"):
        corpus_files(tmp_path / path, (".txt",))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_corpus_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorpusError, match="no such file or folder"):
        corpus_files(tmp_path / "pipe", (".txt",))


# --- what is told ----------------------------------------------------------------------------------------------------


def test_an_error_names_its_place() -> None:
    error = CorpusError("no good", Path("a.txt"), line=3, byte=17)
    assert str(error) == "a.txt, line 3, byte 17: no good"
    assert (error.source, error.line, error.byte) == (Path("a.txt"), 3, 17)
    assert str(CorpusError("no good")) == "no good"
    assert isinstance(error, ValueError)


def test_statistics_survive_json_and_make_a_table() -> None:
    statistics = CorpusStatistics(
        source="a.txt",
        unit="words",
        sequences={"train": 8000, "validation": 10, "test": 9},
        vocab_size=1234,
        sequence_length=20,
        tokens=80_190,
        length_min=3,
        length_median=9.5,
        length_mean=10.0,
        length_max=20,
        unknown_rate={"train": 0.0, "validation": 0.01, "test": 0.0212},
        shared=1,
        too_long=7,
        too_long_choice="cut",
        skipped=2,
    )
    assert CorpusStatistics(**json.loads(json.dumps(dataclasses.asdict(statistics)))) == statistics
    table = dict(statistics.lines())
    assert table["sequences"] == "train 8,000, validation 10, test 9"
    assert table["unknown tokens"] == "train 0.00%, validation 1.00%, test 2.12%"
    assert table["lengths"] == "3 to 20, median 9.5, mean 10.0"
    assert table["held out, also in train"] == "1 dropped"
    assert table["longer than T"] == "7 cut"
    assert table["empty, skipped"] == "2"
    assert table["repeated in a split"] == "0"
