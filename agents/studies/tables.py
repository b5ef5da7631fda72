"""Results as tables: CSVs and their columns, claims with their verdicts, printed tables.

A cell's measurements are rows of text, which are written without change. Findings are computed from the CSV. pandas
reads it, and turns text into numbers.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from agents.runs.regular_files import write_atomically
from agents.studies.evidence import Claim, over_seeds

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Row = dict[str, str]  # a line of a CSV: column -> text


def pandas() -> Any:
    """Import pandas.

    Raises:
        ImportError: if it is not installed; the message names the extra.
    """
    try:
        return import_module("pandas")
    except ImportError as error:
        raise ImportError('tables of several runs need pandas: pip install "seqgan-gym[reproduce]"') from error


def read_csv(source: Path | io.StringIO) -> DataFrame:
    """Read a CSV. A column becomes numbers if all its cells are numbers; an empty cell of it is NaN.

    Raises:
        ValueError: if it is not a CSV.
        OSError: if it cannot be read.
    """
    library = pandas()
    exact = {} if library.__version__ >= "3" else {"float_precision": "round_trip"}  # the default since version 3
    found: DataFrame = library.read_csv(source, **exact)
    return found


def write_csv(path: Path, rows: DataFrame | Sequence[Row]) -> None:
    """Write a CSV atomically: text unchanged, numbers with six decimals, values that are not finite as empty cells."""
    frame = pandas().DataFrame(rows).replace([math.inf, -math.inf], math.nan)
    write_atomically(path, frame.to_csv(index=False, float_format="%.6f", lineterminator="\n").encode())


def values_of(frame: DataFrame, method: str, column: str = "nll_oracle") -> list[float]:
    """A column of a method's rows, one value for each seed."""
    return [float(value) for value in frame.loc[frame["method"] == method, column]]


def last_values(frame: DataFrame, **where: Any) -> list[float]:
    """NLL_oracle of each seed's last row, among the rows with the given cells."""
    for column, cell in where.items():
        frame = frame[frame[column] == cell]
    return [float(value) for value in frame.groupby("seed", sort=False).tail(1)["nll_oracle"]]


def means_and_errors(frame: DataFrame, methods: Sequence[str], columns: Iterable[str]) -> DataFrame:
    """A row for each method: its number of seeds, and mean and standard error over seeds ("_se") of some columns.

    NaN is left out of a mean. The error of one seed is NaN.
    """
    groups = frame.groupby("method", sort=False)
    found = groups[list(columns)].agg([_mean, _standard_error])
    found.columns = [name if statistic == "_mean" else f"{name}_se" for name, statistic in found.columns]
    found.insert(0, "seeds", groups.size())
    summary: DataFrame = found.loc[list(methods)].reset_index()
    return summary


def _mean(values: Series) -> float:
    return over_seeds(values.dropna()).mean if values.notna().any() else math.nan


def _standard_error(values: Series) -> float:
    return over_seeds(values.dropna()).standard_error if values.notna().any() else math.nan


def number(value: float | None) -> str:
    """The cell of a CSV; empty for None, NaN and infinity."""
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


def mean_and_error(row: Mapping[str, Any], column: str, digits: int = 3, with_error: bool = True) -> str:
    """Text such as 9.038 ±0.012; without the error for one seed; empty if nothing was measured."""
    mean, error = row.get(column, math.nan), row.get(f"{column}_se", math.nan)
    if math.isnan(mean):
        return ""
    return f"{mean:.{digits}f}" + (f" ±{error:.{digits}f}" if with_error and not math.isnan(error) else "")


def new_table(title: str, caption: str) -> Table:
    """An empty table in the style of all results, narrow enough for 80 columns."""
    return Table(
        title=title, caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
