"""A run folder of somebody else: it runs no code, leads nowhere by links, and what is wrong with it is one line."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from agents.command import main as cli
from agents.command.import_path import demote_current_folder, own_parts_named
from agents.runs.checkpoints import read_tensors, write_tensors
from agents.runs.description import read_description, written
from agents.runs.run_folder import RunFolder
from seqgan_env.tasks.task import Task
from tests.agents.conftest import TINY_OPTIONS, train
from tests.marks import slow

ROOT = Path(__file__).parents[3]
COMMANDS = ("train toy --resume run --no-progress", "sample run -n 2", "evaluate run --samples 20", "plot run")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SEQGAN_DEBUG", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.fixture
def run(place: Path, finished_run: RunFolder) -> RunFolder:
    """A finished run at ./run."""
    return RunFolder(Path(shutil.copytree(finished_run.path, place / "run")))


def call(line: str) -> int:
    """The exit status of a command line."""
    try:
        cli.main(shlex.split(line))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What the command said on standard error, which must be one line."""
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    return said


def rewrite(run: RunFolder, change: Callable[[dict[str, Any]], Any], honest: bool = True) -> None:
    """Change run.json; an honest change has the right checksum."""
    description = json.loads((run.path / "run.json").read_text())
    change(description)
    content = written(description) if honest else json.dumps(description).encode()
    (run.path / "run.json").write_bytes(content)


# Code.

EVIL = (
    "from pathlib import Path; Path({mark!r}).touch()\nfrom seqgan_env.models.sequence_models import GRUSequenceModel\n"
)


@pytest.mark.parametrize(
    "command",
    [
        "plot .",
        *map(slow, ("sample . -n 2", "evaluate . --samples 20", "train toy --resume .")),
    ],
)
def test_modules_that_lie_in_a_strangers_folder_are_not_imported(run: RunFolder, command: str, place: Path) -> None:
    """The installed command, in the folder. Modules of the names of libraries, and the one that run.json names."""
    for module in ("matplotlib", "torch", "numpy", "rich", "sitecustomize", "evil", "tensorboard", "regex"):
        (run.path / f"{module}.py").write_text(EVIL.format(mark=str(place / f"ran-{module}")))
    rewrite(run, lambda description: description["config"]["generator"].update(name="evil:GRUSequenceModel"))
    (place / "bin").mkdir()
    (place / "bin" / "seqgan").write_text("from agents.command.main import main\nmain()\n")
    ended = subprocess.run(
        [sys.executable, str(place / "bin" / "seqgan"), *shlex.split(command)],
        cwd=run.path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert list(place.glob("ran-*")) == []
    if command != "plot .":
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
        assert "generator='evil:GRUSequenceModel', which is not part of this project" in ended.stderr
        assert "--trust evil:GRUSequenceModel" in ended.stderr
    else:
        assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("group", "name"), [("generator", "name"), ("discriminator", "name"), ("game", "reward_model")]
)
def test_a_run_goes_on_with_others_parts_only_if_the_command_repeats_them(
    run: RunFolder, place: Path, group: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "evil.py").write_text(EVIL.format(mark=str(place / "ran")))
    sys.modules.pop("evil", None)
    rewrite(run, lambda description: description["config"][group].update({name: "evil:Part"}))
    assert call("train toy --resume run --no-progress") == 2
    assert "--trust evil:Part" in one_line(capsys)
    assert not (place / "ran").exists()
    assert call("train toy --resume run --no-progress --trust evil:Other") == 2
    assert not (place / "ran").exists()
    assert call("train toy --resume run --no-progress --trust evil:Part") == 2  # imported now; it has no Part
    assert (place / "ran").exists()


