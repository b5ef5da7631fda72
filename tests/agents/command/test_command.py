"""`cli`: the `seqgan` command, and what it says to mistakes."""

from __future__ import annotations

import csv
import errno
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.command import main as cli
from agents.command import train as train_command
from agents.runs.checkpoints import read_tensors
from agents.runs.presets import PRESETS, presets_of, with_learner
from agents.runs.run_folder import RunFolder
from agents.setting_paths import changed
from tests.agents.conftest import TINY_OPTIONS, new_run, tiny_config, train

Command = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs: an empty folder, on a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SEQGAN_DEBUG", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def call(line: str) -> int:
    """The exit status of a command line."""
    try:
        cli.main(shlex.split(line))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def train_line(out: str, *options: str) -> str:
    return shlex.join(["train", "toy", "--out", out, *TINY_OPTIONS, *options])


@pytest.fixture
def run(place: Path, finished_run: RunFolder) -> RunFolder:
    """A finished run at ./run."""
    return RunFolder(Path(shutil.copytree(finished_run.path, place / "run")))


# The commands.


def test_train_ends_with_the_table_and_the_run_folder(
    place: Path, finished_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    assert call(train_line("mine")) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    for method in ("random", "MLE", "MLE, temp. 0.9", "MLE, temp. 0.8", "MLE, temp. 0.7", "SeqGAN", "oracle (floor)"):
        assert any(line.strip().startswith(method) and line.count("±") == 2 for line in lines), method
    assert "NLL_oracle" in text
    assert "NLL_test" in text
    assert lines[-1] == "run folder: mine (learning_curve.png, results.csv, metrics.csv)"
    assert (place / "mine" / "learning_curve.png").is_file()
    assert (place / "mine" / "metrics.csv").read_bytes() == finished_run.metrics_path.read_bytes()


def test_runs_get_a_place_of_their_own(place: Path) -> None:
    pytest.importorskip("matplotlib")
    options = shlex.join([*TINY_OPTIONS, "--rounds", "0", "--discriminator-pretraining-steps", "0"])
    for _ in range(2):
        assert call(f"train toy {options} --mle-epochs 1 --seed 3") == 0
    assert sorted(path.name for path in (place / "runs").iterdir()) == ["toy-seed3", "toy-seed3-2"]


def test_the_oracle_command_trains_the_papers_task(place: Path) -> None:
    pytest.importorskip("matplotlib")
    options = shlex.join([*TINY_OPTIONS, "--rounds", "1", "--filters", "light", "--vocab-size", "9"])
    assert call(f"train oracle {options} --sequence-length 4 --hidden-size 5 --oracle 3 --out run") == 0
    run = RunFolder(Path("run"))
    assert run.description["task"] == "oracle"
    assert run.description["preset"] == "fast"
    assert run.config().task.oracle == 3
    assert run.task().real_sequences("train").shape == (64, 4)
    assert run.generator().vocab_size == 9


@pytest.mark.parametrize("option", ["-n 7", "--n 7", "-n 7 --temperature 0.1"])
def test_sample_prints_n_sequences_in_the_tasks_words(
    run: RunFolder, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert call(f"sample run {option}") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    for line in lines:
        assert len(line.split()) == 3
        assert set(line.split()) <= {"a", "b", "c"}


def test_samples_follow_the_seed_and_the_temperature(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for options in ("--seed 1", "--seed 1", "--seed 2", "--seed 1 --temperature 0.001"):
        assert call(f"sample run -n 20 {options}") == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]
    assert len(set(texts[0].splitlines())) > 3
    assert len(set(texts[3].splitlines())) == 1  # almost greedy


def test_a_run_is_sampled_and_measured_with_its_discriminator_on_top(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for options in ("", "--resample 1", "--resample 8", "--resample 8"):
        assert call(f"sample run -n 40 {options}") == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2] == texts[3]
    assert call("evaluate run --samples 50 --resample 4 --out result.csv") == 0
    (row,) = csv.DictReader(Path("result.csv").read_text(encoding="utf-8").splitlines())
    assert row["method"] == "resampled at 1.0"
    assert float(row["nll_test"]) > 0
    assert row["entropy"] == ""
    assert call("sample run --resample 0") == 2
    assert "resample=0 must be at least 1" in capsys.readouterr().err


def test_without_a_trained_discriminator_nothing_is_resampled(capsys: pytest.CaptureFixture[str]) -> None:
    train(new_run(Path("run"), reward_model="constant"))
    assert call("sample run --resample 4") == 2
    assert "has no trained discriminator to resample with" in capsys.readouterr().err


def test_a_learner_without_reward_is_given_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(train_line("run", "--learner", "cot", "--learner.mediator-pretraining", "1")) == 0
    game = RunFolder(Path("run")).config().game
    assert (game.reward_model, game.reward_mode, game.anchor_weight) == ("constant", "terminal", 0.0)
    assert any(line.strip().startswith("learner cot") for line in capsys.readouterr().out.splitlines())
    assert call(train_line("dpg", "--learner", "dpg")) == 0
    assert RunFolder(Path("dpg")).config().game.reward_model == "logit"
    assert call(train_line("other", "--learner", "cot", "--game.reward-model", "logit")) == 2
    assert "Write --game.reward-model constant" in capsys.readouterr().err


def test_evaluate_prints_a_table_and_writes_the_csv(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate run --samples 50 --temperatures 1.0 0.5 --out result.csv") == 0
    text = capsys.readouterr().out
    assert "temperature 1.0" in text
    assert "50 samples" in text
    with open("result.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["temperature 1.0", "temperature 0.5"]
    for row in rows:
        assert f"{float(row['nll_oracle']):.3f} ±{float(row['nll_oracle_se']):.3f}" in text
        assert f"{float(row['nll_test']):.3f} ±{float(row['nll_test_se']):.3f}" in text


def test_plot_draws_one_run_or_several(run: RunFolder, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    shutil.copytree(run.path, place / "other")
    assert call("plot run") == 0
    assert capsys.readouterr().out == "run/learning_curve.png\n"
    assert (run.path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert call("plot run other --out both.png") == 0
    assert Path("both.png").read_bytes().startswith(b"\x89PNG")
    assert not (place / "other" / "learning_curve.png").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--help", ["train", "evaluate", "sample", "plot", "reproduce"]),
        ("train --help", ["oracle", "toy"]),
        (
            "train oracle --help",
            ["[2016: 240; 2018: 120]"],
        ),
        (
            "train toy --help-all",
            ["g, generator updates per round [P: 1]", "d, draws of fresh negatives per round [P: 5]"],
        ),
        ("train oracle --help-all", ["[P: 20]", "[P: 10,000", "[P: 16]", "[2016: 240; 2018: 120]"]),
        ("train toy --help-all", ["lstm, gru, transformer, attention", "cnn, rcnn, bigru, transformer, ensemble"]),
        ("evaluate --help", ["(paper: 100,000)"]),
        ("sample --help", ["Below 1 sharpens"]),
        ("plot --help", ["Run folders", "CSV"]),
        (
            "reproduce --help-all",
            [
                "{table1,fig2,fig3,curves,learners,poems,speeches,music,text}",
                "100,000 as in the paper",
                "--ray",
                "0 1 2 3 4",
            ],
        ),
    ],
)
def test_help_ends_well_and_gives_the_papers_values(
    line: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(line) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("options", "epochs", "rounds"),
    [
        ("--preset repo2018", 120, 200),
        ("--preset=repo2016", 240, 800),
        ("--preset paper", 240, 800),
        ("--preset fast", PRESETS["fast"].pretraining.epochs, PRESETS["fast"].game.rounds),
        ("", PRESETS["fast"].pretraining.epochs, PRESETS["fast"].game.rounds),
    ],
)
def test_a_presets_values_become_the_defaults(
    options: str, epochs: int, rounds: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # else panels stand side by side
    assert call(f"train oracle {options} --help-all") == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, value in (("pretraining.epochs", epochs), ("game.rounds", rounds)):
        help_text = text.split(f" --{name} INT ")[1]
        assert re.findall(r"\(default: (.*?)\)", help_text)[0] == str(value)


def test_a_preset_and_options_together_make_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(train_command, "run", lambda *arguments: seen.append(arguments))
    cli.main(shlex.split("train oracle --rounds 7 --preset repo2018 --seed 5"))
    task, config, default, asked = seen[0]
    assert (task, asked.preset) == ("oracle", "repo2018")
    assert default == PRESETS["repo2018"]
    assert config == changed(PRESETS["repo2018"], {"game.rounds": 7, "seed": 5}).complete()


@pytest.mark.parametrize("command", ["", *(f"train {name}" for name in ("", "oracle", "toy", "text", "music"))])
def test_help_fits_two_screens_and_help_all_is_longer(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = {}
    for option in ("--help", "--help-all"):
        assert call(f"{command} {option}") == 0
        text = capsys.readouterr().out.splitlines()
        lines[option] = sum(max(1, -(-len(line) // 80)) for line in text)  # a terminal breaks longer ones
    assert lines["--help"] <= 48
    assert (lines["--help-all"] > 100) == (command.count(" ") == 1 and command != "train ")


@pytest.mark.parametrize("command", ["evaluate", "sample", "plot", "reproduce", "compare"])
def test_help_of_the_other_commands_fits_two_screens(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert call(f"{command} --help") == 0
    assert sum(max(1, -(-len(line) // 80)) for line in capsys.readouterr().out.splitlines()) <= 48


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert re.fullmatch(r"seqgan \d+\.\d+\.\d+.*\n", capsys.readouterr().out)


def test_grouped_names_and_flat_names_mean_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(train_command, "run", lambda *arguments: seen.append(arguments[1]))
    for line in (
        "--pretraining.epochs 5 --generator gru --generator.hidden-size 6 --game.rounds=7 "
        "--pretraining.max-grad-norm 2 --learner.max-grad-norm 2 --pretraining.no-reshuffle --sequence-length 4",
        "--mle-epochs 5 --generator gru --hidden-size 6 --rounds=7 --max-grad-norm 2 --no-mle-reshuffle "
        "--sequence-length 4",
    ):
        cli.main(["train", "toy", *shlex.split(line)])
    assert seen[0] == seen[1]
    assert seen[0].generator.name == "gru"
    assert (seen[0].generator.options["hidden_size"], seen[0].game.rounds, seen[0].task.sequence_length) == (6, 7, 4)


def test_every_option_of_a_model_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(train_command, "run", lambda *arguments: seen.append(arguments[1]))
    cli.main(shlex.split("train toy --generator transformer --generator.layers 3 --generator.heads 4"))
    options = seen[0].generator.options
    assert (options["layers"], options["heads"], options["hidden_size"]) == (3, 4, 8)  # the last is the preset's


@pytest.mark.parametrize("task", ["oracle", "toy", "text", "music"])
@pytest.mark.parametrize("learner", ["rloo", "grpo", "ppo", "a2c", "trpo"])
def test_a_learner_is_one_word_on_every_task_and_brings_its_settings(
    learner: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(train_command, "run", lambda *arguments: seen.append(arguments[1]))
    for preset in presets_of(task):
        choice = f"--preset {preset}" if len(presets_of(task)) > 1 else ""
        cli.main(shlex.split(f"train {task} {choice} --learner {learner} --learner.batch-size 7"))
        before = presets_of(task)[preset]
        expected = with_learner(before, learner, preset)
        assert seen[-1].learner == replace(expected.learner, batch_size=7)
        assert expected.learner.options == before.learner.named(learner).options
        mode = "terminal" if learner in ("rloo", "grpo") else before.game.reward_mode
        assert seen[-1].game == replace(before.game, reward_mode=mode)


def test_every_option_of_a_learner_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(train_command, "run", lambda *arguments: seen.append(arguments[1]))
    cli.main(shlex.split("train toy --learner ppo --learner.clip-range 0.1 --learner.no-normalize-advantage"))
    cli.main(shlex.split("train toy --learner tests.agents.own_learners:RunningBaseline --learner.share 0.4"))
    cli.main(shlex.split("train toy --baseline step_mean"))
    assert (seen[0].learner.options["clip_range"], seen[0].learner.options["normalize_advantage"]) == (0.1, False)
    assert (seen[1].learner.options, seen[1].game.reward_mode) == ({"share": 0.4, "n_epochs": 1}, "terminal")
    assert seen[2].learner.options["baseline"] == "step_mean"


def test_a_run_with_a_learner_of_ones_own_goes_on_only_if_it_is_trusted(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "tests.agents.own_learners:RunningBaseline"
    config = changed(tiny_config(), {"game.reward_mode": "terminal"})
    config = replace(config, learner=replace(config.learner.named(name), batch_size=8))
    RunFolder.create(place / "run", config.task.task(), config, "toy")
    assert call("train toy --resume run --no-progress") == 2
    assert f"--trust {name}" in capsys.readouterr().err
    assert call(f"train toy --resume run --no-progress --trust {name}") == 0
    assert call("sample run -n 2") == 0  # the generator is one of this project


def test_what_a_resumed_run_cannot_take_is_named_by_what_was_written(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("train toy --resume run --learner grpo") == 2
    assert "--learner cannot change a run that is resumed" in capsys.readouterr().err


# Mistakes.


class Attack:
    def __reduce__(self) -> Any:
        return os.mkdir, ("attacked",)


@pytest.fixture
def mistakes(run: RunFolder, place: Path) -> Path:
    """Files and folders that are not what they should be."""
    (place / "malicious.pkl").write_bytes(pickle.dumps([Attack()] * 15))
    np.savez(place / "whole.npz", embeddings=np.zeros((3, 2)))
    (place / "truncated.npz").write_bytes((place / "whole.npz").read_bytes()[:60])
    (place / "stranger").mkdir()
    (place / "stranger" / "file").write_text("mine")
    (place / "empty.npz").write_bytes(b"")
    (place / "unfinished").mkdir()
    new_run(place / "unfinished")
    return place


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train toy --mle-epoch 3", ["--mle-epoch", "did you mean --mle-epochs?"]),
        ("traim toy", ["traim", "train"]),
        ("trian toy", ["command 'trian'", "did you mean 'train'?", "evaluate, sample, plot"]),
        ("train tyo", ["task 'tyo'", "did you mean 'toy'?", "music, oracle, text"]),
        ("train toy --generater gru", ["Unrecognized options: --generater", "--generator"]),
        ("reproduce tabel1", ["invalid choice 'tabel1'", "table1"]),
        ("train toy --generator lsmt", ["'lsmt'", "lstm, gru, transformer, attention", "did you mean 'lstm'?"]),
        ("train toy --discriminator cmn", ["'cmn'", "did you mean 'cnn'?"]),
        ("train oracle --preset fats", ["--preset", "fats", "fast", "repo2018"]),
        ("train toy --mle-epochs many", ["--pretraining.epochs", "many"]),
        ("train toy --baseline critic", ["--learner.baseline", "critic", "step_mean"]),
        ("train toy --learner pppo", ["'pppo'", "reinforce, rloo, grpo, ppo, a2c, trpo", "did you mean 'ppo'?"]),
        ("train toy --learner MaskablePPO", ["'MaskablePPO' has a feed-forward policy", "seqgan compare"]),
        ("train toy --learner ppo --baseline value", ["--learner.baseline: learner='ppo' has no such", "clip_range"]),
        ("train toy --learner trpo --learner.clip-range 0.1", ["--learner.clip-range", "it has target_kl, "]),
        ("train toy --generator lstm --generator.heads 2", ["--generator.heads", "it has embedding_size, "]),
        ("train toy --learner ppo --learner.clip-rang 0.1", ["--learner.clip-rang", "--learner.clip-range"]),
        ("train toy --learner grpo --game.reward-mode potential", ["--game.reward-mode terminal"]),
        ("sample", ["Run folder"]),
        ("reproduce table9", ["table9", "table1", "curves"]),
    ],
)
def test_what_cannot_be_parsed_ends_with_status_2_and_names_the_option(
    line: str, words: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(line) == 2
    text = capsys.readouterr().err
    for word in words:
        assert word in text
    assert "Traceback" not in text
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train toy --device tpu", ["device='tpu'", "use auto or cpu"]),
        ("train toy --oracle missing.npz", ["oracle='missing.npz'", "is not a file", ".npz"]),
        ("train toy --oracle truncated.npz", ["oracle='truncated.npz'", "cannot be read"]),
        ("train toy --oracle empty.npz", ["oracle='empty.npz'", "cannot be read"]),
        ("train toy --oracle malicious.pkl", ["oracle='malicious.pkl'", "only NumPy arrays are allowed"]),
        ("train toy --oracle whole.npz", ["oracle='whole.npz'", "lack"]),
        ("train toy --pretraining.epoch 3", ["--pretraining.epoch", "--pretraining.epochs"]),
        ("sample run --temperatur 2", ["--temperatur", "--temperature", "seqgan sample --help"]),
        ("train toy --out run", ["out='run'", "already used", "--resume run"]),
        ("train toy --out stranger", ["out='stranger'", "already used"]),
        ("train toy --out whole.npz", ["out='whole.npz'", "already used"]),
        ("train toy --out whole.npz/run", ["out='whole.npz/run'", "cannot be written"]),
        ("train toy --resume nowhere", ["'nowhere'", "not a run folder", "give a folder"]),
        ("train toy --resume stranger", ["'stranger'", "not a run folder"]),
        (
            "train toy --resume run --rounds 9",
            ["--game.rounds", "cannot change a run that is resumed", "start a new run"],
        ),
        ("train toy --resume run --out other", ["out", "resume", "exclude each other"]),
        ("train oracle --resume run", ["resume='run'", "task 'toy'", "seqgan train toy --resume run"]),
        ("train toy --vocab-size 0", ["vocab_size=0", "at least 1"]),
        ("train toy --sequence-length 0", ["sequence_length=0", "at least 1"]),
        ("train toy --rollout-rate 2", ["rollout_rate=2.0", "[0, 1]"]),
        ("train toy --dropout 1.5", ["dropout=1.5", "[0, 1)"]),
        ("train toy --l2 -1", ["l2=-1.0", "must not be negative"]),
        ("train toy --batch-size 1", ["batch_size=1", "at least 2"]),
        ("train toy --train-sequences 9", ["train_sequences=9", "batch_size=64"]),
        ("train toy --discriminator-weight-decay -1", ["weight_decay", "-1.0"]),
        ("train toy --seed -1", ["seed=-1", "at least 0"]),
        ("train toy --reward-model nothing", ["reward_model='nothing'", "module:Attribute"]),
        ("train toy --reward-model no_such_module:X", ["reward_model='no_such_module:X'", "cannot be loaded"]),
        ("train toy --reward-model math:nothing", ["reward_model='math:nothing'", "cannot be loaded"]),
        ("train toy --reward-model math:pi", ["reward_model", "callable", "float"]),
        ("train toy --reward-model constant:x", ["reward_model='constant:x'", "not a number"]),
        ("sample run -n 0", ["n=0", "at least 1"]),
        ("sample run --temperature 0", ["temperature=0.0", "must lie in [0.001, 1000]"]),
        ("sample run --temperature -1", ["temperature=-1.0", "must lie in [0.001, 1000]"]),
        ("sample run --seed -1", ["seed=-1", "at least 0"]),
        ("sample stranger", ["'stranger'", "not a run folder"]),
        ("sample unfinished", ["'unfinished'", "no checkpoint yet", "--resume unfinished"]),
        ("evaluate run --samples 0", ["samples=0", "at least 1"]),
        ("evaluate run --temperatures 0.0", ["temperature=0.0", "must lie in [0.001, 1000]"]),
        ("evaluate run --seed -1", ["seed=-1", "at least 0"]),
        ("evaluate run --samples 5 --out nowhere/x.csv", ["out='nowhere/x.csv'", "cannot be written"]),
        ("plot", ["runs is empty", "at least one run folder"]),
        ("plot unfinished", ["'unfinished'", "metrics.csv"]),
        ("plot run run/metrics.csv", ["runs='run/metrics.csv'", "is a CSV; give it alone"]),
        ("plot run/metrics.csv", ["'run/metrics.csv'", "is not the CSV of a figure", "run folders"]),
        ("plot nowhere.csv", ["'nowhere.csv'", "cannot be read"]),
        ("plot run --out nowhere/x.png", ["out='nowhere/x.png'", "cannot be written"]),
    ],
)
def test_a_mistake_ends_with_status_2_and_one_line_that_names_it(
    line: str, words: list[str], mistakes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(mistakes.rglob("*"))
    assert call(line) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert text.startswith("seqgan: error: ")
    for word in words:
        assert word in text
    assert sorted(mistakes.rglob("*")) == before  # nothing is lost, nothing is left behind


# Parts of the user's own, in a file in the current folder.

OWN_PARTS = """
import torch
from torch import nn
from torch.nn import functional as F
from seqgan_env.models.discriminators import Discriminator
from seqgan_env.models.sequence_models import GRUSequenceModel


class MyNet(Discriminator):
    def __init__(self, vocab_size, sequence_length):
        super().__init__(vocab_size, sequence_length)
        self.embedding = nn.Embedding(vocab_size + 1, 8, padding_idx=vocab_size)
        self.output = nn.Linear(8, 1)

    def forward(self, sequences):
        return self.output(self.embedding(sequences).mean(dim=1)).squeeze(1)


class Column(MyNet):
    def forward(self, sequences):
        return super().forward(sequences).unsqueeze(1)


class NotANumber(MyNet):
    def forward(self, sequences):
        return super().forward(sequences) / 0 * 0


class AlwaysDropping(MyNet):
    def forward(self, sequences):
        return self.output(F.dropout(self.embedding(sequences).mean(dim=1), 0.5)).squeeze(1)


class ScoringWithGradient(MyNet):
    def score(self, sequences):
        self.eval()
        logits = self(sequences)
        self.train()
        return logits


class NeedingGradient(MyNet):
    def forward(self, sequences):
        embedded = self.embedding(sequences).mean(dim=1)
        (slope,) = torch.autograd.grad(self.output(embedded).sum(), embedded, create_graph=True)
        return self.output(embedded).squeeze(1) + slope.sum(dim=1)


class Detached(MyNet):
    def forward(self, sequences):
        return super().forward(sequences).detach()


class MyGenerator(GRUSequenceModel):
    pass


class ForgetfulGenerator(GRUSequenceModel):
    def advance(self, state, tokens):
        return super().advance((torch.zeros_like(state[0]),), tokens)
"""


@pytest.mark.slow
def test_parts_in_a_file_beside_are_found_by_the_installed_command(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The current folder is not on the path of a console script, whose own folder is."""
    pytest.importorskip("matplotlib")
    (place / "own_parts.py").write_text(OWN_PARTS)
    (place / "bin").mkdir()
    (place / "bin" / "seqgan").write_text("from agents.command.main import main\nmain()\n")
    parts = ["--discriminator", "own_parts:MyNet", "--generator", "own_parts:MyGenerator", "--rounds", "1"]
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "bin/seqgan", *shlex.split(train_line("run", *parts))],
        capture_output=True, text=True, env=environment, check=False, timeout=120,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1].startswith("run folder: run ")
    run = RunFolder(place / "run")
    assert (run.config().discriminator.name, run.config().generator.name) == (
        "own_parts:MyNet",
        "own_parts:MyGenerator",
    )
    assert "trainer.adversary.discriminator.embedding.weight" in read_tensors(run.latest_checkpoint)[0]
    trust = "--trust own_parts:MyGenerator"
    assert call(f"sample run -n 3 {trust}") == 0
    assert call(f"evaluate run --samples 20 {trust}") == 0
    assert call(f"train toy --resume run --no-progress {trust} own_parts:MyNet") == 0
    capsys.readouterr()
    monkeypatch.chdir(place / "bin")
    monkeypatch.delitem(sys.modules, "own_parts")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(place)])
    assert call(f"sample ../run {trust}") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'../run' was trained with generator='own_parts:MyGenerator', which cannot be built now" in error
    assert "is the folder of own_parts the current one, or on PYTHONPATH?" in error


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--discriminator own_nets:Column", ["Column.forward returned shape (8, 1), expected (8,)"]),
        ("--discriminator own_nets:NotANumber", ["NotANumber.forward returned NaN or infinity"]),
        ("--discriminator own_nets:AlwaysDropping", ["AlwaysDropping.score", "does not score in evaluation mode"]),
        ("--discriminator own_nets:ScoringWithGradient", ["ScoringWithGradient.score", "@torch.no_grad()"]),
        ("--discriminator own_nets:NeedingGradient", ["NeedingGradient.score fails", "does not require grad"]),
        ("--discriminator own_nets:Detached", ["Detached.forward returned logits without a gradient"]),
        ("--discriminator own_nets:MyGenerator", ["MyGenerator is not a discriminator; derive it from"]),
        ("--discriminator own_nets:Missing", ["discriminator='own_nets:Missing'", "has no attribute 'Missing'"]),
        ("--discriminator cnn2", ["discriminator='cnn2' is none of cnn, rcnn", "did you mean 'cnn'?"]),
        ("--generator own_nets:ForgetfulGenerator", ["ForgetfulGenerator"]),
        ("--generator own_nets:MyNet", ["MyNet is not a sequence model; derive it from"]),
        ("--generator no_such_module:Net", ["generator='no_such_module:Net'", "is the folder of no_such_module"]),
    ],
)
def test_a_faulty_part_ends_with_status_2_and_one_line_that_names_the_fault(
    option: str, words: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "own_nets.py").write_text(OWN_PARTS)
    assert call(train_line("run", *shlex.split(option))) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("seqgan: error: ")
    for word in words:
        assert word in error
    assert not (place / "run").exists()


def test_the_traceback_is_there_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQGAN_DEBUG", "1")
    with pytest.raises(ValueError, match="n=0"):
        cli.main(["sample", "run", "-n", "0"])


class BrokenReward:
    """NaN from its eighth call on, unless mended."""

    mended = False

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, sequences: Tensor, /) -> Tensor:
        self.calls += 1
        rewards = (sequences == 2).float().mean(dim=1)
        return rewards if self.mended or self.calls < 8 else rewards / 0 * 0


def test_a_reward_that_turns_to_nan_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    option = ("--reward-model", f"{__name__}:BrokenReward")
    assert call(train_line("broken", *option)) == 2
    error = capsys.readouterr().err
    assert error.startswith("seqgan: error: reward_model returned nan for sequence")
    assert error.count("\n") == 1
    assert RunFolder(Path("broken")).metrics()[-1]["stage"] == "adversarial"
    monkeypatch.setattr(BrokenReward, "mended", True)
    assert call(f"train toy --resume broken --no-progress --trust {__name__}:BrokenReward") == 0
    assert call(train_line("whole", *option)) == 0
    broken, whole = RunFolder(Path("broken")), RunFolder(Path("whole"))
    assert broken.metrics_path.read_bytes() == whole.metrics_path.read_bytes()
    weights = [read_tensors(run.latest_checkpoint)[0] for run in (broken, whole)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_a_full_disk_is_told_with_the_way_on_and_loses_nothing(
    place: Path, finished_run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fsync, calls = os.fsync, []

    def fail_late(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_late)
    assert call(train_line("a run")) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no space left to save 'a run'" in error or "no space left to save a run" in error
    assert "make room, then go on with: seqgan train toy --resume 'a run'" in error
    assert not list(place.rglob("*.tmp"))
    monkeypatch.undo()
    run = train(RunFolder(place / "a run"))
    assert run.metrics_path.read_bytes() == finished_run.metrics_path.read_bytes()


def test_a_disk_that_is_full_from_the_start_is_told_and_the_same_command_works_later(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        assert call(train_line(str(place / "run"))) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "No space left on device" in error
    pytest.importorskip("matplotlib")
    assert call(train_line(str(place / "run"), "--rounds", "0")) == 0


# Interruptions.


def test_ctrl_c_prints_the_way_on_and_ends_with_130(
    place: Path, finished_run: RunFolder, mortal_command: Command
) -> None:
    path = place / "my run"
    moment = {"at": "unit is done, nothing is saved", "count": 6, "signal": "SIGINT"}
    status, output = mortal_command(["train", "toy", "--out", path, *TINY_OPTIONS], **moment)
    assert status == 130
    line = output.splitlines()[-1]
    assert line.startswith("interrupted; the run goes on from its last checkpoint with: seqgan train toy --resume ")
    assert "Traceback" not in output
    again = shlex.split(line.partition("seqgan ")[2])
    assert again == ["train", "toy", "--resume", str(path)]
    run = train(RunFolder(path))
    assert run.metrics_path.read_bytes() == finished_run.metrics_path.read_bytes()


def test_ctrl_c_before_there_is_a_run_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(train_command, "_read_task", interrupt)
    assert call(train_line("run")) == 130
    assert capsys.readouterr().err == "seqgan: error: interrupted\n"


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_early_is_no_error(run: RunFolder, unbuffered: str) -> None:
    """`seqgan sample RUN | head`."""
    script = "from agents.command.main import main; main(['sample', 'run', '-n', '100000'])"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert len(process.stdout.readline().split()) == 3
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 1
    process.stderr.close()
