"""`docs/swapping.md` says what its CSVs say, and its block runs."""

import csv
import re
from pathlib import Path

import gymnasium as gym
import pytest
from stable_baselines3 import PPO

from agents.learners import LEARNERS
from agents.vec_env import make_sequence_vec_env

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "swapping.md").read_text(encoding="utf-8")
RESULTS = ROOT / "docs" / "results"


def rows_of(name: str) -> list[dict[str, str]]:
    with (RESULTS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)


def printed_reward(block: str, capsys: pytest.CaptureFixture[str]) -> float:
    """Run a block, and read the mean reward that it prints."""
    exec(compile(block, "page.md", "exec"), {"__name__": "page"})
    return float(capsys.readouterr().out.split("mean reward ")[1].split()[0])


def test_the_first_snippets_of_both_pages_learn(capsys: pytest.CaptureFixture[str]) -> None:
    """From 0.322, which uniform tokens win, to near 0.444, which the best sequence wins."""
    readme = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)
    (of_ppo,) = [block for block in readme if "import PPO" in block]
    for block in (of_ppo, BLOCKS[0]):
        assert printed_reward(block, capsys) > 0.42


def test_a_learner_of_ones_own_takes_thirty_lines_and_learns(capsys: pytest.CaptureFixture[str]) -> None:
    _, block = BLOCKS
    assert len([line for line in block.splitlines() if line]) <= 30
    assert printed_reward(block, capsys) > 0.4


def test_a_native_vector_environment_is_sb3s_value_error() -> None:
    with pytest.raises(ValueError):  # of SB3: the page says what to write instead
        PPO("MlpPolicy", gym.make_vec("SeqGAN-Toy-v0", num_envs=2))
    PPO("MlpPolicy", make_sequence_vec_env("SeqGAN-Toy-v0", 2))


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
    summary = rows_of("swap_toy_summary.csv") + rows_of("swap_toy_sequences_summary.csv")
    assert {row["learner"] for row in summary} == set(LEARNERS)
    for row in summary:
        assert row["seeds"] == "5"
        assert float(row["fraction"]) >= 0.9
