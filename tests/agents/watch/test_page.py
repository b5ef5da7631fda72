"""The live page in a headless Chromium: `pytest -m browser`, with the extras "watch" and "browser".

SEQGAN_CHROMIUM names the browser, by default Debian's; SEQGAN_SCREENSHOTS a folder for pictures to look at.
"""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.runs.run_folder import RunFolder
from agents.watch import server
from seqgan_env.rendering import visible
from seqgan_env.tasks.toy import toy_task
from seqgan_env.vocabulary import Vocabulary
from tests.agents.conftest import tiny_config, train

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
pytest.importorskip("marimo", reason='the extra "watch"')
playwright = pytest.importorskip("playwright.sync_api", reason='the extra "browser"')

CHROMIUM = os.environ.get("SEQGAN_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SOON = 60_000  # ms that a page may need on a busy machine


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind((server.LOOPBACK, 0))
        port: int = taken.getsockname()[1]
    return port


def wait_for_listener(port: int) -> None:
    """The address is printed a moment before the server listens."""
    for _ in range(100):
        with socket.socket() as knock:
            if knock.connect_ex((server.LOOPBACK, port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"nobody listens on port {port}")


@contextmanager
def watched(path: Path) -> Iterator[str]:
    """`seqgan watch` on a run; gives the address that it prints."""
    port = free_port()
    arguments = ["watch", str(path), "--port", str(port), "--no-browser"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "agents", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = ""
            for line in process.stdout:
                lines += line
                if found := re.search(r"http://\S+", line):
                    wait_for_listener(port)
                    yield found[0].replace("localhost", server.LOOPBACK)
                    break
            else:
                pytest.fail(f"no address: {lines}")
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=30)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """A page, with what it asked for and complained of."""

    def __init__(self, browser: Any, address: str) -> None:
        self.page = browser.new_page(viewport={"width": 1100, "height": 1400})
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)

    def see(self, text: str | re.Pattern[str]) -> Any:
        """Wait until a text is visible; its first place."""
        place = self.page.get_by_text(text).first
        place.wait_for(timeout=SOON)
        return place

    def cell(self, row: int, column: int) -> Any:
        """A cell of the first table."""
        return self.page.locator("table").first.locator("tbody tr").nth(row).locator("td").nth(column)

    def outside(self) -> list[str]:
        return [url for url in self.asked if not re.match(r"(https?|ws)://127\.0\.0\.1[:/]|data:|blob:", url)]

    def keep(self, name: str) -> None:
        if folder := os.environ.get("SEQGAN_SCREENSHOTS"):
            height = self.page.evaluate(
                "Math.max(...[...document.querySelectorAll('*')].map(part => part.scrollHeight))"
            )
            self.page.set_viewport_size({"width": 1100, "height": min(height + 50, 6000)})
            time.sleep(1)
            self.page.screenshot(path=Path(folder) / f"{name}.png")


def state_of(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """When each file and folder of a run was last changed, and what is in it."""
    paths = [folder, *folder.rglob("*")]
    return {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in paths}


def test_a_finished_run_shows_everything_and_answers_clicks(finished_run: RunFolder, chromium: Any) -> None:
    untouched = state_of(finished_run.path)
    with watched(finished_run.path) as address:
        visit = Visit(chromium, address)
        visit.see("the game: 3 of 3")
        visit.see("Reward and entropy")
        visit.see(re.compile(r"Accuracy on sequences that it never trains on: [01]\.\d{3}"))
        before = visit.see(re.compile("At temperature 1: NLL_test")).inner_text()
        assert visit.page.locator("img[src^='data:image/png']").count() >= 4
        visit.see("a token: which completions")
        visit.cell(0, 0).wait_for(timeout=SOON)
        colour = visit.cell(0, 0).evaluate("cell => getComputedStyle(cell).backgroundColor")
        assert re.fullmatch(r"rgb\(\d+, \d+, \d+\)", colour)
        token = visit.cell(0, 0).inner_text()
        visit.cell(0, 0).click()
        heading = visit.see(re.compile(f"After “{token}”: Q = "))
        assert "the mean of 2 rewards" in heading.inner_text()
        cells = visit.page.locator("table").nth(1).locator("tbody tr td:nth-child(2)")
        rewards = [float(text) for text in cells.all_inner_texts()]
        assert len(rewards) == 2
        value = float(heading.inner_text().split("Q = ")[1].split(",")[0])
        assert value == pytest.approx(sum(rewards) / 2, abs=0.0011)
        visit.keep("finished")
        visit.page.get_by_role("slider").first.focus()
        for _ in range(6):
            visit.page.keyboard.press("ArrowLeft")
        after = visit.see(re.compile(r"At temperature 0\.7: NLL_test")).inner_text()
        assert before.split(":")[1] != after.split(":")[1]
        assert visit.outside() == []
        assert visit.errors == []
    assert state_of(finished_run.path) == untouched


HOSTILE = (
    ("<script>document.title='hacked'</script>", "<img src=x onerror=\"document.title='hacked'\">", "<b>c</b>"),
    ("![a](http://192.0.2.1/a.png)", "https://192.0.2.1/b.png", "[c](javascript:document.title='hacked')"),
)


@pytest.mark.parametrize("tokens", HOSTILE, ids=["html", "markdown"])
def test_hostile_text_is_shown_as_text(tokens: tuple[str, ...], tmp_path: Path, chromium: Any) -> None:
    task = dataclasses.replace(toy_task(n_sequences=64), vocabulary=Vocabulary(tokens))
    name = "<img src=x onerror=document.title='hacked'>"
    run = train(RunFolder.create(tmp_path / name, task, tiny_config(), "toy"))
    with watched(run.path) as address:
        visit = Visit(chromium, address)
        visit.see(name)
        visit.cell(0, 0).wait_for(timeout=SOON)
        shown = visit.page.locator("table").first.locator("tbody td").all_inner_texts()
        assert {text.strip() for text in shown if text.strip()} <= set(map(visible, tokens))
        visit.cell(0, 0).click()
        visit.see(re.compile("After .*: Q = "))
        visit.page.locator("table").nth(1).wait_for(timeout=SOON)
        visit.keep("hostile")
        assert "hacked" not in visit.page.title()
        assert visit.page.locator("img[src='x'], table img, table script, table b").count() == 0
        assert visit.outside() == []


def test_the_page_is_for_this_machine_and_for_who_knows_the_token(finished_run: RunFolder) -> None:
    before = state_of(finished_run.path)
    with watched(finished_run.path) as address:
        port = int(re.search(r":(\d+)", address.partition("//")[2])[1])  # type: ignore[index]
        with urllib.request.urlopen(f"http://{server.LOOPBACK}:{port}/", timeout=30) as answer:
            assert "login" in answer.url
        listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        addresses = {line[1] for line in listening if line[3] == "0A" and line[1].endswith(f":{port:04X}")}
        assert addresses == {f"0100007F:{port:04X}"}
        six = Path("/proc/net/tcp6")
        assert not six.exists() or f":{port:04X} " not in six.read_text()
    assert state_of(finished_run.path) == before


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "agents", "train", "toy", *arguments, "--no-progress"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def index_of(visit: Visit) -> int:
    """The number of rounds that the page shows."""
    return int(visit.see(re.compile(r"the game: \d+ of ")).inner_text().split()[2])


def wait_for_round(visit: Visit, at_least: int) -> int:
    for _ in range(120):
        if (shown := index_of(visit)) >= at_least:
            return shown
        time.sleep(0.5)
    pytest.fail(f"the page stays at round {shown}")


def test_the_page_follows_a_running_training_through_its_kill_and_resume(tmp_path: Path, chromium: Any) -> None:
    path = tmp_path / "run"
    training = start(["--out", str(path), "--rounds", "100000"])
    try:
        while not (path / "run.json").is_file():
            assert training.poll() is None
            time.sleep(0.1)
        with watched(path) as address:
            visit = Visit(chromium, address)
            first = wait_for_round(visit, 1)
            second = wait_for_round(visit, first + 3)
            training.send_signal(signal.SIGKILL)
            training.wait()
            visit.see("Reward and entropy")
            time.sleep(5)
            killed = index_of(visit)
            assert killed >= second
            training = start(["--resume", str(path)])
            wait_for_round(visit, killed + 5)
            visit.cell(0, 0).wait_for(timeout=SOON)
            visit.page.get_by_role("switch").click()  # do not follow: what is looked at stays
            time.sleep(3)
            held = index_of(visit)
            time.sleep(5)
            assert index_of(visit) == held
            visit.keep("followed")
            assert visit.errors == []
    finally:
        training.kill()
        training.wait()
