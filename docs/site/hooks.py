"""What MkDocs does for this site besides reading docs/: pages that follow from the source, and links between them.

- `environments/NAME.md` from the page of each task, `labs/NAME.md` from each lab, `api/MODULE.md` for each module;
- README, CHANGELOG and CONTRIBUTING as pages; files that pages link to, as pages that show them;
- MathJax from the Python package that holds it, and diagrams as SVG, so that the site opens without a network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diagrams
import environments
import labs
import links
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ASSETS = Path(__file__).parent / "assets"


def modules() -> list[str]:
    """The dotted names of both packages' modules that have a page."""
    names = []
    for package in links.PACKAGES:
        for path in sorted((links.ROOT / package).rglob("*.py")):
            parts = path.relative_to(links.ROOT).with_suffix("").parts
            if parts[-1] == "__main__":
                continue
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def api_nav() -> list[Any]:
    """The pages of modules, in a section for each folder of each package."""
    sections: dict[str, list[Any]] = {}
    for module in modules():
        room = ".".join(module.split(".")[:2])
        is_folder = (links.ROOT / room.replace(".", "/")).is_dir()
        section = room if is_folder else module.split(".")[0]
        sections.setdefault(section, []).append({module.removeprefix(f"{section}."): f"api/{module}.md"})
    return ["api/index.md", *({section: pages} for section, pages in sections.items())]


def environments_nav() -> list[Any]:
    """The overview and a page for each task."""
    from seqgan_env.task_files import TASKS, environment_id

    return ["environments/index.md", *({environment_id(name): f"environments/{name}.md"} for name in TASKS)]


def course_nav() -> list[Any]:
    """The instructor's page and the labs, where they are there."""
    guide = [{"The course": "course.md"}] if (links.ROOT / "docs" / "course.md").is_file() else []
    return [*guide, *({labs.title(lab): f"labs/{lab.stem}.md"} for lab in labs.lab_files())]


@event_priority(-100)
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the sections whose pages follow from the source; take the offline search's script from here."""
    import sys

    sys.path.insert(0, str(links.ROOT))
    filled = {"Environments": environments_nav(), "Course": course_nav(), "API": api_nav()}
    sections = [{name: filled.get(name, pages)} for entry in config.nav or [] for name, pages in entry.items()]
    config.nav = [entry for entry in sections if any(entry.values())]
    config.extra["polyfills"] = ["assets/iframe-worker.js"]
    return config


def generated() -> dict[str, str]:
    """Pages that follow from the source: path in the site -> Markdown."""
    from seqgan_env.task_files import TASKS

    pages = {page: (links.ROOT / place).read_text(encoding="utf-8") for page, place in links.FROM_ROOT.items()}
    pages |= {f"environments/{name}.md": environments.page(name) for name in TASKS}
    pages |= {f"labs/{lab.stem}.md": labs.student_page(lab) for lab in labs.lab_files()}
    pages |= {f"api/{module}.md": f"::: {module}\n" for module in modules()}
    return pages


def assets() -> dict[str, bytes]:
    """Scripts and styles: path in the site -> content.

    Raises:
        ModuleNotFoundError: if the package with MathJax is missing.
    """
    try:
        import mathjax
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('MathJax is missing: pip install -c constraints.txt -e ".[docs]"') from error
    es5 = Path(mathjax.__file__).parent / "static" / "mathjax" / "es5"
    files = [*ASSETS.iterdir(), es5 / "tex-svg.js"]
    return {f"assets/{file.name}": file.read_bytes() for file in files if file.is_file()}


@event_priority(100)
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what follows from the source, and the files of the repository to which pages lead."""
    from seqgan_env.task_files import TASKS

    new: dict[str, str | bytes] = {**assets(), **generated()}
    for name in TASKS:
        new[f"environments/{name}.png"] = environments.picture(str(new[f"environments/{name}.md"]))
    texts = {file.src_uri: file.content_string for file in files.documentation_pages()}
    texts |= {page: text for page, text in new.items() if isinstance(text, str)}
    waiting = list(texts.items())
    while waiting:
        page, text = waiting.pop()
        for path in links.rewritten(text, page)[1]:
            target = links.page_for(path)
            if not target.startswith("files/") or target in new:
                continue
            if target.endswith(".md"):
                new[target] = links.shown(path)
                if (links.ROOT / path).is_dir():
                    waiting += entries_of(path, new)
            else:
                new[target] = (links.ROOT / path).read_bytes()
    for uri, content in new.items():
        inclusion = InclusionLevel.NOT_IN_NAV if uri.startswith(("files/", "conduct")) else InclusionLevel.UNDEFINED
        files.append(File.generated(config, uri, content=content, inclusion=inclusion))
    return files


def entries_of(folder: str, new: dict[str, str | bytes]) -> list[tuple[str, str]]:
    """Add what a folder's page lists to `new`; pages of folders in it are returned, to be looked through likewise."""
    for entry in sorted((links.ROOT / folder).iterdir()):
        path = f"{folder}/{entry.name}"
        target = links.page_for(path)
        if entry.name.startswith((".", "__")) or not target.startswith("files/") or target in new:
            continue
        if entry.is_dir():
            new[target] = links.shown(path)
            entries_of(path, new)
        else:
            new[target] = links.shown(path) if target.endswith(".md") else entry.read_bytes()
    return []


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of the repository become links of the site; diagrams become SVG."""
    uri = page.file.src_uri
    if uri.startswith("files/"):
        return markdown
    return diagrams.drawn(links.rewritten(markdown, uri)[0])
