"""`seqgan export`: a run's pretrained generator in the format of its own library, with a model card."""

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
    push_to_hub: str | None = None,
) -> None:
    """Write a run's pretrained generator (hf:...) as a folder that transformers reads, with tokenizer and model card.

    The card, README.md, holds both NLLs, the data and all settings. Needs the run folder alone.

    Args:
        run: Run folder.
        out: Folder to make.
        adapter: Write the LoRA adapters alone, for peft; otherwise they are merged into the weights.
        mle: Export the generator as maximum likelihood left it, before the game.
        push_to_hub: user/name: send the folder to the Hugging Face hub, too. Log in first, with: hf auth login
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out={str(out)!r} is already used; choose another folder")
    expect_writable_folder(out)
    with writing(out):
        model = model_card.export(RunFolder(run), out, adapter, mle)
    say(out)
    if push_to_hub is not None:
        model_card.push(model, out, push_to_hub)
        say(f"https://huggingface.co/{push_to_hub}")
