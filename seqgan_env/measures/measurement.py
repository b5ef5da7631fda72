"""The results of a task's measures: measurements, the lines of the closing table, and the names of their columns.

Two classes measure. `LikelihoodMeasures` is for tasks whose distribution may be known, `SampleMeasures` for tasks with
a corpus. Both have the methods and attributes of the protocol `Measures`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

from seqgan_env.measures.likelihood import Estimate, GeneratorMetrics, LikelihoodModel
from seqgan_env.measures.samples import CorpusMetrics
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.rollout_policies import RolloutPolicy
from seqgan_env.vocabulary import Vocabulary

LIKELIHOODS = ("nll_oracle", "nll_test", "entropy", "kl_from_oracle", "kl_to_oracle")
Methods = Sequence[tuple[str, RolloutPolicy]]
Streams = Callable[[int], np.random.Generator]


class RealSequences(Protocol):
    """The part of a task that measures need; `tasks.task.Task` has all of it."""

    vocab_size: int
    sequence_length: int
    eos_token: int | None
    vocabulary: Vocabulary | None
    oracle: SequenceModel | None
    prompt_length: int

    def responses(self, sequences: Tensor, /) -> Tensor:
        """Sequences (B, T) without their prompts, (B, T - P)."""

    def sample(
        self,
        policy: RolloutPolicy,
        count: int,
        rng: np.random.Generator,
        split: Literal["train", "validation", "test"] = "test",
        /,
    ) -> Tensor:
        """(count, T) int64, sequences of a policy; with prompts, responses to prompts of this split."""

    def real_sequences(self, split: Literal["train", "validation", "test"], /) -> Tensor:
        """(M, T) int64, PAD after the end."""

    def some_sequences(self, split: Literal["train", "validation", "test"], at_most: int | None, /) -> Tensor:
        """At most `at_most` of them."""


@dataclass(frozen=True)
class Measurement:
    """The measurements of one generator.

    Attributes:
        metrics: likelihoods, and the share of different samples.
        corpus: BLEU and other comparisons with a corpus; None for a task without a corpus.
        samples: (R, T) int64, the sequences that were measured.
    """

    metrics: GeneratorMetrics
    corpus: CorpusMetrics | None
    samples: Tensor = field(compare=False, repr=False)

    def headline(self) -> str:
        """The numbers to watch during training: quality and diversity, NLL_oracle and NLL_test."""
        m, parts = self.metrics, []
        if m.nll_oracle is not None:
            parts.append(f"NLL_oracle {m.nll_oracle.mean:.3f}")
        parts.append(f"NLL_test {'' if m.nll_test is None else f'{m.nll_test.mean:.3f}'}")
        if self.corpus is not None:
            parts.append(f"BLEU-2 {self.corpus.bleu[2].mean:.3f}  self-BLEU-2 {self.corpus.self_bleu[2].mean:.3f}")
        return "  ".join(parts)

    def columns(self) -> dict[str, str]:
        """Column of a CSV -> text of each mean and standard error; empty if a number is not known.

        A corpus has no oracle, so the columns of an oracle are missing.
        """
        columns = {}
        for name in LIKELIHOODS:
            if self.corpus is None or "oracle" not in name:
                value: Estimate | None = getattr(self.metrics, name)
                columns[name] = "" if value is None else f"{value.mean:.6f}"
                columns[f"{name}_se"] = "" if value is None else f"{value.standard_error:.6f}"
        if self.corpus is not None:
            perplexity = self.metrics.perplexity
            columns["perplexity"] = "" if perplexity is None else f"{perplexity:.6f}"
        columns |= {"distinct": f"{self.metrics.distinct:.6f}", "n_samples": str(self.metrics.n_samples)}
        if self.corpus is not None:
            for name, number in self.corpus.columns().items():
                columns[name] = str(number) if isinstance(number, int) else f"{number:.6f}"
        return columns

    def numbers(self) -> dict[str, float | int | None]:
        """Column of metrics.csv -> number, for every known mean and standard error."""
        found: dict[str, float | int | None] = {"distinct": self.metrics.distinct}
        for name in LIKELIHOODS:
            value: Estimate | None = getattr(self.metrics, name)
            if value is not None:
                found |= {name: value.mean, f"{name}_se": value.standard_error}
        if self.corpus is not None:
            found |= {**self.corpus.columns(), "perplexity": self.metrics.perplexity}
        return found


@dataclass(frozen=True)
class TableRow:
    """A line of the closing table: the name of a method and its measurements."""

    method: str
    measurement: Measurement

    @property
    def metrics(self) -> GeneratorMetrics:
        """Likelihoods and the share of different samples."""
        return self.measurement.metrics

    @property
    def corpus(self) -> CorpusMetrics | None:
        """Comparisons with a corpus, or None."""
        return self.measurement.corpus


@dataclass(frozen=True)
class TableText:
    """The closing table as text.

    Attributes:
        title: the text above the table.
        caption: the text below the table.
        columns: headings, without that of the first column, the method.
        cells: a tuple for each line: the method, then one cell for each column.
        gap: spaces between two columns.
    """

    title: str
    caption: str
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    gap: int = 1


class Measures(Protocol):
    """Measures generators on one task."""

    @property
    def task(self) -> RealSequences:
        """The task to measure against."""

    @property
    def test(self) -> Tensor:
        """(M, T) int64, the test sequences that measurements during training may use."""

    @property
    def likelihood_columns(self) -> tuple[str, ...]:
        """Names of the likelihoods' columns in metrics.csv."""

    @property
    def sample_columns(self) -> tuple[str, ...]:
        """Names of further columns, the last ones of metrics.csv."""

    @property
    def panels_note(self) -> str:
        """The sentence above the learning curve."""

    @property
    def writes_curve(self) -> bool:
        """Whether results at several temperatures form a curve of quality against diversity, with a CSV of its own."""

    @property
    def panels(self) -> tuple[tuple[str, str], ...]:
        """Column and label of each panel of the learning curve."""

    def prepare(self) -> None:
        """Prepare the data that all measurements share, such as the n-grams of the references."""

    def measure(
        self, generator: RolloutPolicy, n_samples: int, rng: np.random.Generator, tested: Tensor | None = None
    ) -> Measurement:
        """Draw samples and measure them.

        Args:
            generator: G.
            n_samples: how many samples to draw.
            rng: source of all randomness.
            tested: (M, T) int64, test sequences for NLL_test; None takes `test`.
        """

    def measure_drawn(
        self, generator: RolloutPolicy | LikelihoodModel, samples: Tensor, tested: Tensor | None = None
    ) -> Measurement:
        """Measure samples, (R, T) int64, that were drawn in another way; `tested` as in `measure`."""

    def measure_on_the_way(self, generator: RolloutPolicy, n_samples: int, rng: np.random.Generator) -> Measurement:
        """The same during training, with no more test sequences than needed."""

    def real_data(self, n_samples: int, rng: np.random.Generator) -> Measurement:
        """Measure validation sequences like samples, to show the values of real data."""

    def trial_samples(self, n_samples: int) -> int:
        """How many samples to measure to estimate the time for `n_samples`."""

    def closing_rows(
        self, methods: Methods, n_samples: int, rng: Streams, mle: SequenceModel | None = None
    ) -> list[TableRow]:
        """The lines of the closing table: the methods, and other generators or data to compare them with.

        Args:
            methods: name and generator of each method, in order.
            n_samples: how many sequences to draw for each line.
            rng: number of a line -> its random stream.
            mle: the generator after MLE; None if no game followed.
        """

    def table(self, rows: Sequence[TableRow]) -> TableText:
        """The lines as text."""

    def floor(self, rows: Sequence[TableRow]) -> float | None:
        """The oracle's entropy in nats per token; None if no line is the oracle's."""


def cells_of(values: Sequence[Any], form: str) -> list[str]:
    """Text of means; empty for None."""
    return ["" if value is None else format(value.mean, form) for value in values]
