"""Methods x seeds as the cells of a grid: training, measuring, and collecting the measured rows.

A training cell holds a run folder. A method that shares another's pretraining starts from the other's cell with the
same seed. A measuring cell draws samples of a trained generator at one temperature. Its random stream is given by
method, temperature and seed. So figures that need the same generators share them, and the order of the figures does not
matter.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from agents.runs.description import config_from
from agents.runs.regular_files import write_atomically
from agents.runs.resampling import Residual
from agents.runs.run_folder import RunFolder
from agents.runs.training import Experiment
from agents.runs.trust import own_parts
from agents.seqgan import SeqGANConfig
from agents.studies.cells import Cell
from agents.studies.methods import METHODS, REAL, Method
from agents.studies.record import AUTHORS_ORACLE, file_fingerprint, oracle_fingerprint
from agents.studies.tables import Row
from seqgan_env.tasks import TASKS
from seqgan_env.tasks.task import Task

_TRAIN = f"{__name__}:train_cell"
_MEASURE = f"{__name__}:measure_cell"
# The default of a new setting is the behaviour before it existed. Options of a task are compared directly.
_DEFAULTS = {"config": {name: value for name, value in asdict(SeqGANConfig().complete()).items() if name != "task"}}


@dataclass(frozen=True)
class Study:
    """The shared part of all cells of a reproduction.

    Attributes:
        task: name of the task.
        preset: name of the settings that `config` was made from.
        config: the common settings, which methods and seeds change.
        seeds: seeds of the runs; the real sequences are the same for all.
        samples: sequences drawn for each measurement.
        folder: folder of the cells.
        device: device of the models.
        corpus: file, folder or data set with real sequences; None is the task's bundled corpus.
        corpus_options: further options of a task with a corpus, such as `test_corpus`; None for other tasks.
    """

    task: str
    preset: str
    config: SeqGANConfig
    seeds: tuple[int, ...]
    samples: int
    folder: Path
    device: str = "cpu"
    corpus: str | None = None
    corpus_options: dict[str, Any] | None = None

    @cached_property
    def made_task(self) -> Task:
        """The task with the real sequences, and with the oracle if it has one.

        Raises:
            ValueError: if an oracle or a corpus cannot be used.
        """
        task: Task = self._read(self.config).task.task()
        return task

    def _read(self, config: SeqGANConfig) -> SeqGANConfig:
        """Settings with the options of the corpus, if there is one."""
        if self.corpus_options is None:
            return config
        return replace(config, task=TASKS[self.task](corpus=self.corpus, **self.corpus_options))

    @cached_property
    def oracle_sha256(self) -> str | None:
        """Fingerprint of the oracle; None without one."""
        return None if self.made_task.oracle is None else oracle_fingerprint(self.made_task.oracle)

    @property
    def is_authors_oracle(self) -> bool:
        """Whether the oracle is the one that the authors published."""
        return self.oracle_sha256 == AUTHORS_ORACLE

    @cached_property
    def sources(self) -> dict[str, Any]:
        """The files of the corpus and fingerprints of their contents: other contents make another cell."""
        if self.corpus_options is None:
            return {}
        paths = {"corpus": self.corpus, "test_corpus": self.corpus_options.get("test_corpus")}
        found: dict[str, Any] = {"corpus": self.corpus, "corpus_options": self.corpus_options}
        return found | {f"{name}_sha256": file_fingerprint(path) for name, path in paths.items()}

    def training(self, method: Method, seed: int) -> Cell:
        """The cell that trains a method."""
        pretrained = None
        if method.starts_from is not None:
            pretrained = self.training(METHODS[method.starts_from], seed).name
        settings = {
            "task": self.task,
            "preset": self.preset,
            "config": asdict(self._read(method.config(self.config, seed)).complete()),
            "pretrained": pretrained,
        }
        after = () if pretrained is None else (pretrained,)
        return Cell(f"{method.name}-seed{seed}", _TRAIN, settings | self.sources, after, self.device, _DEFAULTS)

    def measuring(self, method: Method, seed: int, temperature: float) -> Cell:
        """The cell that measures a method. A method without training takes its task from the MLE run of its seed."""
        of = self.training(method if method.is_trained else METHODS["mle"], seed).name
        settings = {"method": method.name, "of": of, "temperature": temperature, "samples": self.samples, "seed": seed}
        name = f"{method.name}-seed{seed}-temperature{temperature}-samples{self.samples}"
        return Cell(name, _MEASURE, settings, (of,), self.device)

    def cells(self, methods: Sequence[Method], temperatures: Sequence[float] | None = None) -> list[Cell]:
        """All cells of some methods: first training, seed by seed, then measuring.

        Args:
            methods: methods to train and measure.
            temperatures: temperatures of the measurements; None takes each method's own, and an empty sequence measures
                nothing.
        """
        training = [self.training(needed, seed) for seed in self.seeds for one in methods for needed in _needed(one)]
        measuring = [
            self.measuring(method, seed, temperature)
            for seed in self.seeds
            for method in methods
            for temperature in (method.temperatures if temperatures is None else temperatures)
        ]
        return list({cell.name: cell for cell in training + measuring}.values())

    def run(self, method: Method, seed: int) -> RunFolder:
        """The run of a finished training cell."""
        return RunFolder(self.training(method, seed).folder(self.folder) / "run")

    def measurements(self, methods: Sequence[Method], temperatures: Sequence[float] | None = None) -> list[Row]:
        """The results of the measuring cells, a row for each method, seed and temperature."""
        rows = []
        for method in methods:
            for seed in self.seeds:
                for temperature in method.temperatures if temperatures is None else temperatures:
                    cell = self.measuring(method, seed, temperature)
                    found = json.loads((cell.folder(self.folder) / "row.json").read_text(encoding="utf-8"))
                    rows.append({"method": method.name, "seed": str(seed), "temperature": str(temperature)} | found)
        return rows

    def learning_curve(self, method: Method, seed: int) -> list[Row]:
        """The measurements during the training of a method; of a shared pretraining only the last one."""
        measured = [row for row in self.run(method, seed).metrics() if row["nll_oracle"]]
        if method.starts_from is not None:
            shared = [row for row in measured if row["stage"] == "mle"]
            measured = shared[-1:] + measured[len(shared) :]
        return measured


def _needed(method: Method) -> list[Method]:
    """The methods to train for a method, in this order."""
    before = [] if method.starts_from is None else [METHODS[method.starts_from]]
    return [*before, method] if method.is_trained else [METHODS["mle"]]


def train_cell(settings: dict[str, Any], folder: Path, device: str) -> None:
    """Train the rest of a cell's run; write the progress to log.txt."""
    path = folder / "run"
    corpus_options = settings.get("corpus_options")
    config = config_from(settings["task"], settings["config"])
    if (path / "run.json").is_file():
        run = RunFolder(path, trust=own_parts(config).values())  # the settings are the user's own command
    else:
        pretrained = None
        if settings["pretrained"] is not None:
            pretrained = RunFolder(folder.parent / settings["pretrained"] / "run")
            task = pretrained.task()
        else:
            task = config.task.task()
        run = RunFolder.create(path, task, config, settings["preset"], pretrained, corpus_options)
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        Experiment(run, device, Console(file=log, width=120), show_progress=False).train()


def measure_cell(settings: dict[str, Any], folder: Path, device: str) -> None:
    """Measure a method with the whole test split and newly drawn samples; write the numbers to row.json."""
    run = RunFolder(folder.parent / settings["of"] / "run")
    measures = run.task().measures()
    temperature, samples = settings["temperature"], settings["samples"]
    stream = zlib.crc32(f"{settings['method']} at temperature {temperature}".encode())
    rng = np.random.default_rng([settings["seed"], stream])
    method = (METHODS | {REAL.name: REAL}).get(settings["method"])  # None for a schedule of Fig. 3
    if method is not None and method.untrained is not None:
        found = method.untrained(measures, samples, rng, device)
    elif method is not None and method.proposals > 1:
        found = Residual.of(run, device).measure(measures, samples, method.proposals, rng, temperature)
    else:
        found = measures.measure(run.generator().to(device).at_temperature(temperature), samples, rng)
    write_atomically(folder / "row.json", json.dumps(found.columns(), indent=2).encode())
