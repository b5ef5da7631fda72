"""The parts of every task: vocabulary, horizon T, real sequences in three splits, and an oracle if one is known.

Your own task is a `Task` with other contents. Splits: the generator and the discriminator learn from "train";
"validation" is for choices (early stopping, held-out accuracy of D); "test" measures NLL_test and is never used for a
choice.

Methods say what is measured on a task, and how its samples are shown and stored. A task that differs overrides them. A
task from a file in `tasks/` is stored under the name of this file, so `restored_task` finds its class again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor

from seqgan_env.corpora.corpus import Split as Split
from seqgan_env.measures.likelihood_measures import LikelihoodMeasures
from seqgan_env.measures.measurement import Measures
from seqgan_env.models.sequence_models import LSTMSequenceModel, SequenceModel
from seqgan_env.task_files import TASKS
from seqgan_env.vocabulary import Vocabulary

_ORACLE = "oracle."


@dataclass
class Task:
    """A source of real sequences over 0..V-1 with horizon T.

    Attributes:
        name: name for messages; a task of `tasks/` has the name of its file.
        vocab_size: V.
        sequence_length: T.
        draw_split: makes the (M, T) int64 sequences of a split; called once per split, at its first use. A task can be
            pickled if this is a function of a module, or an object of a module's class.
        eos_token: the token that ends a sequence early, or None for fixed length.
        vocabulary: readable tokens, or None if there are only ids.
        oracle: the known distribution of real sequences, or None.
    """

    # Formats of samples: those of text, and those of files, each with "file" or "folder" as the kind of its place.
    text_formats: ClassVar[tuple[str, ...]] = ("text",)
    file_formats: ClassVar[dict[str, str]] = {}

    name: str
    vocab_size: int
    sequence_length: int
    draw_split: Callable[[Split], Tensor]
    eos_token: int | None = None
    vocabulary: Vocabulary | None = None
    oracle: SequenceModel | None = None
    _splits: dict[Split, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name, size in (("vocab_size", self.vocab_size), ("sequence_length", self.sequence_length)):
            if isinstance(size, bool) or not isinstance(size, int):
                raise TypeError(f"{name}={size!r} must be an int")
            if size < 1:
                raise ValueError(f"{name}={size} must be at least 1")
        if self.eos_token is not None and not 0 <= self.eos_token < self.vocab_size:
            raise ValueError(f"eos_token={self.eos_token} must lie in 0..{self.vocab_size - 1}")

    @property
    def pad_token(self) -> int:
        """PAD = V; it occurs only in observations, and is never an action."""
        return self.vocab_size

    # Real sequences.

    def real_sequences(self, split: Split) -> Tensor:
        """Real sequences of a split, (M, T) int64, PAD after EOS.

        Raises:
            ValueError: for another split.
        """
        if split not in get_args(Split):
            raise ValueError(f"split={split!r} must be one of {get_args(Split)}")
        if split not in self._splits:
            self._splits[split] = self.draw_split(split)
        return self._splits[split]

    def some_sequences(self, split: Split, at_most: int | None) -> Tensor:
        """The real sequences of a split. From a larger split, always the same random `at_most` of them, in order."""
        sequences = self.real_sequences(split)
        if at_most is None or len(sequences) <= at_most:
            return sequences
        chosen = np.random.default_rng(0).permutation(len(sequences))[:at_most]
        return sequences[torch.from_numpy(np.sort(chosen))]

    # Measures and descriptions.

    def measures(self, held_out: int | None = None) -> Measures:
        """The measures for generators on this task.

        Args:
            held_out: the largest number of test sequences to use; None uses all.
        """
        return LikelihoodMeasures(self, held_out)

    def description(self) -> list[tuple[str, str]]:
        """Names and values to show before training; empty if the options already say everything."""
        return []

    def summary(self) -> dict[str, Any] | None:
        """The same as plain values, for the records of a run; None if there is no corpus."""
        return None

    # Samples for readers.

    def decode(self, sequence: list[int]) -> str:
        """One sequence as text: its tokens, or their ids if there is no vocabulary."""
        tokens = [token for token in sequence if token < self.vocab_size]
        return " ".join(map(str, tokens)) if self.vocabulary is None else self.vocabulary.decode(tokens)

    def as_text(self, samples: Tensor, form: str = "text") -> str:
        """Samples (R, T) int64 as text, one line each, or in another of the `text_formats`.

        Raises:
            ValueError: for a format that this task does not have.
        """
        if form != "text":
            raise ValueError(self._no_format(form))
        return "".join(f"{self.decode(row)}\n" for row in samples.tolist())

    def write(self, samples: Tensor, form: str, out: Path) -> list[Path]:
        """Write samples (R, T) int64 to files in one of the `file_formats`, and return the files.

        Raises:
            ValueError: for a format that this task does not have.
        """
        raise ValueError(self._no_format(form))

    def nearest(self, samples: Tensor) -> tuple[np.ndarray, np.ndarray] | None:
        """For each sample the row of the most similar training sequence, and the similarity from 0 to 1.

        None for a task with an oracle: it can draw any number of sequences, so copying is no issue.
        """
        return None

    def _no_format(self, form: str) -> str:
        known = [*self.text_formats, *self.file_formats]
        return f"format={form!r}: the task {self.name!r} has {', '.join(known)}"

    # Storage.

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the task: the splits, and the oracle's parameters under "oracle."."""
        found: dict[str, Tensor] = {split: self.real_sequences(split).int() for split in get_args(Split)}
        if self.oracle is not None:
            found |= {f"{_ORACLE}{name}": tensor for name, tensor in self.oracle.state_dict().items()}
        return found

    def state(self) -> dict[str, Any]:
        """Everything else, as JSON values."""
        return {
            "name": self.name,
            "class": type(self).__name__,
            "vocab_size": self.vocab_size,
            "sequence_length": self.sequence_length,
            "eos_token": self.eos_token,
            "vocabulary": None if self.vocabulary is None else self.vocabulary.state(),
        }

    @classmethod
    def fields_of(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """Constructor arguments from the result of `state`, except `draw_split` and `oracle`."""
        vocabulary = state.get("vocabulary")
        return {
            **{name: state[name] for name in ("name", "vocab_size", "sequence_length", "eos_token")},
            "vocabulary": None if vocabulary is None else Vocabulary.from_state(vocabulary),
        }

    @classmethod
    def oracle_of(cls, parameters: dict[str, Tensor]) -> SequenceModel:
        """The oracle from its parameters: an LSTM with their sizes.

        Raises:
            ValueError: if they are not those of an LSTM.
        """
        try:
            vocab_size, embedding_size = parameters["embedding"].shape
            model = LSTMSequenceModel(vocab_size, embedding_size, parameters["recurrent_weight"].shape[0])
            model.load_state_dict(parameters)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"the stored parameters are not those of an LSTM sequence model: {error}") from error
        return model


def restored_task(
    state: Mapping[str, Any], tensors: Mapping[str, Tensor], draw_split: Callable[[Split], Tensor]
) -> Task:
    """Restore a task from the results of `Task.state` and `Task.tensors`. Nothing in them is executed.

    Args:
        state: plain values, which may come from JSON.
        tensors: tensors by name; only names that begin with "oracle." are used.
        draw_split: reads the sequences of a split, at its first use.

    Raises:
        ValueError: if the values or the tensors are not those of a task.
    """
    name = state.get("name")
    kind: type[Task] = TASKS[name].task_class if isinstance(name, str) and name in TASKS else Task
    if state.get("class", kind.__name__) != kind.__name__:  # a user's own task, with the name of one of ours
        kind = Task
    parameters = {name.removeprefix(_ORACLE): tensor for name, tensor in tensors.items() if name.startswith(_ORACLE)}
    try:
        fields = kind.fields_of(state)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is not the state of a task: {type(error).__name__}: {error}") from error
    oracle = kind.oracle_of(parameters).requires_grad_(False) if parameters else None
    return kind(**fields, draw_split=draw_split, oracle=oracle)
