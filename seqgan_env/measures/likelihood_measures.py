"""Measures of a task whose distribution may be known: NLL_oracle, NLL_test, entropy and both KLs (Eq. 13).

In: a task, generators. Out: `Measurement`s, and the closing table with the methods, random tokens and the oracle.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from seqgan_env.measures.likelihood import LikelihoodModel, measure_samples, real_metrics
from seqgan_env.measures.measurement import (
    Measurement,
    Methods,
    RealSequences,
    Streams,
    TableRow,
    TableText,
    cells_of,
)
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.rollout_policies import RolloutPolicy, UniformPolicy

_FLOOR = "oracle (floor)"
_TRIAL_SAMPLES = 500


class LikelihoodMeasures:
    """Measures generators by likelihoods; see `measurement.Measures`.

    Args:
        task: the task that the generators were trained on.
        held_out: the largest number of test sequences to use; None uses all. The closing table always uses all.
    """

    likelihood_columns: tuple[str, ...] = (
        "nll_oracle",
        "nll_oracle_se",
        "nll_test",
        "nll_test_se",
        "entropy",
        "distinct",
    )
    sample_columns: tuple[str, ...] = ()
    writes_curve = False

    def __init__(self, task: RealSequences, held_out: int | None = None) -> None:
        self.task = task
        self._held_out = held_out

    @cached_property
    def test(self) -> Tensor:
        """(M, T) int64, the test sequences that measurements during training may use."""
        return self.task.some_sequences("test", self._held_out)

    @property
    def panels(self) -> tuple[tuple[str, str], ...]:
        """Both NLLs; without an oracle only NLL_test."""
        test = (("nll_test", "NLL_test"),)
        return test if self.task.oracle is None else (("nll_oracle", "NLL_oracle"), *test)

    @property
    def panels_note(self) -> str:
        """The sentence above the panels."""
        if self.task.oracle is None:
            return "Lower is better"
        return "Lower is better in both panels; a fall in the first one alone means lost diversity"

    def prepare(self) -> None:
        """Nothing needs to be prepared."""

    def measure(
        self, generator: RolloutPolicy, n_samples: int, rng: np.random.Generator, tested: Tensor | None = None
    ) -> Measurement:
        """Draw samples and measure them."""
        if n_samples < 1:
            raise ValueError(f"n_samples={n_samples} must be at least 1")
        return self.measure_drawn(generator, self.task.sample(generator, n_samples, rng), tested)

    def measure_drawn(
        self, generator: RolloutPolicy | LikelihoodModel, samples: Tensor, tested: Tensor | None = None
    ) -> Measurement:
        """Measure samples, (R, T) int64, that were drawn in another way."""
        test = self.test if tested is None else tested
        metrics = measure_samples(generator, samples, test, self.task.oracle, self.task.prompt_length)
        return Measurement(metrics, None, samples)

    def measure_on_the_way(self, generator: RolloutPolicy, n_samples: int, rng: np.random.Generator) -> Measurement:
        """The same, with only as many test sequences as samples: sequences of one oracle are interchangeable."""
        return self.measure(generator, n_samples, rng, self.test[:n_samples])

    def real_data(self, n_samples: int, rng: np.random.Generator) -> Measurement:
        """Validation sequences measured as if they were samples; their NLL_oracle is the oracle's entropy."""
        held_out = self.task.real_sequences("validation")
        samples = held_out[torch.from_numpy(rng.permutation(len(held_out))[:n_samples])]
        metrics = real_metrics(samples, self.task.vocab_size, self.task.oracle, self.task.prompt_length)
        return Measurement(metrics, None, samples)

    def trial_samples(self, n_samples: int) -> int:
        """A few are enough, since the time is proportional to their number."""
        return _TRIAL_SAMPLES

    def closing_rows(
        self, methods: Methods, n_samples: int, rng: Streams, mle: SequenceModel | None = None
    ) -> list[TableRow]:
        """Random tokens, the methods, and the oracle itself."""
        lines: list[tuple[str, RolloutPolicy]] = [("random", UniformPolicy(self.task.vocab_size)), *methods]
        if self.task.oracle is not None:
            lines.append((_FLOOR, self.task.oracle))
        test = self.task.real_sequences("test")
        return [
            TableRow(name, self.measure(generator, n_samples, rng(number), test))
            for number, (name, generator) in enumerate(lines)
        ]

    def table(self, rows: Sequence[TableRow]) -> TableText:
        """Both NLLs side by side with standard errors, entropy, both KLs, diversity."""
        cells = []
        for row in rows:
            m = row.metrics
            with_errors = ["" if nll is None else str(nll) for nll in (m.nll_oracle, m.nll_test)]
            means = cells_of((m.entropy, m.kl_from_oracle, m.kl_to_oracle), ".3f")
            cells.append((row.method, *with_errors, *means, f"{m.distinct:.4f}"))
        return TableText(
            f"nats per token, ± standard error, {rows[0].metrics.n_samples:,} samples per line; o is the oracle",
            "NLL_oracle alone falls when a generator loses diversity, as MLE at\n"
            "lower temperatures shows; better means lower at equal or lower NLL_test.",
            ("NLL_oracle", "NLL_test", "H(G)", "KL(G‖o)", "KL(o‖G)", "unique"),
            tuple(cells),
        )

    def floor(self, rows: Sequence[TableRow]) -> float | None:
        """The oracle's entropy in nats per token, if the last line is the oracle's."""
        entropy = rows[-1].metrics.entropy if rows[-1].method == _FLOOR else None
        return None if entropy is None else entropy.mean
