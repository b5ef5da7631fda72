"""A pretrained generator, compared with `transformers`: drawing with `generate`, and search without a cache.

Two ratios, each of two ways that take turns in one process:
- drawing: seconds of `sample_sequences` with the adapter, divided by those of `generate`, for the same model and batch;
- search: seconds of completing prefixes without a cache (each new token reads its whole prefix again), divided by those
  with forked keys and values.
The weights are random: they do not change the work. In: sizes. Out: a row for each ratio.
"""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.table import Table
from torch import Tensor

from benchmarks.machine import MACHINE_COLUMNS, Machine, seconds_of
from seqgan_env.models.pretrained import library, quietly
from seqgan_env.models.pretrained_generator import PretrainedGenerator
from seqgan_env.rollout_policies import complete_sequences, replay, sample_sequences

Row = dict[str, str]
COLUMNS = (
    *("work", "adapters", "seconds", "other", "other_seconds", "ratio", "repeats"),
    *("parameters", "vocab_size", "sequence_length", "batch_size", "completions", *MACHINE_COLUMNS),
)


@dataclass(frozen=True)
class PretrainedSizes:
    """Sizes of a measurement.

    Attributes:
        vocab_size, width, layers, heads: of a GPT-2.
        sequence_length: T.
        batch_size: sequences that are drawn together.
        prefixes, completions: of the search, B and N.
        lengths: lengths of the prefixes that are completed.
    """

    vocab_size: int = 50_257
    width: int = 768
    layers: int = 12
    heads: int = 12
    sequence_length: int = 20
    batch_size: int = 16
    prefixes: int = 2
    completions: int = 16
    lengths: tuple[int, ...] = (10,)


SIZES = {
    "full": PretrainedSizes(),
    "quick": PretrainedSizes(97, 16, 2, 2, 8, batch_size=4, prefixes=2, completions=2, lengths=(3,)),
}


def new_generator(sizes: PretrainedSizes, lora_rank: int, device: torch.device) -> PretrainedGenerator:
    """A generator around a GPT-2 of these sizes, with random weights."""
    transformers = library("transformers")
    config = transformers.GPT2Config(
        vocab_size=sizes.vocab_size,
        n_positions=1024,
        n_embd=sizes.width,
        n_layer=sizes.layers,
        n_head=sizes.heads,
        bos_token_id=sizes.vocab_size - 1,
        eos_token_id=sizes.vocab_size - 1,
    )
    with tempfile.TemporaryDirectory() as folder:
        with quietly():
            torch.manual_seed(0)
            transformers.GPT2LMHeadModel(config).save_pretrained(folder)
        generator = PretrainedGenerator(sizes.vocab_size, sizes.sequence_length, folder, lora_rank=lora_rank)
    return generator.to(device)


def generate(generator: PretrainedGenerator, count: int) -> Tensor:
    """Draw sequences with `generate` of `transformers`: plain sampling, with its own cache."""
    start = torch.full((count, 1), generator.start_token, dtype=torch.int64, device=generator.device)
    drawn: Tensor = generator.causal_model.generate(
        start,
        attention_mask=torch.ones_like(start),
        max_new_tokens=generator.sequence_length,
        do_sample=True,
        top_k=0,
        top_p=1.0,
        eos_token_id=None,
        pad_token_id=generator.start_token,
    )
    return drawn[:, 1:]


@torch.no_grad()
def complete_without_cache(generator: PretrainedGenerator, sequences: Tensor, length: int, uniforms: Tensor) -> Tensor:
    """`complete_sequences` of prefixes of one length, where each new token reads its whole prefix again.

    Args:
        generator: G_beta.
        sequences: (B, T) int64, PAD after the prefixes.
        length: tokens of each prefix.
        uniforms: (B, N, T) float32 in [0, 1).

    Returns:
        (B * N, T) int64, the same completions as with the cache.
    """
    completed = sequences.repeat_interleave(uniforms.shape[1], dim=0)
    flat = uniforms.flatten(0, 1)
    for step in range(sequences.shape[1] - length):
        inputs = torch.zeros_like(completed[:, : length + step + 1])
        inputs[:, 1:] = completed[:, : length + step]
        hidden = generator.hidden_states(inputs)[:, -1]
        state = (hidden, torch.ones(len(hidden), dtype=torch.int64, device=hidden.device))
        completed[:, length + step] = generator.draw(state, flat[:, step : step + 1]).squeeze(1)
    return completed


