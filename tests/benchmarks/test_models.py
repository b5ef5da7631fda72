"""`models`: every generator and discriminator is counted and timed, and the page's tables are the CSV's lines."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import models
from benchmarks.__main__ import main
from benchmarks.models import CSV_COLUMNS, Row, cells, fill_page, markdown, read_csv, write_csv
from seqgan_env.components import DISCRIMINATORS, GENERATORS

EMPTY_PAGE = "# Speed\n\n<!-- models.csv -->\n<!-- end of models.csv -->\n\nMore.\n"


@pytest.fixture
def torch_threads() -> Iterator[None]:
    """Gives back the number of PyTorch's threads, which the command sets."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "docs" / "page.md"
    path.parent.mkdir()
    path.write_text(EMPTY_PAGE)
    return path


def row(kind: str, model: str, work: str, seconds: str, commit: str = "abc1234") -> Row:
    given = {"kind": kind, "model": model, "parameters": "1234567", "work": work, "seconds": seconds, "threads": "1"}
    return dict.fromkeys(CSV_COLUMNS, "") | given | {"device": "cpu", "commit": commit}


ROWS = [
    row("generator", "lstm", "sampling", "1.23456"),
    row("generator", "lstm", "mle-epoch", "0.00234567"),
    row("discriminator", "cnn, light", "scoring", "12.3456"),
    row("discriminator", "cnn, light", "step", "3"),
]
TABLES = """[CSV](../speed.csv), commit `abc1234`, 1 thread.

| generator | parameters | sampling, s | mle-epoch, s |
| --- | --- | --- | --- |
| lstm | 1,234,567 | 1.23 | 0.00235 |

| discriminator | parameters | scoring, s | step, s |
| --- | --- | --- | --- |
| cnn, light | 1,234,567 | 12.3 | 3 |"""


@pytest.mark.usefixtures("torch_threads")
def test_the_command_measures_every_model_writes_the_csv_and_fills_the_page(
    tmp_path: Path, page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "speed.csv"
    main(["models", "--quick", "--csv", str(path), "--page", str(page)])
    with path.open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == CSV_COLUMNS
    expected = [("generator", name, work) for name in GENERATORS for work in ("sampling", "mle-epoch")]
    for name in ("cnn, light", *DISCRIMINATORS, "ensemble"):
        expected += [("discriminator", name, "scoring"), ("discriminator", name, "step")]
    assert [(line["kind"], line["model"], line["work"]) for line in lines] == expected
    assert all(float(line["seconds"]) > 0 and line["machine"] and line["commit"] for line in lines)
    counted = {(line["kind"], line["model"]): int(line["parameters"]) for line in lines}
    # V = 70, E = H = 8: embedding, four gates' matrices and bias, output layer.
    assert counted["generator", "lstm"] == 70 * 8 + 2 * 8 * 32 + 32 + 8 * 70 + 70
    assert counted["discriminator", "ensemble"] == sum(counted["discriminator", name] for name in DISCRIMINATORS)
    printed = capsys.readouterr().out
    assert all(model in printed for _, model in counted)
    assert f"{counted['generator', 'lstm']:,}" in page.read_text()
    # The page can be filled again from the CSV alone.
    filled = page.read_text()
    page.write_text(EMPTY_PAGE)
    main(["models", "--csv", str(path), "--page", str(page), "--page-only"])
    assert page.read_text() == filled


def test_a_page_gets_the_tables_between_its_marks_and_keeps_the_rest(tmp_path: Path, page: Path) -> None:
    for _ in range(2):  # what stood there before goes
        fill_page(page, ROWS, tmp_path / "speed.csv")
        assert page.read_text() == EMPTY_PAGE.replace("csv -->\n", f"csv -->\n{TABLES}\n", 1)


def test_a_csv_gives_back_the_rows_that_it_was_written_from(tmp_path: Path) -> None:
    write_csv(tmp_path / "speed.csv", ROWS)
    assert read_csv(tmp_path / "speed.csv") == ROWS
    assert cells(ROWS, "generator") == [["lstm", "1,234,567", "1.23", "0.00235"]]


def test_lines_of_several_runs_make_no_table() -> None:
    with pytest.raises(ValueError, match="come from 2 runs"):
        markdown([*ROWS, row("generator", "gru", "sampling", "1", commit="def5678")], "speed.csv")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--page", "page.md"], "--csv"),
        (["--page-only"], "--csv"),
        (["--page-only", "--csv", "speed.csv"], "--csv"),
        (["--csv", "speed.csv", "--page", "no_such.md"], "no_such.md must have the lines"),
        (["--csv", "speed.csv", "--page", "unmarked.md"], "unmarked.md must have the lines"),
        (["--csv", "no_such.csv", "--page", "page.md", "--page-only"], "no_such.csv does not exist"),
        (["--csv", "unmarked.md", "--page", "page.md", "--page-only"], "lacks the columns"),
        (["--csv", "no/such/folder/speed.csv"], "no/such/folder"),
        (["--threads", "0"], "--threads 0"),
        (["--repeats", "0"], "--repeats 0"),
    ],
)
def test_unusable_options_are_refused_before_anything_is_measured(
    arguments: list[str],
    named: str,
    page: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (page.parent / "unmarked.md").write_text("# Speed\n")
    monkeypatch.chdir(page.parent)
    monkeypatch.setattr(models, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit) as refusal:
        main(["models", *arguments])
    assert refusal.value.code == 2
    assert named in capsys.readouterr().err
