"""A run folder: all that one run is and has, from configuration to pictures. Reading one executes nothing stored in it.

A part of somebody's own ("module:Class" in run.json) is built by its module, which is not in the folder. The module is
imported only if the user repeats its name: `RunFolder(path, trust=("module:Class",))`, `--trust module:Class`. A folder
that this process has just made is trusted. Nothing is written through a symbolic link.

run.json             what this is: task, configuration, corpus and what it holds, versions, how it was started
task.safetensors     real sequences, vocabulary and oracle, so that the run needs no other file, the corpus included
metrics.csv          a line a measurement; the same seed gives the same bytes
tensorboard/         the same numbers for TensorBoard
models/              the pretrained models, "hf:...", in whole; checkpoints have the part that is trained
samples/             what the generator wrote at each measurement, where tokens can be read
checkpoints/         latest.safetensors (all that resuming needs), previous.safetensors (the one before, for the case
                     that the latest is damaged) and mle.safetensors (the same at the end of MLE)
results.csv          the closing table
learning_curve.png   both NLLs over epochs, as Fig. 2; without an oracle NLL_test, BLEU and self-BLEU
lock                 held by the process that trains; the system frees it when that process ends, however it ends
"""

from __future__ import annotations

import platform
import sys
import warnings
from collections.abc import Collection, Iterable
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from agents.runs.checkpoints import read_tensors, write_tensors
from agents.runs.description import FORMAT, KIND, config_from, expect_unchanged, read_description, task_name, written
from agents.runs.flat_names import config_of_format_1
from agents.runs.metrics_log import GAME_COLUMNS, STEP_COLUMNS, MetricsLog, Row, reward_columns
from agents.runs.pretrained_models import expect_same_generator, store_models, stored_folders
from agents.runs.regular_files import expect_own_folder, expect_regular, make_own_folder, write_atomically
from agents.runs.starting_points import copy_generator, copy_pretraining, is_left_by_create
from agents.runs.stored_models import built_generator, stored_task
from agents.runs.trust import expect_trusted, own_parts, own_parts_of_format_1
from agents.seqgan import SeqGAN, SeqGANConfig
from agents.setting_paths import changed
from seqgan_env.measures.measurement import Measures
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.tasks import TASKS
from seqgan_env.tasks.oracle import OracleOptions
from seqgan_env.tasks.task import Task

# Groups that decide what MLE makes and what is measured of it, beside the real sequences, which are compared.


class RunWarning(UserWarning):
    """Something in a run folder is damaged or missing, and was made up for."""


