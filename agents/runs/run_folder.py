"""A run folder: all that one run is and has, from configuration to pictures. Reading one executes nothing stored in it.

A generator of the user's own ("module:Class" in run.json) is the one exception to running this project's code alone:
only its module can build it, so `RunFolder.generator` imports that module. It is not in the folder. Before you sample
from a stranger's run, look at `generator` in its run.json; before you go on with it, at `discriminator` and
`reward_model` too.

run.json             what this is: task, configuration, corpus and what it holds, versions, how it was started
task.safetensors     real sequences, vocabulary and oracle, so that the run needs no other file, the corpus included
metrics.csv          a line a measurement; the same seed gives the same bytes
tensorboard/         the same numbers for TensorBoard
samples/             what the generator wrote at each measurement, where tokens can be read
checkpoints/         latest.safetensors (all that resuming needs) and mle.safetensors (the same at the end of MLE)
results.csv          the closing table
learning_curve.png   both NLLs over epochs, as Fig. 2; without an oracle NLL_test, BLEU and self-BLEU
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from agents.runs.checkpoints import read_tensors, write_atomically, write_tensors
from agents.runs.flat_names import config_of_format_1
from agents.seqgan import SeqGAN, SeqGANConfig
from agents.setting_paths import changed, differing, value_at
from seqgan_env.components import build_generator
from seqgan_env.measures.measurement import Measures
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.tasks import TASKS
from seqgan_env.tasks.oracle import OracleOptions
from seqgan_env.tasks.task import Split, Task, restored_task

_KIND = "seqgan-run"
# Groups that decide what MLE makes and what is measured of it, beside the real sequences, which are compared.
_PRETRAINING_GROUPS = ("seed", "generator", "pretraining", "measuring")
_GROUPS: dict[str, Any] = {
    field.name: field.default_factory for field in fields(SeqGANConfig) if is_dataclass(field.default_factory)
}
del _GROUPS["task"]  # its class depends on the task
_FORMAT = 2  # of run.json; 1 had flat settings

# Columns of metrics.csv; those of the task's measures stand between and behind them.
_STEP_COLUMNS = (
    "stage",
    "index",  # epochs, steps or rounds done in the stage
    "epoch",  # MLE epochs plus adversarial rounds: the x axis of Fig. 2
    "train_nll",
    "validation_nll",
)
_GAME_COLUMNS = (
    "discriminator_loss",
    "discriminator_accuracy",
    "discriminator_calibration_error",
    "mean_reward",
)


class RunFolder:
    """An existing run folder; make one with `RunFolder.create`.

    Args:
        path: the folder.

    Raises:
        ValueError: if it is not a run folder of this project.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        description = self.path / "run.json"
        if not description.is_file():
            raise ValueError(f"{str(path)!r} is not a run folder: it has no run.json; give a folder that training made")
        try:
            self.description: dict[str, Any] = json.loads(description.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{str(description)!r} cannot be read: {error}") from error
        if not isinstance(self.description, dict) or self.description.get("kind") != _KIND:
            raise ValueError(f"{str(path)!r} is not a run folder of this project: its run.json is of another kind")
        self.format = self.description.get("format")
        if self.format not in (1, _FORMAT):
            made_by = (self.description.get("versions") or {}).get("seqgan-gym", "unknown")
            raise ValueError(
                f"{str(path)!r} has format={self.format!r}; this version reads 1 and {_FORMAT}. Use the version of "
                f"seqgan-gym that made it: {made_by}"
            )
        self._writer: SummaryWriter | None = None

    @classmethod
    def create(
        cls,
        path: Path,
        task: Task,
        config: SeqGANConfig,
        preset: str,
        pretrained: RunFolder | None = None,
        corpus_options: dict[str, Any] | None = None,
    ) -> RunFolder:
        """A new run folder; one that was interrupted while it was made may be made again.

        Args:
            path: where it shall be.
            task: what is trained on.
            config: all settings.
            preset: the name of the settings that `config` was made from.
            pretrained: a run that has finished MLE with the same settings. The new run starts at that point and ends,
                bit for bit, as if it had done its own; only its TensorBoard log lacks the MLE epochs.
            corpus_options: what the task was made with, where there is a corpus; to look at, and to play music by.

        Raises:
            ValueError: if the folder already holds anything, or `pretrained` has not finished MLE or made it otherwise;
                names the setting that differs.
        """
        path = Path(path)
        cls.expect_unused(path)
        if corpus_options is not None:
            config = changed(config, {"task": TASKS[task.name](**corpus_options)})
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_tensors(path / "task.safetensors", task.tensors(), task.state())
        if pretrained is not None:
            _copy_pretraining(pretrained, path, config)
        description = {
            "kind": _KIND,
            "format": _FORMAT,
            "task": task.name,
            "task_options": _name_of(config.task),
            "preset": preset,
            "command": " ".join(["seqgan", *sys.argv[1:]]),
            "pretrained": None if pretrained is None else str(pretrained.path),
            "config": asdict(config.complete()),
            "corpus_options": corpus_options,
            "statistics": task.summary(),
            "versions": {
                "python": platform.python_version(),
                "platform": platform.platform(),
                "threads": torch.get_num_threads(),
                **{name: version(name) for name in ("seqgan-gym", "torch", "numpy", "gymnasium", "stable-baselines3")},
            },
        }
        # Last, so that a folder with a run.json is whole.
        write_atomically(path / "run.json", json.dumps(description, indent=2).encode())
        return cls(path)

    @staticmethod
    def expect_unused(path: Path) -> None:
        """Raise ValueError unless a run folder can be made there."""
        if path.exists() and (not path.is_dir() or not all(map(_is_left_by_create, path.iterdir()))):
            raise ValueError(f"out={str(path)!r} is already used; choose another folder, or go on with --resume {path}")

    def config(self) -> SeqGANConfig:
        """The run's settings.

        Raises:
            ValueError: if run.json does not hold them.
        """
        try:
            values = self.description["config"]
            if self.format == 1:
                name = self.description["task"]
                options = TASKS.get(name, OracleOptions)
                return config_of_format_1(values, options(**(self.description.get("corpus_options") or {})))
            return config_from(self.description["task_options"], values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{str(self.path / 'run.json')!r} holds no valid configuration: {error}") from error

    def expect_resumable(self) -> None:
        """Raise ValueError if the checkpoints are of an older format: one can sample from them, but not go on."""
        if self.format != _FORMAT:
            raise ValueError(
                f"{str(self.path)!r} has format={self.format}: it can be evaluated, sampled and plotted, but training "
                f"cannot go on from its checkpoints; start a new run, or use the version of seqgan-gym that made it"
            )

    def task(self) -> Task:
        """The run's real sequences, read when they are asked for, with vocabulary, statistics and oracle."""
        file = self.path / "task.safetensors"
        tensors, state = read_tensors(file, lambda name: name.startswith("oracle."))
        # Folders of older versions keep there what their music needs.
        state["options"] = self.description.get("corpus_options")
        return restored_task(state, tensors, StoredSplits(file))

    @cached_property
    def measures(self) -> Measures:
        """What measures generators on the run's task."""
        return self.task().measures(self.config().measuring.held_out_sequences)

    # Checkpoints.

    @property
    def latest_checkpoint(self) -> Path:
        """Everything that resuming needs; absent before the first."""
        return self.path / "checkpoints" / "latest.safetensors"

    @property
    def mle_checkpoint(self) -> Path:
        """The game as MLE left it; absent before that."""
        return self.path / "checkpoints" / "mle.safetensors"

    # Samples.

    def write_samples(self, stage: str, index: int, lines: Iterable[str]) -> None:
        """Keep what the generator wrote after a unit of work, a line a sequence: samples/mle-005.txt."""
        folder = self.path / "samples"
        folder.mkdir(exist_ok=True)
        write_atomically(folder / f"{stage}-{index:03d}.txt", "".join(f"{line}\n" for line in lines).encode())

    def remove_remains(self) -> None:
        """Delete what killed processes left of half-written checkpoints."""
        for remains in self.latest_checkpoint.parent.glob(".*.tmp"):
            remains.unlink()

    def generator(self, checkpoint: Path | None = None) -> SequenceModel:
        """The generator of a checkpoint, by default of the latest.

        Built-in generators are built from numbers alone. One of the user's own, "module:Class", needs its module, which
        is imported, and so executed.

        Raises:
            ValueError: if there is no such checkpoint, it cannot be read, or the module of the user's own generator is
                missing.
        """
        checkpoint = self.latest_checkpoint if checkpoint is None else checkpoint
        if not checkpoint.is_file():
            raise ValueError(
                f"{str(self.path)!r} has no checkpoint yet; go on with: seqgan train ... --resume {self.path}"
            )
        tensors, _ = read_tensors(checkpoint)
        config, task = self.config(), self.task()
        try:
            generator = build_generator(config.generator.name, task, **config.generator.options)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{str(self.path)!r} was trained with generator={config.generator.name!r}, which cannot be built now, "
                f"and its parameters are of no use without it: {error}"
            ) from error
        prefix = f"{SeqGAN.GENERATOR}." if self.format == _FORMAT else "policy.generator."
        stored = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        try:
            generator.load_state_dict(stored)
        except RuntimeError as error:
            raise ValueError(
                f"the parameters in {str(checkpoint)!r} are not those of generator={config.generator.name!r}: {error}"
            ) from error
        return generator

    # Metrics.

    @property
    def metrics_path(self) -> Path:
        """The CSV of measurements."""
        return self.path / "metrics.csv"

    @property
    def metric_columns(self) -> tuple[str, ...]:
        """Of that CSV."""
        measures = self.measures
        return (*_STEP_COLUMNS, *measures.likelihood_columns, *_GAME_COLUMNS, *measures.sample_columns)

    def rewind_metrics(self, size: int) -> None:
        """Drop what was logged after a checkpoint was taken: keep the first `size` bytes, and at least the header."""
        if size == 0:
            self.metrics_path.write_text(",".join(self.metric_columns) + "\n", encoding="utf-8")
            return
        with self.metrics_path.open("r+b") as file:
            file.truncate(size)

    def metrics_size(self) -> int:
        """Bytes of the CSV so far."""
        return self.metrics_path.stat().st_size

    def log(self, row: dict[str, str | int | float | None]) -> None:
        """Append a line to metrics.csv, synced to disk, and its numbers to TensorBoard."""
        cells = [_cell(row.get(column)) for column in self.metric_columns]
        with self.metrics_path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow(cells)
            file.flush()
            os.fsync(file.fileno())
        if self._writer is None:
            self._writer = SummaryWriter(str(self.path / "tensorboard"), purge_step=int(row["epoch"] or 0))
        for name, value in row.items():
            if isinstance(value, float):
                self._writer.add_scalar(f"{row['stage']}/{name}", value, int(row["index"] or 0))
        self._writer.flush()

    def metrics(self) -> list[dict[str, str]]:
        """The lines of metrics.csv, as text. A line that a running training has not finished writing is left out.

        Raises:
            ValueError: if there are none.
        """
        if not self.metrics_path.is_file():
            raise ValueError(f"{str(self.path)!r} has no metrics.csv yet: the run has not measured anything")
        text = self.metrics_path.read_text(encoding="utf-8")
        return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))

    def close(self) -> None:
        """Close the TensorBoard log."""
        if self._writer is not None:
            self._writer.close()


