"""Tunes: from MIDI, ABC and text files to one symbol per step of a grid.

In: bytes of a file. Out: `Tune`s, whose symbols are the piano's keys 1..88 (MIDI note - 20, so A4 = 49), REST and HOLD
(the note of the step before continues). Each is a token with a name: "A4", "C#5", "rest", "hold". A fault of a file
raises a `CorpusError`.
`symusic` parses MIDI. The program abc2midi, which comes with it, parses ABC. It runs in a separate process, because on
some damaged input it crashes or never ends. Both are needed only for such files. Before that, `abc_notation` removes
from an ABC tune its ornaments, and directives that would read other files.

A note counts at a step if it sounds 1/32 of a step later. The delay is needed because abc2midi starts notes a tick
late, and players are not exact.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqgan_env.corpora.abc_notation import PlainTune, plain_tune, split_tunes
from seqgan_env.corpora.corpus import CorpusError
from seqgan_env.corpora.decoding import without_byte_order_mark
from seqgan_env.corpora.formats import expect_tunes
from seqgan_env.corpora.midi_chunks import count_note_ons, independent_sequences

IntArray = npt.NDArray[np.int64]
REST, HOLD = 0, -1  # symbols beside the keys 1..88
KEYS = 88
MIDI_NOTE_OF_KEY_0 = 20
SYMBOL_NAMES = {REST: "rest", HOLD: "hold"}
LATE = 1 / 32  # share of a step
MAX_STEPS = 1_000_000  # of one tune; a longer one is a damaged file
ABC2MIDI_SECONDS = 10.0  # for one tune; it needs about 0.01
DEFAULT_MICROSECONDS_PER_CROTCHET = 500_000  # MIDI's default: 120 crotchets per minute
PITCH_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_NOTE = re.compile(r"([A-Ga-g])([#b]?)(-?\d{1,2})")


@dataclass(frozen=True)
class Grid:
    """The times at which a tune is sampled.

    Attributes:
        step: time between two samples, in seconds or crotchets.
        in_beats: whether `step` counts crotchets instead of seconds.
        from_first_note: whether the first sample is at the first note. Otherwise it is at time 0, and a tune may begin
            with a rest.
        plays_ornaments: whether ornaments of ABC are played as abc2midi does, instead of the written notes.
    """

    step: float
    in_beats: bool = False
    from_first_note: bool = True
    plays_ornaments: bool = False


@dataclass(frozen=True)
class Tune:
    """One melody.

    Attributes:
        source: the file, and the place in it.
        symbols: (n,) int64, a key 1..88, REST or HOLD at each step.
        polyphonic_steps: number of steps with more than one pitch; the symbol is the highest.
        notes: number of notes in the file, without percussion.
        missed_notes: number of notes that sound at no step.
        repaired: whether abc2midi reported errors in it and went on.
        lost_notes: for MIDI, number of notes that never end or have no length; they are left out.
        ornaments: for ABC, number of removed marks.
        refused: for ABC, removed directives, which would have read other files.
    """

    source: str
    symbols: IntArray
    polyphonic_steps: int = 0
    notes: int = 0
    missed_notes: int = 0
    repaired: bool = False
    lost_notes: int = 0
    ornaments: int = 0
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Notes:
    """The pitched notes of a file.

    Attributes:
        starts, ends: (N,) float64, in seconds or crotchets.
        pitches: (N,) int64, MIDI notes.
        lost: notes that never end or have no length; they are not among the N.
    """

    starts: npt.NDArray[np.float64]
    ends: npt.NDArray[np.float64]
    pitches: IntArray
    lost: int = 0


# --- names -----------------------------------------------------------------------------------------------------------


def symbol_name(symbol: int) -> str:
    """Token of a symbol: 49 -> "A4", REST -> "rest", HOLD -> "hold"."""
    if symbol in SYMBOL_NAMES:
        return SYMBOL_NAMES[symbol]
    octave, pitch_class = divmod(symbol + MIDI_NOTE_OF_KEY_0, 12)
    return f"{PITCH_CLASSES[pitch_class]}{octave - 1}"


def name_symbol(name: str) -> int:
    """Symbol of a token: "A4", "Bb3", "C#5", "rest", "hold", or the key's number "49".

    Raises:
        ValueError: for anything else, or a note that is not on the piano.
    """
    for symbol, known in SYMBOL_NAMES.items():
        if name == known:
            return symbol
    if name.isascii() and name.isdecimal() and len(name) < 4:
        key = int(name)
    elif note := _NOTE.fullmatch(name):
        letter, accidental, octave = note.groups()
        shift = {"": 0, "#": 1, "b": -1}[accidental]
        key = PITCH_CLASSES.index(letter.upper()) + shift + 12 * (int(octave) + 1) - MIDI_NOTE_OF_KEY_0
    else:
        key = 0
    if not 1 <= key <= KEYS:
        raise ValueError(f"{name[:40]!r} is not a key 1..88, a note from A0 to C8, 'rest' or 'hold'")
    return key


# --- files -----------------------------------------------------------------------------------------------------------


def read_tunes(path: Path, grid: Grid) -> tuple[list[Tune], list[CorpusError]]:
    """The tunes of one file, and the faults of its tunes that cannot be used; the content shows the kind of file.

    Text has one tune per line: keys 1..88, note names, "rest" and "hold", separated by spaces; lines that begin with %
    are comments. The grid does not change it. Each sequence of a MIDI file of type 2 is a tune.

    Raises:
        CorpusError: if the file cannot be read, or contains no tune.
        ImportError: for MIDI and ABC if symusic is not installed.
    """
    expect_tunes(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"cannot be read: {error}", path) from error
    if not data.strip():
        raise CorpusError("is empty; give a MIDI, ABC or text file", path)
    if data.startswith(b"MThd") or path.suffix.lower() in (".mid", ".midi"):
        return _read_midi(data, str(path), grid)
    without_byte_order_mark(data, path)  # only for its error for UTF-16; marks inside a file are treated below
    if path.suffix.lower() == ".abc" or re.search(rb"(?m)^(?:\xef\xbb\xbf)?X:", data):
        return _read_abc(data, str(path), grid)
    return _read_text(data, str(path)), []


def _read_midi(data: bytes, source: str, grid: Grid) -> tuple[list[Tune], list[CorpusError]]:
    """The tune of a MIDI file, or the sequences of a file of type 2; and the faults of those that cannot be used."""
    parts = independent_sequences(data)
    tunes: list[Tune] = []
    errors: list[CorpusError] = []
    for number, part in enumerate(parts, start=1):
        place = source if len(parts) == 1 else f"{source}, sequence {number}"
        try:
            tunes.append(_sample(midi_notes(part, place, grid.in_beats), grid, place))
        except CorpusError as error:
            errors.append(error)
    if not tunes:
        raise errors[0]
    return tunes, errors


def midi_notes(data: bytes, source: str, in_beats: bool) -> Notes:
    """The notes of a MIDI file, without percussion. The default tempo is 120 crotchets per minute.

    Args:
        data: the file.
        source: its name, for messages.
        in_beats: times in crotchets instead of seconds.

    Raises:
        CorpusError: if it is damaged, has no pitched note, or has a note that is not on the piano.
    """
    score_class = symusic_library().Score
    try:
        score = score_class.from_midi(data)
    except (RuntimeError, ValueError, OverflowError) as error:  # symusic raises these for damaged files
        raise CorpusError(f"is not a MIDI file that can be read: {error}; export it anew", source) from error
    columns = [track.notes.numpy() for track in score.tracks if not track.is_drum]
    percussion = sum(len(track.notes) for track in score.tracks if track.is_drum)
    starts, durations, pitches = (
        np.concatenate([np.zeros(0, np.int64), *(column[name].astype(np.int64) for column in columns)])
        for name in ("time", "duration", "pitch")
    )
    sounding = durations > 0
    if not sounding.any():
        found = f"only percussion ({percussion} notes)" if percussion else "no note that lasts"
        raise CorpusError(f"has {found}; give a file with a melody", source)
    tempos = [(tempo.time, tempo.mspq) for tempo in score.tempos]
    if score.ticks_per_quarter < 1 or (starts < 0).any() or any(tick < 0 for tick, _ in tempos):
        raise CorpusError("has times that overflow; it is damaged, export it anew", source)
    starts, durations, pitches = starts[sounding], durations[sounding], pitches[sounding]
    off_piano = pitches[(pitches <= MIDI_NOTE_OF_KEY_0) | (pitches > MIDI_NOTE_OF_KEY_0 + KEYS)]
    if len(off_piano):
        raise CorpusError(
            f"has MIDI note {off_piano[0]}, which is not one of the piano's 21..108; transpose it", source
        )
    clock = _crotchets if in_beats else _seconds
    starts_at, ends_at = (clock(ticks, score.ticks_per_quarter, tempos) for ticks in (starts, starts + durations))
    return Notes(starts_at, ends_at, pitches, lost=max(0, count_note_ons(data) - len(pitches)))


def _crotchets(ticks: IntArray, ticks_per_crotchet: int, tempos: Any) -> npt.NDArray[np.float64]:
    return ticks / ticks_per_crotchet


def _seconds(ticks: IntArray, ticks_per_crotchet: int, tempos: Sequence[tuple[int, int]]) -> npt.NDArray[np.float64]:
    """Times of ticks under a tempo map of (tick, microseconds per crotchet)."""
    in_order = sorted(tempos, key=lambda tempo: tempo[0])  # of two at one tick, the later one in the file wins
    changes = dict([(0, DEFAULT_MICROSECONDS_PER_CROTCHET), *in_order])
    at = np.array(list(changes), dtype=np.int64)
    seconds_per_tick = np.array(list(changes.values())) / (1e6 * ticks_per_crotchet)
    before = np.concatenate([[0.0], np.cumsum(np.diff(at) * seconds_per_tick[:-1])])
    piece = np.searchsorted(at, ticks, side="right") - 1
    return before[piece] + (ticks - at[piece]) * seconds_per_tick[piece]


def _sample(notes: Notes, grid: Grid, source: str) -> Tune:
    """The highest pitch that sounds at each step; HOLD if the note is the same as before, REST if no note sounds."""
    origin = float(notes.starts.min()) if grid.from_first_note else 0.0
    last = (float(notes.ends.max()) - origin) / grid.step
    if not last <= MAX_STEPS:
        raise CorpusError(f"lasts {last:,.0f} steps, more than {MAX_STEPS:,}; it is damaged, or the step small", source)
    n_steps = max(1, int(np.ceil(last - LATE)))
    # A note has the steps from `first` to before the second number.
    first, stop = (
        np.clip(np.ceil((times - origin) / grid.step - LATE), 0, n_steps).astype(np.int64)
        for times in (notes.starts, notes.ends)
    )
    note_at = np.full(n_steps, -1)
    lowest = np.full(n_steps, KEYS + 1)
    keys = notes.pitches - MIDI_NOTE_OF_KEY_0
    for note in np.lexsort((notes.starts, keys)):  # ascending, so that the highest and latest is written last
        note_at[first[note] : stop[note]] = note
        span = lowest[first[note] : stop[note]]
        np.minimum(span, keys[note], out=span)
    highest = np.where(note_at >= 0, keys[note_at], REST)
    symbols = highest.copy()
    symbols[1:][(note_at[1:] == note_at[:-1]) & (note_at[1:] >= 0)] = HOLD
    return Tune(
        source,
        symbols,
        polyphonic_steps=int((highest > lowest).sum()),
        notes=len(keys),
        missed_notes=int((first >= stop).sum()),
        lost_notes=notes.lost,
    )


def _read_abc(data: bytes, source: str, grid: Grid) -> tuple[list[Tune], list[CorpusError]]:
    """The tunes of an ABC file, and the faults of those that cannot be used."""
    header, parts = split_tunes(data)
    if not parts:
        raise CorpusError("holds no ABC tune: no line begins with X:", source)
    program = os.environ["SYMUSIC_ABC2MIDI"] if symusic_library() else ""  # symusic puts its path into this variable

    def read(number: int) -> Tune | CorpusError:
        title = re.match(rb"X:\s*(\w*)", parts[number])
        place = f"{source}, tune {number + 1} (X:{title.group(1).decode('ascii', 'replace') if title else ''})"
        try:
            return _abc_tune(program, plain_tune(header + parts[number], grid.plays_ornaments), grid, place)
        except CorpusError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        results = list(threads.map(read, range(len(parts))))
    tunes = [result for result in results if isinstance(result, Tune)]
    errors = [result for result in results if isinstance(result, CorpusError)]
    if not tunes:
        raise CorpusError(f"none of its {len(parts)} ABC tunes can be used; the first: {errors[0]}", source)
    return tunes, errors


def _abc_tune(program: str, plain: PlainTune, grid: Grid, place: str) -> Tune:
    """One ABC tune on the grid. A CorpusError also names a removed directive."""
    try:
        midi, repaired = _abc_to_midi(program, plain.abc, place)
        tune = _sample(midi_notes(midi, place, grid.in_beats), grid, place)
    except CorpusError as error:
        if not plain.refused:
            raise
        raise CorpusError(f"{error} (other files are never read, so this was removed: {plain.refused[0]})") from error
    return replace(tune, repaired=repaired, ornaments=plain.ornaments, refused=plain.refused)


def _abc_to_midi(program: str, abc: bytes, source: str) -> tuple[bytes, bool]:
    """MIDI of one ABC tune without guitar chords, and whether errors were reported.

    Raises:
        CorpusError: if abc2midi crashes, does not end, or gives no result.
    """
    # Without this directive the notes of a chord would start one after another.
    abc = re.sub(rb"(?m)^X:.*$", lambda line: line.group() + b"\n%%MIDI chordattack 0", abc, count=1)
    with tempfile.TemporaryDirectory(prefix="seqgan-abc-") as folder:
        (Path(folder) / "tune.abc").write_bytes(abc)
        command = [program, "tune.abc", "-NGUI", "-o", "tune.mid"]
        try:
            ended = subprocess.run(command, cwd=folder, capture_output=True, timeout=ABC2MIDI_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise CorpusError(f"abc2midi did not end within {ABC2MIDI_SECONDS:g} s; repair it", source) from error
        midi = Path(folder) / "tune.mid"
        if ended.returncode != 0 or not midi.is_file():
            said = re.findall(rb"Error[^\n]*", ended.stdout)
            reason = said[0].decode("utf-8", "replace")[:100] if said else f"exit status {ended.returncode}"
            raise CorpusError(f"abc2midi cannot read it ({reason}); repair it", source)
        return midi.read_bytes(), b"Error" in ended.stdout


def _read_text(data: bytes, source: str) -> list[Tune]:
    """The tunes of a text, one per line."""
    tunes = []
    known: dict[str, int] = {}
    byte = 0
    for number, raw in enumerate(data.split(b"\n"), start=1):
        try:
            names = raw.decode("utf-8").replace("\ufeff", " ").split()
        except UnicodeDecodeError as error:
            raise CorpusError("is not UTF-8 text, MIDI or ABC", source, number, byte + error.start) from error
        byte += len(raw) + 1
        if not names or names[0].startswith("%"):
            continue
        for name in set(names) - set(known):
            try:
                known[name] = name_symbol(name)
            except ValueError as error:
                raise CorpusError(str(error), source, number) from error
        symbols = np.array([known[name] for name in names], dtype=np.int64)
        if symbols[0] == HOLD:
            raise CorpusError("a tune cannot begin with 'hold': no note sounds before it", source, number)
        tunes.append(Tune(f"{source}, line {number}", symbols, notes=int((symbols >= 1).sum())))
    if not tunes:
        raise CorpusError("holds no tune: all its lines are empty or comments", source)
    return tunes


def symusic_library() -> Any:
    """The library, or an ImportError that names the extra."""
    try:
        import symusic
    except ImportError as error:
        raise ImportError("MIDI and ABC files need symusic: pip install 'seqgan-gym[music]'") from error
    return symusic


# --- symbols ---------------------------------------------------------------------------------------------------------


def without_rests(symbols: IntArray) -> IntArray:
    """(n,) symbols in which rests prolong the note before them; rests before the first note are left out."""
    notes = np.flatnonzero(symbols > 0)
    sounding = symbols[notes[0] :] if len(notes) else symbols[:0]
    return np.where(sounding == REST, HOLD, sounding)


def without_holds(symbols: IntArray) -> IntArray:
    """(n,) symbols in which each HOLD is replaced by its key: a note of n steps becomes n times its key."""
    struck = np.maximum.accumulate(np.where(symbols == HOLD, -1, np.arange(len(symbols))))
    return symbols[np.maximum(struck, 0)]


def note_spans(symbols: IntArray, has_holds: bool) -> list[tuple[int, int, int]]:
    """The notes of a melody as (first step, steps, key); the inverse of sampling.

    Args:
        symbols: (n,) keys, REST, HOLD. A HOLD with no note before it is silence.
        has_holds: whether HOLD marks notes that go on; otherwise equal neighbours are one note.
    """
    spans: list[tuple[int, int, int]] = []
    for step, symbol in enumerate(symbols.tolist()):
        is_sounding = bool(spans) and sum(spans[-1][:2]) == step
        if symbol == HOLD or (not has_holds and is_sounding and symbol == spans[-1][2]):
            if is_sounding:
                start, steps, key = spans[-1]
                spans[-1] = (start, steps + 1, key)
        elif symbol != REST:
            spans.append((step, 1, symbol))
    return spans
