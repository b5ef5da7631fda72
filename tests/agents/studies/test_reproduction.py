"""`reproduction`: from one command to CSVs, pictures and a record, whatever happens on the way."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.command import main as cli
from agents.runs.presets import PRESETS, TOY
from agents.studies.record import AUTHORS_ORACLE, oracle_fingerprint
from agents.studies.reproduction import FigureName, ReproductionOptions
from seqgan_env.tasks.oracle import load_oracle, seeded_oracle

pytest.importorskip("scipy")
pytest.importorskip("pandas")

Command = Callable[..., tuple[int, str]]
SMALL = "--task toy --mle-epochs 2 --rounds 2 --samples 100 --no-progress"
HERE = f"{SMALL} --workers 0"


def call(line: str) -> int:
    """The exit status of a command line."""
    try:
        cli.main(shlex.split(line))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def markers(folder: Path) -> dict[str, int]:
    """When each cell was done."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("cells/*/done.json")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Table 1 of two seeds that was never interrupted; not to be changed."""
    folder = tmp_path_factory.mktemp("whole") / "results"
    assert call(f"reproduce table1 {HERE} --seeds 0 1 --out {folder}") == 0
    return folder


@pytest.fixture
def results(whole: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(whole, tmp_path / "results"))


# From end to end.


def test_a_table_that_is_killed_and_interrupted_ends_as_one_that_was_not_and_computes_no_cell_twice(
    tmp_path: Path, whole: Path, mortal_command: Command
) -> None:
    out = tmp_path / "my results"
    arguments = ["reproduce", "table1", *HERE.split(), "--seeds", "0", "1", "--out", str(out)]
    status, output = mortal_command(arguments, at="checkpoint is half written", count=20)
    assert status == -9, output
    first = markers(out)
    assert 1 <= len(first) <= 8
    assert not (out / "table1.csv").exists()
    unfinished = {path.name for path in (out / "cells").iterdir()} - set(first)
    assert len(unfinished) == 1  # it died inside a cell

    moment = {"at": "unit is done, nothing is saved", "count": 12, "signal": "SIGINT"}
    status, output = mortal_command(arguments, **moment)
    assert status == 130, output
    line = output.splitlines()[-1]
    assert line.startswith("interrupted; what is done stays done; go on with: seqgan reproduce table1 ")
    again = shlex.split(line.partition("seqgan ")[2])
    second = markers(out)
    assert len(first) < len(second) < len(markers(whole))
    assert first.items() <= second.items()

    status, output = mortal_command(again)
    assert status == 0, output
    assert second.items() <= markers(out).items()
    assert markers(out).keys() == markers(whole).keys()
    done = {line.split()[1] for line in output.splitlines() if line.startswith("done ")}
    assert done == markers(out).keys() - second.keys()
    for name in ("table1.csv", "table1_summary.csv", "table1_claims.csv", "table1.png"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
def test_worker_processes_give_the_same_numbers(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr("agents.studies.workers.usable_cores", lambda: 2)  # one thread for each
    assert call(f"reproduce table1 {SMALL} --workers 2 --seeds 1 --out {tmp_path / 'out'}") == 0
    expected = [row for row in rows(whole / "table1.csv") if row["seed"] == "1"]
    assert rows(tmp_path / "out" / "table1.csv") == expected


def test_a_second_call_computes_nothing_and_says_the_same(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = markers(results), (results / "table1.csv").read_bytes()
    assert call(f"reproduce table1 {HERE} --seeds 0 1 --out {results}") == 0
    assert (markers(results), (results / "table1.csv").read_bytes()) == before
    text = capsys.readouterr().out
    assert "\ndone " not in text
    assert "Table 1: nats per token" in text


def test_table1_has_a_row_for_each_method_and_seed_with_both_nlls(whole: Path) -> None:
    table = rows(whole / "table1.csv")
    assert len(table) == 10 * 2
    assert {(row["method"], row["seed"]) for row in table} == {
        (method, seed)
        for method in (
            *("random", "mle", "scheduled_sampling", "pg_bleu", "seqgan", "shuffled_reward", "random_reward"),
            *("constant_reward", "mle_held_out", "oracle"),
        )
        for seed in "01"
    }
    for row in table:
        assert row["temperature"] == "1.0"
        assert row["n_samples"] == "100"
        assert all(float(row[f"{name}_se"]) >= 0 for name in ("nll_oracle", "nll_test", "kl_from_oracle"))


def test_the_record_says_how_the_numbers_came_about(whole: Path) -> None:
    record = json.loads((whole / "table1.json").read_text())
    assert record["command"] == (
        "seqgan reproduce table1 --seeds 0 1 --mle-epochs 2 --rounds 2 --samples 100 "
        f"--out {whole} --workers 0 --task toy --no-progress"
    )
    assert (record["seeds"], record["samples"], record["preset"]) == ([0, 1], 100, "toy")
    assert record["config"]["pretraining"]["epochs"] == 2
    assert record["minutes_of_all_cells"] >= 0
    assert record["hardware"]["cores"] >= 1
    assert record["hardware"]["threads_a_cell"] >= 1
    assert record["versions"]["torch"]
    assert record["commit"]
    assert record["is_authors_oracle"] is False
    assert any("Welch" in rule for rule in record["rules"])
    assert any(note.startswith("Scheduled sampling fed the real token") for note in record["notes"])


@pytest.mark.slow
def test_other_figures_share_what_is_computed_and_are_drawn_from_their_csv_alone(results: Path) -> None:
    before = markers(results)
    assert call(f"reproduce fig2 {HERE} --seeds 0 1 --out {results}") == 0
    new = markers(results).keys() - before.keys()
    assert before.items() <= markers(results).items()
    assert new == {f"{name}_continued-seed{seed}" for name in ("mle", "scheduled_sampling") for seed in (0, 1)}
    curves = rows(results / "fig2.csv")
    assert {row["epoch"] for row in curves if row["method"] == "mle"} == {"1", "4"}
    assert {(row["stage"], row["epoch"]) for row in curves if row["method"] == "seqgan"} == {
        ("mle", "2"),
        ("adversarial", "3"),
        ("adversarial", "4"),
    }
    assert [row["verdict"] for row in rows(results / "fig2_claims.csv")][3:] == ["not specified by the paper"] * 3

    assert call(f"reproduce curves {HERE} --seeds 0 --out {results}") == 0
    assert not {name for name in markers(results).keys() - before.keys() - new if "temperature" not in name}
    summary = rows(results / "curves_summary.csv")
    assert {row["curve"] for row in summary} == {"mle", "mle_held_out"}
    assert {row["place"] for row in summary} <= {"not below", "beyond"}  # one seed is never below
    for name in ("table1", "fig2", "curves"):
        picture = results / f"{name}.png"
        drawn = picture.read_bytes()
        alone = Path(shutil.copy(results / f"{name}.csv", results.parent / f"{name}.csv"))
        assert call(f"plot {alone}") == 0
        assert alone.with_suffix(".png").read_bytes() == drawn


@pytest.mark.slow
def test_fig3_plays_the_four_schedules(results: Path) -> None:
    assert call(f"reproduce fig3 {HERE} --seeds 0 1 --out {results}") == 0
    table = rows(results / "fig3.csv")
    assert {(row["g_steps"], row["d_steps"], row["k_epochs"]) for row in table} == {
        *(("100", "1", "10"), ("30", "1", "30"), ("1", "1", "10"), ("1", "5", "3"))
    }
    assert {row["updates"] for row in table if row["g_steps"] == "100"} == {"0", "100"}
    assert {row["updates"] for row in table if row["g_steps"] == "1"} == {"0", "1", "2"}
    assert (results / "fig3.png").is_file()


def test_fast_is_said(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two seeds by default, whose runs are there."""
    assert call(f"reproduce table1 --fast {HERE} --out {results}") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Made with --fast: 100 samples, seeds 0 1; leave it out for a result." in text
    assert json.loads((results / "table1.json").read_text())["seeds"] == [0, 1]


# What goes wrong.


def test_a_failed_cell_is_told_stops_no_other_and_no_half_table_is_written(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (
        "table1.csv",
        "cells/seqgan-seed1/done.json",
        "cells/seqgan-seed1-temperature1.0-samples100/done.json",
    ):
        (results / name).unlink()
    shutil.rmtree(results / "cells/constant_reward-seed0")
    run = results / "cells" / "seqgan-seed1" / "run" / "run.json"
    good = run.read_text()
    run.write_text("{")
    assert call(f"reproduce table1 {HERE} --seeds 0 1 --out {results}") == 1
    told = capsys.readouterr()
    assert "failed: seqgan-seed1: ValueError:" in told.err
    assert f"(traceback: {results}/cells/seqgan-seed1/error.txt)" in told.err
    assert "not started: seqgan-seed1-temperature1.0-samples100, which needs seqgan-seed1" in told.err
    assert "1 cells failed; mend the cause, then go on with: seqgan reproduce table1 --seeds 0 1" in told.err
    assert "Traceback" in (results / "cells/seqgan-seed1/error.txt").read_text()
    assert (results / "cells/constant_reward-seed0/done.json").is_file()
    assert not (results / "table1.csv").exists()
    run.write_text(good)
    assert call(f"reproduce table1 {HERE} --seeds 0 1 --out {results}") == 0


def test_a_folder_with_other_settings_is_refused_before_anything_is_computed(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(results.rglob("*"))
    line = HERE.replace("--mle-epochs 2", "--mle-epochs 3")
    assert call(f"reproduce table1 {line} --seeds 0 1 --out {results}") == 2
    error = capsys.readouterr().err
    assert "was computed with config.pretraining.epochs=2, not 3; choose another folder" in error
    assert error.count("\n") == 1
    assert sorted(results.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--seeds 1 1", ["seeds=(1, 1)", "must differ"]),
        ("--seeds -1", ["seeds=(-1,)", "at least 0"]),
        ("--samples 1", ["samples=1", "at least 2"]),
        ("--workers -1", ["workers=-1", "at least 0"]),
        ("--rounds 0", ["rounds=0", "at least 1"]),
        ("--mle-epochs 0", ["mle_epochs=0", "at least 1"]),
        ("--task toy --preset paper", ["preset='paper'", "--task toy"]),
        ("--oracle missing.npz", ["missing.npz'", "is not a file"]),
        ("--device tpu", ["device='tpu'", "use auto or cpu"]),
        ("--seeds many", ["--seeds", "many"]),
    ],
)
def test_a_mistake_ends_with_status_2_and_makes_no_folder(
    options: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(f"reproduce table1 {options}") == 2
    error = capsys.readouterr().err
    for word in words:
        assert word in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "option", "remedy"),
    [
        ("scipy.stats", "", "seqgan-gym[reproduce]"),
        ("pandas", "", "seqgan-gym[reproduce]"),
        ("ray", "--workers 2", "seqgan-gym[reproduce]"),
        ("ray", "--ray", "seqgan-gym[reproduce]"),
    ],
)
def test_what_is_not_installed_is_named_before_anything_is_computed(
    module: str,
    option: str,
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    assert call(f"reproduce table1 {HERE} {option}") == 2  # of two --workers the last one counts
    assert remedy in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# Options.


@pytest.mark.parametrize(
    ("options", "seeds", "samples"),
    [
        (ReproductionOptions(), (0, 1, 2, 3, 4), 100_000),
        (ReproductionOptions(fast=True), (0, 1), 10_000),
        (ReproductionOptions(fast=True, seeds=(7,), samples=50), (7,), 50),
    ],
)
def test_seeds_and_samples(options: ReproductionOptions, seeds: tuple[int, ...], samples: int) -> None:
    study = options.study()
    assert (study.seeds, study.samples) == (seeds, samples)


@pytest.mark.parametrize("preset", ["fast", "paper", "repo2016", "repo2018"])
def test_a_preset_is_the_schedule_and_can_be_shortened(preset: str) -> None:
    assert ReproductionOptions(preset=preset).config() == PRESETS[preset]  # type: ignore[arg-type]
    config = ReproductionOptions(preset=preset, mle_epochs=3, rounds=4).config()  # type: ignore[arg-type]
    assert (config.pretraining.epochs, config.game.rounds) == (3, 4)
    assert ReproductionOptions(task="toy").config() == TOY


def test_the_folder_follows_from_the_options() -> None:
    assert str(ReproductionOptions().folder()) == "runs/reproduce-fast"
    assert str(ReproductionOptions(preset="paper", oracle="x/my.npz").folder()) == "runs/reproduce-paper-my"
    assert str(ReproductionOptions(task="toy", oracle="3").folder()) == "runs/reproduce-toy-3"
    assert ReproductionOptions(out=Path("mine")).folder() == Path("mine")


def test_the_oracles_file_is_found_from_wherever_a_worker_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ReproductionOptions(oracle="my.npz").config().task.oracle == str(tmp_path / "my.npz")
    assert ReproductionOptions(oracle="3").config().task.oracle == "3"


@pytest.mark.parametrize(
    "options",
    [
        ReproductionOptions(out=Path("runs/x")),
        ReproductionOptions(oracle="a b.npz", seeds=(3, 5), fast=True, workers=0, progress=False, out=Path("my out")),
        ReproductionOptions(
            preset="repo2018", mle_epochs=4, rounds=5, samples=60, device="cuda", ray=True, out=Path("o")
        ),
    ],
)
def test_the_command_that_goes_on_has_the_same_options(
    options: ReproductionOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("agents.command.studies.run_reproduction", lambda *arguments: seen.append(arguments) or done)
    done = type("Report", (), {"is_complete": True})
    words = shlex.split(options.command("curves"))
    assert words[0] == "seqgan"
    cli.main(words[1:])
    assert seen[0][:2] == ("curves", options)


def test_an_oracle_is_known_by_its_parameters(authors_oracle: Path) -> None:
    assert oracle_fingerprint(load_oracle(authors_oracle)) == AUTHORS_ORACLE
    assert oracle_fingerprint(seeded_oracle(0, 50)) != oracle_fingerprint(seeded_oracle(1, 50))


@pytest.mark.parametrize(
    ("name", "methods", "message"),
    [
        ("table1", ("mle", "gan"), "methods: 'gan' is unknown; choose from random, mle"),
        ("fig2", ("mle",), r"methods=\('mle',\) is only for table1 and curves; fig2 needs all methods"),
    ],
)
def test_methods_that_do_not_fit_are_refused(name: FigureName, methods: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReproductionOptions(methods=methods).figure(name)