def config_from(task_name: str, values: dict[str, Any]) -> SeqGANConfig:
    """Settings from plain values, as `dataclasses.asdict` makes them and JSON holds them.

    Args:
        task_name: of the task whose options class the group "task" has.
        values: of all groups.

    Raises:
        KeyError, TypeError, ValueError: if they are not those of a `SeqGANConfig`.
    """
    groups = {name: group(**values[name]) for name, group in _GROUPS.items()}
    others = {name: value for name, value in values.items() if name not in groups and name != "task"}
    return SeqGANConfig(task=TASKS[task_name](**values["task"]), **groups, **others)


def _name_of(options: Any) -> str:
    """The task whose options class this is an object of; raises ValueError for another class."""
    for name in TASKS:
        if type(options) is TASKS[name]:
            return name
    raise ValueError(f"config.task={options!r} must be the options of one of {', '.join(TASKS)}")


def _copy_pretraining(pretrained: RunFolder, path: Path, config: SeqGANConfig) -> None:
    """Give a new run another's MLE: its checkpoint and its measurements. Raises what `RunFolder.create` says."""
    pretrained.expect_resumable()
    theirs, ours = pretrained.config().complete(), config.complete()
    for group in _PRETRAINING_GROUPS:
        for setting in differing(getattr(theirs, group), getattr(ours, group), group):
            raise ValueError(
                f"pretrained={str(pretrained.path)!r} has {setting}={value_at(theirs, setting)!r}, the new run "
                f"{value_at(ours, setting)!r}; both must agree, or the new run must do its own pretraining"
            )
    (theirs_tensors, theirs_state), (tensors, state) = (
        read_tensors(folder / "task.safetensors") for folder in (pretrained.path, path)
    )
    same = theirs_tensors.keys() == tensors.keys() and theirs_state["eos_token"] == state["eos_token"]
    if not same or not all(torch.equal(tensors[name], tensor) for name, tensor in theirs_tensors.items()):
        raise ValueError(f"pretrained={str(pretrained.path)!r} has other real sequences or another oracle")
    if not pretrained.mle_checkpoint.is_file():
        raise ValueError(f"pretrained={str(pretrained.path)!r} has not finished its MLE; train it further first")
    _, state = read_tensors(pretrained.mle_checkpoint)
    write_atomically(path / "metrics.csv", pretrained.metrics_path.read_bytes()[: state["metrics_size"]])
    write_atomically(path / "checkpoints" / "mle.safetensors", pretrained.mle_checkpoint.read_bytes())


def _is_left_by_create(entry: Path) -> bool:
    """Whether `create` makes this before run.json, so that it holds nothing of a run."""
    if entry.name == "checkpoints":
        return entry.is_dir() and all("mle.safetensors" in file.name for file in entry.iterdir())
    made = ("task.safetensors", "metrics.csv")
    return entry.name in made or entry.name.startswith((*(f".{name}." for name in made), ".run.json."))


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class StoredSplits:
    """Reads the sequences of a split, (M, T) int64, from a run folder's `task.safetensors`."""

    path: Path

    def __call__(self, split: Split) -> Tensor:
        return read_tensors(self.path, lambda name: name == split)[0][split].long()
