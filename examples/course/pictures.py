# python -m examples.course.pictures OUT
"""Runs the labs with their solutions and keeps the last picture of each: OUT/lab01_mdp.png and so on.

    python -m examples.course.pictures docs/course           all labs (minutes)
    python -m examples.course.pictures docs/course lab03     one lab

The slides of docs/course/slides.md show them. A cell that fails stops the command. The last line counts them.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from examples.course.build import HERE, SHARED, lab_files


def last_picture(lab: Path) -> bytes:
    """The last picture that a lab shows, as PNG.

    Args:
        lab: a notebook in jupytext's percent format; its cells hold the solutions.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.
        ValueError: if no cell shows a picture.
    """
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(lab)
    with tempfile.TemporaryDirectory() as folder:  # labs write files
        for name in SHARED:
            shutil.copy(HERE / name, folder)
        NotebookClient(notebook, timeout=900, resources={"metadata": {"path": folder}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    if not pictures:
        raise ValueError(f"lab={lab.stem!r} shows no picture; its last cell must end with plt.show()")
    return base64.b64decode(pictures[-1])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: see the module's first lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("labs", nargs="*", help="begin of a lab's name; none is all")
    options = parser.parse_args(arguments)
    labs = lab_files(options.labs)
    options.out.mkdir(parents=True, exist_ok=True)
    for lab in labs:
        (options.out / f"{lab.stem}.png").write_bytes(last_picture(lab))
        print(lab.stem, flush=True)
    print(f"kept {len(labs)} pictures in {options.out}")


if __name__ == "__main__":
    main()
