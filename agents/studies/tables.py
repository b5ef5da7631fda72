"""Results as rows and tables: columns of a CSV, numbers as text, claims with their verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table

from agents.studies.evidence import Claim

Row = dict[str, str]  # a line of a CSV: column -> text


def values_of(rows: Sequence[Row], method: str, column: str = "nll_oracle") -> list[float]:
    """A column of a method's rows, one value a seed."""
    return [float(row[column]) for row in rows if row["method"] == method]


def last_values(rows: Sequence[Row], **where: str) -> list[float]:
    """NLL_oracle of each seed's last row, of the rows that have these cells."""
    last = {row["seed"]: row for row in rows if all(row[column] == cell for column, cell in where.items())}
    return [float(row["nll_oracle"]) for row in last.values()]


def number(value: float | None) -> str:
    """A CSV's cell; empty for what is not a number or not bounded."""
    return "" if value is None or not math.isfinite(value) else f"{value:.6f}"


def claim_rows(claims: Sequence[Claim]) -> list[Row]:
    """Claims as lines of a CSV."""
    return [
        {
            "claim": claim.text,
            "ours": number(claim.ours),
            "paper": "" if claim.paper is None else str(claim.paper),
            "p": "" if claim.p is None or math.isnan(claim.p) else f"{claim.p:.3g}",
            "verdict": claim.verdict,
        }
        for claim in claims
    ]


def claims_table(claims: Sequence[Claim], rules: Sequence[str], title: str = "The paper's claims") -> Table:
    """Claims with their verdicts, and the rules under them."""
    table = new_table(title, "\n".join(rules))
    table.add_column("claim", no_wrap=True)
    for column in ("ours", "paper", "p"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for claim, row in zip(claims, claim_rows(claims), strict=True):
        p = f"{claim.p:.1g}" if row["p"] else ""
        verdict = claim.verdict.removesuffix(" by the paper")
        table.add_row(claim.text, f"{claim.ours:.3f}", row["paper"], p, verdict)
    return table


def mean_and_error(row: Row, column: str) -> str:
    """Such as 9.038 ±0.012; without the error where there is one seed."""
    error = row[f"{column}_se"]
    return f"{float(row[column]):.3f} ±{float(error):.3f}" if error else f"{float(row[column]):.3f}"


def new_table(title: str, caption: str) -> Table:
    """An empty table in the style of all results, narrow enough for 80 columns."""
    return Table(
        title=title, caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
