"""Writing files of a folder that somebody else may have made: whole or not at all, and never through a link.

In: a path and bytes. Out: a regular file. A file is written aside, synced and renamed, so that a crash or a full disk
leaves the file before as it was. A symbolic link in its place would lead out of the folder; it is refused, and so are
devices and pipes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path


def expect_regular(path: Path) -> None:
    """Check that a path is free or a regular file.

    Raises:
        ValueError: if it is a symbolic link, a folder, a device or a pipe.
    """
    _expect(path, stat.S_ISREG, "a regular file")


def expect_own_folder(path: Path) -> None:
    """Check that a path is free or a folder, and no link to one.

    Raises:
        ValueError: if it is anything else.
    """
    _expect(path, stat.S_ISDIR, "a folder")


def _expect(path: Path, is_right: Callable[[int], bool], wanted: str) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not is_right(mode):
        found = "a symbolic link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a special file"
        found = "a file" if stat.S_ISREG(mode) else found
        raise ValueError(
            f"{str(path)!r} is {found}, not {wanted}; nothing is written there. Remove it, then call again"
        )


def write_atomically(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Write aside, fsync, rename; on any error the file before stays and no remains are left.

    Args:
        path: the file.
        content: all of it.
        previous: where to keep the file that was there before.

    Raises:
        ValueError: if there is something that is no regular file.
        OSError: if the disk is full or not writable.
    """
    expect_regular(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside.unlink(missing_ok=True)
    try:
        with aside.open("xb") as file:  # x: a new file, never one that a link leads to
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            expect_regular(previous)
            os.replace(path, previous)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Append text to a regular file and sync it.

    Raises:
        ValueError: if there is something that is no regular file.
        OSError: if the disk is full or not writable.
    """
    expect_regular(path)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o666), "ab") as file:
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def make_own_folder(path: Path) -> None:
    """Make a folder unless it is there; raises as `expect_own_folder`."""
    expect_own_folder(path)
    path.mkdir(exist_ok=True)


def _sync_folder(path: Path) -> None:
    """Sync a folder's entries. Windows knows no such thing: there the rename itself is all that can be done."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
