"""Samples to look at: each beside its nearest training sequence.

In: (R, T) int64 samples of a run, and its task. Out: text. Other forms are methods of the task: `as_text`, `write`.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from seqgan_env.tasks.task import Task
from seqgan_env.terminal_text import visible

SampleKind = Literal["text", "midi", "abc", "png"]


def samples_as_text(samples: Tensor, task: Task, nearest: bool, for_terminal: bool = False) -> str:
    """One line for each sample. Below it, indented: its similarity to the nearest training sequence, and that sequence.

    Args:
        samples: (R, T) int64, PAD after the end.
        task: whose tokens they are.
        nearest: whether to look for training sequences, where the task has a corpus.
        for_terminal: make control characters of the tokens visible, line ends too; otherwise they stand as they are.
    """

    def line_of(row: list[int]) -> str:
        text = task.decode(row)
        return visible(text, one_line=True) if for_terminal else text

    lines = [line_of(row) for row in samples.tolist()]
    found = task.nearest(samples) if nearest else None
    if found is None:
        return "".join(f"{line}\n" for line in lines)
    rows, likeness = found
    theirs = [line_of(row) for row in task.real_sequences("train")[rows].tolist()]
    return "".join(
        f"{line}\n    {value:.2f}  {other}\n" for line, value, other in zip(lines, likeness, theirs, strict=True)
    )