def test_a_folder_of_format_1_imports_nothing_either(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = Path(shutil.copytree(Path(__file__).parents[1] / "runs" / "format_1", place / "run"))
    (place / "evil.py").write_text(EVIL.format(mark=str(place / "ran")))
    description = json.loads((old / "run.json").read_text())
    description["config"]["generator"] = "evil:GRUSequenceModel"
    (old / "run.json").write_text(json.dumps(description))
    assert call("sample run -n 2") == 2
    assert "--trust evil:GRUSequenceModel" in one_line(capsys)
    assert not (place / "ran").exists()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("train toy --generator own:G --reward-model=own.b:R", ["own:G", "own.b:R"]),
        ("train toy --discriminator ensemble:cnn+rcnn --reward-model shuffled:logit --out a:b/c", []),
        ("sample run --trust own:G", ["own:G"]),
        ("train toy --reward-model constant:0.5", []),
    ],
)
def test_a_command_line_names_its_own_parts(line: str, found: list[str]) -> None:
    assert own_parts_named(shlex.split(line)) == found


def test_the_current_folder_is_last_or_absent(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", str(place), "/somewhere"])
    monkeypatch.setenv("PYTHONPATH", "")
    demote_current_folder(["sample", "run"])
    assert sys.path == ["/somewhere"]
    monkeypatch.setattr(sys, "path", ["", "/somewhere"])
    demote_current_folder(["train", "toy", "--generator", "own:G"])
    assert sys.path == ["/somewhere", str(place)]
    monkeypatch.setattr(sys, "path", [str(place), "/somewhere"])
    monkeypatch.setenv("PYTHONPATH", str(place))  # the user's own choice
    demote_current_folder(["sample", "run"])
    assert sys.path == [str(place), "/somewhere"]


# Links.


@pytest.mark.parametrize("kind", [os.symlink, os.link], ids=["symbolic", "hard"])
@pytest.mark.parametrize(
    "name", ["metrics.csv", "learning_curve.png", "results.csv", "checkpoints/latest.safetensors", "lock", "run.json"]
)
def test_no_link_leads_a_run_out_of_its_folder(
    run: RunFolder, place: Path, name: str, kind: Callable[[Path, Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    victim, inside = place / "victim", run.path / name
    content = inside.read_bytes() if inside.is_file() else b"mine"
    victim.write_bytes(content)
    inside.unlink(missing_ok=True)
    kind(victim, inside)
    latest = run.previous_checkpoint.read_bytes()
    if name != "checkpoints/latest.safetensors":
        run.latest_checkpoint.write_bytes(latest)  # so that there is something left to train
    for command in ("train toy --resume run --no-progress", "plot run"):
        status = call(command)
        if kind is os.symlink and (command.startswith("train") or name == "learning_curve.png"):
            assert status == 2
            assert "is a symbolic link, not a regular file" in one_line(capsys)
        capsys.readouterr()
    assert victim.read_bytes() == content


@pytest.mark.parametrize("name", ["samples", "tensorboard", "checkpoints"])
def test_no_linked_folder_is_written_to(
    run: RunFolder, place: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(run.path / name, place / "elsewhere")
    (place / "elsewhere" / ".mine.tmp").touch()
    before = sorted(path.name for path in (place / "elsewhere").iterdir())
    (run.path / name).symlink_to(place / "elsewhere")
    assert call("train toy --resume run --no-progress") == 2
    assert "is a symbolic link, not a folder" in one_line(capsys)
    assert sorted(path.name for path in (place / "elsewhere").iterdir()) == before


def test_a_pipe_in_a_files_place_is_refused(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    run.metrics_path.unlink()
    os.mkfifo(run.metrics_path)
    assert call("train toy --resume run --no-progress") == 2
    assert "is a special file, not a regular file" in one_line(capsys)


# Damage.


def flipped(content: bytes, place: float) -> bytes:
    damaged = bytearray(content)
    damaged[int(place * (len(content) - 1))] ^= 4
    return bytes(damaged)


@pytest.mark.parametrize("place_of_damage", [0.0, 0.0005, 0.02, 0.3, 0.999])
def test_a_flipped_bit_is_seen_and_the_checkpoint_before_takes_its_place(
    run: RunFolder, finished_run: RunFolder, place_of_damage: float, capsys: pytest.CaptureFixture[str]
) -> None:
    run.latest_checkpoint.write_bytes(flipped(run.latest_checkpoint.read_bytes(), place_of_damage))
    assert call("sample run -n 2") == 0
    said = one_line(capsys)
    assert said.startswith("seqgan: warning: ")
    assert "latest.safetensors' is not a readable checkpoint" in said
    assert "previous.safetensors takes its place" in said
    assert call("train toy --resume run --no-progress") == 0
    assert "previous.safetensors takes its place" in capsys.readouterr().err
    assert run.metrics_path.read_bytes() == finished_run.metrics_path.read_bytes()
    (ours, state), (theirs, expected) = (read_tensors(one.latest_checkpoint) for one in (run, finished_run))
    assert state == expected
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_the_end_of_mle_is_the_last_resort(
    run: RunFolder, finished_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    run.latest_checkpoint.write_bytes(b"")
    run.previous_checkpoint.unlink()
    assert call("train toy --resume run --no-progress") == 0
    assert "mle.safetensors takes its place" in capsys.readouterr().err
    assert run.metrics_path.read_bytes() == finished_run.metrics_path.read_bytes()


@pytest.mark.parametrize("command", COMMANDS[:3])
def test_a_run_without_a_whole_checkpoint_is_one_line(
    run: RunFolder, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for checkpoint in run.checkpoints:
        checkpoint.write_bytes(flipped(checkpoint.read_bytes(), 0.5))
    assert call(command) == 2
    said = one_line(capsys)
    for checkpoint in run.checkpoints:
        assert checkpoint.name in said
    assert "Restore one from a backup, or start a new run" in said


def test_a_damaged_task_is_one_line(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    file = run.path / "task.safetensors"
    file.write_bytes(flipped(file.read_bytes(), 0.9))
    for command in COMMANDS:
        assert call(command) == 2
        assert "task.safetensors' is not a readable checkpoint" in one_line(capsys)


def test_a_checkpoint_without_a_checksum_is_still_read(run: RunFolder) -> None:
    from safetensors.torch import save_file

    tensors, state = read_tensors(run.latest_checkpoint)
    old = {name: value for name, value in state.items() if name != "metrics"}
    save_file(tensors, run.latest_checkpoint, metadata={"state": json.dumps(old)})
    assert read_tensors(run.latest_checkpoint)[1] == old
    assert call("train toy --resume run --no-progress") == 0


@pytest.mark.parametrize("damage", ["cut", "deleted", "changed", "half a line"])
def test_metrics_come_back_from_the_checkpoint(
    run: RunFolder, finished_run: RunFolder, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = run.metrics_path.read_bytes()
    broken = {"cut": content[: content.rfind(b"\n", 0, -1) + 1], "half a line": content[:-9], "deleted": b""}
    run.metrics_path.write_bytes(broken.get(damage, content.replace(b"mle,1", b"mle,7")))
    if damage == "deleted":
        run.metrics_path.unlink()
    assert call("train toy --resume run --no-progress") == 0
    said = one_line(capsys)
    assert "metrics.csv" in said
    assert "it is written again from the checkpoint" in said
    assert run.metrics_path.read_bytes() == finished_run.metrics_path.read_bytes()


@pytest.mark.parametrize("damage", ["cut", "deleted"])
def test_a_picture_is_drawn_from_the_checkpoint_where_metrics_are_lost(
    run: RunFolder, damage: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("plot run --out whole.png") == 0
    assert capsys.readouterr().err == ""
    content = run.metrics_path.read_bytes()
    run.metrics_path.unlink()
    if damage == "cut":
        run.metrics_path.write_bytes(content[: content.rfind(b"\n", 0, -1) + 1])
    assert call("plot run --out again.png") == 0
    assert "metrics.csv' lacks lines that the checkpoint remembers" in one_line(capsys)
    assert (place / "again.png").read_bytes() == (place / "whole.png").read_bytes()


def test_lines_that_no_checkpoint_kept_are_lost_and_told_and_none_are_invented(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint of an earlier version, which remembers only the size."""
    content = run.metrics_path.read_bytes()
    for checkpoint in run.checkpoints:
        tensors, state = read_tensors(checkpoint)
        write_tensors(checkpoint, tensors, {name: value for name, value in state.items() if name != "metrics"})
    run.metrics_path.write_bytes(content[:-30])
    assert call("train toy --resume run --no-progress") == 0
    assert f"has {len(content) - 30:,} of the {len(content):,} bytes" in one_line(capsys)
    kept = run.metrics_path.read_bytes()
    assert content.startswith(kept)
    assert kept.endswith(b"\n")
    assert b"\0" not in kept


# run.json.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("task"), "task=None, which must be a text"),
        (lambda d: d.update(task=7), "task=7, which must be a text"),
        (lambda d: d.update(config=[1]), "which must be a group of values"),
        (lambda d: d.update(format=3), "format=3; this version reads 1 and 2"),
        (lambda d: d.update(format=True), "format=True; this version reads 1 and 2"),
        (lambda d: d.update(budget={"minutes": "x"}), "budget"),
        (lambda d: d["config"]["generator"]["options"].update(hidden_size="8"), "hidden_size='8' must be an int"),
        (lambda d: d["config"]["pretraining"].update(epochs="8"), "pretraining.epochs='8' must be a whole number"),
        (lambda d: d["config"]["learner"].update(learning_rate=float("nan")), "must be finite and not negative"),
        (
            lambda d: d["config"]["generator"]["options"].update(hidden_size=10**9),
            "hidden_size=1000000000 does not fit",
        ),
        (lambda d: d["config"]["generator"]["options"].update(embedding_size=10**9), "does not fit the parameters"),
        (lambda d: d["config"]["discriminator"]["options"].update(embedding_size=10**9), "does not fit the parameters"),
        (lambda d: d["config"].pop("game"), "holds no valid configuration"),
        (lambda d: d.update(task_options="nothing"), "holds no valid configuration"),
    ],
)
def test_nonsense_in_run_json_is_one_line(
    run: RunFolder, change: Callable[[dict[str, Any]], Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(run, change)
    assert call("train toy --resume run --no-progress") == 2
    assert words in one_line(capsys)


def test_absurd_sizes_of_a_stored_task_are_one_line(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    file = run.path / "task.safetensors"
    tensors, state = read_tensors(file)
    for name in ("vocab_size", "sequence_length"):
        write_tensors(file, tensors, state | {name: 10**9})
        for command in COMMANDS:
            assert call(command) == 2
            assert f"{name}=1000000000" in one_line(capsys)


def test_an_edited_run_json_is_not_gone_on_with(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    def change(description: dict[str, Any]) -> None:
        description["config"]["learner"]["learning_rate"] *= 2

    rewrite(run, change, honest=False)
    assert call("train toy --resume run --no-progress") == 2
    assert "is damaged, or was edited since the run was made" in one_line(capsys)
    assert call("sample run -n 2") == 0
    rewrite(run, lambda description: description.pop("sha256"), honest=False)  # a folder of an earlier version
    assert call("train toy --resume run --no-progress") == 0


def test_what_is_written_is_read(run: RunFolder) -> None:
    assert read_description(run.path) == run.description


# Two processes.


def test_the_second_process_that_resumes_a_run_gets_one_line(
    run: RunFolder, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half_written = run.path / "checkpoints" / ".latest.safetensors.1.tmp"
    half_written.touch()
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != "lock"}
    with FileLock(run.path / "lock"):
        assert call("train toy --resume run --no-progress") == 2
    assert "is being trained by another process" in one_line(capsys)
    assert {path: path.read_bytes() for path in before} == before
    assert call("train toy --resume run --no-progress") == 0
    assert not half_written.exists()


def test_a_run_that_has_failed_leaves_no_lock(run: RunFolder) -> None:
    (run.path / "task.safetensors").rename(run.path / "away")
    with pytest.raises(ValueError, match="not a readable"):
        train(RunFolder(run.path))
    (run.path / "away").rename(run.path / "task.safetensors")
    train(RunFolder(run.path))


# Places that cannot be written.


@pytest.mark.parametrize(
    "line",
    [
        "evaluate run --samples 20 --out nowhere/x.csv",
        "evaluate run --samples 20 --out run",
        "sample run --out nowhere/x.txt",
        "plot run --out nowhere/x.png",
        "train toy --out run/run.json/x",
        pytest.param(
            "train toy --out /proc/x", marks=pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc")
        ),
        "reproduce table1 --task toy --workers 0 --out run/run.json/x",
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    run: RunFolder, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(*_: Any, **__: Any) -> Any:
        raise AssertionError("the work has begun")

    for place in ("show.evaluate_run", "show.plot_learning_curves", "train.try_units"):
        monkeypatch.setattr(f"agents.command.{place}", work)
    monkeypatch.setattr(Task, "sample", work)
    monkeypatch.setattr("agents.command.studies.run_reproduction", work)
    assert call(line) == 2
    assert "cannot be written" in one_line(capsys)


def test_checking_a_place_changes_nothing(run: RunFolder, place: Path) -> None:
    before = sorted(place.rglob("*"))
    assert call("train toy --seed -1 --out new") == 2
    assert call("train toy --mle-learning-rate 1e30 --out new") == 2
    assert sorted(place.rglob("*")) == before
    (place / "old.csv").write_text("old")
    assert call("evaluate run --samples 0 --out old.csv") == 2
    assert call("evaluate run --samples 20 --temperatures 0.0 --out new.csv") == 2
    assert (place / "old.csv").read_text() == "old"
    assert not (place / "new.csv").exists()


# Numbers that are none.


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "line",
    [
        "train toy --anchor-weight {}",
        "train toy --generator-learning-rate {}",
        "train toy --mle-learning-rate {}",
        "train toy --generator.init-std {}",
        "train toy --dropout {}",
        "train toy --l2 {}",
        "train toy --rollout-rate {}",
        "train toy --minutes {}",
        "train text --test {}",
        "train music --step-seconds {}",
        "sample run --temperature {}",
        "evaluate run --temperatures 1.0 {}",
    ],
)
def test_nan_and_infinity_are_refused_in_every_number(
    run: RunFolder, line: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(line.format(value)) == 2
    assert value.removeprefix("-") in one_line(capsys)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--generator-learning-rate 1e10", "lower --learner.learning-rate (now 1e+10)"),
        ("--mle-learning-rate 1e5", "lower --pretraining.learning-rate (now 100000)"),
        ("--mle-learning-rate 1e30", "lower --pretraining.learning-rate (now 1e+30)"),
        ("--discriminator-learning-rate 1e30", "lower --discriminator.learning-rate (now 1e+30)"),
        ("--reward-model constant:1e30", "the mean reward is 1e+30"),
    ],
)
def test_a_run_that_diverges_stops_and_says_what_to_change(
    place: Path, option: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(shlex.join(["train", "toy", "--out", "new", *TINY_OPTIONS, *option.split()])) == 2
    said = one_line(capsys)
    assert "training diverged" in said
    assert words in said
    if "generator" in option:  # the last good checkpoint is that of the discriminator's pretraining
        assert RunFolder(Path("new")).metrics()[-1]["stage"] == "discriminator"
        assert call("sample new -n 2") == 0


def test_a_generator_that_repeats_itself_is_told_of_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*TINY_OPTIONS, "--generator-learning-rate", "1", "--rounds", "8", "--evaluate-every-rounds", "2"]
    line = ["train", "toy", "--out", "new", *options, "--reward-model", "bleu"]
    assert call(shlex.join(line)) == 0
    assert capsys.readouterr().out.count("warning: the generator loses diversity: ") == 1
    assert call(shlex.join(["train", "toy", "--out", "whole", *TINY_OPTIONS])) == 0
    assert "warning" not in capsys.readouterr().out
