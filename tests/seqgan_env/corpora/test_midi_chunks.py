"""`corpora.midi_chunks`: sequences of a MIDI file of type 2, and notes that never end."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqgan_env.corpora.corpus import CorpusError
from seqgan_env.corpora.midi_chunks import count_note_ons, independent_sequences
from seqgan_env.corpora.tunes import Grid, read_tunes, symbol_name
from seqgan_env.tasks.music import music_task

CROTCHETS = Grid(1.0, in_beats=True)


def on(pitch: int, channel: int = 0) -> bytes:
    return bytes([0x90 | channel, pitch, 64])


def off(pitch: int, channel: int = 0) -> bytes:
    return bytes([0x80 | channel, pitch, 64])


def track(*events: tuple[int, bytes]) -> bytes:
    """Events of (crotchets after the one before: 0 or 1, message)."""
    content = b"".join((b"\x83\x60" if wait else b"\0") + message for wait, message in events) + b"\0\xff\x2f\0"
    return b"MTrk" + struct.pack(">I", len(content)) + content


def midi(kind: int, *tracks: bytes) -> bytes:
    return b"MThd" + struct.pack(">IHHH", 6, kind, len(tracks), 480) + b"".join(tracks)


def tunes_of(folder: Path, data: bytes) -> tuple[list[str], list[CorpusError]]:
    pytest.importorskip("symusic")
    path = folder / "a.mid"
    path.write_bytes(data)
    tunes, errors = read_tunes(path, CROTCHETS)
    return [" ".join(symbol_name(symbol) for symbol in tune.symbols.tolist()) for tune in tunes], errors


UP = track((0, on(60)), (1, off(60)), (0, on(62)), (1, off(62)))
DOWN = track((0, on(72)), (1, off(72)), (0, on(71)), (1, off(71)))
DRUMS = track((0, on(40, 9)), (1, off(40, 9)))


def test_the_sequences_of_type_2_are_tunes_of_their_own(tmp_path: Path) -> None:
    assert tunes_of(tmp_path, midi(2, UP, DOWN)) == (["C4 D4", "C5 B4"], [])
    assert tunes_of(tmp_path, midi(1, UP, DOWN)) == (["C5 B4"], [])  # these sound together
    assert tunes_of(tmp_path, midi(2, UP)) == (["C4 D4"], [])


def test_a_sequence_without_notes_is_named(tmp_path: Path) -> None:
    tunes, errors = tunes_of(tmp_path, midi(2, UP, DRUMS, DOWN))
    assert tunes == ["C4 D4", "C5 B4"]
    assert [str(error).partition("a.mid, ")[2] for error in errors] == [
        "sequence 2: has only percussion (1 notes); give a file with a melody"
    ]
    with pytest.raises(CorpusError, match="only percussion"):
        tunes_of(tmp_path, midi(2, DRUMS, DRUMS))


def test_notes_that_never_end_or_have_no_length_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    hanging = midi(0, track((0, on(60)), (1, on(62)), (1, off(62)), (0, on(64)), (0, off(64)), (0, on(50, 9))))
    (tmp_path / "a.mid").write_bytes(hanging)
    ((tune,), _) = read_tunes(tmp_path / "a.mid", CROTCHETS)
    assert (tune.notes, tune.lost_notes) == (1, 2)
    for number in range(5):
        (tmp_path / f"{number}.mid").write_bytes(midi(0, track((0, on(60 + number)), (1, off(60 + number)))))
    options = {"sequence_length": 1, "step_beats": 1.0, "validation": 0.2, "test": 0.2, "duplicates": "keep"}
    table = dict(music_task(tmp_path, **options).statistics.lines())
    assert table["without an end, left out"] == "2 notes"


def test_every_form_of_event_is_passed_over_rightly() -> None:
    events = track(
        (0, b"\xff\x03\x04name"),
        (0, b"\xf0\x03\x90\x40\xf7"),  # a note within a system exclusive message is none
        (0, b"\xc0\x05"),
        (0, b"\xd0\x90"[:1] + b"\x10"),
        (0, b"\xe0\x00\x40"),
        (0, b"\xb0\x07\x64"),
        (0, on(60)),
        (1, b"\x3e\x40"),  # running status
        (0, b"\x3c\x00"),  # velocity 0 ends a note
        (0, off(62)),
        (0, b"\xff\x51\x03\x07\xa1\x20"),
        (0, on(64)),
    )
    assert count_note_ons(midi(1, events, DRUMS, UP)) == 5


@given(st.binary(max_size=80))
def test_no_bytes_are_too_damaged(data: bytes) -> None:
    for start in (b"", b"MThd\0\0\0\6\0\2\0\1\1\xe0", b"MThd\0\0\0\6\0\2\0\1\1\xe0MTrk\0\0\0\x20"):
        assert independent_sequences(start + data)
        assert count_note_ons(start + data) >= 0
