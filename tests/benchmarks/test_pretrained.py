"""The benchmark of pretrained generators: both ways of a search make the same sequences, and the command runs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.pretrained import COLUMNS, SIZES, comparisons, new_generator

pytestmark = pytest.mark.usefixtures("tiny_models")
QUICK = SIZES["quick"]


def test_a_search_without_cache_makes_the_same_completions() -> None:
    generator = new_generator(QUICK, 2, torch.device("cpu"))
    _, ours, plain = comparisons(generator, QUICK)["search"]
    for cached, read_again in zip(ours(), plain(), strict=True):
        assert torch.equal(cached, read_again)


def test_both_ways_draw_as_many_tokens() -> None:
    generator = new_generator(QUICK, 0, torch.device("cpu"))
    _, ours, theirs = comparisons(generator, QUICK)["drawing"]
    torch.manual_seed(0)
    assert ours().shape == theirs().shape == (QUICK.batch_size, QUICK.sequence_length)


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pretrained.csv"
    main(["pretrained", "--quick", "--csv", str(path)])
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert tuple(found[0]) == COLUMNS
    assert [(row["work"], row["adapters"]) for row in found] == [
        *(("drawing", "none"), ("search", "none"), ("drawing", "rank 8"), ("search", "rank 8")),
    ]
    assert all(float(row["ratio"]) > 0 for row in found)
    assert "GPT-2 with" in capsys.readouterr().out
