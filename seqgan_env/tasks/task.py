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
from seqgan_env.corpora.prompts import encode_text, marked_prompt
from seqgan_env.measures.likelihood_measures import LikelihoodMeasures
from seqgan_env.measures.measurement import Measures
from seqgan_env.models.response_mask import counted_tokens
from seqgan_env.models.sequence_models import LSTMSequenceModel, SequenceModel
from seqgan_env.rollout_policies import RolloutPolicy, drawn_prompts, sample_sequences
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
        prompt_length: P, the first tokens of each sequence, which are a prompt; 0 for a task without prompts. An
            episode begins with a prompt of a real sequence, and an agent writes the other T - P tokens, the response.
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
    prompt_length: int = 0
    _splits: dict[Split, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name, size in (("vocab_size", self.vocab_size), ("sequence_length", self.sequence_length)):
            if isinstance(size, bool) or not isinstance(size, int):
                raise TypeError(f"{name}={size!r} must be an int")
            if size < 1:
                raise ValueError(f"{name}={size} must be at least 1")
        if self.eos_token is not None and not 0 <= self.eos_token < self.vocab_size:
            raise ValueError(f"eos_token={self.eos_token} must lie in 0..{self.vocab_size - 1}")
        check_prompt_length(self.prompt_length, self.sequence_length)
        if self.oracle is not None and self.prompt_length:
            self.oracle.prompt_length = self.prompt_length

    @property
    def response_length(self) -> int:
        """T - P, the largest number of steps of an episode; T where there are no prompts."""
        return self.sequence_length - self.prompt_length

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

    # Prompts and responses. In a task without prompts, a response is the whole sequence.

    def prompts(self, split: Split) -> Tensor:
        """The prompts of the real sequences of a split, (M, P) int64."""
        return self.real_sequences(split)[:, : self.prompt_length]

    def responses(self, sequences: Tensor) -> Tensor:
        """Sequences (B, T) without their prompts, (B, T - P)."""
        return sequences[:, self.prompt_length :]

    def response_mask(self, sequences: Tensor) -> Tensor:
        """(B, T) bool: True at the tokens that losses and measures count, False at the prompt and at PAD."""
        return counted_tokens(sequences, self.vocab_size, self.prompt_length)

    def draw_prompt(self, rng: np.random.Generator) -> np.ndarray:
        """The prompt of an episode, (P,) int64: that of a random training sequence."""
        prompts = self.prompts("train")
        return prompts[int(rng.integers(len(prompts)))].numpy()

    def checked_prompt(self, prompt: Any) -> np.ndarray:
        """A prompt that a user gives: a text, or P token ids. Returns (P,) int64.

        Raises:
            TypeError, ValueError: if the task has no prompts, or if this is not one of them.
        """
        if not self.prompt_length:
            raise ValueError(f"prompt={prompt!r}: the task {self.name!r} has no prompts; leave it out")
        if isinstance(prompt, str):
            prompt = self.encode_prompt(prompt)
        ids = np.asarray(prompt)
        if ids.dtype.kind not in "iu":
            raise TypeError(f"prompt={prompt!r} must be a text, or {self.prompt_length} token ids")
        if ids.shape != (self.prompt_length,):
            raise ValueError(
                f"prompt={prompt!r} has shape {ids.shape}, expected ({self.prompt_length},): a prompt of the task "
                f"{self.name!r} has {self.prompt_length} tokens"
            )
        if (ids < 0).any() or (ids >= self.vocab_size).any() or (ids == self.eos_token).any():
            raise ValueError(f"prompt={prompt!r} must hold token ids in 0..{self.vocab_size - 1}, and no EOS")
        return ids.astype(np.int64)

    def encode_prompt(self, text: str) -> np.ndarray:
        """The token ids of a prompt's text, (n,) int64; without a vocabulary, the text holds ids.

        Where prompts have a mark (those of a column or a line), n is P: marks, the tokens of the text, a mark.

        Raises:
            ValueError: for a token that the task does not have, or for a longer prompt where prompts have a mark.
        """
        words = text.split()
        if self.vocabulary is not None:
            ids = encode_text(self.vocabulary, text)
            return (
                ids if self.vocabulary.prompt_token is None else marked_prompt(self.vocabulary, ids, self.prompt_length)
            )
        if not all(word.isdecimal() for word in words):
            raise ValueError(f"prompt={text!r} must be token ids with spaces between them: the task has no vocabulary")
        return np.array([int(word) for word in words], dtype=np.int64)

    def sample(self, policy: RolloutPolicy, count: int, rng: np.random.Generator, split: Split = "test") -> Tensor:
        """Draw sequences of this task, (count, T) int64, PAD after EOS: prompts of a split, responses of a policy.

        Args:
            policy: draws the responses; in a task without prompts, the whole sequences.
            count: number of sequences.
            rng: source of all randomness.
            split: of the prompts: "test" and "validation" for measures, "train" for D's negatives.
        """
        prompts = None
        if self.prompt_length:
            prompts = drawn_prompts(self.real_sequences(split), self.prompt_length, count, rng)
        return sample_sequences(policy, count, self.sequence_length, rng, self.eos_token, prompts)

    def continuations(self, policy: RolloutPolicy, prompt: str, count: int, rng: np.random.Generator) -> Tensor:
        """Draw sequences that begin with a given text, (count, T) int64, PAD after EOS.

        A task without prompts takes any beginning of a sequence, and so does one whose prompts have no mark: then the
        text holds at least the P tokens of a prompt.

        Raises:
            ValueError: for a text that no sequence can begin with.
        """
        ids = self.encode_prompt(prompt)
        if not max(self.prompt_length, 1) <= len(ids) < self.sequence_length:
            raise ValueError(
                f"prompt={prompt!r} has {len(ids)} tokens, expected {max(self.prompt_length, 1)} to "
                f"{self.sequence_length - 1}: a sequence has at most {self.sequence_length} of them"
            )
        if (ids < 0).any() or (ids >= self.vocab_size).any() or (ids == self.eos_token).any():
            raise ValueError(f"prompt={prompt!r} must hold tokens in 0..{self.vocab_size - 1}, and not the end itself")
        prompts = torch.from_numpy(ids).repeat(count, 1)
        return sample_sequences(policy, count, self.sequence_length, rng, self.eos_token, prompts)

    def action_mask(self) -> np.ndarray:
        """(V,) bool: the tokens that a response may have; a mark that only prompts have is not one of them."""
        mask = np.ones(self.vocab_size, dtype=bool)
        if self.vocabulary is not None and self.vocabulary.prompt_token is not None:
            mask[self.vocabulary.prompt_token] = False
        return mask

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
        """One sequence as text: its tokens, or their ids if there is no vocabulary.

        Where prompts come from a column or a line, " => " stands between prompt and response.
        """
        if self.vocabulary is not None and self.vocabulary.prompt_token is not None:
            parts = sequence[: self.prompt_length], sequence[self.prompt_length :]
            return " => ".join(map(self.vocabulary.decode, parts))
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
            **({"prompt_length": self.prompt_length} if self.prompt_length else {}),
        }

    @classmethod
    def fields_of(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """Constructor arguments from the result of `state`, except `draw_split` and `oracle`."""
        vocabulary = state.get("vocabulary")
        return {
            **{name: state[name] for name in ("name", "vocab_size", "sequence_length", "eos_token")},
            "vocabulary": None if vocabulary is None else Vocabulary.from_state(vocabulary),
            "prompt_length": state.get("prompt_length", 0),
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


def check_prompt_length(prompt_length: Any, sequence_length: int) -> None:
    """Raise TypeError or ValueError unless it is an int in 0..T-1."""
    if isinstance(prompt_length, bool) or not isinstance(prompt_length, int):
        raise TypeError(f"prompt_length={prompt_length!r} must be an int")
    if not 0 <= prompt_length < sequence_length:
        raise ValueError(
            f"prompt_length={prompt_length} must lie in 0..{sequence_length - 1}: a sequence of T={sequence_length} "
            "tokens holds its prompt and a response of at least one token"
        )


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
