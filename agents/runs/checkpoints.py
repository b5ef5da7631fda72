"""Checkpoints of a game: everything that a resumed run needs to end as an uninterrupted one.

Each part of a game has a `state_dict`; a checkpoint holds them all in one safetensors file: the tensors (models,
optimizers, G_beta, random streams) and, in its metadata, the plain values as JSON. Reading one executes nothing.
Before the JSON stands the SHA-256 of the whole file, header and data, so that damage is seen. Files of earlier versions
have none and are still read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from agents.runs.regular_files import write_atomically
from agents.seqgan import SeqGAN

_TENSOR = "$tensor"  # the one key of a dict that stands in a tensor's place
_CHECKED = "sha256:"  # begins the state of a file that has a checksum: the word, 64 digits, a space, JSON
_NO_DIGEST = "0" * 64  # stands in the digest's place while it is computed


def write_tensors(path: Path, tensors: dict[str, Tensor], state: dict[str, Any], previous: Path | None = None) -> None:
    """Write tensors and plain values as one file with a checksum; values must be what JSON can hold.

    Args:
        path: the file.
        tensors: by name.
        state: plain values.
        previous: where to keep the file that was there before.

    Raises:
        ValueError: if there is something in the file's place that is no regular file.
        OSError: if the disk is full or not writable.
    """
    contiguous: dict[str, Tensor] = {}
    stored: set[int] = set()
    for name, tensor in tensors.items():
        contiguous[name] = tensor.detach().cpu().contiguous()
        memory = contiguous[name].untyped_storage().data_ptr()
        if memory in stored:  # tied weights; safetensors refuses two names for one memory
            contiguous[name] = contiguous[name].clone()
        stored.add(memory)
    content = save(contiguous, metadata={"state": f"{_CHECKED}{_NO_DIGEST} {json.dumps(state)}"})
    place = content.index(f"{_CHECKED}{_NO_DIGEST}".encode()) + len(_CHECKED)
    digest = hashlib.sha256(content).hexdigest().encode()
    write_atomically(path, content[:place] + digest + content[place + len(digest) :], previous)


def read_tensors(
    path: Path, wanted: Callable[[str], bool] = lambda name: True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote.

    Args:
        path: the file.
        wanted: of which tensors, by name.

    Raises:
        ValueError: if the file is missing, damaged or of another kind.
    """
    try:
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        text = json.loads(content[8 : 8 + size])["__metadata__"]["state"]
        if text.startswith(_CHECKED):
            digest, _, text = text.removeprefix(_CHECKED).partition(" ")
            _check_digest(content, digest)
        state = json.loads(text)
        return {name: tensor for name, tensor in load(content).items() if wanted(name)}, state
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is not a readable checkpoint of this project: {error}") from error


def _check_digest(content: bytes, digest: str) -> None:
    """Raise ValueError unless the digest, which stands in the content itself, is that of the content."""
    place = content.index(f"{_CHECKED}{digest}".encode()) + len(_CHECKED)
    rest = memoryview(content)
    computed = hashlib.sha256(rest[:place])
    computed.update(_NO_DIGEST.encode())
    computed.update(rest[place + len(_NO_DIGEST) :])
    if computed.hexdigest() != digest:
        raise ValueError("its checksum is wrong, so the file is damaged")


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
