"""Writing so that a power cut leaves the old file or the new one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

TEMPORARY: Final = "tmp"


def write(root: Path, path: str, content: bytes) -> None:
    """Writes one file below `root`: beside the others in `tmp`, flushed, renamed, and the folder flushed.

    Raises:
        OSError: there is no half file under its name.
    """
    put(root, path, content)
    for folder in folders(root, [path]):
        flush_folder(folder)


def put(root: Path, path: str, content: bytes) -> None:
    """Like `write`, but for the flushing of folders."""
    beside, place = os.path.join(root, TEMPORARY, path.replace("/", "_")), os.path.join(root, path)
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.replace(beside, place)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.replace(beside, place)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def folders(root: Path, paths: Iterable[str]) -> list[str]:
    """The folders that hold these files, and those above them up to `root`: when they are flushed, a renaming is on the disk."""
    found: set[str] = set()
    for path in paths:
        while path:
            path = path.rpartition("/")[0]
            found.add(path)
    return [os.path.join(root, folder) for folder in sorted(found)]


def flush_folder(folder: str | Path) -> None:
    """Flushes one folder's names."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no such call, and needs none
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear_temporary(root: Path) -> None:
    """Makes the folder of temporary files, or throws away what an earlier run left half-written in it."""
    (root / TEMPORARY).mkdir(exist_ok=True)
    for left in (root / TEMPORARY).iterdir():
        left.unlink()
