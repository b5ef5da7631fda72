"""The value of estimates of the policy gradient: variance times seconds, for each way to weight tokens.

Seconds are those of the processor, so other work on the machine hardly changes them.
The mean over the batches of one second divides the variance by their number. So variance x seconds is the variance that
remains after one second of work. R(Y) at the end is compared with Monte-Carlo search (Eq. 4) with N completions, each
with its baselines; on the toy also with exact action values. The situation is the game's first round: the generator
comes from maximum likelihood, the reward is a discriminator trained against it, and G_beta is the generator. All
estimates are unbiased, so they differ only in variance.
In: sizes. Out: a row for each estimator with bootstrap intervals over the batches.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich import box
from rich.table import Table
from torch import Tensor

from agents.discriminator_trainer import DiscriminatorTrainer
from agents.pretraining import Pretrainer
from agents.reinforce import subtract_baseline
from benchmarks.machine import MACHINE_COLUMNS, Machine
from seqgan_env.models.discriminators import CNNDiscriminator
from seqgan_env.models.sequence_models import LSTMSequenceModel, SequenceModel, shift_right
from seqgan_env.monte_carlo import action_values
from seqgan_env.rewards import DiscriminatorReward, RewardModel, score_sequences
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.oracle import oracle_task
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import enumerate_sequences, toy_task

FloatArray = npt.NDArray[np.float64]
Row = dict[str, str]
REFERENCE = ("R(Y)", "leave-one-out")  # all others are compared with it
COLUMNS = (
    *("weight", "baseline", "completions", "variance", "seconds", "variance_seconds"),
    *("ratio", "ratio_low", "ratio_high", "batches", "batch_size", "vocab_size", "sequence_length", *MACHINE_COLUMNS),
)
_RESAMPLES = 2000


@dataclass(frozen=True)
class VarianceSizes:
    """Sizes of a measurement.

    Attributes:
        vocab_size, sequence_length: V and T.
        batch_size: B, sequences of one estimate.
        batches: number of estimates for the variance.
        completions: the values of N.
        mle_epochs: epochs of the generator.
        discriminator_steps: d steps, with 3 epochs each.
        real_sequences: for training.
    """

    vocab_size: int
    sequence_length: int
    batch_size: int = 64
    batches: int = 100
    completions: tuple[int, ...] = (1, 4, 16, 64)
    mle_epochs: int = 5
    discriminator_steps: int = 3
    real_sequences: int = 2000


SIZES = {
    "toy": VarianceSizes(3, 3),
    "middle": VarianceSizes(50, 10),
    "paper": VarianceSizes(5000, 20, batches=24, mle_epochs=10, discriminator_steps=1, real_sequences=10_000),
    "quick": VarianceSizes(3, 3, batch_size=16, batches=12, completions=(1, 2), mle_epochs=1, discriminator_steps=1),
}


class Game:
    """Generator, reward and task of one round, and the value head for a learned baseline.

    Args:
        sizes: sizes of the task and the training.
        seed: seed of everything.
    """

    def __init__(self, sizes: VarianceSizes, seed: int = 0) -> None:
        self.sizes = sizes
        make_task = toy_task if sizes.vocab_size < 10 else oracle_task
        self.task: Task = make_task(sizes.vocab_size, sizes.sequence_length, seed, n_sequences=sizes.real_sequences)
        self.rng = np.random.default_rng(seed)
        self.generator: SequenceModel = LSTMSequenceModel(sizes.vocab_size, 32, 32, seed=seed)
        real = self.task.real_sequences("train")
        Pretrainer(self.generator, real, real[:100], max_epochs=sizes.mle_epochs, rng=self.rng).fit()
        windows = ((1, 32), (2, 32), (3, 32))
        discriminator = CNNDiscriminator(sizes.vocab_size, sizes.sequence_length, windows, seed=seed)
        trainer = DiscriminatorTrainer(discriminator, self.task, learning_rate=1e-3, seed=seed)
        for _ in range(sizes.discriminator_steps):
            trainer.train_step(self.generator)
        self.reward: RewardModel = DiscriminatorReward(discriminator)
        self.value_head = self._fit_values()

    def sequences(self) -> Tensor:
        """One batch, (B, T) int64."""
        return sample_sequences(self.generator, self.sizes.batch_size, self.sizes.sequence_length, self.rng)

    @torch.no_grad()
    def values(self, sequences: Tensor) -> FloatArray:
        """The value head's prediction before each token, (B, T)."""
        hidden = self.generator.hidden_states(shift_right(sequences, self.sizes.vocab_size))
        return (hidden.double() @ self.value_head[:-1] + self.value_head[-1]).numpy()

    @torch.no_grad()
    def _fit_values(self) -> Tensor:
        """Least squares of R(Y) on the generator's states, with a small ridge, on separate sequences: (H + 1,)."""
        sequences = sample_sequences(self.generator, 4000, self.sizes.sequence_length, self.rng)
        hidden = self.generator.hidden_states(shift_right(sequences, self.sizes.vocab_size)).double().flatten(0, 1)
        inputs = torch.cat([hidden, torch.ones(len(hidden), 1, dtype=torch.float64)], dim=1)
        returns = torch.from_numpy(score_sequences(self.reward, sequences)).repeat_interleave(sequences.shape[1])
        ridge = 1e-3 * len(inputs) * torch.eye(inputs.shape[1], dtype=torch.float64)
        return torch.linalg.solve(inputs.t() @ inputs + ridge, inputs.t() @ returns)

    def terminal(self, sequences: Tensor) -> FloatArray:
        """R(Y) at each token, (B, T)."""
        rewards = score_sequences(self.reward, sequences)
        return np.repeat(rewards[:, None], sequences.shape[1], axis=1)

    def searched(self, sequences: Tensor, completions: int, common: bool) -> FloatArray:
        """Eq. 4 with N completions for each token, (B, T); `common` random numbers for all prefixes of a sequence."""
        batch, length = sequences.shape
        values = np.empty((batch, length))
        uniforms = self.rng.random((batch, completions, length), dtype=np.float32) if common else None
        prefixes = np.full((batch, length), self.sizes.vocab_size, dtype=np.int64)
        state = self.generator.initial_state(batch)
        for t, tokens in enumerate(sequences.unbind(1)):
            prefixes[:, t] = tokens.numpy()
            state = self.generator.advance(state, tokens)
            ended = np.full(batch, t + 1 == length)
            lengths = np.full(batch, t + 1)
            values[:, t] = action_values(
                self.generator,
                state,
                prefixes,
                lengths,
                ended,
                self.reward,
                completions,
                [self.rng] * batch,
                common_uniforms=uniforms,
            )
        return values

    def enumerated(self, sequences: Tensor) -> FloatArray:
        """Exact action values under G_beta = G, by all V^T sequences: (B, T)."""
        everything = enumerate_sequences(self.sizes.vocab_size, self.sizes.sequence_length)
        weights = self.generator.log_probs(everything).double().sum(dim=1).exp().numpy()
        rewards = score_sequences(self.reward, everything)
        values = np.empty(tuple(sequences.shape))
        agrees = np.ones((len(sequences), len(everything)), dtype=bool)
        for t in range(sequences.shape[1]):
            agrees &= (sequences[:, t, None] == everything[None, :, t]).numpy()
            chances = agrees * weights
            values[:, t] = chances @ rewards / chances.sum(axis=1)
        return values

    def gradient(self, sequences: Tensor, weights: FloatArray) -> Tensor:
        """(1/B) sum weights grad log G, flat, float32."""
        weights_tensor = torch.from_numpy(weights.astype(np.float32))
        likelihood = self.generator.weighted_log_likelihood(sequences, weights_tensor) / len(sequences)
        gradients = torch.autograd.grad(likelihood, list(self.generator.parameters()))
        return torch.cat([part.flatten() for part in gradients])


