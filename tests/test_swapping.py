"""`docs/swapping.md` says what its CSVs say, and its block runs."""

import csv
import re
from pathlib import Path

import pytest

from agents.learners import LEARNERS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "swapping.md").read_text(encoding="utf-8")
RESULTS = ROOT / "docs" / "results"


def rows_of(name: str) -> list[dict[str, str]]:
    with (RESULTS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_block_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    exec(compile(block, "swapping.md", "exec"), {"__name__": "swapping"})


@pytest.mark.parametrize("name", sorted(path.name for path in RESULTS.glob("swap_*_summary.csv")))
def test_every_table_says_what_its_csv_says(name: str) -> None:
    won = "fraction" if "toy" in name else "reward"
    for row in rows_of(name):
        label = LEARNERS[row["learner"]].label  # type: ignore[index]
        cells = [
            f"{float(row[column]):.3f} ±{float(row[f'{column}_half_interval']):.3f}"
            for column in (won, "nll_oracle", "nll_test")
        ]
        line = f"| {label} | `{row['reward_mode']}` | {' | '.join(cells)} | {row['minutes_a_seed']} |"
        assert line in PAGE


def test_every_learner_reaches_nine_tenths_of_the_toys_optimum_on_five_seeds() -> None:
    summary = rows_of("swap_toy_summary.csv")
    assert {row["learner"] for row in summary} == set(LEARNERS)
    for row in summary:
        assert row["seeds"] == "5"
        assert float(row["fraction"]) >= 0.9
