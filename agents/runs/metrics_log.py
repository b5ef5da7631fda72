"""metrics.csv and the TensorBoard log of a run: a line for each unit of work.

In: rows as dictionaries. Out: the CSV, whose bytes are the same for the same seed, and the same numbers for
TensorBoard. A checkpoint holds the CSV's content, so that a file that was cut off or deleted comes back as it was.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from agents.runs.regular_files import append_line, expect_own_folder, write_atomically
from seqgan_env.mixed_reward import is_mixed, reward_terms

# Columns of metrics.csv; those of the task's measures stand between and behind them.
STEP_COLUMNS = (
    "stage",
    "index",  # epochs, steps or rounds done in the stage
    "epoch",  # MLE epochs plus adversarial rounds: the x axis of Fig. 2
    "train_nll",
    "validation_nll",
)
GAME_COLUMNS = (
    "discriminator_loss",
    "discriminator_accuracy",
    "discriminator_calibration_error",
    "mean_reward",
)
Row = Mapping[str, str | int | float | None]


def reward_columns(reward_model: str) -> tuple[str, ...]:
    """A column for the mean of each term of a mixed reward; none for another reward."""
    return tuple(f"reward_{term.name}" for term in reward_terms(reward_model)) if is_mixed(reward_model) else ()


class MetricsLog:
    """The measurements of a run.

    Args:
        path: of the CSV.
        tensorboard: folder of the TensorBoard log.
        columns: of the CSV.
    """

    def __init__(self, path: Path, tensorboard: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.tensorboard = tensorboard
        self.columns = tuple(columns)
        self._writer: SummaryWriter | None = None

    @property
    def header(self) -> bytes:
        """The first line."""
        return (",".join(self.columns) + "\n").encode()

    def content(self) -> bytes:
        """The whole CSV; empty if there is none."""
        return self.path.read_bytes() if self.path.is_file() else b""

    def rewind(self, size: int, remembered: bytes | None = None) -> str | None:
        """Drop what was logged after a checkpoint was taken. The file is always written anew, through no link.

        Args:
            size: bytes that the CSV had when the checkpoint was taken; 0 stands for the header alone.
            remembered: those bytes, if the checkpoint holds them.

        Returns:
            What was wrong with the file, in one sentence, or None.
        """
        found, said = self.content(), None
        kept = found[:size] if size else self.header
        if size and remembered is not None:
            if kept != remembered:
                said = f"{str(self.path)!r} {self._fault(found, size)}; it is written again from the checkpoint"
            kept = remembered
        elif len(kept) < size:
            kept = kept[: kept.rfind(b"\n") + 1] or self.header  # whole lines
            said = (
                f"{str(self.path)!r} {self._fault(found, size)}. The checkpoint is of a version that kept no copy: the "
                "missing lines are lost, the training is not"
            )
        write_atomically(self.path, kept)
        return said

    def _fault(self, found: bytes, size: int) -> str:
        if not self.path.is_file():
            return "is missing"
        if len(found) < size:
            return f"has {len(found):,} of the {size:,} bytes that the checkpoint remembers"
        return "differs from what the checkpoint remembers"

    def append(self, row: Row) -> None:
        """Append a line to the CSV, synced to disk, and its numbers to TensorBoard.

        Raises:
            ValueError: if a link or another thing that is no regular file stands in the CSV's place.
            OSError: if the disk is full or not writable.
        """
        before = self.rows() if self._writer is None else []
        append_line(self.path, ",".join(_cell(row.get(column)) for column in self.columns) + "\n")
        if self._writer is None:
            self._begin_tensorboard(row, before)
        self._to_tensorboard(row)
        assert self._writer is not None
        self._writer.flush()

    def _begin_tensorboard(self, row: Row, before: Iterable[Mapping[str, str]]) -> None:
        """Open the log; if it is new, begin with the lines that the CSV has, such as another run's pretraining."""
        expect_own_folder(self.tensorboard)
        is_new = not any(self.tensorboard.glob("events*")) if self.tensorboard.is_dir() else True
        self._writer = SummaryWriter(str(self.tensorboard), purge_step=None if is_new else int(row["epoch"] or 0))
        for earlier in before if is_new else ():
            numbers = {name: float(cell) for name, cell in earlier.items() if "." in cell}
            self._to_tensorboard({"stage": earlier["stage"], "index": int(earlier["index"]), **numbers})

    def _to_tensorboard(self, row: Row) -> None:
        assert self._writer is not None
        for name, value in row.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{row['stage']}/{name}", value, int(row["index"] or 0))

    def rows(self) -> list[dict[str, str]]:
        """The lines of the CSV, as text; none without a file.

        A line that a running training has not finished writing is left out.
        """
        return rows_of(self.content())

    def close(self) -> None:
        """Close the TensorBoard log."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def rows_of(content: bytes) -> list[dict[str, str]]:
    """The whole lines of a CSV, as text."""
    text = content.decode("utf-8")
    return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(value)
