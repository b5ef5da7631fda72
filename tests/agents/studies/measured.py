"""Rows of text as the tables that figures are made from."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agents.studies.tables import Row, read_csv

if TYPE_CHECKING:
    from pandas import DataFrame


def measured(rows: Sequence[Row]) -> DataFrame:
    """What the CSV of these rows is read as."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    text.seek(0)
    return read_csv(text)
