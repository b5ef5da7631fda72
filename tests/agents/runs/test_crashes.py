"""The crash matrix: every preset dies at every stage in every way, and goes on as if nothing had been.

Each run is a command in a process of its own, scaled down to seconds. It is compared with a run that was not
interrupted: metrics, weights, the closing table and the picture, byte for byte.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.runs.checkpoints import read_tensors
from agents.runs.presets import presets_of
from agents.runs.run_folder import RunFolder
from seqgan_env.tasks import TASKS

Command = Callable[..., tuple[int, str]]
_SCALED = (
    "--embedding-size 4 --hidden-size 4 --discriminator-embedding-size 4 --batch-size 16 --mle-epochs 2 "
    "--epoch-sequences 32 --discriminator-pretraining-steps 2 --discriminator-sample-size 16 --rounds 2 --n-rollouts 2 "
    "--generator-batch-size 4 --evaluation-samples 20 --held-out-sequences 40 --final-samples 30 --filters short "
    "--evaluate-every-epochs 1 --evaluate-every-rounds 1 --no-progress"
)
_OF_TASK = {
    "oracle": "--vocab-size 12 --sequence-length 5 --train-sequences 48",
    "toy": "--train-sequences 48",
    "conditional": "--train-sequences 48",
    "text": "--max-sequences 120 --sequence-length 12 --too-long cut --minutes None",
    "music": "--sequence-length 8 --minutes None",
    "arithmetic": "--sequence-length 9 --train-sequences 48",
}
PRESETS = [(task, preset) for task in TASKS for preset in presets_of(task)]
STAGES = {
    "mle": ("in an MLE epoch", 3),
    "discriminator": ("in a discriminator epoch", 2),
    "game": ("in a round", 2),
    "table": ("in the closing table", 1),
}
# How a run is stopped -> its exit status.
STATUS = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130, "SIGHUP": 129, "FULL": 1}
MATRIX = [(task, preset, stage, how) for task, preset in PRESETS for stage in STAGES for how in STATUS]
# Some of them, drawn at random but always the same.
SOME = random.Random(1609).sample(MATRIX, 2)


def arguments(task: str, preset: str) -> list[str]:
    """A scaled-down command line, without the place."""
    options = f"{_SCALED} {_OF_TASK[task]}"
    if preset in ("repo2016", "repo2018"):  # batches in the file's order, so epochs are whole
        options = options.replace("--epoch-sequences 32", "")
    chosen = ["--preset", preset] if len(presets_of(task)) > 1 else []
    return ["train", task, *chosen, *shlex.split(options)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, mortal_command: Command) -> Callable[[str, str], RunFolder]:
    """The run of a preset that was not interrupted; each is made once."""
    made: dict[tuple[str, str], RunFolder] = {}

    def run(task: str, preset: str) -> RunFolder:
        if (task, preset) not in made:
            path = tmp_path_factory.mktemp("whole") / "run"
            status, output = mortal_command([*arguments(task, preset), "--out", path])
            assert status == 0, output
            made[task, preset] = RunFolder(path)
        return made[task, preset]

    return run


def assert_same_run(run: RunFolder, expected: RunFolder) -> None:
    """The same bytes of all that a run leaves, and the same numbers in its last checkpoint."""
    for name in ("metrics.csv", "results.csv", "learning_curve.png"):
        assert (run.path / name).read_bytes() == (expected.path / name).read_bytes(), name
    (tensors, state), (theirs, expected_state) = (read_tensors(r.latest_checkpoint) for r in (run, expected))
    assert state == expected_state
    assert tensors.keys() == theirs.keys()
    torch.testing.assert_close(tensors, theirs, rtol=0, atol=0, equal_nan=True)  # NaN: a step without a value
    samples = {path.name: path.read_bytes() for path in (expected.path / "samples").glob("*")}
    assert {path.name: path.read_bytes() for path in (run.path / "samples").glob("*")} == samples
    assert not list(run.path.rglob("*.tmp"))


def survive(
    command: Command, whole: Callable[[str, str], RunFolder], path: Path, task: str, preset: str, stage: str, how: str
) -> None:
    """Let a run die, check what it says, go on, and compare the end."""
    at, count = STAGES[stage]
    expected = whole(task, preset)
    status, output = command([*arguments(task, preset), "--out", path], at=at, count=count, signal=how)
    assert status == STATUS[how], output
    assert "Traceback" not in output
    if how != "SIGKILL":
        last = output.splitlines()[-1]
        assert f"seqgan train {task} --resume {path}" in last
        assert ("no space left to save" if how == "FULL" else "interrupted") in last
    status, output = command(["train", task, "--resume", path, "--no-progress"])
    assert status == 0, output
    assert_same_run(RunFolder(path), expected)


@pytest.mark.parametrize(("task", "preset", "stage", "how"), SOME)
def test_a_run_that_dies_somehow_somewhere_ends_as_one_that_did_not(
    tmp_path: Path, mortal_command: Command, whole: Any, task: str, preset: str, stage: str, how: str
) -> None:
    survive(mortal_command, whole, tmp_path / "died", task, preset, stage, how)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "preset", "stage", "how"), [case for case in MATRIX if case not in SOME])
def test_a_run_that_dies_anyhow_anywhere_ends_as_one_that_did_not(
    tmp_path: Path, mortal_command: Command, whole: Any, task: str, preset: str, stage: str, how: str
) -> None:
    survive(mortal_command, whole, tmp_path / "died", task, preset, stage, how)


@pytest.mark.parametrize(
    "how", ["SIGTERM", *(pytest.param(how, marks=pytest.mark.slow) for how in ("SIGINT", "SIGHUP"))]
)
def test_a_run_that_is_told_to_stop_saves_what_no_checkpoint_holds(
    tmp_path: Path, mortal_command: Command, whole: Any, how: str
) -> None:
    path = tmp_path / "run"
    line = [*arguments("toy", "toy"), "--checkpoint-every", "50", "--out", path]
    status, output = mortal_command(line, at="in a round", count=2, signal=how)
    assert status == STATUS[how], output
    stored = read_tensors(path / "checkpoints" / "latest.safetensors")[1]
    assert stored["game"]["trainer"]["rounds"] == 1
    assert stored["metrics"].splitlines()[-1].startswith("adversarial,1,")
    assert mortal_command(["train", "toy", "--resume", path, "--no-progress"])[0] == 0
    assert (path / "metrics.csv").read_bytes() == whole("toy", "toy").metrics_path.read_bytes()


def test_sigterm_ends_a_grid_with_143_and_the_command_that_goes_on(tmp_path: Path, mortal_command: Command) -> None:
    line = [
        "reproduce",
        "table1",
        "--task",
        "toy",
        "--seeds",
        "0",
        "--workers",
        "0",
        "--no-progress",
        "--out",
        tmp_path,
    ]
    status, output = mortal_command(line, at="in a round", count=3, signal="SIGTERM")
    assert status == 143, output
    assert "interrupted; what is done stays done; go on with: seqgan reproduce table1" in output.splitlines()[-1]
    assert "Traceback" not in output


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None], Callable[[], None]]]:
    """A folder, what makes it read-only, and what makes it writable again."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.name != "posix":
        pytest.skip("needs a folder that can be made read-only")
    if os.geteuid() != 0:
        yield folder, lambda: _chmod(folder, 0o555), lambda: _chmod(folder, 0o755)
        _chmod(folder, 0o755)
        return
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False).returncode:
        pytest.skip("root can write everywhere, and may not mount a disk here")

    def remount(mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", folder], check=True)

    yield folder, lambda: remount("ro"), lambda: remount("rw")
    subprocess.run(["umount", "-l", folder], check=True)


def _chmod(folder: Path, mode: int) -> None:
    for path in (folder, *(inner for inner in folder.rglob("*") if inner.is_dir())):
        path.chmod(mode)


def test_a_read_only_folder_is_one_line_and_loses_nothing(
    read_only: tuple[Path, Callable[[], None], Callable[[], None]], mortal_command: Command, whole: Any
) -> None:
    folder, lock, unlock = read_only
    line = [*arguments("toy", "toy"), "--out", folder / "run"]
    assert mortal_command(line, at="in a round", count=2)[0] == -9
    lock()
    status, output = mortal_command(["train", "toy", "--resume", folder / "run", "--no-progress"])
    assert (status, output.count("\n")) == (1, 1), output
    assert "cannot be written" in output
    assert mortal_command(["sample", folder / "run", "-n", "2"])[0] == 0
    status, output = mortal_command(["train", "toy", "--out", folder / "new", "--no-progress"])
    assert status == 2
    assert output.startswith("seqgan: error: out=")
    unlock()
    assert mortal_command(["train", "toy", "--resume", folder / "run", "--no-progress"])[0] == 0
    assert_same_run(RunFolder(folder / "run"), whole("toy", "toy"))


@pytest.mark.slow
def test_of_two_processes_that_resume_a_run_one_trains_it_and_the_other_says_so(
    tmp_path: Path, mortal_command: Command, whole: Any
) -> None:
    path = tmp_path / "run"
    mortal_command([*arguments("toy", "toy"), "--out", path], at="in an MLE epoch", count=1)
    command = [sys.executable, "-m", "agents", "train", "toy", "--resume", str(path), "--no-progress"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(process.communicate(timeout=300)[1], process.returncode) for process in both]
    statuses = sorted(status for _, status in ended)
    assert statuses in ([0, 2], [0, 0])  # both, if one has ended before the other asked for the lock
    for said, status in ended:
        assert said == "" if status == 0 else said.count("\n") == 1 and "is being trained by another process" in said
    assert_same_run(RunFolder(path), whole("toy", "toy"))


def test_the_picture_of_a_run_does_not_depend_on_where_it_stands(tmp_path: Path, whole: Any) -> None:
    from agents.runs.learning_curve import plot_learning_curves

    run = whole("toy", "toy")
    moved = RunFolder(Path(shutil.copytree(run.path, tmp_path / "another name")))
    plot_learning_curves([moved], tmp_path / "picture.png", None)
    plot_learning_curves([run], tmp_path / "other.png", None)
    assert (tmp_path / "picture.png").read_bytes() == (tmp_path / "other.png").read_bytes()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_output_that_is_full_loses_nothing(tmp_path: Path, whole: Any) -> None:
    path = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "agents", *arguments("toy", "toy"), "--out", str(path)],
            stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False, timeout=300,
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "standard output cannot be written: No space left on device" in ended.stderr


@pytest.mark.slow
def test_a_western_windows_gets_all_files_end_to_end(tmp_path: Path, whole: Any) -> None:
    path = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252"}
    with open(tmp_path / "log", "wb") as log:
        ended = subprocess.run(
            [sys.executable, "-m", "agents", *arguments("toy", "toy"), "--out", str(path)],
            stdout=log, stderr=subprocess.PIPE, text=True, env=environment, check=False, timeout=300,
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "KL(G?o)" in (tmp_path / "log").read_bytes().decode("cp1252")
    assert_same_run(RunFolder(path), whole("toy", "toy"))
