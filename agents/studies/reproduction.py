"""Reproduces the paper's synthetic results: Table 1, Figures 2 and 3, and curves that the paper does not have.

In: options. Out: one folder with the cells of all figures. For each figure it has a CSV of the measurements, CSVs of
the findings, a JSON record, and a picture drawn only from the CSV.
Departures from the paper: in Table 1 MLE and scheduled sampling end with their pretraining (in Fig. 2 they continue, as
in the paper). In Fig. 3 every schedule has about equally many generator updates, because a round with g = 100 costs a
hundred times one with g = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from agents.runs.presets import MUSIC, PRESETS, TEXT, TOY
from agents.runs.training import resolve_device
from agents.seqgan import SeqGANConfig
from agents.setting_paths import changed
from agents.studies import evidence, real_data, tables
from agents.studies.cells import Cell
from agents.studies.figures import Curves, Fig2, Fig3, Figure, Table1, schedule_sentence
from agents.studies.grid import GridReport, run_grid
from agents.studies.learner_grid import LearnerGrid, PretrainingName, expect_compared
from agents.studies.methods import METHODS
from agents.studies.plots import plot_csv
from agents.studies.real_data import REAL_DATA, CorpusKind, RealData, RealTable
from agents.studies.record import command_line, write_record
from agents.studies.study import Study
from agents.studies.workers import RayWorkers, ThisProcess, Workers
from seqgan_env.corpora.corpus import TooLong

Preset = Literal["fast", "best", "paper", "repo2016", "repo2018"]
FigureName = Literal["table1", "fig2", "fig3", "curves", "learners", "poems", "speeches", "music", "text"]

SAMPLES, FAST_SAMPLES = 100_000, 10_000  # the paper draws 100,000
SEEDS, FAST_SEEDS = (0, 1, 2, 3, 4), (0, 1)
FIG3_UPDATES = 200  # generator updates of each schedule, unless the preset has more rounds
CORPUS_SETTINGS: dict[CorpusKind, SeqGANConfig] = {"text": TEXT, "music": MUSIC}


@dataclass(frozen=True)
class ReproductionOptions:
    """Options of a reproduction. The fields' docstrings are the help texts of the command line."""

    oracle: str | None = None
    """Oracle: None or a number seeds N(0, 1) parameters; a path loads the authors' .npz or pickle."""
    corpus: str | None = None
    """For poems, speeches, music, text: file or folder with real sequences; music and text have a bundled corpus."""
    test_corpus: str | None = None
    """A separate test set; by default a part of the corpus is kept for the test."""
    sequence_length: int | None = None
    """T of real sequences; None: the task's default."""
    too_long: TooLong | None = None
    """What to do with real sequences longer than T: error, cut or drop; None: the task's default."""
    seeds: tuple[int, ...] = ()
    """Seeds of the runs; by default 0 1 2 3 4 (0 1 2 for real sequences), 0 1 with --fast."""
    methods: tuple[str, ...] = ()
    """For table1 and curves: mle, mle_regularised, seqgan, constant_reward, ...; by default what the figure shows."""
    preset: Preset = "fast"
    """Schedule: fast (table1: some 25 core minutes per seed), paper, or the authors' code of 2016 or 2018 (days)."""
    mle_epochs: int | None = None
    """MLE epochs instead of the preset's."""
    rounds: int | None = None
    """Adversarial rounds instead of the preset's; for fig3, generator updates of each schedule."""
    fast: bool = False
    """Two seeds and 10,000 samples, to see the shape of the result."""
    samples: int | None = None
    """Sequences drawn for each measurement; by default 100,000 as in the paper, 10,000 with --fast or a corpus."""
    out: Path | None = None
    """Folder of the results; by default under runs/, named after preset and oracle. All figures may share it."""
    workers: int | None = None
    """Cells computed at the same time, by default one per core; 0 computes them in this process, without Ray."""
    ray: bool = False
    """Compute on the Ray cluster of RAY_ADDRESS or `ray start`; all its machines must see the folder."""
    task: Literal["oracle", "toy", "poems", "speeches", "music", "text"] = "oracle"
    """oracle, or toy: 27 sequences; the others for learners."""
    learners: tuple[str, ...] = ()
    """For learners: reinforce, reinforce_baseline, rloo, grpo, ppo, a2c, trpo, ...; by default these."""
    start_from: PretrainingName = "mle"
    """For learners: the pretraining of all of them; mle (that of the preset), mle_held_out or mle_regularised."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, cuda:1, ..."""
    progress: bool = True
    """Draw a progress bar."""

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds) or any(seed < 0 for seed in self.seeds):
            raise ValueError(f"seeds={self.seeds} must differ and be at least 0")
        unknown = [method for method in self.methods if method not in METHODS]
        if unknown:
            raise ValueError(f"methods: {unknown[0]!r} is unknown; choose from {', '.join(METHODS)}")
        for name, least in (("samples", 2), ("workers", 0), ("mle_epochs", 1), ("rounds", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}={value} must be at least {least}")
        if self.task != "oracle" and self.preset != "fast":
            raise ValueError(
                f"preset={self.preset!r} is a schedule of the oracle task; leave it out with --task {self.task}"
            )
        expect_compared(self.learners)

    def config(self) -> SeqGANConfig:
        """The common settings, which methods and seeds then change."""
        base = TOY if self.task == "toy" else PRESETS[self.preset]
        oracle = self.oracle
        if oracle is not None and not oracle.isdigit():
            oracle = str(Path(oracle).absolute())  # workers may have another current folder
        return self._shortened(changed(base, {"task.oracle": oracle}))

    def _shortened(self, base: SeqGANConfig) -> SeqGANConfig:
        """The settings with the given epochs and rounds."""
        asked = {"pretraining.epochs": self.mle_epochs, "game.rounds": self.rounds}
        return changed(base, {path: value for path, value in asked.items() if value})

    def _real_data(self, name: FigureName) -> RealData | None:
        """The kind of real sequences of a result; None for the tasks with an oracle."""
        return REAL_DATA.get(self.task if name == "learners" else name)

    def folder(self, name: FigureName = "table1") -> Path:
        """Folder of the results. The same options give the same folder, so the same command continues.

        Args:
            name: name of the result; each result on real sequences has its own folder.
        """
        if (data := self._real_data(name)) is not None:
            corpus = "" if self.corpus is None else f"-{Path(self.corpus).stem}"
            return self.out or Path("runs") / f"reproduce-{data.name}{corpus}"
        oracle = "" if self.oracle is None else f"-{Path(self.oracle).stem}"
        return self.out or Path("runs") / f"reproduce-{'toy' if self.task == 'toy' else self.preset}{oracle}"

    def study(self) -> Study:
        """The common part of the cells."""
        return Study(
            task=self.task,
            preset="toy" if self.task == "toy" else self.preset,
            config=self.config(),
            seeds=self.seeds or (FAST_SEEDS if self.fast else SEEDS),
            samples=self.samples or (FAST_SAMPLES if self.fast else SAMPLES),
            folder=self.folder() / "cells",
            device=self.device_name(),
        )

    def corpus_study(self, data: RealData) -> Study:
        """The common part of cells whose real sequences are a corpus.

        Raises:
            ValueError: if there is no corpus, or if an option does not belong to this task.
        """
        if self.preset != "fast":
            raise ValueError(f"preset={self.preset!r} cannot be used for {data.name}, which has its own; leave it out")
        if data.kind == "music" and self.too_long is not None:
            raise ValueError(
                f"too_long={self.too_long!r} cannot be used for music, whose tunes are cut into windows of T steps"
            )
        if self.corpus is None and not data.is_bundled:
            raise ValueError(f"corpus is not given; {data.name} needs one: --corpus FILE")
        base = CORPUS_SETTINGS[data.kind]
        asked = {
            "test_corpus": _absolute(self.test_corpus),
            "sequence_length": self.sequence_length,
            "too_long": self.too_long,
        }
        return Study(
            task=data.kind,
            preset=data.kind,
            config=self._shortened(base),
            seeds=self.seeds or (FAST_SEEDS if self.fast else real_data.SEEDS),
            samples=self.samples or (real_data.FAST_SAMPLES if self.fast else real_data.SAMPLES),
            folder=self.folder(data.name) / "cells",  # type: ignore[arg-type]
            device=self.device_name(),
            corpus=_absolute(self.corpus),
            corpus_options=data.options | {option: value for option, value in asked.items() if value is not None},
        )

    def device_name(self) -> str:
        """Device of the models. A cluster's GPUs are used only if given, since this machine cannot look for them."""
        if self.ray:
            return "cpu" if self.device == "auto" else self.device
        return resolve_device(self.device)

    def make_workers(self) -> Workers:
        """The workers that compute the cells."""
        if self.workers == 0 and not self.ray:
            return ThisProcess()
        return RayWorkers(self.workers, on_cluster=self.ray, device=self.device_name())

    def figure(self, name: FigureName) -> Figure:
        """The figure with this name.

        Raises:
            ValueError: if an option cannot be used for it.
        """
        self._check_options_of(name)
        data = self._real_data(name)
        study = self.study() if data is None else self.corpus_study(data)
        if name == "learners":
            return LearnerGrid(study, self.learners, self.start_from, data)
        if data is not None:
            return RealTable(study, data)
        if name == "fig3":
            updates = self.rounds or max(FIG3_UPDATES, study.config.game.rounds)
            return Fig3(study, updates, study.is_authors_oracle)
        if name == "table1":
            return Table1(study, self.methods, study.is_authors_oracle)
        return Fig2(study) if name == "fig2" else Curves(study, self.methods)

    def _check_options_of(self, name: FigureName) -> None:
        """Raise ValueError for an option that belongs to other figures."""
        is_learners = name == "learners"
        if not is_learners and self.task not in ("oracle", "toy"):
            raise ValueError(f"task={self.task!r} is only for learners; write: seqgan reproduce {self.task}")
        if name in REAL_DATA and self.task != "oracle":
            raise ValueError(f"task={self.task!r} cannot be used for {name}, which has its own; leave it out")
        if not is_learners and (self.learners or self.start_from != "mle"):
            raise ValueError(f"learners and start_from are only for learners, not for {name}; leave them out")
        if is_learners and self.start_from != "mle" and self.task != "oracle":
            raise ValueError(f"start_from={self.start_from!r} has sizes for the oracle task; leave it out")
        if self.methods and name not in ("table1", "curves"):
            raise ValueError(f"methods={self.methods} is only for table1 and curves; {name} needs all methods")
        if self._real_data(name) is None:
            for option in ("corpus", "test_corpus", "sequence_length", "too_long"):
                if (value := getattr(self, option)) is not None:
                    raise ValueError(
                        f"{option}={value!r} cannot be used for {name}, only for one of {', '.join(REAL_DATA)}"
                    )

    def command(self, name: FigureName) -> str:
        """The command line of these options, with its folder."""
        return command_line(("seqgan", "reproduce", name), self, self.folder(name))


def _absolute(source: str | None) -> str | None:
    """An absolute path, which workers find from any folder. A name such as hf:NAME does not change."""
    return source if source is None or not Path(source).exists() else str(Path(source).absolute())


def reproduce(name: FigureName, options: ReproductionOptions, console: Console) -> GridReport:
    """Compute the missing cells of a figure. When all are done, write its files and print its findings.

    Raises:
        ValueError: if an option cannot be used, or the folder holds cells with other settings.
        ImportError: if SciPy, pandas or Ray is needed and missing; raised before anything is computed.
    """
    evidence.scipy("stats")
    tables.pandas()
    workers = options.make_workers()
    figure, folder = options.figure(name), options.folder(name)
    study = figure.study
    for (
        heading,
        value,
    ) in study.made_task.description():  # so an unusable oracle or corpus gives one error here, not one per cell
        console.print(f"{heading}: {value}", highlight=False, markup=False)
    cells = figure.cells()
    console.print(f"results folder: {folder}", highlight=False, soft_wrap=True)
    console.print(schedule_sentence(study), highlight=False)
    report = run_grid(cells, study.folder, workers, console, options.progress)
    if not report.is_complete:
        return report
    write_figure(name, options, figure, cells, workers, console)
    if options.fast:
        seeds = " ".join(map(str, study.seeds))
        console.print(
            f"Made with --fast: {study.samples:,} samples, seeds {seeds}; leave it out for a result.",
            highlight=False,
        )
    console.print(f"results: {folder}/{name}.csv, .png, .json", highlight=False, soft_wrap=True)
    return report


def write_figure(
    name: FigureName,
    options: ReproductionOptions,
    figure: Figure,
    cells: Sequence[Cell],
    workers: Workers,
    console: Console,
) -> None:
    """Write CSVs, picture and record of a figure whose cells are done, and print its findings."""
    study, folder = figure.study, options.folder(name)
    path = folder / f"{name}.csv"
    tables.write_csv(path, figure.rows())
    findings = figure.findings(tables.read_csv(path))
    for ending, rows in findings.csvs.items():
        tables.write_csv(folder / f"{name}_{ending}.csv", rows)
    plot_csv(path, path.with_suffix(".png"))
    config = study.config
    if options.oracle is not None:  # as it was given, without the path on this machine
        config = changed(config, {"task.oracle": options.oracle})
    write_record(
        path.with_suffix(".json"),
        options.command(name),
        [cell.folder(study.folder) for cell in cells],
        workers,
        study.device,
        figure=name,
        task=study.task,
        preset=study.preset,
        config=asdict(config.complete()),
        oracle_sha256=study.oracle_sha256,
        is_authors_oracle=study.is_authors_oracle,
        corpus=study.made_task.summary(),
        seeds=list(study.seeds),
        samples=study.samples,
        rules=list(figure.rules),
        notes=[text for text in findings.printed if isinstance(text, str)],
    )
    for shown in findings.printed:
        console.print(shown, highlight=False)
