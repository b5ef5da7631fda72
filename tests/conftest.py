"""Fixtures that several test files share."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import toy_task
from tests import marks, toy_world
from tests.tiny_models import FAMILIES as tiny_models_by_name
from tests.tiny_models import lines

torch.set_num_threads(1)
# May be left: the sockets of Python and Ray, which are removed when their processes end, and the cache of PyTorch.
MAY_BE_LEFT = (".ses", "pymp-", "ray", "torchinductor_")  # of libraries


def pytest_configure(config: pytest.Config) -> None:
    """Property tests try few examples, unless `--hypothesis-profile` says otherwise."""
    if not config.getoption("--hypothesis-profile"):
        marks.settings.load_profile("quick")


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what stays: modules and collected tests, more than a million objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The temporary folder of all tests and of the processes that they start. At the end nothing may be left in it.

    Its path is short because the paths of sockets may not be long. pytest keeps the folders of `tmp_path` elsewhere.
    Stable-Baselines3 makes a folder for each learner without a logger; `SB3_LOGDIR` is one folder for all of them.
    """
    logs = tmp_path_factory.mktemp("sb3")  # also fixes the place of pytest's own folders
    folder = Path(tempfile.mkdtemp(prefix="seqgan-"))
    before = tempfile.tempdir
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SB3_LOGDIR", str(logs))
        for name in ("TMPDIR", "TEMP", "TMP"):
            patch.setenv(name, str(folder))
        tempfile.tempdir = str(folder)
        yield folder
        tempfile.tempdir = before
    left = sorted(path.name for path in folder.iterdir() if not path.name.startswith(MAY_BE_LEFT))
    shutil.rmtree(folder, ignore_errors=True)
    assert left == [], f"the tests leave files in the temporary folder: {left[:10]}; remove them where they are made"


@pytest.fixture
def task() -> Task:
    """The toy task: V = 3, T = 3."""
    return toy_task()


@pytest.fixture
def eos_task() -> Task:
    """V = 4, T = 5; token 3 ends a sequence early."""
    return toy_world.eos_task()


@pytest.fixture
def model() -> LSTMSequenceModel:
    """An LSTM over the toy vocabulary whose distribution is far from uniform."""
    return LSTMSequenceModel(3, 4, 5, init_std=2.0, seed=11)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny random models of `transformers`: gpt2, llama and roberta, and a text, lines.txt."""
    for name in ("transformers", "peft"):
        pytest.importorskip(name, reason='pretrained models need the extra "transformers"')
    folder = tmp_path_factory.mktemp("models")
    for name, make in tiny_models_by_name.items():
        make(folder / name)
    (folder / "lines.txt").write_text("\n".join(lines()) + "\n")
    return folder


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Data that is not part of the project; what needs it is skipped where it is absent."""
    folder = Path(os.environ.get("SEQGAN_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; set SEQGAN_DATA to one")
    return folder


@pytest.fixture(scope="session")
def authors_oracle(data_folder: Path) -> Path:
    """The authors' oracle parameters as `.npz`."""
    path = data_folder / "oracle" / "lantaoyu_oracle.npz"
    if not path.is_file():
        pytest.skip(f"no authors' oracle at {path}")
    return path
