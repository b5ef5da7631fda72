# python examples/course/build.py OUT
"""Builds the labs: a notebook for students, a notebook with solutions and an autograder for instructors.

    python examples/course/build.py course            all labs, into the folder `course`
    python examples/course/build.py course lab03      one lab
    python examples/course/build.py course --check    and grades both versions of each: full marks, and none

`labs/*.py` are notebooks as text (jupytext, percent format) in the form of Otter-Grader's `otter assign`, which takes
out solutions and hidden tests. OUT/student/LAB/ is for students. OUT/instructor/LAB/ holds the solutions and
`LAB-autograder.zip`, which Gradescope and `otter grade` take. The last line says how many labs were built.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHARED = ("otter.yml", "requirements.txt", "checks.py", "searches.py")  # what stands beside every lab


@dataclass(frozen=True)
class Marks:
    """What a grading gave: points by question, and the messages of tests that failed."""

    points: dict[str, float]
    possible: dict[str, float]
    messages: dict[str, list[str]]


def lab_files(names: Sequence[str] = ()) -> list[Path]:
    """The labs whose file begins with one of `names`, or all.

    Raises:
        ValueError: if there is none of a name.
    """
    files = sorted((HERE / "labs").glob("lab*.py"))
    unknown = [name for name in names if not any(file.stem.startswith(name) for file in files)]
    if unknown:
        raise ValueError(f"lab={unknown[0]!r} is not there; choose of {[file.stem for file in files]}")
    return [file for file in files if not names or file.stem.startswith(tuple(names))]


def build(lab: Path, out: Path) -> None:
    """Both versions of a lab, in OUT/student/LAB and OUT/instructor/LAB; what stood there is replaced.

    Args:
        lab: a notebook in jupytext's percent format.
        out: OUT.

    Raises:
        ModuleNotFoundError: if jupytext or Otter-Grader is missing.
    """
    try:
        import jupytext
        from otter.assign import main as assign
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{error.name} is missing; the labs need: pip install "seqgan-gym[course]"'
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name in SHARED:
            shutil.copy(HERE / name, work)
        master = work / f"{lab.stem}.ipynb"
        jupytext.write(jupytext.read(lab), master)
        assign(str(master), str(work / "dist"), no_pdfs=True)
        for version, made in (("student", "student"), ("instructor", "autograder")):
            target = out / version / lab.stem
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(work / "dist" / made, target)
    for version in ("student", "instructor"):
        shutil.rmtree(out / version / lab.stem / "__pycache__", ignore_errors=True)
    (zip_file,) = (out / "instructor" / lab.stem).glob("*autograder*.zip")
    zip_file.rename(zip_file.with_name(f"{lab.stem}-autograder.zip"))


def grade(notebook: Path, autograder: Path) -> Marks:
    """Runs a notebook and all its tests, hidden ones too, as `otter run` does.

    Args:
        notebook: of a student.
        autograder: the zip file that was built for it.
    """
    from otter.api import grade_submission

    os.environ.setdefault("MPLBACKEND", "agg")
    results = grade_submission(str(notebook), str(autograder), quiet=True)
    points, possible, messages = {}, {}, {}
    for name, result in results.results.items():
        points[name], possible[name] = float(result.score), float(result.possible)
        messages[name] = [case.message for case in result.test_case_results if not case.passed]
    return Marks(points, possible, messages)


def check(lab: str, out: Path) -> str:
    """Grades the solutions and the empty notebook of a lab; a line about both.

    Raises:
        RuntimeError: if the solutions miss a point, or the empty notebook gets one.
    """
    autograder = out / "instructor" / lab / f"{lab}-autograder.zip"
    began = time.monotonic()
    solved = grade(out / "instructor" / lab / f"{lab}.ipynb", autograder)
    seconds = time.monotonic() - began
    failed = {name: solved.messages[name] for name in solved.points if solved.points[name] < solved.possible[name]}
    if failed:
        raise RuntimeError(f"{lab}: the solutions fail their own tests: {failed}")
    empty = grade(out / "student" / lab / f"{lab}.ipynb", autograder)
    given = {name: points for name, points in empty.points.items() if points}
    if given:
        raise RuntimeError(f"{lab}: the empty notebook is given points: {given}")
    return f"{lab}: {sum(solved.possible.values()):g} points, solutions all, empty none; solved in {seconds:.0f} s"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: see the module's first lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for both versions")
    parser.add_argument("labs", nargs="*", help="begin of a lab's name; none is all")
    parser.add_argument("--check", action="store_true", help="also run and grade both versions (minutes)")
    options = parser.parse_args(arguments)
    labs = lab_files(options.labs)
    for lab in labs:
        build(lab, options.out)
        if options.check:
            print(check(lab.stem, options.out), flush=True)
    print(f"built {len(labs)} labs in {options.out}")


if __name__ == "__main__":
    main()
