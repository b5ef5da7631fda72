"""What differs on Windows and macOS, simulated where that is possible."""

from __future__ import annotations

import os
import signal
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from agents.runs import regular_files, stopping
from agents.runs.checkpoints import read_tensors
from agents.runs.metrics_log import MetricsLog
from agents.runs.regular_files import append_line, write_atomically
from agents.runs.run_folder import RunFolder
from agents.studies.record import file_fingerprint


def test_windows_syncs_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There `os.open` of a folder is a PermissionError."""
    opened = os.open

    def windows_open(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, *rest, **more)

    class WindowsOS:
        name = "nt"

        def __getattr__(self, name: str) -> Any:
            return windows_open if name == "open" else getattr(os, name)

    monkeypatch.setattr(regular_files, "os", WindowsOS())
    write_atomically(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_no_line_end_is_translated(tmp_path: Path) -> None:
    r"""On Windows text files get \r\n unless told otherwise; metrics.csv must have the same bytes everywhere."""
    log = MetricsLog(tmp_path / "metrics.csv", tmp_path / "tensorboard", ("stage", "index", "epoch", "x"))
    log.rewind(0)
    log.append({"stage": "mle", "index": 1, "epoch": 1, "x": 0.5})
    log.close()
    append_line(tmp_path / "file", "a\n")
    assert log.content() == b"stage,index,epoch,x\nmle,1,1,0.500000\n"
    assert (tmp_path / "file").read_bytes() == b"a\n"


def test_a_checkpoint_that_was_read_can_be_replaced(finished_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows replaces no file that is open or mapped, so nothing of a file may be in use once it was read."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc to see what is mapped")
    kept = read_tensors(finished_run.latest_checkpoint)
    assert kept
    assert str(finished_run.latest_checkpoint) not in Path("/proc/self/maps").read_text()
    open_files = {os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if name.isdigit()
                  and os.path.exists(f"/proc/self/fd/{name}")}  # fmt: skip
    assert str(finished_run.latest_checkpoint) not in open_files


def test_signals_that_a_system_lacks_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP")
    before = signal.getsignal(signal.SIGTERM)
    with stopping.stopping_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
        with pytest.raises(stopping.Stopped) as caught:
            signal.raise_signal(signal.SIGTERM)
    assert stopping.exit_status(caught.value) == 143
    assert stopping.exit_status(KeyboardInterrupt()) == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.stopping_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_nothing_disturbs_while_a_run_saves() -> None:
    with stopping.undisturbed():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)


def test_a_folders_fingerprint_is_the_same_on_every_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/b.txt", "a-b.txt", "B.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    expected = file_fingerprint(str(tmp_path))
    original = Path.relative_to
    monkeypatch.setattr(Path, "relative_to", lambda self, *other: PureWindowsPath(original(self, *other)))
    assert file_fingerprint(str(tmp_path)) == expected