@dataclass(frozen=True)
class Estimator:
    """One way to weight tokens.

    Attributes:
        weight: "R(Y)", "search" or "exact".
        baseline: the subtracted baseline.
        completions: N; 0 without a search.
        weights: (game, sequences) -> (B, T) weights.
    """

    weight: str
    baseline: str
    completions: int
    weights: Callable[[Game, Tensor], FloatArray]


def estimators(sizes: VarianceSizes) -> list[Estimator]:
    """All estimators; exact action values only if the sequences can be enumerated."""

    def searched(count: int, baseline: str, common: bool = False) -> Callable[[Game, Tensor], FloatArray]:
        return lambda game, y: without(game.searched(y, count, common), baseline)

    found: list[Estimator] = [
        Estimator("R(Y)", "none", 0, lambda game, y: game.terminal(y)),
        Estimator(*REFERENCE, 0, lambda game, y: without(game.terminal(y), "step_mean")),
        Estimator("R(Y)", "learned value", 0, lambda game, y: game.terminal(y) - game.values(y)),
    ]
    for n in sizes.completions:
        found += [
            Estimator("search", "none", n, searched(n, "none")),
            Estimator("search", "leave-one-out", n, searched(n, "step_mean")),
            Estimator("search", "completions", n, searched(n, "completions")),
            Estimator("search", "completions, common", n, searched(n, "completions", True)),
        ]
    if sizes.vocab_size**sizes.sequence_length <= 1000:
        found.append(Estimator("exact", "none", 0, lambda game, y: game.enumerated(y)))
        found.append(Estimator("exact", "completions", 0, lambda game, y: without(game.enumerated(y), "completions")))
    return found


