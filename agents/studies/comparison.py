"""`seqgan compare`: compares learners on one task. Learner x seed are the cells of a grid, each computed once.

In: options. Out: in one folder the cells, a CSV with every measurement, a table with the final results of each learner,
a JSON record, and a picture drawn only from the CSV. Measurements are of the distribution that a learner plays, so a
value-based one is measured with its exploration. `fraction` is the share of the possible gain that a learner has
reached:

    (mean R of samples - mean R of uniform tokens) / (max R - mean R of uniform tokens)

0 is uniform noise, and 1 means that only the best sequence is drawn, for rewards of any sign and scale. It is known if
all sequences can be enumerated and the reward does not change; otherwise it is empty.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from agents.discriminator_trainer import DiscriminatorTrainer, generator_of
from agents.learners import LEARNERS, ComparedTask, Learner, LearnerName
from agents.runs.regular_files import write_atomically
from agents.studies import tables
from agents.studies.cells import Cell, minutes_of
from agents.studies.evidence import CONFIDENCE, half_interval, scipy
from agents.studies.grid import GridReport, run_grid
from agents.studies.plots import plot_csv
from agents.studies.record import command_line, write_record
from agents.studies.tables import Row, new_table, number
from agents.studies.workers import RayWorkers, ThisProcess, Workers
from seqgan_env.components import build_discriminator, build_reward_model
from seqgan_env.mdp import RewardMode
from seqgan_env.measures.likelihood import negative_log_likelihood
from seqgan_env.rewards import DiscriminatorReward, RewardModel, score_sequences
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences

if TYPE_CHECKING:
    from pandas import DataFrame

_CELL = f"{__name__}:compare_cell"
_ENUMERABLE = 100_000  # the largest number of sequences
_SEQUENCES_PER_ROUND = 64  # between two rounds of the trainer, as nearly as whole rollouts allow
# Measurements during learning, in the order of the CSV's columns.
_MEASURED = ("reward", "fraction", "nll_oracle", "nll_test", "distinct")


@dataclass(frozen=True)
class ComparisonOptions:
    """What to compare. The fields' docstrings are the help texts of the command line."""

    learners: tuple[LearnerName, ...] = ()
    """Learners; all if none is given. ppo_mask, ppo_lstm, trpo and qrdqn need seqgan-gym[contrib]."""
    task: ComparedTask = "toy"
    """toy (27 sequences), middle (50 tokens, 10 steps) or oracle (the paper's 5,000 tokens, 20 steps)."""
    reward_mode: RewardMode | None = None
    """terminal, potential or action_value; by default the mode that each learner's settings were tuned for."""
    reward_model: str = "oracle"
    """oracle (the reward tells the answer), discriminator (the game), or any other reward model of an environment."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of the runs; the task is the same for all."""
    steps: int | None = None
    """Tokens that each learner plays; by default as in its settings."""
    points: int = 20
    """Measurements during learning, after the first."""
    samples: int = 1000
    """Sequences drawn for each measurement."""
    relabel_replay: bool = True
    """Whether the rewards in off-policy learners' buffers are recomputed after each round."""
    out: Path | None = None
    """Folder of the results; by default a folder under runs/, named after the task and the compared learners."""
    workers: int | None = None
    """Cells computed at the same time, by default one per core; 0 computes them in this process, without Ray."""
    progress: bool = True
    """Draw a progress bar."""

    def __post_init__(self) -> None:
        for name in ("learners", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name}={values} must differ")
        if not self.seeds or any(seed < 0 for seed in self.seeds):
            raise ValueError(f"seeds={self.seeds} must be one or more numbers of at least 0")
        for name, least in (("steps", 1), ("points", 1), ("samples", 2), ("workers", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}={value} must be at least {least}")

    def compared(self) -> list[Learner]:
        """The learners, in the order of `LEARNERS`."""
        return [learner for name, learner in LEARNERS.items() if not self.learners or name in self.learners]

    def folder(self) -> Path:
        """Folder of the results. The same options give the same folder, so the same command continues."""
        named = ["compare", self.task, *([self.reward_mode] if self.reward_mode else [])]
        if self.reward_model != "oracle":
            named.append(re.sub(r"\W+", "-", self.reward_model))
        return self.out or Path("runs") / "-".join(named + ([] if self.relabel_replay else ["stale"]))

    def cell(self, learner: Learner, seed: int) -> Cell:
        """A learner's run."""
        settings = learner.settings(self.task)
        mode = self.reward_mode or settings["env_kwargs"]["reward_mode"]
        described = {
            "learner": learner.name,
            "task": self.task,
            "reward_mode": mode,
            "reward_model": self.reward_model,
            "seed": seed,
            "steps": self.steps or settings["n_timesteps"],
            "points": self.points,
            "samples": self.samples,
            "relabel_replay": self.relabel_replay or learner.is_on_policy,
            "settings": settings,  # so that a cell with other settings is not taken for this one
        }
        return Cell(f"{learner.name}-{mode}-seed{seed}", _CELL, described)

    def command(self) -> str:
        """The command line of these options, with its folder."""
        return command_line(("seqgan", "compare"), self, self.folder())


def compare(options: ComparisonOptions, console: Console) -> GridReport:
    """Compute the missing cells. When all are done, write CSV, picture and record, and print the final results.

    Raises:
        ValueError: if an option cannot be used, or the folder holds cells with other settings.
        ImportError: if a learner's library, SciPy, pandas or Ray is needed and missing; raised before anything is
            computed.
    """
    scipy("stats")
    tables.pandas()
    workers: Workers = ThisProcess() if options.workers == 0 else RayWorkers(options.workers)
    learners, folder = options.compared(), options.folder()
    for learner in learners:
        learner.algorithm()
    cells = {(learner, seed): options.cell(learner, seed) for seed in options.seeds for learner in learners}
    console.print(f"results folder: {folder}", highlight=False, soft_wrap=True)
    report = run_grid(list(cells.values()), folder / "cells", workers, console, options.progress)
    if not report.is_complete:
        return report
    folders = {key: cell.folder(folder / "cells") for key, cell in cells.items()}
    path = folder / "compare.csv"
    ordered = [folders[learner, seed] for learner in learners for seed in options.seeds]
    tables.write_csv(path, [row for one in ordered for row in _measurements(one)])
    minutes = {learner.name: sum(minutes_of(folders[learner, seed]) for seed in options.seeds) for learner in learners}
    ends = summary(tables.read_csv(path), minutes)
    tables.write_csv(folder / "compare_summary.csv", ends)
    plot_csv(path, path.with_suffix(".png"))
    settings = {learner.name: learner.settings(options.task) for learner in learners}
    record = {"figure": "compare", "seeds": list(options.seeds), "settings": settings}
    write_record(path.with_suffix(".json"), options.command(), ordered, workers, "cpu", **record)
    console.print(_table(ends, options), highlight=False)
    console.print(f"results: {folder}/compare.csv, .png, .json", highlight=False, soft_wrap=True)
    return report


def summary(measured: DataFrame, minutes: dict[LearnerName, float]) -> DataFrame:
    """A row for each learner: the mean over seeds of its last measurements, and half the length of their 95 % interval.

    Args:
        measured: the CSV.
        minutes: minutes of all seeds of a learner together.
    """
    last = measured.groupby(["learner", "seed"], sort=False).tail(1)
    ends: list[dict[str, Any]] = []
    for name, own in last.groupby("learner", sort=False):
        found = {"learner": name, "reward_mode": own["reward_mode"].iloc[0], "seeds": len(own)}
        for column in _MEASURED:
            values = own[column]
            found[column] = values.mean(skipna=False)
            found[f"{column}_half_interval"] = math.nan if values.hasnans else half_interval(list(values))
        ends.append(found | {"minutes_a_seed": f"{minutes[name] / len(own):.2f}"})
    summarised: DataFrame = tables.pandas().DataFrame(ends)
    return summarised


def _table(ends: DataFrame, options: ComparisonOptions) -> Table:
    count = int(ends["seeds"].iloc[0])
    seeds = "One seed." if count == 1 else f"Means over {count} seeds with {CONFIDENCE:.0%} intervals."
    table = new_table(
        f"Learners on the task {options.task}, reward {options.reward_model}",
        f"{seeds} fraction: 0 is uniform noise, 1 only the best sequence. NLLs in nats per token, of the distribution "
        "that the learner plays.",
    )
    table.add_column("learner", no_wrap=True)
    table.add_column("mode", no_wrap=True)
    won = "reward" if ends["fraction"].hasnans else "fraction"
    for column in (won, "NLL_oracle", "NLL_test", "minutes"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in ends.to_dict("records"):
        measured = [_with_interval(row, column) for column in (won, "nll_oracle", "nll_test")]
        label = LEARNERS[row["learner"]].label
        table.add_row(label, row["reward_mode"], *measured, row["minutes_a_seed"])
    return table


def _with_interval(row: dict[str, Any], column: str) -> str:
    if math.isnan(row[column]):
        return ""
    half = row[f"{column}_half_interval"]
    return f"{row[column]:.3f}" + ("" if math.isnan(half) else f" ±{half:.3f}")


# One cell: a learner and a seed.


def compare_cell(settings: dict[str, Any], folder: Path, device: str) -> None:
    """Train a learner from its first to its last step; write the measurements to measured.json."""
    learner, seed = LEARNERS[settings["learner"]], settings["seed"]
    keywords = {"reward_model": "constant"}  # until the trainer sets its own
    agent = learner.make(settings["task"], seed, settings["reward_mode"], keywords, settings["settings"])
    env = agent.get_env()
    assert env is not None
    task: Task = env.get_attr("task", indices=[0])[0]
    trainer = _trainer(settings, task)
    assert trainer.reward_model is not None
    recorder = Recorder(task, trainer.reward_model, settings["steps"], settings["points"], settings["samples"], seed)
    agent.learn(settings["steps"], CallbackList([trainer, recorder]))
    named = {name: str(settings[name]) for name in ("task", "learner", "reward_mode", "reward_model", "seed")}
    measured = [named | row for row in recorder.rows]
    write_atomically(folder / "measured.json", json.dumps(measured, indent=1).encode())


def _trainer(settings: dict[str, Any], task: Task) -> DiscriminatorTrainer:
    """The game for "discriminator". With any other reward it only updates G_beta."""
    discriminator, reward_model = None, None
    if settings["reward_model"] == "discriminator":
        discriminator = build_discriminator("cnn", task, filters="light", seed=settings["seed"])
    else:
        reward_model = build_reward_model(settings["reward_model"], task)
    played = settings["settings"]  # an update's experience, in steps of all environments
    steps: int = played.get("train_freq") or played.get("n_steps") or task.response_length
    return DiscriminatorTrainer(
        discriminator,
        task,
        reward_model=reward_model,
        g_steps=max(round(_SEQUENCES_PER_ROUND * task.response_length / (steps * played["n_envs"])), 1),
        d_steps=1,
        k_epochs=1,
        sample_size=512,
        learning_rate=1e-3,
        relabel_replay=settings["relabel_replay"],
        seed=settings["seed"],
    )


def _measurements(folder: Path) -> list[Row]:
    rows: list[Row] = json.loads((folder / "measured.json").read_text(encoding="utf-8"))
    return rows


class Recorder(BaseCallback):
    """Measures the distribution that a learner plays: before, during and after learning.

    Args:
        task: gives the oracle and held-out sequences.
        reward_model: the environment's reward model.
        steps: steps that the learner will play.
        points: measurements during these steps.
        samples: sequences drawn for each measurement, and the largest number of held-out ones.
        seed: seed of the samples, together with the step.

    Attributes:
        rows: a row of text for each measurement: step, reward, fraction, nll_oracle, nll_test (nats per token) and the
            share of distinct samples. A cell is empty if its value is not known or not finite.
    """

    def __init__(self, task: Task, reward_model: RewardModel, steps: int, points: int, samples: int, seed: int) -> None:
        super().__init__()
        self.task = task
        self.reward_model = reward_model
        self.samples = samples
        self.seed = seed
        self.rows: list[Row] = []
        self._due = [round(steps * place / points) for place in range(points)]
        self._bounds = reward_bounds(task, reward_model)

    def _on_rollout_start(self) -> None:  # SB3 has updated the learner between rollouts
        if self._due and self.num_timesteps >= self._due[0]:
            self._due = [step for step in self._due if step > self.num_timesteps]
            self.rows.append(self.measure())

    def _on_training_end(self) -> None:
        self.rows.append(self.measure())

    def _on_step(self) -> bool:
        return True

    def measure(self) -> Row:
        """Measure the learner now; one row."""
        generator = generator_of(self.model)
        assert generator is not None
        rng = np.random.default_rng([self.seed, self.num_timesteps])
        task = self.task
        samples = task.sample(generator, self.samples, rng)
        reward = float(score_sequences(self.reward_model, samples).mean())
        fraction = None
        if self._bounds is not None:
            uniform, best = self._bounds
            fraction = (reward - uniform) / (best - uniform)
        with torch.no_grad():
            test = negative_log_likelihood(generator, task.real_sequences("test")[: self.samples], task.prompt_length)
        oracle = None
        if task.oracle is not None:
            oracle = float(negative_log_likelihood(task.oracle, samples, task.prompt_length).mean())
        measured = (reward, fraction, oracle, float(test.mean()), len(torch.unique(samples, dim=0)) / self.samples)
        return {"step": str(self.num_timesteps)} | dict(zip(_MEASURED, map(number, measured), strict=True))


def reward_bounds(task: Task, reward_model: RewardModel) -> tuple[float, float] | None:
    """Mean reward under uniform tokens, and the maximum reward.

    None if the sequences cannot be enumerated or the reward changes during training.
    """
    moves = isinstance(reward_model, DiscriminatorReward) or hasattr(reward_model, "rng")
    if moves or task.eos_token is not None or task.prompt_length or task.vocab_size**task.sequence_length > _ENUMERABLE:
        return None
    rewards = score_sequences(reward_model, enumerate_sequences(task.vocab_size, task.sequence_length))
    uniform, best = float(rewards.mean()), float(rewards.max())
    return (uniform, best) if best > uniform else None
