"""Samples to look at and to listen to: text beside its nearest training sequence; melodies as MIDI, ABC, piano rolls.

In: (R, T) int64 samples of a run, and its task or folder. Out: text, files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import Tensor

from agents.runs.run_folder import RunFolder
from seqgan_env.corpora.melodies import abc_text, draw_piano_roll, write_midi
from seqgan_env.measures.nearest import nearest_sequences
from seqgan_env.tasks.task import Task
from seqgan_env.terminal_text import visible
from seqgan_env.vocabulary import Vocabulary

SampleKind = Literal["text", "midi", "abc", "png"]
_PAPER_STEP_SECONDS = 0.4


def samples_as_text(samples: Tensor, task: Task, nearest: bool, for_terminal: bool = False) -> str:
    """Each sample on a line; below it, indented after a similarity of 0 to 1, the most similar training sequence.

    Args:
        samples: (R, T) int64, PAD after the end.
        task: whose tokens they are.
        nearest: whether to look for training sequences, where the task has a corpus.
        for_terminal: make control characters of the tokens visible, line ends too; otherwise they stand as they are.
    """

    def line_of(row: list[int]) -> str:
        text = _decoded(row, task)
        return visible(text, one_line=True) if for_terminal else text

    lines = [line_of(row) for row in samples.tolist()]
    if not nearest or task.statistics is None:
        return "".join(f"{line}\n" for line in lines)
    train = task.real_sequences("train")
    rows, likeness = nearest_sequences(samples.numpy(), train.numpy(), task.vocab_size, task.eos_token)
    theirs = [line_of(row) for row in train[rows].tolist()]
    return "".join(
        f"{line}\n    {value:.2f}  {other}\n" for line, value, other in zip(lines, likeness, theirs, strict=True)
    )


def _decoded(sequence: list[int], task: Task) -> str:
    tokens = [token for token in sequence if token < task.vocab_size]
    return " ".join(map(str, tokens)) if task.vocabulary is None else task.vocabulary.decode(tokens)


def music_as_text(samples: Tensor, run: RunFolder) -> str:
    """Melodies (R, T) as ABC tunes."""
    return abc_text(samples, _vocabulary(run), step_seconds(run))


def write_music(kind: Literal["midi", "png"], samples: Tensor, run: RunFolder, out: Path) -> list[Path]:
    """Melodies (R, T) as MIDI files in the folder `out`, or as piano rolls in the PNG `out`; returns the files.

    Raises:
        ImportError: without the extra that the kind needs.
    """
    if kind == "midi":
        return write_midi(out, samples, _vocabulary(run), step_seconds(run))
    return [draw_piano_roll(out, samples, _vocabulary(run), step_seconds(run))]


def step_seconds(run: RunFolder) -> float:
    """How long a step sounds, as the run's corpus was sampled."""
    options = run.description.get("corpus_options") or {}
    return float(options.get("step_seconds", _PAPER_STEP_SECONDS))


def _vocabulary(run: RunFolder) -> Vocabulary:
    vocabulary = run.task().vocabulary
    assert vocabulary is not None
    return vocabulary
