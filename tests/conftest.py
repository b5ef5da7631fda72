"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from seqgan_env.models.sequence_models import LSTMSequenceModel
from seqgan_env.tasks.task import Task
from seqgan_env.tasks.toy import toy_task
from tests import toy_world

torch.set_num_threads(1)


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
