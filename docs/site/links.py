"""Links between files of the repository, as links between pages of the site.

The pages are read in two places. In the repository a link leads to a file: `../agents/seqgan.py`. In the site it leads
to a page: the API of that module, the page of a task's environment, or a page that shows the file. So one text serves
both, and a file that is not there fails the build.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Pages of the site that do not stand in docs/: where they are in the repository.
FROM_ROOT = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "conduct.md": "CODE_OF_CONDUCT.md",
}
SLIDES = "docs/course/slides.md"  # for Marp, not for this site: shown as text
PACKAGES = ("seqgan_env", "agents")
RAW = (".csv", ".json", ".png", ".ipynb", ".svg")  # copied as they are; other files are shown on a page
LANGUAGES = {".py": "python", ".yml": "yaml", ".md": "markdown", ".cff": "yaml"}
_FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2[ \t]*$", re.M | re.S)
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def place_of(page: str) -> str:
    """Where a page of the site is in the repository: "index.md" -> "README.md", "results.md" -> "docs/results.md"."""
    return FROM_ROOT.get(page, f"docs/{page}")


def each_link(markdown: str, change: Callable[[str], str]) -> str:
    """The text with each relative link changed; code blocks and links to other sites stay."""

    def changed(match: re.Match[str]) -> str:
        target = match[2]
        return match[0] if re.match(r"[a-z]+:|#|/", target) else f"{match[1]}{change(target)}{match[3]}"

    pieces, end = [], 0
    for fence in _FENCE.finditer(markdown):
        pieces += [_LINK.sub(changed, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, _LINK.sub(changed, markdown[end:])])


def page_for(path: str) -> str:
    """The file of the site that stands for a file or folder of the repository, both as paths from their roots.

    Args:
        path: with forward slashes, such as "agents/seqgan.py".
    """
    for page, place in FROM_ROOT.items():
        if path == place:
            return page
    if path.startswith("docs/") and path != SLIDES and (ROOT / path).is_file():
        return path.removeprefix("docs/")
    parent, name = posixpath.split(path)
    if parent == "seqgan_env/tasks" and (ROOT / path).is_file() and is_task(Path(name).stem):
        return f"environments/{Path(name).stem}.md"
    if parent == "examples/course/labs" and name.endswith(".py"):
        return f"labs/{Path(name).stem}.md"
    if path.split("/")[0] in PACKAGES and (path.endswith(".py") or (ROOT / path / "__init__.py").is_file()):
        return f"api/{path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}.md"
    if path.endswith(RAW):
        return f"files/{path}"
    return f"files/{path or 'repository'}.md"


def is_task(name: str) -> bool:
    """Whether a file of `seqgan_env/tasks/` is a task with an environment, and not a part of tasks."""
    from seqgan_env.task_files import TASKS

    return name in TASKS


def rewritten(markdown: str, page: str) -> tuple[str, list[str]]:
    """The text of a page with the site's links, and the files of the repository to which they lead.

    Args:
        page: the page's path in the site.
    """
    found: list[str] = []

    def change(target: str) -> str:
        path, mark, anchor = target.partition("#")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(place_of(page)), path))
        if not (ROOT / place).exists():
            return target  # MkDocs says that it leads nowhere
        found.append("" if place == "." else place)
        return os.path.relpath(page_for(found[-1]), posixpath.dirname(page)).replace(os.sep, "/") + mark + anchor

    return each_link(markdown, change), found


def shown(path: str) -> str:
    """A page that shows a file, or that lists a folder."""
    place = ROOT / path
    if place.is_dir():
        entries = sorted(entry for entry in place.iterdir() if not entry.name.startswith((".", "__")))
        depth = "../" * (path.count("/") + 1)
        lines = [f"- [`{entry.name}`]({depth}{page_for(f'{path}/{entry.name}')})" for entry in entries]
        return f"# {path}/\n\n" + "\n".join(lines) + "\n"
    text = place.read_text(encoding="utf-8")
    fence = "`" * (max([2, *map(len, re.findall(r"`+", text))]) + 1)
    return f"# {place.name}\n\n`{path}`\n\n{fence}{LANGUAGES.get(place.suffix, 'text')}\n{text}{fence}\n"
