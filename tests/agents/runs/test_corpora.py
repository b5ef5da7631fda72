"""Runs on corpora, through the command: from a file to a table, samples and pictures, and on without the file."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from agents.command import main as cli
from agents.runs.flat_names import nested
from agents.runs.presets import MUSIC, TEXT
from agents.runs.projection import UnitCosts
from agents.runs.run_folder import RunFolder
from agents.runs.training import Experiment, close_run
from agents.seqgan import SeqGANConfig
from agents.setting_paths import changed
from seqgan_env.components import build_generator
from seqgan_env.measures.sample_measures import SampleMeasures
from seqgan_env.tasks.music import MusicOptions
from seqgan_env.tasks.text import TextOptions

SIZES: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_size": 8,
    "batch_size": 16,
    "mle_epochs": 3,
    "mle_learning_rate": 0.02,
    "discriminator_embedding_size": 8,
    "discriminator_pretraining_steps": 1,
    "discriminator_sample_size": 32,
    "rounds": 2,
    "n_rollouts": 2,
    "generator_batch_size": 8,
    "evaluate_every_epochs": 2,
    "evaluate_every_rounds": 1,
    "evaluation_samples": 40,
    "final_samples": 60,
}
TINY = shlex.join(
    [word for name, value in SIZES.items() for word in (f"--{name.replace('_', '-')}", str(value))] + ["--no-progress"]
)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs: an empty folder, on a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("SEQGAN_DEBUG", raising=False)
    return tmp_path


def call(line: str) -> int:
    """The exit status of a command line."""
    try:
        cli.main(shlex.split(line))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def write_sentences(path: Path, count: int = 300) -> list[str]:
    """Sentences of 3 to 9 words, all different."""
    rng = np.random.default_rng(0)
    adjectives, nouns = ["old", "red", "big", "small"], ["cat", "dog", "bird", "fish"]
    verbs = ["sees", "likes", "hears"]
    lines: dict[str, None] = {}
    while len(lines) < count:
        subject, thing = ([*rng.choice(adjectives, rng.integers(4)), rng.choice(nouns)] for _ in range(2))
        lines[" ".join(["the", *subject, rng.choice(verbs), *thing])] = None
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return list(lines)


def config(**changes: Any) -> SeqGANConfig:
    return changed(SeqGANConfig(task=TextOptions()), nested(SIZES | {"filters": "light"} | changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, list[str], str]:
    """A finished run whose corpus is gone, the corpus' lines, and what was printed."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("text")
    lines = write_sentences(folder / "corpus.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "80")
        with Console(file=(folder / "log").open("w"), width=80).capture():
            pass
        printed: list[str] = []
        patch.setattr(Console, "print", _recorded(printed))
        assert call(f"train text --corpus corpus.txt --out run {TINY}") == 0
    (folder / "corpus.txt").unlink()
    return RunFolder(folder / "run"), lines, "".join(printed)


def _recorded(printed: list[str]) -> Any:
    original = Console.print

    def record(self: Console, *values: Any, **options: Any) -> None:
        with self.capture() as captured:
            original(self, *values, **options)
        printed.append(captured.get())

    return record


@pytest.fixture
def run(finished: tuple[RunFolder, list[str], str], place: Path) -> RunFolder:
    """A copy of that run at ./run; its corpus is nowhere."""
    return RunFolder(Path(shutil.copytree(finished[0].path, place / "run")))


# Text.


def test_what_the_corpus_holds_and_how_long_it_takes_is_printed_before_training(
    finished: tuple[RunFolder, list[str], str],
) -> None:
    text = finished[2]
    for words in ("train 240, validation 30, test 30", "vocabulary V", "horizon T", "unknown tokens", "also in train"):
        assert words in text
    assert text.index("unknown tokens") < text.index("projected time") < text.index("MLE 1/3")


def test_the_closing_table_fits_80_columns_and_knows_no_oracle(finished: tuple[RunFolder, list[str], str]) -> None:
    run, _, text = finished
    assert "oracle" not in text
    assert "…" not in text
    with (run.path / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [row["method"] for row in rows]
    assert names[:5] == ["MLE", "MLE, temp. 0.9", "MLE, temp. 0.8", "MLE, temp. 0.7", "SeqGAN"]
    assert names[-1] == "real data"
    for name, row in zip(names, rows, strict=True):
        line = [line for line in text.splitlines() if re.match(rf"\s*{re.escape(name)}\s+[\d–-]", line)][-1]
        assert f"{float(row['bleu2']):.3f} ±{float(row['bleu2_se']):.3f}" in line
        assert f"{float(row['self_bleu2']):.3f}" in line
        if name != "real data":
            assert float(row["perplexity"]) == pytest.approx(np.exp(float(row["nll_test"])), rel=1e-5)
            assert f"{float(row['nll_test']):.3f}" in line
    assert not [name for name in rows[0] if "oracle" in name]
    assert {"nll_test_se", "entropy", "bleu5", "self_bleu4", "distinct3", "copied", "divergence1"} <= set(rows[0])


def test_a_temperature_is_found_at_which_a_generator_repeats_itself_as_much(place: Path) -> None:
    write_sentences(place / "corpus.txt", 1000)
    task = TextOptions(corpus="corpus.txt", validation=0.3, test=0.3).task()
    generator = build_generator("lstm", task, hidden_size=8, embedding_size=8, init_std=1.0, seed=1)
    measures = task.measures()
    assert isinstance(measures, SampleMeasures)
    found = measures.matched_temperature(generator, 0.965, 300, np.random.default_rng(1))
    assert found is not None
    assert 0.6 < found < 1.4
    matched = measures.measure(generator.at_temperature(found), 300, np.random.default_rng(2)).corpus
    assert matched is not None
    assert matched.self_bleu[2].mean == pytest.approx(0.965, abs=0.015)
    assert measures.matched_temperature(generator, 0.0, 300, np.random.default_rng(1)) is None  # nothing is so diverse


def test_metrics_have_a_corpus_columns_at_every_measurement(finished: tuple[RunFolder, list[str], str]) -> None:
    rows = finished[0].metrics()
    assert ",".join(rows[0]) == (
        "stage,index,epoch,train_nll,validation_nll,nll_test,nll_test_se,entropy,distinct,discriminator_loss,"
        "discriminator_accuracy,discriminator_calibration_error,mean_reward,perplexity,bleu2,bleu3,bleu4,bleu5,"
        "self_bleu2,self_bleu3,self_bleu4,self_bleu5,distinct2,copied"
    )
    measured = [(row["stage"], row["index"]) for row in rows if row["nll_test"]]
    assert measured == [("mle", "1"), ("mle", "2"), ("mle", "3"), ("adversarial", "1"), ("adversarial", "2")]
    for row in rows:
        for column in ("perplexity", "bleu2", "self_bleu4", "distinct2", "copied"):
            assert bool(row[column]) == bool(row["nll_test"])


def test_samples_of_every_measurement_can_be_read(finished: tuple[RunFolder, list[str], str]) -> None:
    run, lines, _ = finished
    files = sorted(path.name for path in (run.path / "samples").iterdir())
    assert files == ["adversarial-001.txt", "adversarial-002.txt", "mle-001.txt", "mle-002.txt", "mle-003.txt"]
    words = {word for line in lines for word in line.split()} | {"<unk>"}
    for name in files:
        samples = (run.path / "samples" / name).read_text(encoding="utf-8").splitlines()
        assert len(samples) == 40
        assert {word for sample in samples for word in sample.split()} <= words
    first, last = ((run.path / "samples" / name).read_text(encoding="utf-8") for name in (files[2], files[1]))
    assert first != last


def test_a_run_is_sampled_and_measured_without_its_corpus(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("sample run -n 4 --no-nearest") == 0
    plain = capsys.readouterr().out.splitlines()
    assert len(plain) == 4
    assert call("evaluate run --samples 50 --temperatures 1.0 0.5 --out curve.csv") == 0
    assert "self-2" in capsys.readouterr().out
    with open("curve.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["temperature"]) for row in rows] == [("run", "1.0"), ("run", "0.5")]
    assert float(rows[0]["self_bleu2"]) < float(rows[1]["self_bleu2"])
    assert call("plot run --out curve.png") == 0
    assert Path("curve.png").read_bytes().startswith(b"\x89PNG")
    assert call("plot curve.csv --out quality.png") == 0  # BLEU against self-BLEU
    assert Path("quality.png").read_bytes().startswith(b"\x89PNG")


def test_each_sample_stands_above_a_training_line(
    run: RunFolder, finished: tuple[RunFolder, list[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("sample run -n 5 --seed 3") == 0
    printed = capsys.readouterr().out.splitlines()
    assert call("sample run -n 5 --seed 3 --no-nearest") == 0
    assert printed[::2] == capsys.readouterr().out.splitlines()
    for line in printed[1::2]:
        likeness, nearest = line.strip().split("  ", 1)
        assert 0 <= float(likeness) <= 1
        assert nearest in finished[1]
    assert call("sample run -n 5 --seed 3 --out samples.txt") == 0
    assert Path("samples.txt").read_text(encoding="utf-8").splitlines() == printed


def test_a_finished_run_is_resumed_without_its_corpus_and_a_change(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run.metrics_path.read_bytes()
    assert call("train text --resume run --no-progress") == 0
    assert run.metrics_path.read_bytes() == before
    assert capsys.readouterr().out.splitlines()[-1].startswith("run folder: run")


@pytest.mark.slow
def test_an_interrupted_run_on_a_corpus_ends_as_one_that_was_not(place: Path) -> None:
    write_sentences(place / "corpus.txt")
    task = TextOptions(corpus="corpus.txt").task()
    assert task.eos_token is not None

    def train(run: RunFolder, units: int | None = None) -> bytes:
        experiment = Experiment(run, console=Console(quiet=True), show_progress=False)
        if units is not None:
            original = experiment._after

            def stop(milestone: Any) -> Any:
                nonlocal units
                assert units is not None
                units -= 1
                if units < 0:
                    raise KeyboardInterrupt
                return original(milestone)

            experiment._after = stop  # type: ignore[method-assign]
            with pytest.raises(KeyboardInterrupt):
                experiment.train()
        else:
            experiment.train()
        return run.metrics_path.read_bytes()

    whole = RunFolder.create(place / "whole", task, config(), "text")
    expected = train(whole)
    for units in (2, 5):
        cut = RunFolder.create(place / f"cut{units}", task, config(), "text")
        assert train(cut, units) != expected
        assert train(RunFolder(cut.path)) == expected
        theirs, ours = whole.generator().state_dict(), cut.generator().state_dict()
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


@pytest.mark.parametrize("reward", ["bleu", "constant"])
def test_other_rewards_are_learned_from_on_a_corpus(place: Path, reward: str) -> None:
    pytest.importorskip("matplotlib")
    write_sentences(place / "corpus.txt")
    task = TextOptions(corpus="corpus.txt").task()
    run = RunFolder.create(place / "run", task, config(reward_model=reward, mle_epochs=1), "text")
    Experiment(run, console=Console(quiet=True), show_progress=False).train()
    rows = close_run(run, "cpu", Console(quiet=True))
    assert f"reward {reward}" in [row.method for row in rows]
    if reward == "constant":
        assert {row["mean_reward"] for row in run.metrics() if row["stage"] == "adversarial"} == {"0.500000"}


def test_early_stopping_and_bounded_epochs_reach_the_pretrainer(place: Path) -> None:
    write_sentences(place / "corpus.txt")
    task = TextOptions(corpus="corpus.txt").task()
    settings = config(epoch_sequences=32, held_out_sequences=7, mle_patience=1, mle_epochs=40, rounds=0)
    run = RunFolder.create(place / "run", task, settings, "text")
    experiment = Experiment(run, console=Console(quiet=True), show_progress=False)
    assert len(experiment.game.pretrainer.validation) == len(experiment.measures.test) == 7
    experiment.train()
    assert 1 < experiment.game.pretrainer.epochs < 40


# Music.


@pytest.fixture(scope="module")
def melodies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the bundled tunes."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("music")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "80")
        assert call(f"train music --preset beat --sequence-length 8 --out run {TINY}") == 0
    return folder / "run"


def test_music_is_measured_by_the_papers_squared_error_too(melodies: Path) -> None:
    run = RunFolder(melodies)
    assert run.description["preset"] == "beat"
    assert run.description["corpus_options"]["step_seconds"] == 0.25
    with (melodies / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    errors = {row["method"]: float(row["mse_nearest"]) for row in rows}
    assert errors["real data"] < errors["MLE"]
    assert run.task().vocabulary is not None
    assert json.loads(json.dumps(run.task().summary())) == run.description["statistics"]


def test_melodies_become_abc_midi_and_pictures(melodies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(f"sample {melodies} -n 2") == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert call(f"sample {melodies} -n 2 --format abc") == 0
    text = capsys.readouterr().out
    assert text.count("X:") == 2
    assert "Q:1/8=240" in text  # a step of 0.25 s
    assert call(f"sample {melodies} -n 2 --format png --out roll.png") == 0
    assert capsys.readouterr().out == "roll.png\n"
    assert Path("roll.png").read_bytes().startswith(b"\x89PNG")
    pytest.importorskip("symusic")
    assert call(f"sample {melodies} -n 2 --format midi --out tunes") == 0
    files = capsys.readouterr().out.splitlines()
    assert [Path(file).read_bytes()[:4] for file in files] == [b"MThd"] * 2


# What a user can get wrong.


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train text --corpus nowhere.txt", ["nowhere.txt", "no such file"]),
        (
            "train text --corpus few.txt --validation 0.2 --test 0.2",
            ["batch_size=64", "training sequences", "lower it"],
        ),
        ("train text --corpus corpus.txt --sequence-length 4", ["4 tokens", "too_long"]),
        ("train text --corpus corpus.txt --minutes 0", ["minutes=0", "above 0"]),
        ("train text --corpus corpus.txt --epoch-sequences 10", ["epoch_sequences=10", "batch_size=64"]),
        ("train text --corpus corpus.txt --out corpus.txt", ["out='corpus.txt'", "already used"]),
        ("train text --resume run --corpus corpus.txt", ["--corpus cannot change a run"]),
        ("train text --resume run --hidden-size 7", ["--generator.hidden-size cannot change a run"]),
        ("train music --resume run", ["run of the task 'text'", "seqgan train text --resume run"]),
        ("sample run --format abc", ["format='abc'", "task 'text', which has text"]),
    ],
)
def test_a_mistake_ends_with_one_line_that_names_it(
    run: RunFolder, place: Path, line: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = write_sentences(place / "corpus.txt")
    (place / "few.txt").write_text("\n".join(lines[:40]), encoding="utf-8")
    before = sorted(path.name for path in place.iterdir())
    assert call(line) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    for word in words:
        assert word in error, error
    assert sorted(path.name for path in place.iterdir()) == before  # no folder is left behind


@pytest.mark.parametrize("option", ["--corpuss x", "--oracle 3", "--vocab-size 5", "--train-sequences 9"])
def test_options_that_do_not_exist_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(f"train text {option}") == 2
    assert option.split()[0] in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["png", "midi"])
def test_pictures_and_midi_need_a_place(melodies: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(f"sample {melodies} --format {kind}") == 2
    assert f"format='{kind}' needs --out" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "default"), [("text", TEXT), ("music", MUSIC)])
def test_help_shows_the_options_of_the_corpus_and_none_of_an_oracle(
    kind: str, default: SeqGANConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(f"train {kind} --help-all") == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    options = ("--corpus", "--duplicates", "--minutes", "--pretraining.epoch-sequences")
    for word in (*options, f"(default: {default.game.rounds})"):
        assert word in text
    for word in ("--oracle", "--vocab-size", "--train-sequences", "--data-seed"):
        assert word not in text


def test_a_run_that_would_take_too_long_is_cut_and_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    write_sentences(place / "corpus.txt")
    slow = UnitCosts(0.0, 0.0, 0.0, 2.0, 0.0)
    monkeypatch.setattr("agents.command.train.try_units", lambda *_: slow)
    monkeypatch.setattr("agents.runs.budget.try_units", lambda *_: slow)
    options = f"{TINY} --rounds 30 --g-steps 1"
    assert call(f"train text --corpus corpus.txt --out run --minutes 0.5 {options}") == 0
    printed = capsys.readouterr().out
    assert "--game.rounds 30 -> 14, so that the run ends in 0.5 minutes (--minutes)" in printed
    assert re.search(r"SeqGAN, 1\d of 30 rounds", printed)
    run = RunFolder(Path("run"))
    assert 10 <= run.config().game.rounds <= 14
    assert run.description["budget"] == {
        "minutes": 0.5,
        "asked": {"pretraining.epochs": 3, "discriminator.pretraining_steps": 1, "game.rounds": 30},
    }
    assert call(f"train text --corpus corpus.txt --out short --minutes 0.2 {options}") == 2
    assert "minutes=0.2 is too short for a useful run" in capsys.readouterr().err
    assert not Path("short").exists()


def test_the_options_of_a_command_make_the_tasks_of_the_library() -> None:
    music = MusicOptions(sequence_length=16).task()
    assert (music.name, music.sequence_length) == ("music", 16)
    text = TextOptions(max_sequences=200, sequence_length=12, too_long="cut").task()
    assert (text.name, text.sequence_length) == ("text", 12)
