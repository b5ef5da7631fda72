"""Our own LSTM, GRU and Transformer as a folder that PyTorch alone can load, and as ONNX.

In: a generator. Out: config.json, model.safetensors with the names of PyTorch's own modules, load.py, which is
`loader.py`, the vocabulary, and if asked model.onnx. Other programs get logits from tokens; drawing is theirs.
"""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor

from agents.runs import loader
from seqgan_env.models.attention import TransformerBlock
from seqgan_env.models.attention_models import TransformerSequenceModel
from seqgan_env.models.sequence_models import START_TOKEN, GRUSequenceModel, LSTMSequenceModel, SequenceModel
from seqgan_env.models.torch_weights import to_torch
from seqgan_env.tasks.task import Task


def export_plain(model: SequenceModel, task: Task, out: Path, onnx: bool = False) -> None:
    """Write the folder of a generator.

    Args:
        model: an LSTM, a GRU or a Transformer of this project.
        task: gives lengths and vocabulary.
        out: the folder; it exists.
        onnx: also write model.onnx, with the input "tokens" (B, T) and the output "logits" (B, T, V).

    Raises:
        ValueError: for another generator.
        ImportError: for ONNX without its extra; the message names it.
        OSError: if the folder cannot be written.
    """
    config, tensors = loader_parameters(model)
    config |= {"sequence_length": task.sequence_length, "start_token": START_TOKEN, "eos_token": task.eos_token}
    plain = {name: tensor.detach().float().contiguous().clone() for name, tensor in tensors.items()}
    save_file(plain, out / "model.safetensors")
    _write_json(out / "config.json", config)
    if task.vocabulary is not None:
        words = task.vocabulary
        _write_json(out / "vocabulary.json", {"tokens": words.tokens, "separator": words.separator})
        if words.tokenizer is not None:
            (out / "tokenizer.json").write_text(words.tokenizer, encoding="utf-8")
    shutil.copyfile(loader.__file__, out / "load.py")
    if onnx:
        _write_onnx(out)


def loader_parameters(model: SequenceModel) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `loader.LanguageModel` is built from, and its parameters by their names there.

    Raises:
        ValueError: for a generator that PyTorch has no modules for.
    """
    sizes = {"vocab_size": model.vocab_size, "hidden_size": model.hidden_size}
    if type(model) in (LSTMSequenceModel, GRUSequenceModel):
        recurrent = cast(LSTMSequenceModel | GRUSequenceModel, model)
        parts = dict(zip(("embedding", "network", "output"), to_torch(recurrent), strict=True))
        tensors = {
            f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()
        }
        kind = "lstm" if isinstance(model, LSTMSequenceModel) else "gru"
        return {"kind": kind, "embedding_size": recurrent.embedding.shape[1]} | sizes, tensors
    if type(model) is TransformerSequenceModel:
        blocks = [cast(TransformerBlock, block) for block in model.blocks]
        config = {"kind": "transformer", "embedding_size": model.embedding.shape[1]} | sizes
        return config | {"layers": len(blocks), "heads": blocks[0].heads}, _transformer_tensors(model, blocks)
    raise ValueError(
        f"a {type(model).__name__} cannot be exported: only lstm, gru and transformer, which PyTorch has itself, and "
        "pretrained generators (hf:...)"
    )


def _transformer_tensors(model: TransformerSequenceModel, blocks: list[TransformerBlock]) -> dict[str, Tensor]:
    tensors = {
        "embedding.weight": model.embedding,
        "project.weight": model.input_weight.t(),
        "positions.weight": model.positions,
    }
    for place, block in enumerate(blocks):
        attention = block.queries_keys_values.weight
        own = {"self_attn.in_proj_weight": attention, "self_attn.in_proj_bias": attention.new_zeros(len(attention))}
        for theirs, module in (
            ("self_attn.out_proj", block.mix),
            ("linear1", block.expand),
            ("linear2", block.contract),
            ("norm1", block.attention_norm),
            ("norm2", block.feed_forward_norm),
        ):
            own |= {f"{theirs}.{name}": value for name, value in module.state_dict().items()}
        tensors |= {f"network.layers.{place}.{name}": value for name, value in own.items()}
    tensors |= {f"network.norm.{name}": value for name, value in model.norm.state_dict().items()}
    return tensors | {f"output.{name}": value for name, value in model.output.state_dict().items()}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")


def _write_onnx(out: Path) -> None:
    """model.onnx beside the other files, of batches and lengths of any size; a Transformer up to its own."""
    for name in ("onnx", "onnxscript"):
        try:
            import_module(name)
        except ImportError as error:
            raise ImportError(f'--onnx needs {name}: pip install "seqgan-gym[onnx]"') from error
    import onnx

    model, config = loader.load(str(out))
    tokens = torch.zeros(2, min(3, config["sequence_length"]), dtype=torch.int64)
    sizes = {"tokens": {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}}
    with _quiet_exporter():
        program = torch.onnx.export(
            *(model, (tokens,)),
            input_names=["tokens"],
            output_names=["logits"],
            dynamo=True,
            dynamic_shapes=sizes,
            verbose=False,
        )
    assert program is not None
    written = program.model_proto
    # The exporter takes the length of its example for that of every output of a recurrent network.
    del written.graph.value_info[:]
    written.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "length"
    onnx.save(written, str(out / "model.onnx"))


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """PyTorch's exporter without what it says about itself, and without one fused operator that ONNX does not have."""
    logger = logging.getLogger("torch.onnx")
    level, has_fast_path = logger.level, torch.backends.mha.get_fastpath_enabled()
    logger.setLevel(logging.ERROR)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(has_fast_path)
        logger.setLevel(level)
