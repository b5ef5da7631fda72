"""The music task: a generator's real sequences are windows of melodies, one pitch per step of a grid.

In: `MusicOptions`. Out: a `Task` whose vocabulary has note names, with the statistics of the corpus. The paper samples
folk tunes every 0.4 s, numbers the pitches 1..88 as the piano's keys, and takes T = 32; it does not say how it treats
rests, repeated notes, chords and tempo. Here rests prolong the note before them, and a long note repeats its pitch;
options give tokens for rests and holds. From a chord the highest note is taken, and such steps are counted. A file
without a tempo has 120 crotchets per minute.

Windows of one tune are never in two splits. Everything that is dropped is counted in `MusicStatistics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch

from seqgan_env.corpora.corpus import (
    CorpusError,
    CorpusStatistics,
    Duplicates,
    IntArray,
    Parts,
    Split,
    draw_parts,
    repeated_within,
    resolve_duplicates,
)
from seqgan_env.corpora.melodies import abc_text, draw_piano_roll, write_midi
from seqgan_env.corpora.tune_files import read_tune_files
from seqgan_env.corpora.tune_windows import MusicStatistics, Polyphony, tune_windows
from seqgan_env.corpora.tunes import (
    HOLD,
    KEYS,
    MIDI_NOTE_OF_KEY_0,
    REST,
    Grid,
    name_symbol,
    symbol_name,
)
from seqgan_env.measures.sample_measures import SampleMeasures
from seqgan_env.tasks.corpus_task import CorpusTask
from seqgan_env.vocabulary import Vocabulary

BUNDLED_TUNES = Path(__file__).parents[1] / "corpora" / "data" / "tunes.txt"
PAPER_STEP_SECONDS = 0.4
EOS = "<eos>"


@dataclass
class MusicTask(CorpusTask):
    """Melodies: their measures include pitches, and they can be written as music.

    Attributes:
        step_seconds: how long a step of a sample sounds.
    """

    Statistics: ClassVar[type[CorpusStatistics]] = MusicStatistics
    text_formats: ClassVar[tuple[str, ...]] = ("text", "abc")
    file_formats: ClassVar[dict[str, str]] = {"midi": "folder", "png": "file"}
    step_seconds: float = PAPER_STEP_SECONDS

    def measures(self, held_out: int | None = None) -> SampleMeasures:
        """The paper measures music by BLEU-4 and by a squared error of pitches (Table 4)."""
        return SampleMeasures(self, held_out, pitches=pitches(self.names), order=4)

    def as_text(self, samples: torch.Tensor, form: str = "text") -> str:
        """Melodies (R, T) as names of notes, one line each, or as ABC tunes."""
        if form == "abc":
            return abc_text(samples, self.names, self.step_seconds)
        return super().as_text(samples, form)

    def write(self, samples: torch.Tensor, form: str, out: Path) -> list[Path]:
        """Melodies (R, T) as MIDI files in the folder `out`, or as piano rolls in the picture `out`.

        Raises:
            ImportError: without the extra that the format needs.
        """
        if form == "midi":
            return write_midi(out, samples, self.names, self.step_seconds)
        if form == "png":
            return [draw_piano_roll(out, samples, self.names, self.step_seconds)]
        return super().write(samples, form, out)

    def state(self) -> dict[str, Any]:
        """Plain values, with the length of a step."""
        return super().state() | {"step_seconds": self.step_seconds}

    @classmethod
    def fields_of(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """Constructor arguments. Older run folders store the length of a step among the options of the corpus."""
        options = state.get("options") or {}
        step_seconds = state.get("step_seconds", options.get("step_seconds", PAPER_STEP_SECONDS))
        return super().fields_of(state) | {"step_seconds": float(step_seconds)}


@dataclass(frozen=True)
class MusicOptions:
    """The corpus, and how it becomes sequences. The fields' docstrings are the help texts of the command line."""

    task_class: ClassVar[type[MusicTask]] = MusicTask
    PAGE: ClassVar[
        str
    ] = """Music: melodies that cannot be told from those of a corpus (Yu et al., AAAI 2017, section 4).

    ## Description
    Generate a window of a melody, one pitch per step, that cannot be told from windows of real tunes. Every action
    appends a piano key, a rest or a hold; the transition is deterministic.

    ## Action Space
    `Discrete(V)`: the next token, named by its note, such as C4; also rest, hold and EOS, depending on the options.

    ## Observation Space
    `Box(0, V, (T,), int64)`: the prefix, padded with PAD = V. An id is not a magnitude: use an embedding.

    ## Rewards
    By `reward_mode`: "action_value" (default), Q of Eq. 4 at each step, to be learned from with discount 0;
    "potential", its differences, for learners of discount 1; "terminal", R(Y) at the end only.

    ## Starting State
    The empty prefix.

    ## Episode End
    Terminated after T tokens, or by EOS with `remainder="keep"`. Never truncated.

    ## Information
    At the end: `sequence` (T,) int64 with PAD after EOS, and `text`, the names of the notes.

    ## Arguments
    - `corpus`: a MIDI, ABC or text file, a folder of MIDI and ABC files (extra "music"), a pattern, or several,
      separated by commas; None: 42 traditional tunes, which come with this package;
    - `sequence_length` (32): T;
    - `validation_corpus`, `test_corpus`, `step_seconds` (0.4), `step_beats`, `rests`, `holds`, `ornaments`,
      `polyphony`, `remainder`, `keys` and the other fields of `tasks.music.MusicOptions`;
    - `reward_model`, `reward_mode`, `rollout_policy`, `n_rollouts` (16), `render_mode`: see `SequenceEnv`.

    `env.unwrapped.task.statistics` says what the corpus holds, and what was dropped.

    ## Version History
    - v0: first version.
    """

    corpus: str | None = None
    """A MIDI, ABC or text file (one tune per line: keys 1..88 or names such as C#4), a folder of .mid and .abc files, a
    pattern such as "*.mid", or several of these, separated by commas; None: the bundled tunes.
    """
    validation_corpus: str | None = None
    """A separate validation set, of the same kinds; None: a share of the tunes is held out."""
    test_corpus: str | None = None
    """A separate test set, of the same kinds; None: a share of the tunes is held out."""
    sequence_length: int = 32
    """T, steps in a sequence [P: 32]."""
    step_seconds: float = PAPER_STEP_SECONDS
    """Seconds between two samples of a MIDI or ABC file [P: 0.4], and how long a step of a sample sounds."""
    step_beats: float | None = None
    """Crotchets between two samples, for every tempo (0.5: quavers); None: step_seconds."""
    rests: Literal["prolong", "token"] = "prolong"
    """Silence prolongs the note before it, or has a token."""
    holds: bool = False
    """Use a separate token for a step at which the note of the step before goes on; otherwise the note is repeated."""
    ornaments: Literal["drop", "play"] = "drop"
    """Grace notes, trills, staccato and other ornaments of ABC: drop and count them, or play them as abc2midi does."""
    polyphony: Polyphony = "highest"
    """If several notes sound at once: take the highest, drop the tune, or raise an error."""
    remainder: Literal["drop", "keep"] = "drop"
    """The rest of a tune after its last whole window: drop it, or keep it as a shorter sequence with EOS."""
    keys: Literal["used", "all"] = "used"
    """Tokens for the pitches that occur in the corpus, or for all 88 keys."""
    broken: Literal["skip", "error"] = "skip"
    """Files and tunes that cannot be read: skip and name them, or raise an error. None readable: always an error."""
    validation: float = 0.1
    """Share of the sequences for validation, in whole tunes; not used with a validation corpus."""
    test: float = 0.1
    """Share of the sequences for the test, in whole tunes; not used with a test corpus."""
    split_seed: int = 0
    """Seed of the draw of validation and test."""
    duplicates: Duplicates = "drop"
    """Held-out windows that also occur in an earlier split: drop them, keep them, or raise an error."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("rests", ("prolong", "token")),
            ("ornaments", ("drop", "play")),
            ("polyphony", get_args(Polyphony)),
            ("remainder", ("drop", "keep")),
            ("keys", ("used", "all")),
            ("broken", ("skip", "error")),
            ("duplicates", get_args(Duplicates)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {choices}")
        if isinstance(self.sequence_length, bool) or not isinstance(self.sequence_length, int):
            raise TypeError(f"sequence_length={self.sequence_length!r} must be an int")
        if self.sequence_length < 1:
            raise ValueError(f"sequence_length={self.sequence_length} must be at least 1")
        for name, step in (("step_seconds", self.step_seconds), ("step_beats", self.step_beats)):
            if step is not None and not 0.01 <= step <= 8:
                raise ValueError(f"{name}={step} must lie in 0.01..8")

    def task(self) -> MusicTask:
        """Read the corpus; returns and raises as `music_task`."""
        return _task(self)

    @property
    def grid(self) -> Grid:
        """The times at which a tune is sampled."""
        step, in_beats = (self.step_seconds, False) if self.step_beats is None else (self.step_beats, True)
        return Grid(step, in_beats, self.rests == "prolong", plays_ornaments=self.ornaments == "play")


# [P] is the paper's recipe. "beat" keeps samples on the beat; at 120 crotchets per minute, 0.4 s does not.
PRESETS: dict[str, MusicOptions] = {
    "paper": MusicOptions(keys="all"),
    "beat": MusicOptions(step_beats=0.5, step_seconds=0.25),
    "rhythm": MusicOptions(step_beats=0.25, step_seconds=0.125, sequence_length=64, rests="token", holds=True),
}


def music_task(corpus: str | Path | None = None, **options: Any) -> MusicTask:
    """Real sequences from melodies, in three splits, with a vocabulary of note names and statistics.

    Args:
        corpus: as in `MusicOptions`.
        options: the other fields of `MusicOptions`.

    Returns:
        A task whose `statistics` (`MusicStatistics`) say what was read, chosen and dropped.

    Raises:
        TypeError: for an option that does not exist.
        ValueError: for an option out of range.
        CorpusError: a ValueError, for a corpus that cannot be used; it names the file and the remedy.
        ImportError: for MIDI and ABC without the extra "music".
    """
    return MusicOptions(corpus=None if corpus is None else str(corpus), **options).task()


def _task(options: MusicOptions) -> MusicTask:
    corpora = {
        "train": BUNDLED_TUNES if options.corpus is None else options.corpus,
        "validation": options.validation_corpus,
        "test": options.test_corpus,
    }
    read = read_tune_files(corpora, options.grid, skip_broken=options.broken == "skip")
    tunes = read.tunes
    own = [options.corpus or "bundled tunes", options.validation_corpus, options.test_corpus]
    name = " and ".join(corpus for corpus in own if corpus is not None)
    polyphonic = [tune for tune in tunes if tune.polyphonic_steps]
    if polyphonic and options.polyphony == "error":
        raise CorpusError(
            f"{polyphonic[0].polyphonic_steps} steps have several notes at once (in {len(polyphonic)} of "
            f'{len(tunes)} tunes); choose polyphony="highest" or "drop"',
            polyphonic[0].source,
        )
    windows, tune_of, remainders = tune_windows(
        tunes,
        options.sequence_length,
        prolong_rests=options.rests == "prolong",
        holds=options.holds,
        drop_polyphonic=options.polyphony == "drop",
        keep_remainder=options.remainder == "keep",
    )
    if not windows:
        raise CorpusError(
            f"none of {len(tunes)} tunes gives a sequence of T = {options.sequence_length} steps; "
            'choose a smaller sequence_length or remainder="keep"',
            name,
        )
    first = {split: int(np.searchsorted(tune_of, tune)) for split, tune in read.first.items()}
    try:
        parts, shared, keys = _split(windows, tune_of, options, first)
    except CorpusError as error:
        raise CorpusError(str(error), name) from error
    vocabulary, id_of = _vocabulary([windows[row] for rows in parts.values() for row in rows], options)
    ids = [id_of[window - HOLD] for window in windows]
    lengths = np.array([len(ids[row]) for rows in parts.values() for row in rows])
    tokens = {split: np.concatenate([ids[row] for row in rows]) for split, rows in parts.items()}
    statistics = MusicStatistics(
        source=name if len(read.files) == 1 or options.corpus is None else f"{name} ({len(read.files):,} files)",
        unit=_unit(options, read.are_text),
        sequences={split: len(rows) for split, rows in parts.items()},
        vocab_size=len(vocabulary),
        sequence_length=options.sequence_length,
        tokens=int(lengths.sum()),
        length_min=int(lengths.min()),
        length_median=float(np.median(lengths)),
        length_mean=float(lengths.mean()),
        length_max=int(lengths.max()),
        unknown_rate=dict.fromkeys(parts, 0.0),
        repeated=repeated_within(keys, parts),
        shared=shared,
        duplicates=options.duplicates,
        tunes=len(tunes),
        broken=tuple(read.broken),
        repaired=sum(tune.repaired for tune in tunes),
        notes=sum(tune.notes for tune in tunes),
        missed_notes=sum(tune.missed_notes for tune in tunes),
        lost_notes=sum(tune.lost_notes for tune in tunes),
        ornaments=sum(tune.ornaments for tune in tunes),
        refused=tuple(f"{tune.source}: {directive}" for tune in tunes for directive in tune.refused),
        polyphonic_tunes=len(polyphonic),
        polyphonic_steps=sum(tune.polyphonic_steps for tune in polyphonic),
        polyphony=options.polyphony,
        short_tunes=len(tunes) - len(np.unique(tune_of)) - (len(polyphonic) if options.polyphony == "drop" else 0),
        remainder_steps=remainders,
        remainder=options.remainder,
        unseen_rate=float((~np.isin(tokens["test"], tokens["train"])).mean()),
    )

    return MusicTask(
        "music",
        len(vocabulary),
        options.sequence_length,
        _Splits(ids, parts, options.sequence_length, vocabulary),
        eos_token=vocabulary.eos_token,
        vocabulary=vocabulary,
        statistics=statistics,
        step_seconds=options.step_seconds,
    )


@dataclass(frozen=True)
class _Splits:
    """The windows of each split; the tensor is made at its first use."""

    ids: list[IntArray]
    parts: Parts
    length: int
    vocabulary: Vocabulary

    def __call__(self, split: Split) -> torch.Tensor:
        """(M, T) int64: EOS after a shorter window, then PAD."""
        sequences = np.full((len(self.parts[split]), self.length), self.vocabulary.pad_token, dtype=np.int64)
        for place, row in enumerate(self.parts[split]):
            window = self.ids[row]
            sequences[place, : len(window)] = window
            if self.vocabulary.eos_token is not None and len(window) < self.length:
                sequences[place, len(window)] = self.vocabulary.eos_token
        return torch.from_numpy(sequences)


def pitches(vocabulary: Vocabulary) -> list[float]:
    """The MIDI note of each token, NaN for rest, hold and EOS, as `CorpusReference` needs it.

    Raises:
        ValueError: for a vocabulary of another kind of task.
    """
    symbols = [REST if token == EOS else name_symbol(token) for token in vocabulary.tokens]
    return [float(symbol + MIDI_NOTE_OF_KEY_0) if symbol >= 1 else float("nan") for symbol in symbols]


def _split(
    windows: Sequence[IntArray], tune_of: IntArray, options: MusicOptions, first: dict[str, int]
) -> tuple[Parts, int, IntArray]:
    """The windows of each split, how many held-out ones also occur in an earlier split, and a key of each window."""
    known: dict[bytes, int] = {}
    keys = np.array([known.setdefault(window.tobytes(), row) for row, window in enumerate(windows)], dtype=np.int64)
    parts = draw_parts(
        tune_of,
        validation=options.validation,
        test=options.test,
        seed=options.split_seed,
        first_validation=first.get("validation"),
        first_test=first.get("test"),
    )
    parts, shared = resolve_duplicates(keys, parts, options.duplicates)
    return parts, shared, keys


def _vocabulary(windows: Sequence[IntArray], options: MusicOptions) -> tuple[Vocabulary, IntArray]:
    """Keys from low to high, then rest, hold and EOS; and the id of each symbol, at index symbol - HOLD."""
    used = set(np.unique(np.concatenate(windows)).tolist())
    symbols = list(range(1, KEYS + 1)) if options.keys == "all" else sorted(used - {REST, HOLD})
    for symbol, is_chosen in ((REST, options.rests == "token"), (HOLD, options.holds)):
        if symbol in used or (is_chosen and options.keys == "all"):
            symbols.append(symbol)
    names = [symbol_name(symbol) for symbol in symbols]
    is_shorter = any(len(window) < options.sequence_length for window in windows)
    id_of = np.full(KEYS + 1 - HOLD, -1, dtype=np.int64)
    id_of[np.array(symbols) - HOLD] = np.arange(len(symbols))
    return Vocabulary([*names, EOS] if is_shorter else names, EOS if is_shorter else None), id_of


def _unit(options: MusicOptions, is_text: bool) -> str:
    """The meaning of a token."""
    if is_text:
        step = "step of the text"
    else:
        step = f"{options.step_seconds:g} s" if options.step_beats is None else f"{options.step_beats:g} crotchets"
    tokens = [name for name, has in (("rest", options.rests == "token"), ("hold", options.holds)) if has]
    return f"a pitch every {step}" + (f", or {' or '.join(tokens)}" if tokens else "")
