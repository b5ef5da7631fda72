"""Measures of a task whose real sequences are a corpus: BLEU, self-BLEU, copies, perplexity (Tables 2-4).

In: a task, generators. Out: `Measurement`s, and the closing table with the methods and real sequences. A generator at a
lower temperature has a higher BLEU and less diversity. So the table also has MLE at the temperature at which its
diversity equals that of the method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from seqgan_env.measures.bleu import self_bleu_by_order
from seqgan_env.measures.likelihood import GeneratorMetrics, LikelihoodModel, measure_samples, real_metrics
from seqgan_env.measures.measurement import Measurement, Methods, RealSequences, Streams, TableRow, TableText
from seqgan_env.measures.samples import CorpusReference
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.rollout_policies import RolloutPolicy

_REFERENCE_SEED = 0  # all measurements on a corpus have the same references
_COLDEST, _HOTTEST, _HALVINGS = 0.2, 2.0, 8  # for the search for a temperature
_MATCHED = "*"  # marks MLE at the temperature at which its diversity equals that of the line above


class SampleMeasures:
    """Measures generators by their samples and by NLL_test; see `measurement.Measures`.

    Args:
        task: the task that the generators were trained on.
        held_out: the largest number of test sequences to use; None uses all.
        pitches: (V,) the MIDI note of each token of music, see `CorpusReference`; None for text.
        order: n of the BLEU-n that the paper gives for the task. Temperatures are matched by self-BLEU-n.
    """

    likelihood_columns: tuple[str, ...] = ("nll_test", "nll_test_se", "entropy", "distinct")
    sample_columns: tuple[str, ...] = (
        "perplexity",
        *(f"{name}{order}" for name in ("bleu", "self_bleu") for order in (2, 3, 4, 5)),
        "distinct2",
        "copied",
    )
    panels: tuple[tuple[str, str], ...] = (
        ("nll_test", "NLL_test"),
        ("bleu2", "BLEU-2"),
        ("self_bleu2", "self-BLEU-2"),
    )
    panels_note = "NLL: lower is better; BLEU: higher is better, unless self-BLEU rises with it"
    writes_curve = True

    def __init__(
        self,
        task: RealSequences,
        held_out: int | None = None,
        *,
        pitches: Sequence[float] | None = None,
        order: int = 2,
    ) -> None:
        self.task = task
        self._held_out = held_out
        self.order = order
        self._pitches = pitches
        self._reference: CorpusReference | None = None

    @cached_property
    def test(self) -> Tensor:
        """(M, T) int64, the test sequences that measurements may use."""
        return self.task.some_sequences("test", self._held_out)

    @property
    def reference(self) -> CorpusReference:
        """The real sequences that samples are compared with; prepared when first needed."""
        if self._reference is None:
            vocabulary = self.task.vocabulary
            self._reference = CorpusReference(
                self.task.responses(self.task.real_sequences("train")),
                self.task.responses(self.test),
                self.task.vocab_size,
                eos_token=self.task.eos_token,
                unknown_token=None if vocabulary is None else vocabulary.unknown_token,
                pitches=self._pitches,
                rng=np.random.default_rng(_REFERENCE_SEED),
            )
        return self._reference

    def prepare(self) -> None:
        """Number the n-grams of the training and test sequences."""
        _ = self.reference

    def compared(self, samples: int) -> int:
        """How many sequences are compared with each other: equally many samples and real sequences."""
        real = len(self.task.real_sequences("validation"))
        return max(2, min(samples, real, len(self.reference.references)))

    def measure(
        self, generator: RolloutPolicy, n_samples: int, rng: np.random.Generator, tested: Tensor | None = None
    ) -> Measurement:
        """Draw samples and measure them."""
        return self.measure_drawn(generator, self.task.sample(generator, n_samples, rng), tested)

    def measure_drawn(
        self, generator: RolloutPolicy | LikelihoodModel, samples: Tensor, tested: Tensor | None = None
    ) -> Measurement:
        """Measure samples, (R, T) int64, that were drawn in another way."""
        test = self.test if tested is None else tested
        metrics = measure_samples(generator, samples, test, self.task.oracle, self.task.prompt_length)
        return self._measured(metrics, samples)

    def measure_on_the_way(self, generator: RolloutPolicy, n_samples: int, rng: np.random.Generator) -> Measurement:
        """The same: all test sequences are used, because the lines of a corpus differ."""
        return self.measure(generator, n_samples, rng)

    def trial_samples(self, n_samples: int) -> int:
        """All of them, because the time is not proportional to their number."""
        return n_samples

    def real_data(self, n_samples: int, rng: np.random.Generator) -> Measurement:
        """Measure validation sequences like samples, to show the values of real data."""
        held_out = self.task.real_sequences("validation")
        samples = held_out[torch.from_numpy(rng.permutation(len(held_out))[:n_samples])]
        metrics = real_metrics(samples, self.task.vocab_size, self.task.oracle, self.task.prompt_length)
        return self._measured(metrics, samples)

    def _measured(self, metrics: GeneratorMetrics, samples: Tensor) -> Measurement:
        responses = self.task.responses(samples)
        return Measurement(metrics, self.reference.measure(responses, self.compared(len(samples))), samples)

    def matched_temperature(
        self, generator: SequenceModel, self_bleu: float, n_samples: int, rng: np.random.Generator
    ) -> float | None:
        """The temperature at which a generator repeats itself as much as another one.

        A lower temperature alone raises BLEU, so quality must be compared at equal diversity. The temperature is found
        by halving an interval, with the same uniforms at each temperature.

        Args:
            generator: the generator whose temperature is changed.
            self_bleu: self-BLEU of the other generator, of order `order`, among equally many samples.
            n_samples: how many samples to draw at each temperature.
            rng: source of all randomness.

        Returns:
            The temperature, or None if it lies outside of 0.2 to 2.
        """
        size, seed = self.compared(n_samples), int(rng.integers(2**32))

        def excess(temperature: float) -> float:
            task, tempered = self.task, generator.at_temperature(temperature)
            samples = task.responses(task.sample(tempered, size, np.random.default_rng(seed))).cpu()
            text = samples if task.eos_token is None else samples.where(samples != task.eos_token, task.vocab_size)
            scores = self_bleu_by_order(text.numpy(), task.vocab_size, self.order, "epsilon")
            return float(scores[:, -1].mean()) - self_bleu

        return _crossing(excess, _COLDEST, _HOTTEST)

    def closing_rows(
        self, methods: Methods, n_samples: int, rng: Streams, mle: SequenceModel | None = None
    ) -> list[TableRow]:
        """The methods, MLE at the temperature at which it repeats itself as much as the last method, and real data."""
        rows = [
            TableRow(name, self.measure(generator, n_samples, rng(number)))
            for number, (name, generator) in enumerate(methods)
        ]
        last = rows[-1].corpus
        if mle is not None and last is not None:
            target = last.self_bleu[self.order].mean
            temperature = self.matched_temperature(mle, target, n_samples, rng(len(methods)))
            if temperature is not None:
                matched = self.measure(mle.at_temperature(temperature), n_samples, rng(len(methods) + 1))
                rows.append(TableRow(f"MLE, temp. {temperature:.2f}{_MATCHED}", matched))
        return [*rows, TableRow("real data", self.real_data(n_samples, rng(len(methods) + 2)))]

    def table(self, rows: Sequence[TableRow]) -> TableText:
        """Quality (BLEU) beside diversity (self-BLEU, distinct pairs), likelihood, copies; for music the MSE."""
        first = rows[0].corpus
        assert first is not None
        is_music = first.melody is not None
        caption = (
            "BLEU alone rises when a generator loses diversity, as MLE at lower\n"
            "temperatures shows: compare lines of equal self-BLEU (self-2).\n"
            + ("MSE is to the nearest test melody" if is_music else "dist-2 is the share of different pairs")
            + ", real data the\nvalidation split. results.csv has more."
        )
        if any(row.method.endswith(_MATCHED) for row in rows):
            caption += f"\n{_MATCHED} the temperature at which MLE repeats itself as much as the line above"
        return TableText(
            f"{rows[0].metrics.n_samples:,} samples per line against {first.references:,} test sequences; "
            "± standard error",
            caption,
            ("NLL_test", "ppl", "BLEU-2", "-3", "-4", "self-2", "MSE" if is_music else "dist-2", "copied"),
            tuple(_cells(row) for row in rows),
            gap=0,
        )

    def floor(self, rows: Sequence[TableRow]) -> float | None:
        """None, because the distribution of a corpus is not known."""
        return None


def _cells(row: TableRow) -> tuple[str, ...]:
    """One line of the table."""
    m, c = row.metrics, row.corpus
    assert c is not None
    cells = ["", ""] if m.nll_test is None else [f"{m.nll_test.mean:.3f}", f"{m.perplexity:.1f}"]
    cells += [f"{c.bleu[2].mean:.3f} ±{c.bleu[2].standard_error:.3f}", f"{c.bleu[3].mean:.3f}"]
    cells += [f"{c.bleu[4].mean:.3f}", f"{c.self_bleu[2].mean:.3f}"]
    cells += [f"{c.distinct[2]:.3f}" if c.melody is None else f"{c.melody.nearest.mean:.2f}"]
    return row.method, *cells, f"{c.copied.mean:.1%}"


def _crossing(falling: Callable[[float], float], low: float, high: float) -> float | None:
    """The zero of a falling function, to 1/2^8 of the interval; None if there is none inside."""
    if falling(low) < 0 or falling(high) > 0:
        return None
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low * high) ** 0.5
