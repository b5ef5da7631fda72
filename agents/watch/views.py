"""What the live page shows, computed from a run folder alone.

In: a `RunFolder`, which is read and never written. Out: plain numbers and tokens. Nothing here knows the page's
library. A run may be in training, killed, resumed or finished: what is missing yet is None or empty. Checkpoints
replace each other in one step, so that a reader never sees half of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from agents.runs.checkpoints import read_tensors, restore
from agents.runs.learning_curve import Curve
from agents.runs.run_folder import RunFolder
from agents.seqgan import SeqGAN
from seqgan_env.components import is_learned_reward
from seqgan_env.measures.likelihood import measure_generator, nll_per_token
from seqgan_env.models.discriminators import Discriminator
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.rendering import token_names, visible
from seqgan_env.rewards import RewardModel
from seqgan_env.rollout_policies import RolloutPolicy
from seqgan_env.search_record import SearchRecord, search_records
from seqgan_env.tasks.task import Task

FloatArray = npt.NDArray[np.float64]

HELD_OUT = 500  # real sequences, and as many generated ones, that are looked at
_SAMPLES = 300  # for each point of a curve over temperatures
TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5)
_STAGES = {"mle": "maximum likelihood", "discriminator": "pretraining of the discriminator", "adversarial": "the game"}

Stamp = tuple[int, int]


def stamp(path: Path) -> Stamp | None:
    """Time of the last change in ns and size of a file, which change when it does; None while there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size


# Numbers that the run has logged.


@dataclass(frozen=True)
class History:
    """What a run has logged so far.

    Attributes:
        rows: lines of metrics.csv.
        stage: of the last line, in words; "" before the first.
        index: epochs, steps or rounds done in that stage.
        total: how many that stage has at most.
        has_oracle: whether NLL_oracle is measured.
    """

    rows: list[dict[str, str]]
    stage: str
    index: int
    total: int
    has_oracle: bool

    def curve(self, name: str) -> Curve:
        """The measurements, for `agents.runs.learning_curve`."""
        return Curve(name, self.rows)

    def column(self, name: str) -> tuple[FloatArray, FloatArray]:
        """A column over epochs: (K,) epochs and (K,) values, of the lines that have one."""
        known = [(float(row["epoch"]), float(row[name])) for row in self.rows if row.get(name)]
        epochs, values = np.array(known, dtype=np.float64).reshape(-1, 2).T
        return epochs, values

    @property
    def border(self) -> float | None:
        """The epoch at which MLE ended; None before the game began."""
        epochs = [float(row["epoch"]) for row in self.rows if row["stage"] == "mle"]
        return max(epochs, default=0.0) if any(row["stage"] != "mle" for row in self.rows) else None


def history(run: RunFolder) -> History:
    """What `run` has logged so far; empty before its first line."""
    try:
        rows = run.metrics()
    except ValueError:  # no file yet
        rows = []
    config, has_oracle = run.config(), run.task().oracle is not None
    if not rows:
        return History([], "", 0, config.pretraining.epochs, has_oracle)
    totals = {
        "mle": config.pretraining.epochs,
        "discriminator": config.discriminator.pretraining_steps,
        "adversarial": config.game.rounds,
    }
    stage = rows[-1]["stage"]
    return History(rows, _STAGES[stage], int(rows[-1]["index"]), totals[stage], has_oracle)


# Models of a checkpoint.


@dataclass(frozen=True)
class Players:
    """The models of a checkpoint.

    Attributes:
        task: of the run.
        generator: G.
        discriminator: D; None where the reward is not learned.
        reward_model: R, what the search scores with.
        rollout_policy: G_beta; G before the game has begun.
        n_rollouts: N.
        has_trained_discriminator: whether D has learned anything yet.
        mle: the generator as MLE left it; None before that.
    """

    task: Task
    generator: SequenceModel
    discriminator: Discriminator | None
    reward_model: RewardModel
    rollout_policy: RolloutPolicy
    n_rollouts: int
    has_trained_discriminator: bool
    mle: SequenceModel | None


def players(run: RunFolder) -> Players | None:
    """The models of the latest checkpoint of `run`; None before the first.

    Raises:
        ValueError: if the checkpoint is of an older format, or does not fit the run's settings.
    """
    if not run.latest_checkpoint.is_file():
        return None
    run.expect_resumable()
    task, config = run.task(), run.config()
    game = SeqGAN(task, config, models=run.models())
    tensors, state = read_tensors(run.latest_checkpoint)
    restore(game, tensors, state["game"])
    beta = game.trainer.rollout_policy
    return Players(
        task=task,
        generator=game.generator,
        discriminator=game.discriminator if is_learned_reward(config.game.reward_model) else None,
        reward_model=game.reward_model,
        rollout_policy=beta if isinstance(beta, RolloutPolicy) else game.generator,
        n_rollouts=config.game.n_rollouts,
        has_trained_discriminator=game.discriminator_steps > 0 or game.trainer.rounds > 0,
        mle=run.generator(run.mle_checkpoint) if run.mle_checkpoint.is_file() else None,
    )


# The discriminator.


