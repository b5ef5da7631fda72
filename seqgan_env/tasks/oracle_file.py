"""The authors' oracle, read from their file without executing anything in it.

In: the path of an `.npz` with 15 named arrays, or of the authors' pickle, a list of 15 arrays. Out: an LSTM.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from seqgan_env.models.sequence_models import LSTMSequenceModel

_OTHERS = "An oracle of another kind is given in Python: seqgan_env.tasks.oracle.oracle_task(oracle=your_model)"


def load_oracle(path: str | Path) -> LSTMSequenceModel:
    """The authors' oracle from `.npz` (15 named arrays) or their pickle (a list of 15 arrays).

    Nothing in the file is executed: `.npz` is read without pickle, and the pickle by a reader that knows only float
    arrays.

    Raises:
        ValueError: if the file is missing, truncated or of another kind, if it would run code, or if its shapes are
            wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"oracle={str(path)!r} is not a file; give the authors' .npz or .pkl, or an int as a seed")
    try:
        arrays = _read_npz(path) if zipfile.is_zipfile(path) else _read_pickle(path)
    except Exception as error:  # for a damaged file the readers of zip, zlib and pickle may raise almost any error
        raise ValueError(
            f"oracle={str(path)!r} cannot be read as the authors' .npz or pickle: {error}. {_OTHERS}"
        ) from error
    try:
        return LSTMSequenceModel.from_arrays(arrays)
    except ValueError as error:
        raise ValueError(f"oracle={str(path)!r}: {error}. {_OTHERS}") from error


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
    """A pickled array of floats. NumPy's own classes trust a pickle's flags, and may read memory outside of it."""

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
    """Python 3 writes bytes in protocol 2 as `_codecs.encode(text, "latin1")`."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays and plain containers with our own substitutes. It refuses every other global, and so any code."""

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
        # Python 3 reads the array bytes of a Python 2 pickle as latin1.
        values = _ArrayUnpickler(file, encoding="latin1").load()
    if not isinstance(values, list | tuple) or len(values) != len(LSTMSequenceModel.ARRAY_NAMES):
        raise ValueError(f"expected a list of {len(LSTMSequenceModel.ARRAY_NAMES)} arrays")
    arrays = [value.values if isinstance(value, _PickledArray) else None for value in values]
    if any(array is None for array in arrays):
        raise ValueError("expected every element to be a NumPy array")
    return {name: array for name, array in zip(LSTMSequenceModel.ARRAY_NAMES, arrays, strict=True) if array is not None}
