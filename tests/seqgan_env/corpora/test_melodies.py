"""`music_formats`: MIDI and ABC that are read back as the same tokens, and piano rolls."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from matplotlib.patches import FancyBboxPatch

from seqgan_env.corpora.melodies import abc_text, draw_piano_roll, melody, midi_bytes, write_midi
from seqgan_env.corpora.tunes import HOLD, REST, Grid, note_spans, read_tunes, symbol_name, without_holds, without_rests
from seqgan_env.tasks.music import music_task
from seqgan_env.vocabulary import Vocabulary
from tests.marks import examples

NOTES = [symbol_name(key) for key in range(1, 89)]
PLAIN = Vocabulary(NOTES)
RHYTHM = Vocabulary([*NOTES, "rest", "hold", "<eos>"], "<eos>")


def ids(text: str, vocabulary: Vocabulary = RHYTHM) -> list[int]:
    return vocabulary.encode(text.split()).tolist()


def read_back(path: Path, content: bytes, vocabulary: Vocabulary, step_seconds: float = 0.4) -> list[str]:
    """Tokens of each tune of a file, with rests and holds only if the vocabulary has them."""
    path.write_bytes(content)
    has_rhythm = "hold" in vocabulary.tokens
    found = []
    for tune in read_tunes(path, Grid(step_seconds, from_first_note=not has_rhythm))[0]:
        symbols = tune.symbols if has_rhythm else without_holds(without_rests(tune.symbols))
        found.append(" ".join(map(symbol_name, symbols.tolist())))
    return found


# --- symbols ---------------------------------------------------------------------------------------------------------


def test_a_melody_ends_at_eos_and_at_pad() -> None:
    assert melody([*ids("C4 rest hold <eos>"), RHYTHM.pad_token], RHYTHM).tolist() == [40, REST, HOLD]
    assert melody([39, 40, PLAIN.pad_token, PLAIN.pad_token], PLAIN).tolist() == [40, 41]


def test_text_is_not_a_melody() -> None:
    with pytest.raises(ValueError, match="'word' is not a key"):
        melody([0], Vocabulary(["word"]))


def test_with_holds_every_pitch_is_a_note_and_without_them_neighbours_are_one() -> None:
    assert note_spans(np.array([40, 40, HOLD, REST, 40]), has_holds=True) == [(0, 1, 40), (1, 2, 40), (4, 1, 40)]
    assert note_spans(np.array([40, 40, 42, REST, 42]), has_holds=False) == [(0, 2, 40), (2, 1, 42), (4, 1, 42)]
    assert note_spans(np.array([HOLD, REST, HOLD, 40]), has_holds=True) == [(3, 1, 40)]  # nothing to hold is silence


# --- round trips -----------------------------------------------------------------------------------------------------

MELODIES = [
    "C4 hold G4 G4 hold rest rest C5",
    "rest rest C4 rest hold C#4",
    "A0 C8 F#4 F4 F#4 F4 hold hold hold hold B3 hold",
]


@pytest.mark.parametrize("text", MELODIES)
def test_midi_is_read_back_as_the_same_tokens(tmp_path: Path, text: str) -> None:
    pytest.importorskip("symusic")
    expected = text.replace("rest hold", "rest rest")
    assert read_back(tmp_path / "a.mid", midi_bytes(ids(text), RHYTHM), RHYTHM) == [expected]


@pytest.mark.parametrize("text", MELODIES)
def test_abc_is_read_back_as_the_same_tokens(tmp_path: Path, text: str) -> None:
    pytest.importorskip("symusic")
    expected = text.replace("rest hold", "rest rest")
    assert read_back(tmp_path / "a.abc", abc_text([ids(text)], RHYTHM).encode(), RHYTHM) == [expected]


@examples(30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(st.integers(0, 87), min_size=1, max_size=40), step=st.sampled_from([0.25, 0.4, 0.125]))
def test_any_sequence_of_keys_survives_both_formats(tmp_path: Path, sequence: list[int], step: float) -> None:
    pytest.importorskip("symusic")
    expected = [PLAIN.decode(sequence)]
    assert read_back(tmp_path / "a.mid", midi_bytes(sequence, PLAIN, step), PLAIN, step) == expected
    assert read_back(tmp_path / "a.abc", abc_text([sequence], PLAIN, step).encode(), PLAIN, step) == expected


def test_a_folder_of_written_samples_is_a_corpus_of_the_same_windows(tmp_path: Path) -> None:
    pytest.importorskip("symusic")
    task = music_task()
    real = task.real_sequences("train")
    files = write_midi(tmp_path / "midi", real, task.vocabulary, stem="tune")
    assert [file.name for file in (files[0], files[-1])] == ["tune-001.mid", "tune-116.mid"]
    (tmp_path / "all.abc").write_text(abc_text(real, task.vocabulary))
    written = sorted(task.vocabulary.decode(row) for row in real)
    for corpus in (tmp_path / "midi", tmp_path / "all.abc"):
        again = music_task(corpus, duplicates="keep")
        rows = [row for split in ("train", "validation", "test") for row in again.real_sequences(split)]
        assert sorted(again.vocabulary.decode(row) for row in rows) == written


# --- ABC, pictures, errors -------------------------------------------------------------------------------------------


def test_abc_is_written_as_a_person_would() -> None:
    text = abc_text([ids("C4 hold F#4 F4 F#5 F#4 rest G3 hold hold <eos>")], RHYTHM, titles=["A tune"])
    assert text == "X:1\nT:A tune\nM:4/4\nL:1/8\nQ:1/8=150\nK:C\nC2^F=F^f^FzG,- | G,2 |]\n"


def test_two_sequences_are_two_tunes() -> None:
    lines = abc_text([[0], [87]], PLAIN).splitlines()
    assert [line for line in lines if line.startswith(("X", "T"))] == ["X:1", "T:Sample 1", "X:2", "T:Sample 2"]


def picture(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    assert path.read_bytes().startswith(b"\x89PNG")
    return imread(path)


def test_a_piano_roll_shows_the_notes(tmp_path: Path) -> None:
    low, high = ids("C4 hold rest E4 hold hold hold E4"), ids("C4 hold rest E4 hold hold hold C4")
    one, other, both = (
        picture(draw_piano_roll(tmp_path / "new" / f"{name}.png", rows, RHYTHM))
        for name, rows in {"one": [low], "other": [high], "both": [low, high]}.items()
    )
    assert one.shape == other.shape
    changed = np.flatnonzero((one != other).any(axis=(0, 2))) / one.shape[1]
    assert changed.min() > 0.8  # only the last step differs
    assert both.shape[0] > 1.65 * one.shape[0]


def test_a_piano_roll_names_the_colour_of_each_pitch_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    saved: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *given, **named: saved.append(figure))
    draw_piano_roll(tmp_path / "roll.png", [ids("C4 rest E4 rest")], RHYTHM)
    (figure,) = saved
    handles = figure.legends[0].get_patches()[1:]
    key = {handle.get_label(): handle.get_facecolor() for handle in handles}
    assert list(key)[:4] == ["C", "G", "D", "A"]
    assert len(set(key.values())) == 12
    notes = [patch.get_facecolor() for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    assert notes == [key["C"], key["E"]]


def test_a_piano_roll_of_silence_and_of_a_hundred_samples(tmp_path: Path) -> None:
    silence = picture(draw_piano_roll(tmp_path / "silence.png", [ids("rest rest")], RHYTHM))
    many = picture(draw_piano_roll(tmp_path / "many.png", [ids("C4 C4")] * 100, RHYTHM))
    assert silence.shape[:2] == (302, 1100)  # 0.8 inches and 1.95 a roll, 110 pixels each
    assert many.shape[:2] == (2662, 1100)  # twelve of them
    with pytest.raises(ValueError, match="sequences is empty"):
        draw_piano_roll(tmp_path / "none.png", [], RHYTHM)


@pytest.mark.parametrize("step", [0.0, 9.0, float("nan")])
def test_a_step_that_no_file_can_state_is_refused(tmp_path: Path, step: float) -> None:
    for write in (
        lambda: midi_bytes([0], PLAIN, step),
        lambda: abc_text([[0]], PLAIN, step),
        lambda: draw_piano_roll(tmp_path / "a.png", [[0]], PLAIN, step),
    ):
        with pytest.raises(ValueError, match=f"step_seconds={step}"):
            write()


def test_without_a_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "symusic", None)
    with pytest.raises(ImportError, match=r"symusic.*\[music\]"):
        midi_bytes([0], PLAIN)
    assert abc_text([[0]], PLAIN).startswith("X:1")
