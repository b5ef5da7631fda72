"""Melodies of a generator as MIDI, as ABC text, and as a picture, the piano roll.

In: (R, T) token ids and the vocabulary of a music task; no corpus is needed. Out: files and text that other programs
can play. `tasks.music` reads them back as the same tokens, if its grid has the same step and the melody does not end
with a rest. A step is written as a quaver, and the tempo makes it last `step_seconds`. If the vocabulary has no "hold",
neighbours of the same pitch become one long note. If it has one, each pitch is a separate note.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from seqgan_env.corpora.tunes import (
    HOLD,
    KEYS,
    MIDI_NOTE_OF_KEY_0,
    PITCH_CLASSES,
    SYMBOL_NAMES,
    name_symbol,
    note_spans,
    symbol_name,
    symusic_library,
)
from seqgan_env.vocabulary import Vocabulary

TICKS_PER_STEP = 240  # a quaver, at 480 ticks per crotchet
VELOCITY = 90
STEPS_PER_BAR = 8
_ABC_LETTERS = ("C", "^C", "D", "^D", "E", "F", "^F", "G", "^G", "A", "^A", "B")
_ACCIDENTAL = "^"
_BLACK_KEYS = (1, 3, 6, 8, 10)  # pitch classes
_MAX_ROLLS = 12  # melodies in one picture

Melody = npt.NDArray[np.int64]


def melody(sequence: npt.ArrayLike | Tensor, vocabulary: Vocabulary) -> Melody:
    """Symbols of one sequence up to its end, (n,) int64: keys 1..88, REST, HOLD.

    Args:
        sequence: (T,) int64, PAD after the end.
        vocabulary: vocabulary of a music task.

    Raises:
        ValueError: if its tokens are not notes, "rest" or "hold".
    """
    symbols: list[int] = []
    for token in np.asarray(sequence).tolist():
        if token in (vocabulary.pad_token, vocabulary.eos_token):
            break
        symbols.append(name_symbol(vocabulary.tokens[token]))
    return np.array(symbols, dtype=np.int64)


def midi_bytes(sequence: npt.ArrayLike | Tensor, vocabulary: Vocabulary, step_seconds: float = 0.4) -> bytes:
    """One sequence, (T,) int64, as a MIDI file of one track.

    Raises:
        ValueError: for a vocabulary of another kind of task, or a step that MIDI cannot represent.
        ImportError: without the extra "music".
    """
    _check_step(step_seconds)
    symusic = symusic_library()
    score = symusic.Score(2 * TICKS_PER_STEP)
    # A step is a quaver, so a crotchet lasts two steps. MIDI needs it in whole microseconds.
    score.tempos.append(symusic.Tempo(0, mspq=round(2e6 * step_seconds)))
    track = symusic.Track(name="melody", program=0, is_drum=False)
    for start, steps, key in note_spans(melody(sequence, vocabulary), _has_holds(vocabulary)):
        pitch = key + MIDI_NOTE_OF_KEY_0
        track.notes.append(symusic.Note(start * TICKS_PER_STEP, steps * TICKS_PER_STEP, pitch, VELOCITY))
    score.tracks.append(track)
    return bytes(score.dumps_midi())


def write_midi(
    folder: str | Path,
    sequences: npt.ArrayLike | Tensor,
    vocabulary: Vocabulary,
    step_seconds: float = 0.4,
    stem: str = "sample",
) -> list[Path]:
    """Write (R, T) sequences to files STEM-1.mid, STEM-2.mid, ... of a folder, which is made; returns the files.

    Raises:
        ValueError, ImportError: as `midi_bytes`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.asarray(sequences)
    width = len(str(len(rows)))
    files = [folder / f"{stem}-{number:0{width}d}.mid" for number in range(1, len(rows) + 1)]
    for file, row in zip(files, rows, strict=True):
        file.write_bytes(midi_bytes(row, vocabulary, step_seconds))
    return files


