"""The documentation site: it builds without a warning, loads nothing from elsewhere, and shows no solutions of labs."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from filelock import FileLock

from seqgan_env.task_files import TASKS, environment_id

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
RUN_ELSEWHERE = {  # page -> the test file that runs its blocks
    "README.md": "test_readme.py",
    "docs/extending.md": "test_readme.py",
    "docs/swapping.md": "test_swapping.py",
    "docs/libraries.md": "test_other_libraries.py",
}


def blocks(page: Path) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.S | re.M)


WITH_BLOCKS = [page.relative_to(ROOT).as_posix() for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", [page for page in WITH_BLOCKS if page not in RUN_ELSEWHERE])
def test_every_block_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(ROOT / page):
        exec(compile(block, page, "exec"), {"__name__": "page"})


def test_pages_whose_blocks_run_elsewhere_are_named_there() -> None:
    assert set(RUN_ELSEWHERE) <= set(WITH_BLOCKS)
    for page, file in RUN_ELSEWHERE.items():
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert Path(page).name in text
        assert "exec(compile(" in text


@pytest.mark.parametrize("page", [page.relative_to(ROOT).as_posix() for page in PAGES])
def test_every_link_to_a_file_and_to_a_heading_leads_somewhere(page: str) -> None:
    text = re.sub(r"^(```+).*?^\1", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = ((ROOT / page).parent / path) if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page}: {target}"


def test_every_diagram_of_the_pages_has_been_drawn_for_the_site() -> None:
    wanted = {
        hashlib.sha256(diagram.encode()).hexdigest()[:16]
        for page in PAGES
        for diagram in re.findall(r"^```mermaid\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    }
    assert wanted
    # A name that is missing: the diagram has changed. Draw it anew with docs/site/draw_diagrams.py.
    assert {file.stem for file in (ROOT / "docs/site/diagrams").glob("*.svg")} == wanted


def anchors(page: Path) -> set[str]:
    """The names of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_overview_of_environments_and_the_changelog_list_every_task() -> None:
    text = (ROOT / "docs" / "environments" / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \[`(SeqGAN-\w+-v0)`\]", text, flags=re.M)) == set(map(environment_id, TASKS))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = {"-".join(row) for row in re.findall(r"^\| `(SeqGAN-\w+)` \| (v\d+) \|", changes, flags=re.M)}
    assert versions == set(map(environment_id, TASKS))


def test_the_table_of_files_lists_every_module_that_there_is_and_no_other() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed: set[str] = set()
    for row in re.findall(r"^\| (`[^|]+`) \|", text[text.index("## Every file") :], flags=re.M):
        first, *others = re.findall(r"`([^`]+)`", row)
        folder = first.rpartition("/")[0]
        listed |= {first, *(name if "/" in name else f"{folder}/{name}" for name in others)}
    assert [name for name in sorted(listed) if not (ROOT / name).exists()] == []
    modules = [
        path.relative_to(ROOT) for package in ("seqgan_env", "agents") for path in (ROOT / package).rglob("*.py")
    ]
    folders = tuple(name for name in listed if name.endswith("/"))
    unlisted = {
        module.as_posix() for module in modules if module.name != "__init__.py" and module.as_posix() not in listed
    }
    assert sorted(name for name in unlisted if not name.startswith(folders)) == []


# The built site.


class References(HTMLParser):
    """What a page links to, what it loads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        loaded = values.get("src") or (values.get("href") if tag == "link" else None)
        if loaded:
            self.loads.append(loaded)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, References]:
    """The pages of the site, built strictly: a warning of MkDocs is an error."""
    for module, package in (("material", "mkdocs-material"), ("mkdocstrings", "mkdocstrings"), ("mathjax", "mathjax")):
        pytest.importorskip(module, reason=f'{package} is missing: pip install -c constraints.txt -e ".[docs]"')
    pytest.importorskip("jupytext")
    folder = tmp_path_factory.getbasetemp() / "site"
    if "PYTEST_XDIST_WORKER" in os.environ:  # one for all processes of pytest-xdist
        folder = tmp_path_factory.getbasetemp().parent / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with FileLock(f"{folder}.lock"):
        if not (folder / "built").is_file():
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False
            )
            assert done.returncode == 0, done.stderr[-3000:]
            (folder / "built").touch()
    return {page: References(page.read_text(encoding="utf-8")) for page in folder.rglob("*.html")}


@pytest.mark.docs
def test_nothing_is_loaded_from_elsewhere_and_every_link_of_the_site_leads_somewhere(
    site: dict[Path, References],
) -> None:
    assert len(site) > 100
    pages = {page.resolve(): references for page, references in site.items()}
    for page, references in pages.items():
        assert [address for address in references.loads if urlsplit(address).scheme not in ("", "data")] == []
        if page.name == "404.html":
            continue
        for address in [*references.links, *references.loads]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{page}: {address}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].anchors | {"__skip"}, f"{page}: {address}"


@pytest.mark.docs
def test_every_task_lab_and_module_has_its_page(site: dict[Path, References]) -> None:
    names = {"/".join(page.parts[-2:]) for page in site}
    assert {f"environments/{name}.html" for name in TASKS} <= names
    assert {f"labs/{lab.stem}.html" for lab in (ROOT / "examples/course/labs").glob("lab*.py")} <= names
    assert {"api/agents.seqgan.html", "api/seqgan_env.mdp.html", "api/seqgan_env.html"} <= names


@pytest.mark.docs
def test_the_pages_of_labs_show_no_solution(site: dict[Path, References]) -> None:
    for lab in sorted((ROOT / "examples/course/labs").glob("lab*.py")):
        (page,) = [page for page in site if page.parts[-2:] == ("labs", f"{lab.stem}.html")]
        shown = re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))
        shown = re.sub(r"\s+", "", unescape(shown))
        source = lab.read_text(encoding="utf-8")
        answers = re.findall(r"^ *(.+?) *# SOLUTION$", source, flags=re.M)
        for part in re.findall(r"^ *# BEGIN SOLUTION\n(.*?)# END SOLUTION", source, flags=re.S | re.M):
            answers += [line.strip() for line in part.splitlines() if line.startswith("    ")]
        # Short lines and lines that also stand in a part for students tell nothing.
        telling = [line for line in answers if len(line) > 20 and source.count(line) == 1]
        assert telling
        assert [line for line in telling if re.sub(r"\s+", "", line) in shown] == []
        assert "BEGINSOLUTION" not in shown
        assert "SOLUTION" not in shown
