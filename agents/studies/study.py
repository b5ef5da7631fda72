"""Methods x seeds as the cells of a grid: training, measuring, and gathering the rows that were measured.

A training cell holds a run folder; a method that shares another's pretraining starts from that cell of its seed. A
measuring cell draws samples of a trained generator at one temperature, from a random stream that is named by method,
temperature and seed. So figures that need the same generators share them, in whatever order they are made.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from agents.configuration import SeqGANConfig
from agents.runs.checkpoints import write_atomically
from agents.runs.run_folder import RunFolder
from agents.runs.training import Experiment, make_task
from agents.studies.cells import Cell
from agents.studies.methods import METHODS, Method
from agents.studies.tables import Row
from seqgan_env.rollout_policies import RolloutPolicy, UniformPolicy
from seqgan_env.tasks.task import Task

_TRAIN = f"{__name__}:train_cell"
_MEASURE = f"{__name__}:measure_cell"
_DEFAULTS = {"config": asdict(SeqGANConfig())}  # a new setting's default is what was done before it existed


@dataclass(frozen=True)
class Study:
    """What all cells of a reproduction share.

    Attributes:
        task: "oracle" or "toy".
        preset: name of the settings that `config` was made from.
        config: settings that methods and seeds change.
        seeds: of the runs; the real sequences are the same for all.
        samples: sequences drawn for each measurement.
        folder: of the cells.
        device: where models live.
    """

    task: str
    preset: str
    config: SeqGANConfig
    seeds: tuple[int, ...]
    samples: int
    folder: Path
    device: str = "cpu"

    def make_task(self) -> Task:
        """Real sequences that the runs learn from.

        Raises:
            ValueError: if an oracle or a corpus cannot be used.
        """
        return make_task(self.task, self.config)

    def training(self, method: Method, seed: int) -> Cell:
        """The cell that trains a method."""
        pretrained = None
        if method.starts_from is not None:
            pretrained = self.training(METHODS[method.starts_from], seed).name
        settings: dict[str, Any] = {
            "task": self.task,
            "preset": self.preset,
            "config": asdict(method.config(self.config, seed)),
            "pretrained": pretrained,
        }
        after = () if pretrained is None else (pretrained,)
        return Cell(f"{method.name}-seed{seed}", _TRAIN, settings, after, self.device, _DEFAULTS)

    def measuring(self, method: Method, seed: int, temperature: float) -> Cell:
        """The cell that measures a method; one without training takes its task from the MLE run of its seed."""
        of = self.training(method if method.is_trained else METHODS["mle"], seed).name
        settings = {"method": method.name, "of": of, "temperature": temperature, "samples": self.samples, "seed": seed}
        name = f"{method.name}-seed{seed}-temperature{temperature}-samples{self.samples}"
        return Cell(name, _MEASURE, settings, (of,), self.device)

    def cells(self, methods: Sequence[Method], temperatures: Sequence[float] | None = None) -> list[Cell]:
        """All cells of some methods: what is trained, seed by seed, then what is measured.

        Args:
            methods: to be trained.
            temperatures: at which to measure; None takes each method's own, an empty sequence measures nothing.
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
        """The run of a training cell that is done."""
        return RunFolder(self.training(method, seed).folder(self.folder) / "run")

    def run_of_mle(self, seed: int) -> RunFolder:
        """The run of plain MLE, which every figure has."""
        return self.run(METHODS["mle"], seed)

    def measurements(self, methods: Sequence[Method], temperatures: Sequence[float] | None = None) -> list[Row]:
        """What the measuring cells found, a row for each method, seed and temperature."""
        rows = []
        for method in methods:
            for seed in self.seeds:
                for temperature in method.temperatures if temperatures is None else temperatures:
                    cell = self.measuring(method, seed, temperature)
                    found = json.loads((cell.folder(self.folder) / "row.json").read_text(encoding="utf-8"))
                    rows.append({"method": method.name, "seed": str(seed), "temperature": str(temperature)} | found)
        return rows

    def learning_curve(self, method: Method, seed: int) -> list[Row]:
        """What was measured while a method trained; of a shared pretraining, only the point where it begins."""
        measured = [row for row in self.run(method, seed).metrics() if row["nll_oracle"]]
        if method.starts_from is not None:
            shared = [row for row in measured if row["stage"] == "mle"]
            measured = shared[-1:] + measured[len(shared) :]
        return measured


def _needed(method: Method) -> list[Method]:
    """What must be trained for a method, in this order."""
    before = [] if method.starts_from is None else [METHODS[method.starts_from]]
    return [*before, method] if method.is_trained else [METHODS["mle"]]


def train_cell(settings: dict[str, Any], folder: Path, device: str) -> None:
    """Train what is left of a cell's run; progress goes to log.txt."""
    train_run(settings, folder, device, lambda config: make_task(settings["task"], config))


def train_run(settings: dict[str, Any], folder: Path, device: str, new_task: Callable[[SeqGANConfig], Task]) -> None:
    """The same for any task.

    Args:
        settings: of the cell.
        folder: of the cell.
        device: where models live.
        new_task: called if the run is new and shares no pretraining.
    """
    path = folder / "run"
    if (path / "run.json").is_file():
        run = RunFolder(path)
    else:
        config = SeqGANConfig(**settings["config"])
        pretrained = None
        if settings["pretrained"] is not None:
            pretrained = RunFolder(folder.parent / settings["pretrained"] / "run")
        task = new_task(config) if pretrained is None else pretrained.task()
        corpus_options = settings.get("corpus_options")
        run = RunFolder.create(path, task, config, settings["preset"], pretrained, corpus_options)
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        Experiment(run, device, Console(file=log, width=120), show_progress=False).train()


def measure_cell(settings: dict[str, Any], folder: Path, device: str) -> None:
    """Measure a generator with the whole test split and newly drawn samples; the numbers go to row.json."""
    run = RunFolder(folder.parent / settings["of"] / "run")
    task = run.task()
    temperature = settings["temperature"]
    generator: RolloutPolicy
    if settings["method"] == "random":
        generator = UniformPolicy(task.vocab_size)
    elif settings["method"] == "oracle":
        assert task.oracle is not None
        generator = task.oracle.to(device)
    else:
        generator = run.generator().to(device).at_temperature(temperature)
    stream = zlib.crc32(f"{settings['method']} at temperature {temperature}".encode())
    rng = np.random.default_rng([settings["seed"], stream])
    found = task.measures().measure(generator, settings["samples"], rng)
    write_atomically(folder / "row.json", json.dumps(found.columns(), indent=2).encode())
