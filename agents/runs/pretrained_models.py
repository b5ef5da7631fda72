"""Pretrained models in a run folder: a run needs no other file, and reading one executes nothing.

In: settings that name models, "hf:PATH" or "hf:NAME". Out: folders `models/generator` and `models/discriminator`, each
with configuration, safetensors and tokenizer. run.json holds the source of each and a fingerprint, SHA-256 over all
its files. Sizes are compared with the stored tensors before a model is built.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from agents.runs.regular_files import expect_own_folder, expect_regular, make_own_folder
from agents.seqgan import PRETRAINED_PARTS, SeqGANConfig
from seqgan_env.models import pretrained_discriminator, pretrained_generator
from seqgan_env.models.pretrained import is_pretrained, source_of, store

_KINDS = dict(zip(PRETRAINED_PARTS, (pretrained_generator.KIND, pretrained_discriminator.KIND), strict=True))
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
_SIZES = ("vocab_size", "hidden_size", "n_embd", "d_model", "intermediate_size", "n_inner", "num_attention_heads")

_WIDTHS = ("hidden_size", "n_embd", "d_model", "embedding_size", "word_embed_proj_dim")  # of embeddings, perhaps


def names_of(config: SeqGANConfig) -> dict[str, str]:
    """Part -> "hf:SOURCE", of the parts that are pretrained models."""
    names = {part: str(getattr(config, part).name) for part in PRETRAINED_PARTS}
    return {part: name for part, name in names.items() if is_pretrained(name)}


def store_models(config: SeqGANConfig, folder: Path) -> dict[str, dict[str, str]]:
    """Copy the pretrained models of a new run, and say what they are.

    Args:
        config: names them.
        folder: `models` of the run folder.

    Returns:
        Part -> "source" and "sha256".

    Raises:
        ImportError: without the extra `transformers`.
        ValueError: if a model cannot be read, or a link stands where it is to be written.
        OSError: if the disk is full or not writable.
    """
    found: dict[str, dict[str, str]] = {}
    for part, name in names_of(config).items():
        make_own_folder(folder)
        make_own_folder(folder / part)
        for left in (folder / part).iterdir():  # of a run that was interrupted while it was made
            left.unlink()
        store(_KINDS[part], source_of(name), folder / part)
        found[part] = {"source": name, "sha256": _fingerprint(folder / part)}
    return found


def expect_same_generator(models: Mapping[str, Any], others: Any, path: str) -> None:
    """Check that two runs adapt the same weights, before one takes the other's adapters.

    Args:
        models: what `store_models` returned for the new run.
        others: the same of the other run, from its run.json; None for runs of earlier versions.
        path: of the other run, for the message.

    Raises:
        ValueError: if they do not.
    """
    theirs = others.get("generator") if isinstance(others, Mapping) else None
    if models.get("generator", {}).get("sha256") != (theirs or {}).get("sha256"):
        raise ValueError(f"pretrained={path!r} has another pretrained model than the new run; its adapters do not fit")


def stored_folders(folder: Path, config: SeqGANConfig, described: Any) -> dict[str, Path]:
    """Part -> the folder of its stored model, checked.

    Args:
        folder: `models` of a run folder.
        config: the run's settings.
        described: what `store_models` returned, from run.json.

    Raises:
        ValueError: if a model is missing or damaged, or its configuration cannot be that of its weights.
    """
    folders: dict[str, Path] = {}
    for part, name in names_of(config).items():
        place = folder / part
        known = described.get(part) if isinstance(described, Mapping) else None
        digest = known.get("sha256") if isinstance(known, Mapping) else None
        for own in (folder, place):
            expect_own_folder(own)
        if not place.is_dir():
            raise ValueError(
                f"{str(place)!r} is missing: it holds the weights of {name!r}, which this run adapts; restore it "
                "from a copy of the run folder"
            )
        if digest != _fingerprint(place):
            raise ValueError(f"{str(place)!r} is damaged: it is not what run.json says; restore the folder")
        _check_sizes(place)
        folders[part] = place
    return folders


def _fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of all files in a folder; raises ValueError for a link in it."""
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        expect_regular(path)
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()  # Python 3.11, as transformers needs
        whole.update(f"{path.name} {content}\n".encode())
    return whole.hexdigest()


def _check_sizes(folder: Path) -> None:
    """Check that the sizes in config.json can be those of the stored weights; necessary, not sufficient.

    Raises:
        ValueError: if they cannot, or a file cannot be read.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        numbers = tensors = 0
        for path in folder.glob("*.safetensors"):
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118
                    numbers += math.prod(file.get_slice(name).get_shape())
                    tensors += 1
        sizes = {**config, **(config.get("text_config") or {})}
        bounds = dict.fromkeys(_LAYERS, tensors) | dict.fromkeys(_SIZES, numbers)
        for name, bound in bounds.items():
            size = sizes.get(name)
            if isinstance(size, int) and size > bound:
                raise ValueError(f"{name}={size} does not fit its weights, which allow at most {bound}")
        width = min((size for name in _WIDTHS if isinstance(size := sizes.get(name), int)), default=1)
        vocab_size = sizes.get("vocab_size")
        if isinstance(vocab_size, int) and width * vocab_size > numbers:
            raise ValueError(f"vocab_size={vocab_size} times a width of {width} does not fit its weights")
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{str(folder)!r} is not a stored model: {error}") from error