def without(values: FloatArray, baseline: str) -> FloatArray:
    """(B, T) values minus a baseline of `REINFORCE`."""
    steps = np.repeat(np.arange(values.shape[1])[:, None], len(values), axis=1)  # (T, B), as SB3's buffer has it
    returns = values.T.astype(np.float32)
    return subtract_baseline(returns, steps, np.zeros_like(returns), baseline).T.astype(np.float64)  # type: ignore[arg-type]


def measure(
    sizes: VarianceSizes, machine: Machine, seed: int = 0, done: Callable[[], None] = lambda: None
) -> list[Row]:
    """Gradients and seconds of every estimator. They take turns on each batch, so that all meet the same machine."""
    game = Game(sizes, seed)
    compared = estimators(sizes)
    gradients: list[list[Tensor]] = [[] for _ in compared]
    seconds: list[list[float]] = [[] for _ in compared]
    for batch in range(1 + sizes.batches):  # the first batch is not counted
        for place, estimator in enumerate(compared):
            start = time.process_time()
            sequences = game.sequences()
            gradient = game.gradient(sequences, estimator.weights(game, sequences))
            if batch:
                seconds[place].append(time.process_time() - start)
                gradients[place].append(gradient)
        done()
    return rows(compared, [torch.stack(each).numpy() for each in gradients], np.array(seconds), sizes, machine)


def rows(
    compared: Sequence[Estimator],
    gradients: Sequence[npt.NDArray[np.floating]],
    seconds: FloatArray,
    sizes: VarianceSizes,
    machine: Machine,
) -> list[Row]:
    """Rows of the CSV. `ratio` is variance x seconds over that of R(Y) with leave-one-out: below 1 is better.

    Args:
        compared: the estimators.
        gradients: (K, P) for each estimator.
        seconds: (estimators, K).
        sizes, machine: stored in the rows.
    """
    rng = np.random.default_rng(0)
    costs = []
    for place, samples in enumerate(gradients):
        mean = samples.mean(axis=0, dtype=np.float64)
        squares = np.array([((one - mean) ** 2).sum() for one in samples]) * len(samples) / (len(samples) - 1)
        chosen = rng.integers(len(samples), size=(_RESAMPLES, len(samples)))
        time_of = np.median(seconds[place])
        costs.append(
            (squares.mean(), time_of, squares[chosen].mean(axis=1) * np.median(seconds[place][chosen], axis=1))
        )
    reference = next(place for place, e in enumerate(compared) if (e.weight, e.baseline) == REFERENCE)
    found = []
    for estimator, (variance, time_of, resampled) in zip(compared, costs, strict=True):
        ratio = variance * time_of / (costs[reference][0] * costs[reference][1])
        low, high = np.quantile(resampled / costs[reference][2], [0.025, 0.975])
        numbers = {"variance": variance, "seconds": time_of, "variance_seconds": variance * time_of}
        numbers |= {"ratio": ratio, "ratio_low": low, "ratio_high": high}
        found.append(
            {"weight": estimator.weight, "baseline": estimator.baseline, "completions": str(estimator.completions)}
            | {name: f"{number:.4g}" for name, number in numbers.items()}
            | {"batches": str(sizes.batches), "batch_size": str(sizes.batch_size)}
            | {"vocab_size": str(sizes.vocab_size), "sequence_length": str(sizes.sequence_length)}
            | machine.cells()
        )
    return found


def table(found: Sequence[Row]) -> Table:
    """For people."""
    first = found[0]
    title = f"gradient variance, V={first['vocab_size']}, T={first['sequence_length']}, B={first['batch_size']}"
    shown = Table(title=title, box=box.SIMPLE_HEAD, caption="ratio: of variance x seconds to R(Y) leave-one-out")
    for name in ("weight", "baseline", "N", "variance", "seconds", "ratio", "95 % interval"):
        shown.add_column(name, justify="left" if name in ("weight", "baseline") else "right", no_wrap=True)
    for row in found:
        interval = f"{row['ratio_low']} to {row['ratio_high']}"
        count = row["completions"] if row["weight"] == "search" else ""
        shown.add_row(row["weight"], row["baseline"], count, row["variance"], row["seconds"], row["ratio"], interval)
    return shown


def write_csv(path: Path, found: Sequence[Row]) -> None:
    """Write the rows; an existing file is replaced."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(found)