class RunFolder:
    """An existing run folder; make one with `RunFolder.create`.

    Args:
        path: the folder.
        trust: "module:Class" names of parts whose modules may be imported if run.json names them.

    Raises:
        ValueError: if it is not a run folder of this project.
    """

    def __init__(self, path: Path, trust: Collection[str] = ()) -> None:
        self.path = Path(path)
        self.trust = tuple(trust)
        self.description = read_description(self.path)
        self.format = self.description["format"]

    @classmethod
    def create(
        cls,
        path: Path,
        task: Task,
        config: SeqGANConfig,
        preset: str,
        pretrained: RunFolder | None = None,
        corpus_options: dict[str, Any] | None = None,
        budget: dict[str, Any] | None = None,
        start: RunFolder | None = None,
    ) -> RunFolder:
        """A new run folder; one that was interrupted while it was made may be made again.

        Args:
            path: where it shall be.
            task: what is trained on.
            config: all settings.
            preset: the name of the settings that `config` was made from.
            pretrained: a run that has finished MLE with the same settings. The new run starts at that point and ends,
                bit for bit, as if it had done its own.
            corpus_options: what the task was made with, where there is a corpus; to look at, and to play music by.
            budget: the time that the run may take and the counts that were asked for; see `budget`.
            start: a run whose generator the new run goes on to train, on its own sequences.

        Raises:
            ValueError: if the folder already holds anything, or the other run cannot be taken; names what differs.
        """
        path = Path(path)
        cls.expect_unused(path)
        if corpus_options is not None:
            config = changed(config, {"task": TASKS[task.name](**corpus_options)})
        path.mkdir(parents=True, exist_ok=True)
        make_own_folder(path / "checkpoints")
        write_tensors(path / "task.safetensors", task.tensors(), task.state())
        models = store_models(config, path / "models")
        for other in (pretrained, start):
            if other is not None:
                expect_same_generator(models, other.description.get("models"), str(other.path))
        if pretrained is not None:
            copy_pretraining(pretrained, path, config)
        if start is not None:
            copy_generator(start, path, task, config)
        description = {
            "kind": KIND,
            "format": FORMAT,
            "task": task.name,
            "task_options": task_name(config.task),
            "preset": preset,
            "command": " ".join(["seqgan", *sys.argv[1:]]),
            "pretrained": None if pretrained is None else str(pretrained.path),
            **({} if start is None else {"started_from": str(start.path)}),
            "config": asdict(config.complete()),
            "corpus_options": corpus_options,
            "budget": budget,
            "statistics": task.summary(),
            "models": models,
            "versions": {
                "python": platform.python_version(),
                "platform": platform.platform(),
                "threads": torch.get_num_threads(),
                **{name: version(name) for name in ("seqgan-gym", "torch", "numpy", "gymnasium", "stable-baselines3")},
            },
        }
        # Last, so that a folder with a run.json is whole.
        write_atomically(path / "run.json", written(description))
        return cls(path, trust=own_parts(config).values())

    @staticmethod
    def expect_unused(path: Path) -> None:
        """Raise ValueError unless a run folder can be made there."""
        if path.exists() and (not path.is_dir() or not all(map(is_left_by_create, path.iterdir()))):
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
                expect_trusted(str(self.path), own_parts_of_format_1(values), self.trust)
                options = TASKS.get(name, OracleOptions)
                return config_of_format_1(values, options(**(self.description.get("corpus_options") or {})))
            return config_from(self.description["task_options"], values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{str(self.path / 'run.json')!r} holds no valid configuration: {error}") from error

    def expect_resumable(self) -> None:
        """Check that training can go on here: the format, the checksum of run.json, and parts of somebody's own.

        Raises:
            ValueError: if one of them is wrong, or a link or a device stands where the run writes.
        """
        if self.format != FORMAT:
            raise ValueError(
                f"{str(self.path)!r} has format={self.format}: it can be evaluated, sampled and plotted, but training "
                f"cannot go on from its checkpoints; start a new run, or use the version of seqgan-gym that made it"
            )
        expect_unchanged(self.path / "run.json", self.description)
        expect_trusted(str(self.path), own_parts(self.config()), self.trust)
        for name in ("checkpoints", "models", "samples", "tensorboard"):
            expect_own_folder(self.path / name)
        for name in ("run.json", "metrics.csv", "results.csv", "learning_curve.png", "lock"):
            expect_regular(self.path / name)
        for checkpoint in (*self.checkpoints, self.start_checkpoint, self.path / "task.safetensors"):
            expect_regular(checkpoint)

    def change_config(self, config: SeqGANConfig) -> None:
        """Write other settings into run.json: those that a time limit has led to."""
        self.description = self.description | {"config": asdict(config.complete())}
        write_atomically(self.path / "run.json", written(self.description))

    # Two processes.

    @cached_property
    def _lock(self) -> FileLock:
        return FileLock(self.path / "lock", timeout=0)

    def acquire(self) -> None:
        """Take the run's lock for this process; an object that has it may take it again.

        Raises:
            ValueError: if another process has it.
            OSError: if the folder cannot be written.
        """
        expect_regular(self.path / "lock")
        try:
            self._lock.acquire()
        except Timeout:
            raise ValueError(
                f"{str(self.path)!r} is being trained by another process; wait until that has ended, or stop it"
            ) from None

    def release(self) -> None:
        """Give the lock back, as often as it was taken."""
        self._lock.release()

    def task(self) -> Task:
        """The run's real sequences, read when they are asked for, with vocabulary, statistics and oracle."""
        # Folders of older versions keep in the corpus options what their music needs.
        return stored_task(self.path / "task.safetensors", self.description.get("corpus_options"))

    def models(self) -> dict[str, Path]:
        """Part -> the folder with its pretrained model, for the parts that have one; raises as `stored_folders`."""
        return stored_folders(self.path / "models", self.config(), self.description.get("models"))

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
    def previous_checkpoint(self) -> Path:
        """The one before the latest, for the case that the latest is damaged."""
        return self.path / "checkpoints" / "previous.safetensors"

    @property
    def mle_checkpoint(self) -> Path:
        """The game as MLE left it; absent before that."""
        return self.path / "checkpoints" / "mle.safetensors"

    @property
    def start_checkpoint(self) -> Path:
        """The generator of another run, where this one begins; absent for most."""
        return self.path / "checkpoints" / "start.safetensors"

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        """In the order in which they are tried."""
        return self.latest_checkpoint, self.previous_checkpoint, self.mle_checkpoint

    def newest_readable(self) -> tuple[Path, dict[str, Tensor], dict[str, Any]] | None:
        """Path, tensors and plain values of the newest checkpoint that is whole; None if there is none yet.

        If that is not the latest, a `RunWarning` says why.

        Raises:
            ValueError: if there are checkpoints, and none of them can be read.
        """
        faults: list[str] = []
        for checkpoint in self.checkpoints:
            if not checkpoint.is_file():
                continue
            try:
                tensors, state = read_tensors(checkpoint)
            except ValueError as error:
                faults.append(str(error))
                continue
            if faults:
                warnings.warn(f"{faults[0]}; {checkpoint.name} takes its place", RunWarning, stacklevel=2)
            return checkpoint, tensors, state
        if faults:
            raise ValueError(f"{'; '.join(faults)}. Restore one from a backup, or start a new run")
        return None

    # Samples.

    def write_samples(self, stage: str, index: int, lines: Iterable[str]) -> None:
        """Keep what the generator wrote after a unit of work, a line a sequence: samples/mle-005.txt."""
        folder = self.path / "samples"
        make_own_folder(folder)
        write_atomically(folder / f"{stage}-{index:03d}.txt", "".join(f"{line}\n" for line in lines).encode())

    def remove_remains(self) -> None:
        """Delete what killed processes left of half-written files; only while the lock is held."""
        for folder in (self.path, self.latest_checkpoint.parent, self.path / "samples"):
            for remains in folder.glob(".*.tmp"):
                remains.unlink()

    def generator(self, checkpoint: Path | None = None) -> SequenceModel:
        """The generator of a checkpoint, by default of the newest that is whole.

        Built-in generators are built from numbers alone. One of the user's own, "module:Class", needs its module, which
        is imported, and so executed, if it is among `trust`.

        Raises:
            ValueError: if there is no such checkpoint, it cannot be read, its sizes are not those of the settings, or
                the module of somebody's own generator is missing or not trusted.
        """
        found = self.newest_readable() if checkpoint is None else None
        if checkpoint is not None and checkpoint.is_file():
            found = (checkpoint, *read_tensors(checkpoint))
        if found is None:
            raise ValueError(
                f"{str(self.path)!r} has no checkpoint yet; go on with: seqgan train ... --resume {self.path}"
            )
        path, tensors, _ = found
        config = self.config()
        own = {place: name for place, name in own_parts(config).items() if place == "generator.name"}
        expect_trusted(str(self.path), own, self.trust)
        prefix = f"{SeqGAN.GENERATOR}." if self.format == FORMAT else "policy.generator."
        stored = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        return built_generator(config.generator, self.task(), stored, path, self.models().get("generator"))

    # Metrics.

    @property
    def metrics_path(self) -> Path:
        """The CSV of measurements."""
        return self.path / "metrics.csv"

    @property
    def metric_columns(self) -> tuple[str, ...]:
        """Of that CSV."""
        measures = self.measures
        game = (*GAME_COLUMNS, *reward_columns(self.config().game.reward_model))
        return (*STEP_COLUMNS, *measures.likelihood_columns, *game, *measures.sample_columns)

    @cached_property
    def _metrics_log(self) -> MetricsLog:
        return MetricsLog(self.metrics_path, self.path / "tensorboard", self.metric_columns)

    def rewind_metrics(self, size: int, remembered: bytes | None = None) -> None:
        """Drop what was logged after a checkpoint was taken; a `RunWarning` says what was wrong with the file.

        Args:
            size: bytes that it had then; 0 stands for the header alone.
            remembered: those bytes, if the checkpoint holds them.
        """
        said = self._metrics_log.rewind(size, remembered)
        if said is not None:
            warnings.warn(said, RunWarning, stacklevel=2)

    def metrics_content(self) -> bytes:
        """The CSV so far."""
        return self.metrics_path.read_bytes() if self.metrics_path.is_file() else b""

    def metrics_size(self) -> int:
        """Bytes of the CSV so far."""
        return self.metrics_path.stat().st_size

    def log(self, row: Row) -> None:
        """Append a line to metrics.csv, synced to disk, and its numbers to TensorBoard."""
        self._metrics_log.append(row)

    def metrics(self) -> list[dict[str, str]]:
        """The lines of metrics.csv, as text. A line that a running training has not finished writing is left out.

        Raises:
            ValueError: if there is no such file.
        """
        if not self.metrics_path.is_file():
            raise ValueError(f"{str(self.path)!r} has no metrics.csv yet: the run has not measured anything")
        return self._metrics_log.rows()

    def close(self) -> None:
        """Close the TensorBoard log."""
        self._metrics_log.close()
