"""Checkpoints of a game: everything that a resumed run needs to end as an uninterrupted one.

Each part of a game has a `state_dict`; a checkpoint holds them all in one safetensors file: the tensors (models,
optimizers, G_beta, random streams) and, in its metadata, the plain values as JSON. Reading one executes nothing. Files
are written aside, synced and renamed, so that a crash or a full disk leaves the file before as it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from agents.seqgan import SeqGAN

_TENSOR = "$tensor"  # the one key of a dict that stands in a tensor's place


def write_atomically(path: Path, content: bytes) -> None:
    """Write aside, fsync, rename; on any error the file before stays and no remains are left.

    Raises:
        OSError: if the disk is full or not writable.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_tensors(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write tensors and plain values as one file; values must be what JSON can hold."""
    contiguous: dict[str, Tensor] = {}
    stored: set[int] = set()
    for name, tensor in tensors.items():
        contiguous[name] = tensor.detach().cpu().contiguous()
        memory = contiguous[name].untyped_storage().data_ptr()
        if memory in stored:  # tied weights; safetensors refuses two names for one memory
            contiguous[name] = contiguous[name].clone()
        stored.add(memory)
    write_atomically(path, save(contiguous, metadata={"state": json.dumps(state)}))


def read_tensors(
    path: Path, wanted: Callable[[str], bool] = lambda name: True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote.

    Args:
        path: the file.
        wanted: of which tensors, by name; the others are not read.

    Raises:
        ValueError: if the file is missing, truncated or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            return {name: file.get_tensor(name) for name in file.keys() if wanted(name)}, state  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{str(path)!r} is not a readable checkpoint of this project: {error}") from error


def split_state(state: Any, name: str = "") -> tuple[dict[str, Tensor], Any]:
    """A part's `state_dict` as a file holds it: the tensors by name, and the rest with names in the tensors' places.

    Args:
        state: nested dicts and lists of tensors and of what JSON can hold.
        name: where it stands, dots between the levels.
    """
    if isinstance(state, Tensor):
        return {name: state}, {_TENSOR: name}
    if isinstance(state, dict):
        parts = {str(key): split_state(value, f"{name}.{key}" if name else str(key)) for key, value in state.items()}
        tensors = {key: tensor for found, _ in parts.values() for key, tensor in found.items()}
        return tensors, {key: plain for key, (_, plain) in parts.items()}
    if isinstance(state, list | tuple):
        tensors, plain = split_state(dict(enumerate(state)), name)
        return tensors, list(plain.values())
    return {}, state


def join_state(tensors: dict[str, Tensor], plain: Any) -> Any:
    """What `split_state` was given, with text for a dict's keys and lists for tuples.

    Raises:
        ValueError: if a tensor is missing.
    """
    if isinstance(plain, list):
        return [join_state(tensors, value) for value in plain]
    if not isinstance(plain, dict):
        return plain
    if plain.keys() == {_TENSOR}:
        if plain[_TENSOR] not in tensors:
            raise ValueError(f"the checkpoint lacks the tensor {plain[_TENSOR]!r}")
        return tensors[plain[_TENSOR]]
    return {key: join_state(tensors, value) for key, value in plain.items()}


def snapshot(game: SeqGAN) -> tuple[dict[str, Tensor], Any]:
    """All tensors and plain values that define where a game stands."""
    return split_state(game.state_dict())


def restore(game: SeqGAN, tensors: dict[str, Tensor], state: Any) -> None:
    """Set a newly made game to where `snapshot` was taken.

    Raises:
        ValueError: if the checkpoint belongs to another configuration.
    """
    game.load_state_dict(join_state(tensors, state))


def restore_pretraining(game: SeqGAN, tensors: dict[str, Tensor], state: Any) -> None:
    """Set a newly made game to the end of another's MLE; everything else stays as its configuration made it.

    Raises:
        ValueError: if the checkpoint belongs to another generator.
    """
    game.load_pretraining(join_state(tensors, state))
