"""A run that goes on with the generator of another, on other sequences."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
import torch

from agents.command import main as cli
from agents.runs.checkpoints import read_tensors
from agents.runs.run_folder import RunFolder
from agents.seqgan import SeqGAN
from seqgan_env.tasks.toy import toy_task
from tests.agents.conftest import new_run, tiny_config, train

FIRST = "the cat sat on the mat\na dog saw the cat\nthe dog ran\na cat ran on the mat\n" * 12
SECOND = FIRST + "the zebra saw the cat\n" * 12
SHORT = "--mle-epochs 2 --rounds 1 --discriminator-pretraining-steps 1 --final-samples 40 --evaluation-samples 40"
COMMON = f"--no-progress --minutes None {SHORT} --duplicates keep --pretraining.batch-size 8 --learner.batch-size 8"


def call(line: str) -> int:
    try:
        cli.main(shlex.split(line))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two corpora and a run on the first."""
    path = tmp_path_factory.mktemp("fine_tuning")
    (path / "first.txt").write_text(FIRST, encoding="utf-8")
    (path / "second.txt").write_text(SECOND, encoding="utf-8")
    words = f"--corpus {path / 'first.txt'} --unit word --minimum-count 1"
    assert call(f"train text {words} {COMMON} --mle-epochs 20 --out {path / 'first'}") == 0
    return path


def test_the_first_epoch_begins_with_the_other_runs_parameters(folder: Path, tmp_path: Path) -> None:
    first, out = RunFolder(folder / "first"), tmp_path / "run"
    line = f"train text --corpus {folder / 'second.txt'} --unknown token {COMMON} --start-from {first.path} --out {out}"
    assert call(line) == 2  # "zebra" is unknown, and the first text has no <unk>
    (tmp_path / "known.txt").write_text(SECOND.replace("zebra", "cat"), encoding="utf-8")
    assert call(line.replace(str(folder / "second.txt"), str(tmp_path / "known.txt"))) == 0
    run = RunFolder(out)
    stored, _ = read_tensors(run.start_checkpoint)
    ours = first.generator().state_dict()
    assert all(torch.equal(stored[name], ours[name]) for name in ours)
    assert run.task().vocabulary is not None
    assert run.task().vocabulary.tokens == first.task().vocabulary.tokens  # type: ignore[union-attr]
    assert run.task().sequence_length == first.task().sequence_length
    assert run.description["started_from"] == str(first.path)
    fresh = float(RunFolder(folder / "first").metrics()[0]["train_nll"])
    assert float(run.metrics()[0]["train_nll"]) < fresh - 0.2  # it knows the words already


def test_the_new_run_needs_the_other_one_no_more(folder: Path, tmp_path: Path) -> None:
    first = shutil.copytree(folder / "first", tmp_path / "first")
    (tmp_path / "known.txt").write_text(SECOND.replace("zebra", "cat"), encoding="utf-8")
    out = tmp_path / "run"
    assert call(f"train text --corpus {tmp_path / 'known.txt'} {COMMON} --start-from {first} --out {out}") == 0
    shutil.rmtree(first)
    assert call(f"sample {out} -n 2") == 0
    assert call(f"train text --resume {out} --no-progress") == 0


def test_a_game_begins_with_the_parameters_and_resumes_from_its_own(tmp_path: Path) -> None:
    start = train(new_run(tmp_path / "start", rounds=0))
    config = tiny_config(seed=5, rounds=1)
    runs = [
        RunFolder.create(tmp_path / name, toy_task(n_sequences=config.task.train_sequences), config, "toy", start=start)
        for name in ("whole", "again")
    ]
    game = SeqGAN(runs[0].task(), config)
    game.begin_with(read_tensors(runs[0].start_checkpoint)[0])
    theirs = start.generator().state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in game.generator.state_dict().items())
    ends = [train(run).generator().state_dict() for run in runs]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    untouched = train(new_run(tmp_path / "untouched", seed=5, rounds=1)).generator().state_dict()
    assert not all(torch.equal(ends[0][name], untouched[name]) for name in untouched)


def test_a_running_average_begins_with_the_given_parameters(tmp_path: Path) -> None:
    start = train(new_run(tmp_path / "start", rounds=0))
    config = tiny_config(rounds=0)
    config = type(config)(**{**vars(config), "pretraining": type(config.pretraining)(weight_averaging=0.9)})
    game = SeqGAN(toy_task(n_sequences=200), config)
    parameters = start.generator().state_dict()
    game.begin_with(dict(parameters))
    assert all(torch.equal(value, parameters[name]) for name, value in game.pretrainer._average.items())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train text --generator gru --start-from {first}", "--generator cannot be given with --start-from"),
        ("train text --generator.hidden-size 16 --start-from {first}", "--generator.hidden-size cannot be given"),
        ("train toy --start-from {first}", "its generator cannot read these sequences"),
        ("train text --resume {first} --start-from {first}", "start_from and resume exclude each other"),
        ("train text --start-from nowhere", "nowhere"),
    ],
)
def test_what_cannot_be_started_from_is_named(
    line: str, said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = "" if "--resume" in line else f"--out {tmp_path / 'out'}"
    assert call(f"{line.format(first=folder / 'first')} --no-progress {out}") == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