def abc_text(
    sequences: npt.ArrayLike | Tensor,
    vocabulary: Vocabulary,
    step_seconds: float = 0.4,
    titles: Iterable[str] | None = None,
) -> str:
    """(R, T) sequences as ABC tunes: quavers in bars of eight, every accidental written out.

    ABC's tempo is a whole number of quavers per minute, so the length of a step may be rounded.

    Args:
        sequences: (R, T) int64, PAD after the end.
        vocabulary: vocabulary of a music task.
        step_seconds: how long a step sounds.
        titles: one per sequence; None numbers them.

    Raises:
        ValueError: for a vocabulary of another kind of task.
    """
    _check_step(step_seconds)
    rows = np.asarray(sequences)
    names = [f"Sample {number}" for number in range(1, len(rows) + 1)] if titles is None else list(titles)
    tunes = []
    for number, (row, name) in enumerate(zip(rows, names, strict=True), start=1):
        head = f"X:{number}\nT:{name}\nM:4/4\nL:1/8\nQ:1/8={round(60 / step_seconds)}\nK:C\n"
        tunes.append(head + _abc_bars(melody(row, vocabulary), _has_holds(vocabulary)) + "\n")
    return "\n".join(tunes)


def draw_piano_roll(
    path: str | Path,
    sequences: npt.ArrayLike | Tensor,
    vocabulary: Vocabulary,
    step_seconds: float = 0.4,
    titles: Sequence[str] | None = None,
) -> Path:
    """Draw the first twelve of (R, T) sequences as piano rolls, one below the other, in one PNG file; returns it.

    Raises:
        ValueError: for a vocabulary of another kind of task, or without a sequence.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    _check_step(step_seconds)
    rows = np.asarray(sequences)[:_MAX_ROLLS]
    if not len(rows):
        raise ValueError("sequences is empty; a piano roll shows at least one")
    spans = [note_spans(melody(row, vocabulary), _has_holds(vocabulary)) for row in rows]
    keys = [key for notes in spans for _, _, key in notes] or [KEYS // 2]
    low, high = min(keys) - 2, max(keys) + 2
    height = max(1.6, 0.075 * (high - low))  # inches per roll
    figure = Figure(figsize=(10, 0.8 + (height + 0.35) * len(rows)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for number, (axes, notes) in enumerate(zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], spans, strict=True)):
        _draw_roll(axes, notes, rows.shape[1], (low, high))
        title = f"sample {number + 1}" if titles is None else titles[number]
        axes.set_title(title, loc="left", fontsize=9)
        axes.tick_params(labelbottom=number == len(rows) - 1)
    axes.set_xlabel(f"step of {step_seconds:g} s", fontsize=9)
    _draw_key(figure)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
    return path


def _hue(pitch_class: int) -> tuple[float, float, float, float]:
    """The colour of a pitch class, 0 for C. Neighbours on the circle of fifths sound alike, so they look alike."""
    from matplotlib import colormaps

    rgba: tuple[float, float, float, float] = colormaps["twilight_shifted"](0.12 + 0.76 * (pitch_class * 7 % 12) / 12)
    return rgba


def _draw_key(figure: Any) -> None:
    """The colours of the pitch classes, in the order of the circle of fifths, below the rolls."""
    from matplotlib.patches import Patch

    classes = [fifth * 7 % 12 for fifth in range(12)]
    handles = [Patch(facecolor=_hue(one), edgecolor="0.2", linewidth=0.6, label=PITCH_CLASSES[one]) for one in classes]
    place = {"loc": "outside lower center", "ncols": 13, "frameon": False}
    legend = figure.legend(
        handles=[Patch(alpha=0, label="colours, by fifths:"), *handles],
        fontsize=8,
        handlelength=1,
        columnspacing=1.1,
        handletextpad=0.4,
        **place,
    )
    legend.set_in_layout(True)


def _draw_roll(axes: Any, notes: Sequence[tuple[int, int, int]], horizon: int, limits: tuple[int, int]) -> None:
    """One piano roll: shaded rows of black keys, lines between bars, and one box per note, coloured by pitch class."""
    from matplotlib.patches import FancyBboxPatch

    low, high = limits
    for key in range(low, high + 1):
        if (key + MIDI_NOTE_OF_KEY_0) % 12 in _BLACK_KEYS:
            axes.axhspan(key - 0.5, key + 0.5, color="0.94", zorder=0)
    for step in range(0, horizon + 1, STEPS_PER_BAR // 4):
        axes.axvline(step, color="0.75" if step % STEPS_PER_BAR == 0 else "0.88", linewidth=0.8, zorder=1)
    for start, steps, key in notes:
        box = FancyBboxPatch(
            (start + 0.08, key - 0.38),
            steps - 0.16,
            0.76,
            boxstyle="round,pad=0,rounding_size=0.18",
            facecolor=_hue((key + MIDI_NOTE_OF_KEY_0) % 12),
            edgecolor="0.2",
            linewidth=0.6,
            zorder=2,
        )
        axes.add_patch(box)
    octaves = [key for key in range(low, high + 1) if (key + MIDI_NOTE_OF_KEY_0) % 12 in (0, 7)]
    axes.set(xlim=(0, horizon), ylim=(low - 0.5, high + 0.5), xticks=range(0, horizon + 1, STEPS_PER_BAR))
    axes.set_yticks(octaves, [symbol_name(key) for key in octaves], fontsize=8)
    axes.tick_params(length=0, labelsize=8)
    for spine in axes.spines.values():
        spine.set_color("0.75")


def _abc_bars(symbols: Melody, has_holds: bool) -> str:
    """A melody as bars of ABC; a note over a bar line is tied."""
    silence = np.ones(len(symbols), dtype=bool)
    parts: list[tuple[int, int, int | None]] = []  # first step, steps, key or None for silence
    for note in note_spans(symbols, has_holds):
        parts.append(note)
        silence[note[0] : sum(note[:2])] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[0], silence.astype(int), [0]])))
    parts += [(int(start), int(stop - start), None) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    bars: list[str] = [""] * -(-len(symbols) // STEPS_PER_BAR)
    altered: list[set[str]] = [set() for _ in bars]  # letters with an accidental in this bar
    for start, steps, key in sorted(parts, key=lambda part: part[0]):
        while steps:
            bar, place = divmod(start, STEPS_PER_BAR)
            here = min(steps, STEPS_PER_BAR - place)
            pitch = "z" if key is None else _abc_pitch(key, altered[bar])
            tie = "-" if key is not None and here < steps else ""
            bars[bar] += pitch + (str(here) if here > 1 else "") + tie
            start, steps = start + here, steps - here
    lines = [" | ".join(bars[first : first + 4]) for first in range(0, len(bars), 4)]
    return " |\n".join(lines) + " |]"


def _abc_pitch(key: int, altered: set[str]) -> str:
    """A key in ABC's letters; a natural is written if the letter was altered earlier in its bar."""
    octave, pitch_class = divmod(key + MIDI_NOTE_OF_KEY_0, 12)
    letter = _ABC_LETTERS[pitch_class].removeprefix(_ACCIDENTAL)
    accidental = _ACCIDENTAL if pitch_class in _BLACK_KEYS else "=" if letter in altered else ""
    if accidental:
        altered.add(letter)
    above = octave - 5  # ABC's plain capitals are the octave from middle C
    return accidental + (letter + "," * -above if above <= 0 else letter.lower() + "'" * (above - 1))


def _has_holds(vocabulary: Vocabulary) -> bool:
    return SYMBOL_NAMES[HOLD] in vocabulary.tokens


def _check_step(step_seconds: float) -> None:
    if not 0.01 <= step_seconds <= 8:
        raise ValueError(f"step_seconds={step_seconds} must lie in 0.01..8")
