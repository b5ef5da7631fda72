"""`tables`: numbers as text, columns of rows, claims with verdicts that fit a terminal."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from agents.studies.evidence import Claim
from agents.studies.tables import (
    claim_rows,
    claims_table,
    last_values,
    mean_and_error,
    means_and_errors,
    number,
    read_csv,
    values_of,
    write_csv,
)
from tests.agents.studies.measured import measured

pytest.importorskip("pandas")

CLAIMS = [
    Claim("MLE: level", 9.0512345, 9.038, None, "reproduced"),
    Claim("SeqGAN < scheduled sampling (p<1e-6)", -0.25, -0.249, 3.456e-7, "reproduced"),
    Claim("SeqGAN < constant reward", 0.01, None, math.nan, "not specified by the paper"),
]


def test_numbers_are_text_with_six_digits_and_nothing_else_is() -> None:
    assert [number(value) for value in (1 / 3, -2.0, None, math.nan, math.inf)] == ["0.333333", "-2.000000", "", "", ""]


def test_means_stand_with_their_errors() -> None:
    assert mean_and_error({"nll_oracle": 9.0384, "nll_oracle_se": 0.0123}, "nll_oracle") == "9.038 ±0.012"
    assert mean_and_error({"nll_oracle": 9.0384, "nll_oracle_se": math.nan}, "nll_oracle") == "9.038"
    assert mean_and_error({"nll_oracle": math.nan}, "nll_oracle") == mean_and_error({}, "nll_oracle") == ""


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
    frame = measured(rows)
    assert values_of(frame, "a") == [9, 8, 7]
    assert values_of(frame, "b", "epoch") == [1]
    assert last_values(frame, method="a") == [8, 7]
    assert last_values(frame, method="b", epoch=2) == []


def test_means_and_errors_are_over_seeds_and_leave_out_what_was_not_measured() -> None:
    rows = [("a", "1", "9"), ("b", "5", ""), ("a", "3", ""), ("c", "2", "4")]
    frame = measured([{"method": method, "x": x, "y": y} for method, x, y in rows])
    found = means_and_errors(frame, ["c", "a", "b"], ["x", "y"])
    assert list(found) == ["method", "seeds", "x", "x_se", "y", "y_se"]
    assert found["method"].tolist() == ["c", "a", "b"]
    assert found["seeds"].tolist() == [1, 2, 1]
    assert found["x"].tolist() == [2, 2, 5]
    assert found["x_se"].tolist() == pytest.approx([math.nan, 1, math.nan], nan_ok=True)
    assert found["y"].tolist() == pytest.approx([4, 9, math.nan], nan_ok=True)


def test_text_is_written_as_it_is_and_numbers_with_six_digits(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write_csv(path, [{"a": "x, y", "b": "1.50"}, {"a": 'a "z"', "b": ""}])
    assert path.read_text() == 'a,b\n"x, y",1.50\n"a ""z""",\n'
    frame = read_csv(path)
    assert frame["b"].tolist() == pytest.approx([1.5, math.nan], nan_ok=True)
    write_csv(path, frame.assign(b=[1 / 3, math.inf], n=[1, 2]))
    assert path.read_text() == 'a,b,n\n"x, y",0.333333,1\n"a ""z""",,2\n'


def test_a_number_is_read_as_python_reads_it(tmp_path: Path) -> None:
    values = ["0.1", "9.038123", "2.2250738585072014e-308", "0.30000000000000004"]
    assert measured([{"x": value} for value in values])["x"].tolist() == [float(value) for value in values]


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
