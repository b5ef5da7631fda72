"""The labs of the course as pages: what a student is given, without solutions and hidden tests.

A lab is a notebook as text (jupytext, percent format) with the marks of Otter-Grader: raw cells and comments that say
where questions, solutions and tests begin and end. Outputs are not stored: a page has the cells and the lab's picture.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LABS = ROOT / "examples" / "course" / "labs"
PICTURES = ROOT / "docs" / "course"
_MARK = re.compile(r"# (BEGIN|END) (QUESTION|SOLUTION|TESTS|PROMPT)")


def lab_files() -> list[Path]:
    """The labs, in their order."""
    return sorted(LABS.glob("lab*.py"))


def title(lab: Path) -> str:
    """The title of a lab, from its first heading."""
    found = re.search(r"^# # (.+)$", lab.read_text(encoding="utf-8").partition("[markdown]")[2], re.M)
    return found[1] if found else lab.stem


def without_solutions(code: str) -> str:
    """The code of a cell with `...` where a student writes."""
    code = re.sub(r"(?ms)^([ \t]*)# BEGIN SOLUTION.*?^[ \t]*# END SOLUTION[^\n]*$", r"\1...", code)
    code = re.sub(r"(?m)^([ \t]*)(\w[\w., ]*?) = .*# SOLUTION$", r"\1\2 = ...", code)
    code = re.sub(r"(?m)^([ \t]*return) .*# SOLUTION$", r"\1 ...", code)
    code = re.sub(r"(?m)^([ \t]*)\S.*# SOLUTION$", r"\1...", code)
    return re.sub(r'(?s)""" # BEGIN PROMPT(.*?)""" *# END PROMPT', r"\1", code)


def student_page(lab: Path) -> str:
    """A lab as Markdown: its text, its code with gaps, and its picture at the end."""
    import jupytext

    notebook = jupytext.read(lab)
    pieces, inside = [], {"SOLUTION": False, "TESTS": False}
    for cell in notebook.cells:
        if cell.cell_type == "raw":
            for edge, part in _MARK.findall(cell.source):
                inside[part] = edge == "BEGIN"
        elif inside["TESTS"] or not cell.source.strip():
            continue
        elif cell.cell_type == "markdown":
            if not inside["SOLUTION"]:  # a written answer
                pieces.append(cell.source)
        else:
            pieces.append(f"```python\n{without_solutions(cell.source).strip()}\n```")
    picture = PICTURES / f"{lab.stem}.png"
    if picture.is_file():
        pieces.append(f"## What the finished notebook shows\n\n![Picture of {lab.stem}](../course/{picture.name})")
    pieces.append(
        "---\n\nThis page shows the lab. [The course](../course.md) says how to get it as a notebook with tests."
    )
    return "\n\n".join(pieces) + "\n"
