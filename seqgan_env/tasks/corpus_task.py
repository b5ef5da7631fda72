"""The shared part of tasks with a corpus: statistics to show, and measures without an oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from seqgan_env.corpora.corpus import CorpusStatistics
from seqgan_env.measures.nearest import nearest_sequences
from seqgan_env.measures.sample_measures import SampleMeasures
from seqgan_env.tasks.task import Task
from seqgan_env.vocabulary import Vocabulary


@dataclass
class CorpusTask(Task):
    """A task whose sequences come from a corpus; it has a vocabulary.

    Attributes:
        statistics: the contents of the corpus and the changes to it. Never None.

    Raises:
        ValueError: without vocabulary or statistics.
    """

    Statistics: ClassVar[type[CorpusStatistics]] = CorpusStatistics
    statistics: CorpusStatistics = None  # type: ignore[assignment]  # fields before it have defaults

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("vocabulary", self.vocabulary), ("statistics", self.statistics)):
            if value is None:
                raise ValueError(f"{name}=None: a corpus task needs its {name}; without a corpus make a Task")

    @property
    def names(self) -> Vocabulary:
        """The vocabulary."""
        assert self.vocabulary is not None
        return self.vocabulary

    def measures(self, held_out: int | None = None) -> SampleMeasures:
        """BLEU, self-BLEU, copies and NLL_test; the paper gives BLEU-2 of its poems (Table 2)."""
        return SampleMeasures(self, held_out)

    def description(self) -> list[tuple[str, str]]:
        """The statistics of the corpus."""
        return self.statistics.lines()

    def summary(self) -> dict[str, Any]:
        """The statistics as plain values."""
        return asdict(self.statistics)

    def nearest(self, samples: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The most similar training sequence of each sample, and the similarity; see `measures.nearest`.

        With prompts, responses are compared.
        """
        train = self.responses(self.real_sequences("train"))
        return nearest_sequences(self.responses(samples).numpy(), train.numpy(), self.vocab_size, self.eos_token)

    def state(self) -> dict[str, Any]:
        """Plain values, with the statistics."""
        statistics = {"kind": type(self.statistics).__name__, **self.summary()}
        return super().state() | {"statistics": statistics}

    @classmethod
    def fields_of(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """Constructor arguments, with the statistics. JSON has turned tuples into lists."""
        stored = {name: value for name, value in state["statistics"].items() if name != "kind"}
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
        }
        return super().fields_of(state) | {"statistics": cls.Statistics(**plain)}