@dataclass(frozen=True)
class Scores:
    """D's probability that a sequence is real, on sequences that it never trains on.

    Attributes:
        real: (M,) of held-out real sequences.
        generated: (M,) of as many new samples of G.
    """

    real: FloatArray
    generated: FloatArray

    def accuracy(self) -> float:
        """The share of sequences on the right side of 1/2."""
        return float(np.mean([self.real > 0.5, self.generated <= 0.5]))

    def calibration(self, bins: int = 10) -> list[tuple[float, float, int]]:
        """Mean probability, share of real sequences, and their number, of each bin of equal width that has any."""
        probabilities = np.concatenate([self.real, self.generated])
        is_real = np.repeat([True, False], [len(self.real), len(self.generated)])
        which = np.minimum((probabilities * bins).astype(int), bins - 1)
        return [
            (float(probabilities[which == one].mean()), float(is_real[which == one].mean()), int((which == one).sum()))
            for one in np.unique(which)
        ]


def scores(them: Players, rng: np.random.Generator) -> Scores | None:
    """D on held-out real and on new sequences; None where the reward is not learned."""
    if them.discriminator is None:
        return None
    real = them.task.some_sequences("validation", HELD_OUT)
    generated = them.task.sample(them.generator, len(real), rng, "validation")
    with torch.no_grad():
        of_each = [torch.sigmoid(them.discriminator.score(rows)).double().cpu().numpy() for rows in (real, generated)]
    return Scores(*of_each)


# Samples, and where their Q come from.


@dataclass(frozen=True)
class Completion:
    """One completion of a prefix: the text behind the prefix, and what the whole sequence won."""

    text: str
    reward: float


@dataclass(frozen=True)
class SampledToken:
    """A token of a sample.

    Attributes:
        text: with visible blanks and control characters.
        value: its Q (Eq. 4).
        prefix: the text up to this token.
        completions: what the search made of the prefix; at the end the sequence itself.
    """

    text: str
    value: float
    prefix: str
    completions: tuple[Completion, ...]


def samples(them: Players, temperature: float, count: int, rng: np.random.Generator) -> list[list[SampledToken]]:
    """New sequences of G at a temperature, each token with its Q and the completions behind it."""
    task = them.task
    generator = them.generator.at_temperature(temperature)
    drawn = task.sample(generator, count, rng).cpu().numpy()
    return [_searched(them, sequence[sequence < task.vocab_size], rng) for sequence in drawn]


def _searched(them: Players, sequence: npt.NDArray[np.int64], rng: np.random.Generator) -> list[SampledToken]:
    """One sequence, (n,) int64 without PAD, with a search at each of its tokens that is no part of a prompt."""
    task, given = them.task, them.task.prompt_length
    steps = len(sequence) - given
    prefixes = np.full((steps, task.sequence_length), task.pad_token)
    for t in range(steps):
        prefixes[t, : given + t + 1] = sequence[: given + t + 1]
    lengths = np.arange(1, steps + 1) + given
    records = search_records(
        them.rollout_policy, prefixes, lengths, them.reward_model, them.n_rollouts, rng, task.eos_token
    )
    return [
        SampledToken(
            text=visible(token_names(task, [sequence[given + t]])[0]),
            value=records[t].value,
            prefix=as_text(task, sequence[: given + t + 1]),
            completions=_completions(task, records[t], given + t + 1),
        )
        for t in range(steps)
    ]


def _completions(task: Task, record: SearchRecord, length: int) -> tuple[Completion, ...]:
    """The completions of a prefix of that length, the best first."""
    rows = record.completions[:, length:]
    best_first = np.argsort(-record.rewards, kind="stable")
    return tuple(Completion(as_text(task, rows[i]), float(record.rewards[i])) for i in best_first)


def as_text(task: Task, tokens: Sequence[Any] | npt.NDArray[np.int64]) -> str:
    """Tokens without PAD as one line with a blank between two; blanks and control characters of tokens are visible."""
    return " ".join(visible(name) for name in token_names(task, [int(i) for i in tokens if i < task.vocab_size]))


# Quality against diversity.


@dataclass(frozen=True)
class TemperaturePoint:
    """A generator at a temperature; nats per token.

    Attributes:
        temperature: below 1 sharpens.
        nll_test: on held-out real sequences: what G has lost.
        quality: NLL_oracle of its samples; without an oracle their entropy.
    """

    temperature: float
    nll_test: float
    quality: float


def at_temperature(generator: SequenceModel, task: Task, temperature: float) -> TemperaturePoint:
    """Measure a generator at a temperature. The same draws for all of them make a smooth curve."""
    measured = measure_generator(
        generator.at_temperature(temperature),
        task.some_sequences("test", HELD_OUT),
        np.random.default_rng(0),
        oracle=task.oracle,
        n_samples=_SAMPLES,
        eos_token=task.eos_token,
        prompt_length=task.prompt_length,
    )
    quality = measured.nll_oracle if task.oracle is not None else measured.entropy
    assert quality is not None
    assert measured.nll_test is not None
    return TemperaturePoint(temperature, measured.nll_test.mean, quality.mean)


def temperature_curve(generator: SequenceModel, task: Task) -> list[TemperaturePoint]:
    """A generator over `TEMPERATURES`."""
    return [at_temperature(generator, task, temperature) for temperature in TEMPERATURES]


def oracle_entropy(task: Task) -> float | None:
    """The oracle's entropy, estimated on held-out sequences, which it drew; nats per token. None without an oracle."""
    if task.oracle is None:
        return None
    return nll_per_token(task.oracle, task.some_sequences("test", HELD_OUT), task.prompt_length).mean