def comparisons(
    generator: PretrainedGenerator, sizes: PretrainedSizes
) -> dict[str, tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """Work -> the name of the other way, ours, and the other way."""
    rng = np.random.default_rng(0)
    prefixes = sample_sequences(generator, sizes.prefixes, sizes.sequence_length, rng)
    shape = (sizes.prefixes, sizes.completions, sizes.sequence_length)
    uniforms = torch.from_numpy(rng.random(shape, dtype=np.float32)).to(generator.device)
    searched = []
    for length in sizes.lengths:
        cut = prefixes.clone()
        cut[:, length:] = sizes.vocab_size
        lengths = torch.full((sizes.prefixes,), length, dtype=torch.int64, device=generator.device)
        # The environment carries the state of its prefixes along, so it is not a part of the search.
        searched.append((cut, lengths, replay(generator, cut, lengths)))

    def ours() -> list[Tensor]:
        return [complete_sequences(generator, state, cut, lengths, uniforms) for cut, lengths, state in searched]

    def plain() -> list[Tensor]:
        return [complete_without_cache(generator, cut, int(lengths[0]), uniforms) for cut, lengths, _ in searched]

    def draw() -> Tensor:
        return sample_sequences(generator, sizes.batch_size, sizes.sequence_length, np.random.default_rng(0))

    return {
        "drawing": ("generate", draw, lambda: generate(generator, sizes.batch_size)),
        "search": ("without cache", ours, plain),
    }


def measure(
    sizes: PretrainedSizes,
    machine: Machine,
    repeats: int,
    device: torch.device,
    done: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Rows of the CSV: without adapters and with LoRA adapters of rank 8. Medians over the repeats, after a warm-up.

    A ratio is the median of the ratios of neighbours in time, so it does not depend on what else the machine does.
    """
    rows = []
    for rank in (0, 8):
        generator = new_generator(sizes, rank, device)
        for work, (name, ours, other) in comparisons(generator, sizes).items():
            seconds = []
            for repeat in range(1 + repeats):
                pair = (_seconds(ours, device), _seconds(other, device))
                if repeat:
                    seconds.append(pair)
                done()
            mine, theirs = np.median(np.array(seconds), axis=0)
            ratio = float(np.median([a / b if work == "drawing" else b / a for a, b in seconds]))
            rows.append(
                {"work": work, "adapters": "none" if rank == 0 else f"rank {rank}"}
                | {"seconds": f"{mine:.4g}", "other": name, "other_seconds": f"{theirs:.4g}", "ratio": f"{ratio:.3g}"}
                | {"repeats": str(repeats), "parameters": str(sum(p.numel() for p in generator.parameters()))}
                | {"vocab_size": str(sizes.vocab_size), "sequence_length": str(sizes.sequence_length)}
                | {"batch_size": str(sizes.batch_size if work == "drawing" else sizes.prefixes)}
                | {"completions": str(sizes.completions if work == "search" else 1)}
                | machine.cells()
            )
    return rows


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of one call: processor time on a CPU, so that other programs do not count; wall time on a GPU."""
    if device.type != "cpu":
        return seconds_of(work, device)
    start = time.process_time()
    work()
    return time.process_time() - start


def table(rows: Sequence[Row]) -> Table:
    """For people."""
    first = rows[0]
    title = f"GPT-2 with {int(first['parameters']):,} parameters, V={first['vocab_size']}, T={first['sequence_length']}"
    caption = "ratio: drawing, ours / generate; search, without / with cache"
    shown = Table(title=title, box=box.SIMPLE_HEAD, caption=caption)
    for name in ("work", "adapters", "seconds", "other way", "its seconds", "ratio"):
        is_text = name in ("work", "adapters", "other way")
        shown.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*(row[name] for name in ("work", "adapters", "seconds", "other", "other_seconds", "ratio")))
    return shown


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows; an existing file is replaced."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
