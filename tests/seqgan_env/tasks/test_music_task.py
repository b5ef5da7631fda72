"""`tasks.tunes` and `tasks.music`: from MIDI, ABC and text to windows of pitches, and what a broken file does."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import struct
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import seqgan_env  # noqa: F401  (registers the environments)
from seqgan_env.corpora import tunes
from seqgan_env.corpora.corpus import CorpusError
from seqgan_env.corpora.tunes import (
    HOLD,
    REST,
    Grid,
    name_symbol,
    read_tunes,
    symbol_name,
    without_holds,
    without_rests,
)
from seqgan_env.envs import MusicVectorEnv
from seqgan_env.tasks.music import BUNDLED_TUNES, PRESETS, MusicOptions, music_task, pitches
from seqgan_env.tasks.task import Task
from seqgan_env.testing import check_task
from tests.marks import examples

CROTCHET = 480
QUAVERS = Grid(0.5, in_beats=True)


def variable_length(number: int) -> bytes:
    out = bytes([number & 0x7F])
    while number := number >> 7:
        out = bytes([number & 0x7F | 0x80]) + out
    return out


def midi(
    notes: Sequence[tuple[int, int, int]] = (),
    *,
    channel: int = 0,
    tempos: Sequence[tuple[int, int]] = (),
    division: int = CROTCHET,
) -> bytes:
    """A MIDI file of one track. notes: (first tick, ticks, MIDI note); tempos: (tick, microseconds per crotchet)."""
    events = [(at, 0, bytes([0xFF, 0x51, 3]) + value.to_bytes(3, "big")) for at, value in tempos]
    events += [(start, 2, bytes([0x90 | channel, note, 64])) for start, _, note in notes]
    events += [(start + ticks, 1, bytes([0x80 | channel, note, 64])) for start, ticks, note in notes]
    track, before = b"", 0
    for at, _, message in sorted(events):
        track += variable_length(at - before) + message
        before = at
    track += b"\x00\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, division) + b"MTrk" + struct.pack(">I", len(track)) + track


def scale(count: int, first: int = 60, ticks: int = CROTCHET // 2) -> list[tuple[int, int, int]]:
    """So many notes one after another, a semitone apart, each a quaver."""
    return [(step * ticks, ticks, first + step) for step in range(count)]


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def names(path: Path, grid: Grid) -> list[list[str]]:
    return [[symbol_name(symbol) for symbol in tune.symbols.tolist()] for tune in read_tunes(path, grid)[0]]


def text_corpus(folder: Path, tune_count: int = 12, length: int = 8) -> Path:
    """A text of tunes, tune i on keys 20 + i and 21 + i."""
    lines = [" ".join(str(20 + i + step % 2) for step in range(length)) for i in range(tune_count)]
    return write(folder, "tunes.txt", "\n".join(lines))


def everything(task: Task) -> list[list[int]]:
    return [row for split in ("train", "validation", "test") for row in task.real_sequences(split).tolist()]


# --- names and symbols -----------------------------------------------------------------------------------------------


def test_keys_are_named_as_on_the_piano() -> None:
    assert [symbol_name(key) for key in (1, 4, 40, 49, 88)] == ["A0", "C1", "C4", "A4", "C8"]
    assert [name_symbol(name) for name in ("A0", "C4", "Bb3", "A#3", "c5", "49", "rest", "hold")] == [
        *(1, 40, 38, 38, 52, 49, REST, HOLD)
    ]
    assert [name_symbol(symbol_name(symbol)) for symbol in range(HOLD, 89)] == list(range(HOLD, 89))


@pytest.mark.parametrize("name", ["0", "89", "H4", "C9", "A-1", "4.0", "", "C", "²", "rests", "٣"])
def test_what_is_not_on_the_piano_has_no_symbol(name: str) -> None:
    with pytest.raises(ValueError, match=r"is not a key 1\.\.88"):
        name_symbol(name)


def test_rests_prolong_and_holds_repeat_the_note_before() -> None:
    symbols = np.array([REST, 40, HOLD, REST, REST, 42, REST])
    assert without_rests(symbols).tolist() == [40, HOLD, HOLD, HOLD, 42, HOLD]
    assert without_holds(symbols).tolist() == [REST, 40, 40, REST, REST, 42, REST]
    assert without_holds(without_rests(symbols)).tolist() == [40, 40, 40, 40, 42, 42]
    assert without_rests(np.array([REST, REST])).tolist() == []


# --- the grid --------------------------------------------------------------------------------------------------------


def test_a_midi_file_without_tempo_is_sampled_at_120_crotchets_a_minute(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    path = write(tmp_path, "a.mid", midi([(0, 480, 60), (480, 480, 62), (960, 480, 64)]))
    assert names(path, Grid(0.5)) == [["C4", "D4", "E4"]]
    assert names(path, Grid(0.25)) == [["C4", "hold", "D4", "hold", "E4", "hold"]]
    # 0, 0.4, 0.8, 1.2 s in notes of 0.5 s
    assert names(path, Grid(0.4)) == [["C4", "hold", "D4", "E4"]]


def test_seconds_follow_the_tempo_and_beats_do_not(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    tempos = [(0, 1_000_000), (480, 250_000)]  # a crotchet of 1 s, then those of 0.25 s
    path = write(tmp_path, "a.mid", midi([(0, 480, 60), (480, 480, 62), (960, 960, 64)], tempos=tempos))
    assert names(path, Grid(0.25)) == [["C4", "hold", "hold", "hold", "D4", "E4", "hold"]]
    assert names(path, Grid(1.0, in_beats=True)) == [["C4", "D4", "E4", "hold"]]


def test_a_tempo_at_the_start_replaces_the_default_whether_slower_or_faster(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    steps = [
        len(names(write(tmp_path, "a.mid", midi([(0, 960, 60)], tempos=[(0, value)])), Grid(0.25))[0])
        for value in (250_000, 500_000, 1_000_000)
    ]
    assert steps == [2, 4, 8]


def test_silence_is_a_rest_and_a_repeated_note_is_struck_again(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    path = write(tmp_path, "a.mid", midi([(480, 240, 60), (720, 240, 60), (1200, 480, 62)]))
    assert names(path, QUAVERS) == [["C4", "C4", "rest", "D4", "hold"]]
    from_start = Grid(0.5, in_beats=True, from_first_note=False)
    assert names(path, from_start) == [["rest", "rest", "C4", "C4", "rest", "D4", "hold"]]


def test_of_several_notes_the_highest_is_taken_and_the_steps_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    path = write(tmp_path, "a.mid", midi([(0, 960, 60), (240, 240, 67), (240, 240, 64), (480, 240, 60)]))
    (tune,) = read_tunes(path, QUAVERS)[0]
    assert [symbol_name(symbol) for symbol in tune.symbols.tolist()][:2] == ["C4", "G4"]
    assert (tune.polyphonic_steps, tune.notes) == (1, 4)  # two notes of one pitch are no polyphony


def test_notes_between_two_steps_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    path = write(tmp_path, "a.mid", midi([(0, 240, 60), (240, 240, 61), (480, 480, 62)]))
    (tune,) = read_tunes(path, Grid(1.0, in_beats=True))[0]
    assert [symbol_name(symbol) for symbol in tune.symbols.tolist()] == ["C4", "D4"]
    assert (tune.notes, tune.missed_notes) == (3, 1)


def test_percussion_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    one, two = midi(scale(2)), midi([(0, 960, 90)], channel=9)
    tracks = b"".join(data[data.index(b"MTrk") :] for data in (one, two))
    both = b"MThd" + struct.pack(">IHHH", 6, 1, 2, CROTCHET) + tracks
    assert names(write(tmp_path, "a.mid", both), QUAVERS) == [["C4", "C#4"]]


def test_abc_is_read_with_key_repeats_tempo_and_ties(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    abc = 'X:7\nT:t\nM:4/4\nL:1/8\nQ:1/4=60\nK:G\n|:"G7"f2 =f- f|z [Bdg]:|\n\nX:8\nT:u\nK:C\nL:1/4\nC\n'
    path = write(tmp_path, "a.abc", abc)
    once = ["F#5", "hold", "F5", "hold", "rest", "G5"]
    first, second = names(path, QUAVERS)
    assert first == once + once  # the chord symbol makes no notes
    assert second == ["C4", "hold"]
    assert len(names(path, Grid(0.5))[0]) == 12  # at 60 crotchets a minute a quaver lasts 0.5 s
    assert read_tunes(path, QUAVERS)[0][0].polyphonic_steps == 2


def test_text_holds_keys_and_names(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "\ufeff40 C#4 Db4\r\n\n% a comment\nA4 hold rest 88\n")
    assert names(path, QUAVERS) == [["C4", "C#4", "C#4"], ["A4", "hold", "rest", "C8"]]


# --- options and statistics ------------------------------------------------------------------------------------------


def test_the_paper_preset_is_its_recipe() -> None:
    paper = PRESETS["paper"]
    assert (paper.sequence_length, paper.step_seconds, paper.step_beats, paper.keys) == (32, 0.4, None, "all")
    assert (paper.rests, paper.holds, paper.remainder) == ("prolong", False, "drop")
    task = paper.task()
    assert (task.vocab_size, task.sequence_length, task.eos_token) == (88, 32, None)
    assert task.vocabulary.tokens[::12] == ("A0", "A1", "A2", "A3", "A4", "A5", "A6", "A7")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_a_task_that_is_one(preset: str) -> None:
    check_task(PRESETS[preset].task())


def test_windows_are_consecutive_and_the_remainder_is_counted(tmp_path: Path) -> None:
    corpus = text_corpus(tmp_path, 12, 8)
    task = music_task(corpus, sequence_length=3)
    assert sorted(everything(task)) == sorted([row for i in range(12) for row in ([i, i + 1, i], [i + 1, i, i + 1])])
    assert (task.statistics.remainder_steps, task.statistics.short_tunes, task.eos_token) == (24, 0, None)
    assert task.vocabulary.tokens == tuple(symbol_name(20 + i) for i in range(13))


def test_a_kept_remainder_ends_with_eos_and_pad(tmp_path: Path) -> None:
    task = music_task(text_corpus(tmp_path, 12, 8), sequence_length=5, remainder="keep")
    assert task.vocabulary.tokens[-1] == "<eos>"
    eos, pad = task.eos_token, task.pad_token
    assert (eos, pad) == (13, 14)
    rows = everything(task)
    assert [0, 1, 0, 1, 0] in rows
    assert [1, 0, 1, eos, pad] in rows
    assert len(rows) == 24
    assert (task.statistics.length_min, task.statistics.length_max) == (3, 5)
    check_task(task)


def test_a_tune_never_stands_in_two_splits(tmp_path: Path) -> None:
    task = music_task(text_corpus(tmp_path, 30, 40), sequence_length=4, duplicates="keep", validation=0.2, test=0.2)
    of_split = {split: {row[0] for row in task.real_sequences(split).tolist()} for split in ("train", "validation")}
    of_split["test"] = {row[0] for row in task.real_sequences("test").tolist()}
    assert sorted(tune for found in of_split.values() for tune in found) == list(range(30))
    assert task.statistics.sequences == {"train": 180, "validation": 60, "test": 60}
    again = music_task(tmp_path / "tunes.txt", sequence_length=4, duplicates="keep", split_seed=1, test=0.2)
    assert {row[0] for row in again.real_sequences("test").tolist()} != of_split["test"]


def test_train_validation_and_test_files_are_the_splits(tmp_path: Path) -> None:
    train = text_corpus(tmp_path, 12, 8)
    held_out = {
        split: str(write(tmp_path, f"{split}.txt", line))
        for split, line in (("validation", "60 " * 4), ("test", "9 " * 4))
    }
    task = music_task(train, sequence_length=4, validation_corpus=held_out["validation"], test_corpus=held_out["test"])
    assert task.statistics.sequences == {"train": 24, "validation": 1, "test": 1}
    assert task.vocabulary.decode(task.real_sequences("validation")[0]) == "G#5 G#5 G#5 G#5"
    one = music_task(train, sequence_length=4, validation_corpus=held_out["validation"], duplicates="keep")
    assert one.statistics.sequences["validation"] == 1
    assert one.statistics.sequences["train"] + one.statistics.sequences["test"] == 24
    several = music_task(f"{tmp_path}/t*s.txt,{held_out['test']}", sequence_length=4, duplicates="keep")
    assert (several.statistics.tunes, sum(several.statistics.sequences.values())) == (13, 25)
    assert several.statistics.source.endswith("(2 files)")


@pytest.mark.parametrize(("name", "words"), [("a.musicxml", "mscore"), ("a.mscz", "mscore"), ("a.mp3", "recording")])
def test_another_format_of_music_is_refused_with_the_way_to_convert_it(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(CorpusError, match=rf"{name}: .*{words}"):
        music_task(write(tmp_path, name, "<score/>"))


def test_a_test_corpus_is_the_test_split(tmp_path: Path) -> None:
    test = write(tmp_path, "test.txt", "60 60 60 60\n70 70 70 70")
    task = music_task(text_corpus(tmp_path, 12, 8), sequence_length=4, test_corpus=str(test))
    assert [task.vocabulary.decode(row) for row in task.real_sequences("test")] == [
        "G#5 G#5 G#5 G#5",
        "F#6 F#6 F#6 F#6",
    ]
    assert task.statistics.unseen_rate == 1.0
    assert ("test tokens not in train", "100.00%") in task.statistics.lines()


def test_held_out_windows_that_are_in_train_are_dropped_and_counted(tmp_path: Path) -> None:
    corpus = write(tmp_path, "a.txt", "\n".join(["40 41 42 43"] * 5 + [f"{key} 41 42 43" for key in range(44, 60)]))
    dropped = music_task(corpus, sequence_length=4, validation=0.3, test=0.3)
    kept = music_task(corpus, sequence_length=4, validation=0.3, test=0.3, duplicates="keep")
    assert dropped.statistics.shared == kept.statistics.shared > 0
    assert sum(kept.statistics.sequences.values()) == 21
    assert sum(dropped.statistics.sequences.values()) == 21 - dropped.statistics.shared
    with pytest.raises(CorpusError, match="also occur in an earlier split"):
        music_task(corpus, sequence_length=4, validation=0.3, test=0.3, duplicates="error")


def test_rests_and_holds_are_tokens_where_asked_for(tmp_path: Path) -> None:
    line = "40 hold rest 42 hold hold rest rest"
    corpus = write(tmp_path, "a.txt", "\n".join([line] * 3))
    vocabulary = {
        (rests, holds): music_task(
            corpus, sequence_length=4, rests=rests, holds=holds, duplicates="keep", validation=0.3, test=0.3
        )
        for rests in ("prolong", "token")
        for holds in (False, True)
    }
    rows = {key: task.vocabulary.decode(task.real_sequences("test")[0]) for key, task in vocabulary.items()}
    ends = {key: task.vocabulary.decode(task.real_sequences("test")[1]) for key, task in vocabulary.items()}
    assert rows == {
        ("prolong", False): "C4 C4 C4 D4",
        ("prolong", True): "C4 hold hold D4",
        ("token", False): "C4 C4 rest D4",
        ("token", True): "C4 hold rest D4",
    }
    assert ends[("token", True)] == "D4 hold rest rest"  # a window that begins within a note strikes it
    assert ends[("token", False)] == "D4 D4 rest rest"


def test_pitches_are_midi_notes_where_a_token_has_one() -> None:
    task = music_task(rests="token", holds=True, remainder="keep")
    found = dict(zip(task.vocabulary.tokens, pitches(task.vocabulary), strict=True))
    assert (found["C4"], found["A4"]) == (60.0, 69.0)
    assert all(np.isnan(found[name]) for name in ("rest", "hold", "<eos>"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rests": "keep"}, ValueError, "rests='keep' must be one of"),
        ({"polyphony": "lowest"}, ValueError, "polyphony='lowest'"),
        ({"remainder": "pad"}, ValueError, "remainder='pad'"),
        ({"keys": "some"}, ValueError, "keys='some'"),
        ({"broken": "no"}, ValueError, "broken='no'"),
        ({"duplicates": "no"}, ValueError, "duplicates='no'"),
        ({"sequence_length": 0}, ValueError, "sequence_length=0"),
        ({"sequence_length": 3.0}, TypeError, "sequence_length=3.0"),
        ({"step_seconds": 0.0}, ValueError, "step_seconds=0.0"),
        ({"step_seconds": float("nan")}, ValueError, "step_seconds=nan"),
        ({"step_beats": 100.0}, ValueError, "step_beats=100.0"),
        ({"tempo": 3}, TypeError, "tempo"),
    ],
)
def test_an_impossible_option_is_refused_by_name(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        music_task(**options)


# --- files that are wrong --------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[bytes, str]] = {
    "empty.mid": (b"", "is empty"),
    "blank.abc": (b" \n\n", "is empty"),
    "cut.mid": (midi(scale(9))[:40], "is not a MIDI file that can be read"),
    "text.mid": (b"hello", "is not a MIDI file that can be read"),
    "silent.mid": (midi(), "no note that lasts"),
    "instant.mid": (midi([(0, 0, 60)]), "no note that lasts"),
    "drums.mid": (midi(scale(4), channel=9), r"only percussion \(4 notes\)"),
    "low.mid": (midi([(0, 480, 20)]), "MIDI note 20, which is not one of the piano's"),
    "high.mid": (midi([(0, 480, 109)]), "MIDI note 109"),
    "endless.mid": (midi([(0, (1 << 28) - 1, 60)], division=1), "steps, more than 1,000,000"),
    "overflowing.mid": (
        midi([(step << 27, 1 << 27, 60) for step in range(20)]),
        "overflow|lasts|cannot be read|can be read",
    ),
    "prose.abc": (b"just some words\n", "no line begins with X:"),
    "rests.abc": (b"X:1\nT:t\nK:C\nz4 z4|\n", "none of its 1 ABC tunes can be used"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, name: str) -> None:
    pytest.importorskip("symusic")
    content, message = BROKEN[name]
    with pytest.raises(CorpusError, match=message) as caught:
        music_task(write(tmp_path, name, content))
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"40 41\n42 X9", "a.txt, line 2: 'X9' is not a key"),
        (b"40 41\nhold 42", "a.txt, line 2: a tune cannot begin with 'hold'"),
        (b"40 41\n42 \xff", "a.txt, line 2, byte 9: is not UTF-8"),
        (b"% nothing\n\n", "a.txt: holds no tune"),
        (b"40 41 42", "none of 1 tunes gives a sequence of T = 32 steps"),
        (b"40 " * 32, "split would be empty"),
    ],
)
def test_a_text_that_cannot_be_used_names_line_and_byte(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        music_task(write(tmp_path, "a.txt", content))


def test_a_path_that_is_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"missing\.mid: no such file"):
        music_task(tmp_path / "missing.mid")


def mixed_folder(folder: Path) -> Path:
    for number in range(4):
        write(folder, f"sub/good{number}.MID", midi(scale(8, 50 + number)))
    write(folder, "bad.mid", b"MThd")
    write(folder, "tunes.abc", "X:1\nT:t\nL:1/8\nK:C\nCDEF GABc|\n\nX:2\nT:u\nK:C\nz|\n")
    write(folder, "readme.txt", "not music")
    return folder


def test_a_folder_with_good_and_bad_files_is_read_and_the_bad_ones_are_named(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    task = music_task(mixed_folder(tmp_path), sequence_length=8, step_beats=0.5, validation=0.2, test=0.2)
    statistics = task.statistics
    assert statistics.tunes == 5
    assert sum(statistics.sequences.values()) == 5
    assert [Path(reason.split(":")[0]).name.split(",")[0] for reason in statistics.broken] == ["bad.mid", "tunes.abc"]
    printed = dict(statistics.lines())
    assert printed["broken, skipped"] == "2"
    assert "bad.mid" in printed["  1"]
    assert "tune 2 (X:2)" in printed["  2"]
    assert json.loads(json.dumps(dataclasses.asdict(statistics)))["broken"] == list(statistics.broken)
    with pytest.raises(CorpusError, match=r"bad\.mid"):
        music_task(tmp_path, broken="error")


def test_a_folder_of_bad_files_alone_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    write(tmp_path, "a.mid", b"MThd")
    write(tmp_path, "b.mid", b"")
    with pytest.raises(CorpusError, match=r"none of 2 files can be used; the first: .*a\.mid"):
        music_task(tmp_path)


def test_polyphony_is_taken_dropped_or_refused(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    for number in range(5):
        write(tmp_path, f"{number}.mid", midi(scale(4, 60 + number)))
    write(tmp_path, "chord.mid", midi([*scale(4, 70), (0, 480, 40)]))
    options: dict[str, Any] = {"sequence_length": 4, "step_beats": 0.5, "validation": 0.2, "test": 0.2}
    highest, dropped = (music_task(tmp_path, polyphony=choice, **options) for choice in ("highest", "drop"))
    assert [sum(task.statistics.sequences.values()) for task in (highest, dropped)] == [6, 5]
    assert all(
        (task.statistics.polyphonic_tunes, task.statistics.polyphonic_steps) == (1, 2) for task in (highest, dropped)
    )
    assert dict(dropped.statistics.lines())["polyphony"] == "2 steps in 1 tunes: dropped"
    assert "A#4" not in dropped.vocabulary.tokens
    assert "E2" not in highest.vocabulary.tokens
    with pytest.raises(CorpusError, match=r"chord\.mid: 2 steps have several notes"):
        music_task(tmp_path, polyphony="error", **options)


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for abc2midi")
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exec sleep 30", "did not end within 0.2 s"),
        ("kill -SEGV $$", "cannot read it"),
        ("echo 'Error in line 3: wrong'", r"cannot read it \(Error in line 3: wrong\)"),
    ],
)
def test_an_abc_reader_that_hangs_or_crashes_costs_one_tune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    pytest.importorskip("symusic")
    monkeypatch.setenv("SYMUSIC_ABC2MIDI", program(tmp_path / "abc2midi", script))
    monkeypatch.setattr(tunes, "ABC2MIDI_SECONDS", 0.2)
    with pytest.raises(CorpusError, match=message):
        read_tunes(write(tmp_path, "a.abc", "X:1\nT:t\nK:C\nCDE|\n"), QUAVERS)


def test_abc_with_errors_that_are_passed_over_is_counted(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    (tune,), errors = read_tunes(write(tmp_path, "a.abc", "X:1\nT:t\nL:1/8\nK:C\nCD@@E][|\n"), QUAVERS)
    assert (tune.repaired, errors) == (True, [])


def test_without_the_library_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "symusic", None)
    for name, content in (("a.mid", midi(scale(3))), ("a.abc", b"X:1\nK:C\nC")):
        with pytest.raises(ImportError, match=r"symusic.*\[music\]"):
            music_task(write(tmp_path, name, content))
    assert music_task(text_corpus(tmp_path), sequence_length=4).vocab_size == 13


def only_our_errors(folder: Path, name: str, content: bytes) -> None:
    """Anything but a CorpusError fails the test."""
    with contextlib.suppress(CorpusError):
        music_task(write(folder, name, content), sequence_length=2, validation=0.4, test=0.4)


@examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from([b"", b"MThd", midi(scale(4))[:22], midi(scale(4))]),
    rest=st.binary(max_size=60),
    flips=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
)
@example(start=midi(scale(64)), rest=b"", flips=[])
def test_whatever_bytes_a_midi_file_has_an_error_is_ours(
    tmp_path: Path, start: bytes, rest: bytes, flips: list[tuple[int, int]]
) -> None:
    pytest.importorskip("symusic")
    content = bytearray(start + rest)
    for place, value in flips:
        if content:
            content[place % len(content)] = value
    only_our_errors(tmp_path, "a.mid", bytes(content))


@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=60),
        st.text("ABCabcdz|:[](){}23/^_=',<>-&~+!%\"\\\n LMKQV", max_size=60).map(
            lambda body: b"X:1\nT:t\nK:C\n" + body.encode()
        ),
    )
)
def test_whatever_bytes_an_abc_file_has_an_error_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    pytest.importorskip("symusic")
    monkeypatch.setattr(tunes, "ABC2MIDI_SECONDS", 0.5)
    only_our_errors(tmp_path, "a.abc", content)


@examples(100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=60), st.text("0123456789 ABC#\n%resthold", max_size=80).map(str.encode)))
def test_whatever_bytes_a_text_has_an_error_is_ours(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("symusic")  # the bytes may be a MIDI file's
    only_our_errors(tmp_path, "a.txt", content)


# --- the bundled tunes -----------------------------------------------------------------------------------------------


def test_the_bundled_text_is_the_bundled_abc_at_every_quaver() -> None:
    pytest.importorskip("symusic")
    from_abc, errors = read_tunes(BUNDLED_TUNES.with_suffix(".abc"), QUAVERS)
    from_text, _ = read_tunes(BUNDLED_TUNES, QUAVERS)
    assert errors == []
    assert not any(tune.repaired or tune.polyphonic_steps for tune in from_abc)
    assert len(from_abc) == len(from_text) == 42
    for one, other in zip(from_abc, from_text, strict=True):
        assert one.symbols.tolist() == other.symbols.tolist(), one.source


def test_the_default_task_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "symusic", None)
    task = music_task()
    assert task.statistics.sequences == {"train": 116, "validation": 15, "test": 15}
    assert (task.vocab_size, task.sequence_length) == (22, 32)
    first = task.vocabulary.decode(task.real_sequences("train")[0])
    assert first.startswith("C4 C4 C4 C4 G4 G4 G4 G4 A4 A4 A4 A4 G4 G4 G4 G4 F4")


# --- the Nottingham tunes, where they are ----------------------------------------------------------------------------


@pytest.fixture
def nottingham(data_folder: Path) -> Path:
    folder = data_folder / "corpora" / "nottingham"
    if not folder.is_dir():
        pytest.skip(f"no Nottingham tunes at {folder}")
    return folder


def test_windows_of_whole_tunes_are_those_that_the_data_folder_has(nottingham: Path) -> None:
    task = music_task(nottingham / "train_tunes.txt", test_corpus=str(nottingham / "test_tunes.txt"), duplicates="keep")
    ours, theirs = (Counter[tuple[int, ...]]() for _ in range(2))
    keys = np.array(pitches(task.vocabulary)) - 20
    for row in everything(task):
        ours[tuple(keys[row].astype(int).tolist())] += 1
    for name in ("train_quaver32.txt", "test_quaver32.txt"):
        for line in (nottingham / name).read_text().splitlines():
            theirs[tuple(map(int, line.split()))] += 1
    assert ours == theirs
    assert sum(ours.values()) == 7_615 + 832


@pytest.mark.slow
def test_abc_tunes_on_our_grid_equal_the_reference_where_accidentals_are_read_alike(
    nottingham: Path, tmp_path: Path
) -> None:
    """The reference comes from MIDI files whose maker let an accidental alter one note, not its bar.

    Told so, abc2midi agrees on three quarters of the 1,027 tunes; the rest differ in repeats, chords and pickups.
    """
    pytest.importorskip("symusic")
    abc = (nottingham / "nottingham_cleaned.abc").read_bytes()
    told = abc.replace(b"\nK:", b"\n%%propagate-accidentals not\nK:")
    reference = {
        tuple(map(int, line.split()))
        for name in ("train_tunes.txt", "test_tunes.txt")
        for line in (nottingham / name).read_text().splitlines()
    }
    shares = []
    for content in (abc, told):
        found, errors = read_tunes(write(tmp_path, "a.abc", content), QUAVERS)
        assert (len(found), errors) == (1_034, [])
        ours = {tuple(without_holds(without_rests(tune.symbols)).tolist()) for tune in found}
        shares.append(len(ours & reference) / len(reference))
    assert len(reference) == 1_027
    assert shares[0] == pytest.approx(0.67, abs=0.02)
    assert shares[1] > 0.75


# --- the environment -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reward_mode", ["action_value", "potential", "terminal"])
def test_both_check_envs_pass(reward_mode: str) -> None:
    env = gym.make("SeqGAN-Music-v0", sequence_length=6, reward_mode=reward_mode, remainder="keep", n_rollouts=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gymnasium_check_env(env.unwrapped)
    sb3_check_env(env)


def test_an_episode_ends_with_the_names_of_its_notes() -> None:
    env = gym.make("SeqGAN-Music-v0", sequence_length=3, rests="token", reward_model="constant", n_rollouts=1)
    tokens = env.unwrapped.task.vocabulary.encode(["C4", "rest", "G4"])
    env.reset(seed=0)
    steps = [env.step(token) for token in tokens]
    assert [step[2] for step in steps] == [False, False, True]
    assert steps[-1][4]["text"] == "C4 rest G4"
    assert steps[-1][4]["sequence"].tolist() == tokens.tolist()


def test_a_spec_built_from_plain_values_survives_json(tmp_path: Path) -> None:
    corpus = text_corpus(tmp_path)
    env = gym.make("SeqGAN-Music-v0", corpus=str(corpus), sequence_length=4, keys="all", reward_model="constant:0.3")
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.task.statistics == env.unwrapped.task.statistics
    assert again.action_space == gym.spaces.Discrete(88)


def test_make_vec_gives_rows_that_equal_single_environments() -> None:
    keywords: dict[str, Any] = {"sequence_length": 4, "n_rollouts": 2, "reward_model": "random"}
    envs = gym.make_vec("SeqGAN-Music-v0", num_envs=2, **keywords)
    assert type(envs) is MusicVectorEnv
    actions = np.array([[0, 5], [3, 2], [1, 1], [2, 20]])
    envs.reset(seed=4)
    for row in range(2):
        env = gym.make("SeqGAN-Music-v0", **keywords)
        env.reset(seed=4 + row)
        last = [env.step(action) for action in actions[:, row]][-1]
        if row == 0:
            stepped = [envs.step(action) for action in actions][-1]
        assert stepped[0][row].tolist() == last[0].tolist()
        assert stepped[4]["text"][row] == last[4]["text"]


def test_options_are_documented_field_by_field() -> None:
    source = Path(sys.modules[MusicOptions.__module__].__file__).read_text(encoding="utf-8")
    for field in dataclasses.fields(MusicOptions):
        assert f"    {field.name}: " in source
        after = source.split(f"    {field.name}: ", 1)[1].split("\n", 2)[1]
        assert after.strip().startswith('"""'), field.name
