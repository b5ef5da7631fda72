"""`tables`: numbers as text, columns of rows, claims with verdicts that fit a terminal."""

from __future__ import annotations

import io
import math

from rich.console import Console

from agents.studies.evidence import Claim
from agents.studies.tables import claim_rows, claims_table, last_values, mean_and_error, number, values_of

CLAIMS = [
    Claim("MLE: level", 9.0512345, 9.038, None, "reproduced"),
    Claim("SeqGAN < scheduled sampling (p<1e-6)", -0.25, -0.249, 3.456e-7, "reproduced"),
    Claim("SeqGAN < constant reward", 0.01, None, math.nan, "not specified by the paper"),
]


def test_numbers_are_text_with_six_digits_and_nothing_else_is() -> None:
    assert [number(value) for value in (1 / 3, -2.0, None, math.nan, math.inf)] == ["0.333333", "-2.000000", "", "", ""]


def test_means_stand_with_their_errors() -> None:
    assert mean_and_error({"nll_oracle": "9.0384", "nll_oracle_se": "0.0123"}, "nll_oracle") == "9.038 ±0.012"
    assert mean_and_error({"nll_oracle": "9.0384", "nll_oracle_se": ""}, "nll_oracle") == "9.038"


def test_columns_are_read_by_method_and_the_last_row_of_each_seed() -> None:
    rows = [
        {"method": method, "seed": seed, "epoch": epoch, "nll_oracle": value}
        for method, seed, epoch, value in (
            ("a", "0", "1", "9"),
            ("a", "0", "2", "8"),
            ("a", "1", "1", "7"),
            ("b", "0", "1", "6"),
        )
    ]
    assert values_of(rows, "a") == [9, 8, 7]
    assert values_of(rows, "b", "epoch") == [1]
    assert last_values(rows, method="a") == [8, 7]
    assert last_values(rows, method="b", epoch="2") == []


def test_claims_as_rows() -> None:
    assert claim_rows(CLAIMS) == [
        {"claim": "MLE: level", "ours": "9.051234", "paper": "9.038", "p": "", "verdict": "reproduced"},
        {"claim": CLAIMS[1].text, "ours": "-0.250000", "paper": "-0.249", "p": "3.46e-07", "verdict": "reproduced"},
        {"claim": CLAIMS[2].text, "ours": "0.010000", "paper": "", "p": "", "verdict": "not specified by the paper"},
    ]


def test_a_table_of_claims_shows_all_of_them_and_the_rules_in_80_columns() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(claims_table(CLAIMS, ["a rule", "another"]))
    assert isinstance(console.file, io.StringIO)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
    for line in (
        "MLE: level 9.051 9.038 reproduced",
        "SeqGAN < scheduled sampling (p<1e-6) -0.250 -0.249 3e-07 reproduced",
        "SeqGAN < constant reward 0.010 not specified",
        "a rule",
        "another",
    ):
        assert line in lines
