"""What is measured of a generator on a task, prepared once for all that a run measures.

Where an oracle is known: NLL_oracle and its companions. Where the real sequences are a corpus: what samples have in
common with the test set and with each other (BLEU, self-BLEU, ...). NLL_test everywhere. In: a task, generators. Out:
`Measurement`s, their samples among them, and the names that CSVs give to their numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqgan_env.measures.bleu import self_bleu_by_order
from seqgan_env.measures.likelihood import Estimate, GeneratorMetrics, distinct_share, measure_samples
from seqgan_env.measures.samples import CorpusMetrics, CorpusReference
from seqgan_env.models.sequence_models import SequenceModel
from seqgan_env.rollout_policies import RolloutPolicy, sample_sequences
from seqgan_env.tasks.music import pitches
from seqgan_env.tasks.task import Task

# n of the BLEU that the paper gives for each task (Tables 2 and 4), by which temperatures are matched.
_HEADLINE_ORDERS = {"music": 4}
_REFERENCE_SEED = 0  # the same references for everything that is measured on a corpus
_COLDEST, _HOTTEST, _HALVINGS = 0.2, 2.0, 8  # of the search for a temperature


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    Attributes:
        metrics: likelihoods, and the share of different samples.
        corpus: BLEU and the like; None where there is no corpus.
        samples: (R, T) int64, what was measured.
    """

    metrics: GeneratorMetrics
    corpus: CorpusMetrics | None
    samples: Tensor

    def headline(self) -> str:
        """What one wants to see while training: no quality without its diversity, no NLL_oracle without NLL_test."""
        m, parts = self.metrics, []
        if m.nll_oracle is not None:
            parts.append(f"NLL_oracle {m.nll_oracle.mean:.3f}")
        parts.append(f"NLL_test {'' if m.nll_test is None else f'{m.nll_test.mean:.3f}'}")
        if self.corpus is not None:
            parts.append(f"BLEU-2 {self.corpus.bleu[2].mean:.3f}  self-BLEU-2 {self.corpus.self_bleu[2].mean:.3f}")
        return "  ".join(parts)


class TaskMeasures:
    """Measures generators on one task.

    Args:
        task: an oracle's, or a corpus.
        held_out: test sequences that are looked at, at most; None is all.
    """

    def __init__(self, task: Task, held_out: int | None = None) -> None:
        self.task = task
        self.is_corpus = task.statistics is not None
        self.test = task.some_sequences("test", held_out)
        self.order = _HEADLINE_ORDERS.get(task.name, 2)
        self._reference: CorpusReference | None = None

    @property
    def reference(self) -> CorpusReference | None:
        """What samples are compared with; None without a corpus."""
        if self._reference is None and self.is_corpus:
            vocabulary = self.task.vocabulary
            self._reference = CorpusReference(
                self.task.real_sequences("train"),
                self.test,
                self.task.vocab_size,
                eos_token=self.task.eos_token,
                unknown_token=None if vocabulary is None else vocabulary.unknown_token,
                pitches=pitches(vocabulary) if self.task.name == "music" and vocabulary is not None else None,
                rng=np.random.default_rng(_REFERENCE_SEED),
            )
        return self._reference

    def compared(self, samples: int) -> int:
        """How many sequences are compared with each other: as many of samples as of real ones, so that both can be."""
        assert self.reference is not None
        real = len(self.task.real_sequences("validation"))
        return max(2, min(samples, real, len(self.reference.references)))

    def generator(
        self, generator: RolloutPolicy, n_samples: int, rng: np.random.Generator, tested: Tensor | None = None
    ) -> Measurement:
        """Draw samples and measure them.

        Args:
            generator: G.
            n_samples: to draw.
            rng: source of all randomness.
            tested: (M, T) test sequences for NLL_test; None is those of `held_out`.
        """
        samples = sample_sequences(generator, n_samples, self.task.sequence_length, rng, self.task.eos_token)
        test = self.test if tested is None else tested
        return self._measured(measure_samples(generator, samples, test, self.task.oracle), samples)

    def real_data(self, n_samples: int, rng: np.random.Generator) -> Measurement:
        """Held-out real sequences as if they were samples: what each measure says of the truth."""
        held_out = self.task.real_sequences("validation")
        samples = held_out[torch.from_numpy(rng.permutation(len(held_out))[:n_samples])]
        metrics = GeneratorMetrics(None, None, None, None, None, distinct_share(samples), len(samples))
        return self._measured(metrics, samples)

    def _measured(self, metrics: GeneratorMetrics, samples: Tensor) -> Measurement:
        if self.reference is None:
            return Measurement(metrics, None, samples)
        return Measurement(metrics, self.reference.measure(samples, self.compared(len(samples))), samples)

    def matched_temperature(
        self, generator: SequenceModel, self_bleu: float, n_samples: int, rng: np.random.Generator
    ) -> float | None:
        """The temperature at which a generator repeats itself as much as another one does.

        BLEU rises for free as the temperature falls, so quality is compared at one diversity. Found by halving, with
        the same uniforms at each temperature.

        Args:
            generator: whose temperature is asked for.
            self_bleu: of the other one, of order `order`, among as many samples.
            n_samples: to draw at each temperature.
            rng: source of all randomness.

        Returns:
            The temperature, or None if it lies outside of 0.2 to 2.
        """
        size, seed = self.compared(n_samples), int(rng.integers(2**32))

        def excess(temperature: float) -> float:
            task, tempered = self.task, generator.at_temperature(temperature)
            samples = sample_sequences(
                tempered, size, task.sequence_length, np.random.default_rng(seed), task.eos_token
            ).cpu()
            text = samples if task.eos_token is None else samples.where(samples != task.eos_token, task.pad_token)
            scores = self_bleu_by_order(text.numpy(), task.vocab_size, self.order, "epsilon")
            return float(scores[:, -1].mean()) - self_bleu

        return _crossing(excess, _COLDEST, _HOTTEST)


def _crossing(falling: Callable[[float], float], low: float, high: float) -> float | None:
    """Where a falling function is 0, to one part in 2^8 of the interval, or None if it is not 0 inside."""
    if falling(low) < 0 or falling(high) > 0:
        return None
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low * high) ** 0.5


def measured_columns(metrics: GeneratorMetrics, corpus: CorpusMetrics | None = None) -> dict[str, str]:
    """Name -> text of each mean and standard error, as CSVs hold them; empty where there is none.

    A corpus has no oracle, and so no columns of one.
    """
    names = ["nll_oracle", "nll_test", "entropy", "kl_from_oracle", "kl_to_oracle"]
    columns = {}
    for name in names if corpus is None else [name for name in names if "oracle" not in name]:
        value: Estimate | None = getattr(metrics, name)
        columns[name] = "" if value is None else f"{value.mean:.6f}"
        columns[f"{name}_se"] = "" if value is None else f"{value.standard_error:.6f}"
    if corpus is not None:
        columns["perplexity"] = "" if metrics.perplexity is None else f"{metrics.perplexity:.6f}"
    columns |= {"distinct": f"{metrics.distinct:.6f}", "n_samples": str(metrics.n_samples)}
    if corpus is not None:
        for name, number in corpus.columns().items():
            columns[name] = str(number) if isinstance(number, int) else f"{number:.6f}"
    return columns
