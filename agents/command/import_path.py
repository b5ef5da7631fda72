"""Where modules are looked for: never first in the current folder, which may be a stranger's run folder.

`cd stranger_run && seqgan plot .` must not import a `matplotlib.py` that lies there. This module imports nothing but
the standard library, so that it can act before anything else is imported.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

# What the user's own command names: a module and an attribute, as in --generator own_parts:MyGenerator.
_OWN_PART = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_OURS = ("ensemble", "shuffled", "bleu", "constant", "ngram")  # of this form, but no modules
_PROJECT = Path(__file__).resolve().parents[2]


def own_parts_named(arguments: Sequence[str]) -> list[str]:
    """Every "module:Class" in a command line."""
    values = [argument.partition("=")[2] if argument.startswith("--") else argument for argument in arguments]
    found = [value for value in values if _OWN_PART.fullmatch(value)]
    return [value for value in found if value.partition(":")[0] not in _OURS]


def demote_current_folder(arguments: Sequence[str]) -> None:
    """Take the current folder out of the import path, or put it last.

    It is put last if the command line names a part of the user's own. Modules that are installed are then found first.
    It stays in its place if PYTHONPATH names it, or if this project itself lies there, as in a source tree.
    """
    here = os.getcwd()
    chosen = {os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
    if here in chosen or os.path.realpath(here) == str(_PROJECT):
        return
    kept = [entry for entry in sys.path if entry and os.path.abspath(entry) != here]
    if own_parts_named(arguments):
        kept.append(here)
    sys.path[:] = kept
