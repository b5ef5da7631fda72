"""`seqgan export`: a run's generator as a folder for other programs, with a model card."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from agents.command.errors import expect_writable_folder, say, writing
from agents.runs import model_card
from agents.runs.run_folder import RunFolder


def export(
    run: Positional[Path],
    out: Positional[Path],
    adapter: bool = False,
    mle: bool = False,
    onnx: bool = False,
    push_to_hub: str | None = None,
) -> None:
    """Write a run's generator as a folder that other programs read, with a model card.

    A pretrained generator (hf:...) is written for transformers, with its tokenizer. An LSTM, a GRU or a Transformer of
    this project is written with a file load.py that needs PyTorch alone. The card, README.md, holds both NLLs, the data
    and all settings. Needs the run folder alone.

    Args:
        run: Run folder.
        out: Folder to make.
        adapter: Of a pretrained generator, write the LoRA adapters alone, for peft; otherwise they are merged.
        mle: Export the generator as maximum likelihood left it, before the game.
        onnx: Of an LSTM, GRU or Transformer, also write model.onnx.
        push_to_hub: user/name: send a pretrained generator to the Hugging Face hub, too. Log in first: hf auth login
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out={str(out)!r} is already used; choose another folder")
    expect_writable_folder(out)
    folder = RunFolder(run)
    if push_to_hub is not None:
        model_card.expect_pretrained(folder, "push_to_hub")
    with writing(out):
        model = model_card.export(folder, out, adapter, mle, onnx)
    say(out)
    if push_to_hub is not None:
        model_card.push(model, out, push_to_hub)
        say(f"https://huggingface.co/{push_to_hub}")
