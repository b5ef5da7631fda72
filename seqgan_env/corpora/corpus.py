"""The shared part of all corpora of real sequences: files, splits, and the numbers that are shown before training.

In: a path, or sequences that can be compared. Out: files, indices per split, a table. A fault of a file raises a
`CorpusError`, which names the file and, if known, the line and the byte. Everything that is dropped is counted in
`CorpusStatistics`.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Split = Literal["train", "validation", "test"]
Duplicates = Literal["drop", "keep", "error"]
TooLong = Literal["error", "cut", "drop"]
IntArray = npt.NDArray[np.integer]
Parts = dict[Split, npt.NDArray[np.int64]]  # ascending rows of each split


class CorpusError(ValueError):
    """A corpus that cannot be used with these options: the place, the fault and the remedy.

    Args:
        message: the fault, the expectation, the remedy.
        source: the file, folder or data set.
        line: counted from 1.
        byte: offset from the file's beginning, counted from 0.
    """

    def __init__(self, message: str, source: object = None, line: int | None = None, byte: int | None = None) -> None:
        self.source, self.line, self.byte = source, line, byte
        place = "" if source is None else str(source)
        place += "" if line is None else f", line {line}"
        place += "" if byte is None else f", byte {byte}"
        super().__init__(f"{place}: {message}" if place else message)


@dataclass(frozen=True)
class CorpusStatistics:
    """The contents of a corpus and the changes to it: plain values, which JSON can hold after `dataclasses.asdict`.

    Lengths and rates are for the kept sequences, in tokens, without EOS.
    """

    source: str
    """The file, folder or data set."""
    unit: str
    """The kind of token, such as "words (auto: separated by spaces)"."""
    sequences: dict[str, int]
    """Sequences in "train", "validation" and "test"."""
    vocab_size: int
    """V, with EOS and <unk> where they exist."""
    sequence_length: int
    """T, with EOS where it exists."""
    tokens: int
    """Tokens of all splits."""
    length_min: int
    """Tokens of the shortest sequence."""
    length_median: float
    """Median of the lengths."""
    length_mean: float
    """Mean of the lengths."""
    length_max: int
    """Tokens of the longest sequence."""
    unknown_rate: dict[str, float]
    """Share of the tokens of each split that are <unk>, 0 to 1; all 0 if there is no <unk>."""
    repeated: int = 0
    """Sequences that repeat another one of their own split; they are kept."""
    shared: int = 0
    """Validation and test sequences that also occur in an earlier split, in the order train, validation, test."""
    duplicates: Duplicates = "drop"
    """Whether the shared sequences were dropped from the later split, or kept."""
    too_long: int = 0
    """Sequences longer than T."""
    too_long_choice: TooLong = "error"
    """Whether these were cut or dropped."""
    skipped: int = 0
    """Empty lines, rows or files: nothing to learn from."""
    byte_order_marks: int = 0
    """Byte-order marks (U+FEFF) inside the text, as in joined files; they were left out."""
    prompt_length: int = 0
    """P, the first tokens of each sequence, which are its prompt; 0 without prompts."""
    too_short: int = 0
    """Sequences with fewer tokens than the prompt; they were dropped."""

    def lines(self) -> list[tuple[str, str]]:
        """The rows of a table to print before training: name and value."""
        done = {"drop": "dropped", "keep": "kept", "cut": "cut", "error": ""}
        rows = [
            ("corpus", self.source),
            ("token", self.unit),
            ("sequences", ", ".join(f"{split} {count:,}" for split, count in self.sequences.items())),
            ("tokens", f"{self.tokens:,}"),
            ("vocabulary V", f"{self.vocab_size:,}"),
            ("horizon T", f"{self.sequence_length:,}"),
            (
                "lengths",
                f"{self.length_min} to {self.length_max}, median {self.length_median:g}, mean {self.length_mean:.1f}",
            ),
            ("unknown tokens", ", ".join(f"{split} {rate:.2%}" for split, rate in self.unknown_rate.items())),
            ("repeated in a split", f"{self.repeated:,}"),
            ("held out, also in train", f"{self.shared:,} {done[self.duplicates] if self.shared else ''}".strip()),
            ("longer than T", f"{self.too_long:,} {done[self.too_long_choice] if self.too_long else ''}".strip()),
        ]
        if self.prompt_length:
            rows.append(("prompt", f"the first {self.prompt_length:,} of T, an agent writes the rest"))
        if self.too_short:
            rows.append(("shorter than a prompt", f"{self.too_short:,} dropped"))
        if self.byte_order_marks:
            rows.append(("byte-order marks", f"{self.byte_order_marks:,} left out"))
        return [*rows, ("empty, skipped", f"{self.skipped:,}")]


def draw_parts(
    group_of: IntArray,
    *,
    validation: float,
    test: float,
    seed: int,
    first_validation: int | None = None,
    first_test: int | None = None,
) -> Parts:
    """Draw the rows of each split, before the search for duplicates.

    The same arguments give the same split on every platform. The rows of a separate validation set come after those of
    the corpus. The rows of a separate test set come last.

    Args:
        group_of: (M,) integers, the group of each sequence; a group is never divided between two splits.
        validation: share of the sequences (in whole groups) for validation, above 0.
        test: the same for the test; not used if `first_test` is given.
        seed: of the draw.
        first_validation: the first row of a separate validation set; None draws it from the corpus.
        first_test: the first row of a separate test set; None draws it from the corpus.

    Returns:
        Ascending rows of each split; none is empty.

    Raises:
        ValueError: for a share or a seed out of range.
        CorpusError: if a split is empty.
    """
    for name, share in (("validation", validation), ("test", test)):
        if not 0 < share < 1:
            raise ValueError(f"{name}={share} must lie between 0 and 1, both excluded")
    if first_test is None and first_validation is None and not validation + test < 1:
        raise ValueError(f"validation={validation} + test={test} leave nothing to train on; their sum must be below 1")
    if not 0 <= seed < 2**32:
        raise ValueError(f"the split's seed={seed} must lie in 0..2^32-1")
    stop_test = len(group_of) if first_test is None else first_test
    stop = stop_test if first_validation is None else first_validation
    shares: dict[Split, float] = {}
    if first_test is None:
        shares["test"] = test
    if first_validation is None:
        shares["validation"] = validation
    number_of_split = np.full(len(group_of), get_args(Split).index("test"))
    number_of_split[:stop] = _draw_split(group_of[:stop], shares, seed)
    number_of_split[stop:stop_test] = get_args(Split).index("validation")
    parts: Parts = {split: np.flatnonzero(number_of_split == number) for number, split in enumerate(get_args(Split))}
    expect_filled(parts, "give more sequences, in smaller groups if they are grouped")
    return parts


def resolve_duplicates(keys: IntArray, parts: Parts, duplicates: Duplicates) -> tuple[Parts, int]:
    """Treat sequences that occur in two splits; return the new splits and the number of such held-out sequences.

    Args:
        keys: (M,) integers; two sequences are equal if their keys are.
        parts: rows of each split.
        duplicates: the treatment of a sequence that occurs in two splits: "drop" it from the later of train,
            validation, test; "keep" it; or raise an "error". Equal sequences within one split are all kept.

    Raises:
        ValueError: for another choice.
        CorpusError: if a split is then empty, or for duplicates="error" if two splits share a sequence.
    """
    if duplicates not in get_args(Duplicates):
        raise ValueError(f"duplicates={duplicates!r} must be one of {get_args(Duplicates)}")
    shared = shared_between(keys, parts)
    if duplicates == "error" and len(shared):
        raise CorpusError(
            f"{len(shared)} held-out sequences also occur in an earlier split (the first is sequence {shared[0] + 1}), "
            'so a test on them would reward memory: choose duplicates="drop" or "keep"'
        )
    if duplicates == "drop" and len(shared):
        parts = {split: rows[~np.isin(rows, shared)] for split, rows in parts.items()}
        expect_filled(parts, 'its sequences also occur in another split: give others, or choose duplicates="keep"')
    return parts, len(shared)


def shared_between(keys: IntArray, parts: Parts) -> npt.NDArray[np.int64]:
    """Ascending rows of held-out sequences that equal one of an earlier split; arguments of `resolve_duplicates`."""
    train, validation, test = (parts[split] for split in get_args(Split))
    earlier = np.concatenate([keys[train], keys[validation]])
    return np.sort(
        np.concatenate([validation[np.isin(keys[validation], keys[train])], test[np.isin(keys[test], earlier)]])
    )


def repeated_within(keys: IntArray, parts: Parts) -> int:
    """How many sequences repeat another one of their own split; arguments of `resolve_duplicates`."""
    return sum(len(rows) - len(np.unique(keys[rows])) for rows in parts.values())


def _draw_split(group_of: IntArray, shares: dict[Split, float], seed: int) -> npt.NDArray[np.int64]:
    """0, 1 or 2 (train, validation, test) for each sequence: whole groups in random order, as long as they fit.

    The last free groups stay for the splits that are not drawn yet, so that three groups are enough for three splits.
    """
    _, group_of = np.unique(group_of, return_inverse=True)
    sizes = np.bincount(group_of) if len(group_of) else np.zeros(0, dtype=np.int64)
    # NumPy's compatibility policy freezes RandomState, so a seed means the same split in every version.
    order = np.random.RandomState(seed).permutation(len(sizes))
    number_of_group = np.zeros(len(sizes), dtype=np.int64)
    for drawn, (split, share) in enumerate(shares.items()):
        splits_left = len(shares) - drawn  # with train; each needs a group
        room = max(1, round(share * len(group_of)))
        free = order[number_of_group[order] == 0]
        if not len(free):
            break
        chosen: list[int] = []
        for group in free.tolist():
            if len(free) - len(chosen) <= splits_left:
                break
            if sizes[group] <= room:
                chosen.append(group)
                room -= int(sizes[group])
                if room == 0:
                    break
        number_of_group[chosen or [free[np.argmin(sizes[free])]]] = get_args(Split).index(split)
    return number_of_group[group_of]


def expect_filled(parts: Parts, remedy: str) -> None:
    """Raise CorpusError for a split without sequences; its message ends with the remedy."""
    for split, rows in parts.items():
        if not len(rows):
            counts = ", ".join(f"{name} {len(part)}" for name, part in parts.items())
            raise CorpusError(f"the {split} split would be empty ({counts}); {remedy}")


def corpus_files(corpus: str | Path, suffixes: Sequence[str]) -> list[Path]:
    """The files of a corpus, each once.

    A path that exists is used directly, even if its name contains one of , * ? [. Otherwise the corpus may be a pattern
    such as "poems/*.txt" ("**" stands for any folders), or several paths and patterns, separated by commas.

    From a folder, all files with one of `suffixes` are taken, in the order of their names, also from folders inside it.
    Links to folders are followed, each folder once, so a loop of links ends. Hidden files and folders are left out.

    Args:
        corpus: a file with any suffix, a folder, a pattern, or several of these.
        suffixes: lower case with the dot; a file's suffix is compared in lower case.

    Raises:
        CorpusError: if there is no such file or folder, if it cannot be read, or if it has no file of this kind.
    """
    files: dict[str, Path] = {}
    for path in _named_paths(corpus):
        for file in _files_of(path, suffixes):
            files.setdefault(os.path.realpath(file), file)
    return list(files.values())


def _named_paths(corpus: str | Path) -> list[Path]:
    """The paths of a corpus: itself, the sorted matches of a pattern, or those of its parts."""
    text = str(corpus)
    try:
        if isinstance(corpus, Path) or Path(text).exists():
            return [Path(corpus)]
        if "," in text:
            return [path for part in text.split(",") if part.strip() for path in _named_paths(part.strip())]
        if not glob.has_magic(text):
            return [Path(text)]
        found = sorted(glob.glob(text, recursive=True))
    except (OSError, ValueError) as error:
        raise CorpusError(f"no such file or folder ({error}); give the path of a corpus", text) from error
    if not found:
        raise CorpusError("no file or folder matches this pattern; give the path of a corpus", text)
    return [Path(path) for path in found]


def _files_of(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """The file, or a folder's files that end in one of `suffixes`; errors of `corpus_files`."""
    try:
        if path.is_file():
            return [path]
        if not path.is_dir():
            raise CorpusError("no such file or folder; give the path of a corpus", path)
        files = _files_below(path, {os.path.realpath(path)})
    except (OSError, ValueError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"cannot be read: {error}", path) from error
    chosen = [file for file in files if file.suffix.lower() in suffixes]
    if not chosen:
        raise CorpusError(f"no {', '.join(suffixes)} file in this folder of {len(files)} files; give another", path)
    return chosen


def _files_below(folder: Path, visited: set[str]) -> list[Path]:
    """Files of a folder and of the folders in it, sorted; `visited` holds the real paths of finished folders."""
    files = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            real = os.path.realpath(entry)
            if real not in visited:
                visited.add(real)
                files += _files_below(entry, visited)
        elif entry.is_file():
            files.append(entry)
    return files
