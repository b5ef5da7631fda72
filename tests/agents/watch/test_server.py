"""`server`: the page is on loopback alone, behind a token, and says what it lacks."""

from __future__ import annotations

import importlib.util

import pytest

from agents.command import main as cli
from agents.runs.run_folder import RunFolder
from agents.watch import server


def test_the_server_listens_on_loopback_alone_and_asks_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    command = server.watch_command(4321, opens_browser=False)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert "--token" in command
    assert command[command.index("--port") + 1] == "4321"
    assert "--headless" in command
    assert "--port" not in server.watch_command(None, opens_browser=True)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_out_of_range_is_refused(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ValueError, match=f"port={port} must lie in"):
        server.watch_command(port, opens_browser=False)


def test_without_marimo_the_command_names_the_extra(
    finished_run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["watch", str(finished_run.path)])
    assert stopped.value.code == 2
    assert 'pip install "seqgan-gym[watch]"' in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_refused_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["watch", "nowhere"])
    assert stopped.value.code == 2
    assert "'nowhere' is not a run folder" in capsys.readouterr().err
