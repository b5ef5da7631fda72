"""The paper's synthetic task: real sequences are drawn from an LSTM with random parameters, the oracle.

The oracle's parameters come from N(0, 1), either from a seed (the same numbers on every platform) or from the authors'
file. Its likelihood is known exactly, so a generator can be measured by NLL_oracle (Eq. 13).
"""

from __future__ import annotations

import copy
import pickle
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from seqgan_env.models.sequence_models import LSTMSequenceModel, SequenceModel
from seqgan_env.rollout_policies import sample_sequences
from seqgan_env.tasks.task import Split, Task

DEFAULT_ORACLE_SEED = 0
# Streams of the splits; part of what a seed means, so never renumbered.
_SPLIT_STREAMS: dict[Split, int] = {"train": 0, "validation": 1, "test": 2}


def oracle_task(
    vocab_size: int | None = None,
    sequence_length: int = 20,
    oracle: int | str | Path | SequenceModel | None = None,
    *,
    n_sequences: dict[Split, int] | int = 10_000,
    data_seed: int = 0,
    hidden_size: int = 32,
    name: str = "oracle",
) -> Task:
    """The synthetic task of the paper: V = 5,000, T = 20, 10,000 training sequences.

    Args:
        vocab_size: V; None takes the oracle file's, or 5,000.
        sequence_length: T.
        oracle: an int seeds its parameters, None is seed 0, a path loads the authors' `.npz` or pickle, a
            sequence model of your own is copied and frozen.
        n_sequences: sequences in each split.
        data_seed: of the draws of real sequences.
        hidden_size: E and H of a seeded oracle (paper's code: 32).

    Raises:
        ValueError: if the file does not hold an oracle, or its vocabulary is not `vocab_size`.
    """
    if isinstance(oracle, SequenceModel):
        model = copy.deepcopy(oracle)  # the caller's own stays as it is, and may learn
    elif isinstance(oracle, str | Path):
        model = load_oracle(oracle)
    else:
        seed = DEFAULT_ORACLE_SEED if oracle is None else oracle
        model = seeded_oracle(seed, 5000 if vocab_size is None else vocab_size, hidden_size)
    model.requires_grad_(False)
    if vocab_size is not None and model.vocab_size != vocab_size:
        raise ValueError(
            f"vocab_size={vocab_size}, but oracle={str(oracle)!r} has {model.vocab_size} tokens; "
            f"leave vocab_size out or set it to {model.vocab_size}"
        )

    def draw_split(split: Split) -> Tensor:
        count = n_sequences if isinstance(n_sequences, int) else n_sequences[split]
        rng = np.random.default_rng([data_seed, _SPLIT_STREAMS[split]])
        return sample_sequences(model, count, sequence_length, rng)

    return Task(name, model.vocab_size, sequence_length, draw_split, oracle=model)


def seeded_oracle(seed: int, vocab_size: int, hidden_size: int = 32) -> LSTMSequenceModel:
    """An oracle with parameters from N(0, 1), the same on every platform and NumPy version.

    NumPy's legacy RandomState is frozen by its compatibility policy; its newer generators and torch's are not.

    Raises:
        ValueError: if seed is not in 0..2^32-1, or a size is below 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"oracle={seed!r} must be None, an int (a seed) or a path")
    if not 0 <= seed < 2**32:
        raise ValueError(f"oracle={seed} must be a seed in 0..2^32-1")
    model = LSTMSequenceModel(vocab_size, hidden_size, hidden_size)
    random_state = np.random.RandomState(seed)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            parameter.copy_(torch.from_numpy(random_state.standard_normal(tuple(parameter.shape)).astype(np.float32)))
    return model


def load_oracle(path: str | Path) -> LSTMSequenceModel:
    """The authors' oracle from `.npz` (15 named arrays) or their pickle (a list of 15 arrays).

    Nothing in the file is executed: `.npz` is read without pickle, the pickle by a reader that knows only float arrays.

    Raises:
        ValueError: if the file is missing, truncated, of another kind, wants to run code, or has other shapes.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"oracle={str(path)!r} is not a file; give the authors' .npz or .pkl, or an int as a seed")
    try:
        arrays = _read_npz(path) if zipfile.is_zipfile(path) else _read_pickle(path)
    except Exception as error:  # a damaged file makes the readers of zip, zlib and pickle raise almost anything
        raise ValueError(f"oracle={str(path)!r} cannot be read as the authors' .npz or pickle: {error}") from error
    try:
        return LSTMSequenceModel.from_arrays(arrays)
    except ValueError as error:
        raise ValueError(f"oracle={str(path)!r}: {error}") from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


class _PickledDtype:
    """A pickled dtype: its code and byte order, and nothing else of its state."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code
        self.byte_order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.byte_order = state[1]


class _PickledArray:
    """A pickled array of floats. NumPy's own classes trust a pickle's flags and may read memory that is not theirs."""

    def __init__(self, *_: object) -> None:
        self.values: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _PickledDtype) or dtype.code not in ("f4", "f8") or dtype.byte_order not in ("<", ">"):
            raise pickle.UnpicklingError("an array does not hold floats of 4 or 8 bytes")
        raw = data.encode("latin1") if isinstance(data, str) else data
        flat = np.frombuffer(raw, dtype.byte_order + dtype.code)
        self.values = flat.reshape(shape, order="F" if is_fortran else "C")


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in protocol 2: `_codecs.encode(text, "latin1")`."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays and plain containers with stand-ins of ours; any other global, so any code, is refused."""

    _STAND_INS: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy", "ndarray"): _PickledArray,
        ("numpy", "dtype"): _PickledDtype,
        ("_codecs", "encode"): _latin1_bytes,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}; only NumPy arrays are allowed")
        return self._STAND_INS[module, name]


def _read_pickle(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        # latin1: how Python 3 reads the array bytes of a Python 2 pickle.
        values = _ArrayUnpickler(file, encoding="latin1").load()
    if not isinstance(values, list | tuple) or len(values) != len(LSTMSequenceModel.ARRAY_NAMES):
        raise ValueError(f"expected a list of {len(LSTMSequenceModel.ARRAY_NAMES)} arrays")
    arrays = [value.values if isinstance(value, _PickledArray) else None for value in values]
    if any(array is None for array in arrays):
        raise ValueError("expected every element to be a NumPy array")
    return {name: array for name, array in zip(LSTMSequenceModel.ARRAY_NAMES, arrays, strict=True) if array is not None}
