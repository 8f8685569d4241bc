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
    beside = root / TEMPORARY / path.replace("/", "_")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            beside.replace(root / path)
        except FileNotFoundError:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            beside.replace(root / path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def folders(root: Path, paths: Iterable[str]) -> list[Path]:
    """The folders that hold these files, and those above them up to `root`: when they are flushed, a renaming is on the disk."""
    return sorted({parent for path in paths for parent in (root / path).parents if parent.is_relative_to(root)})


def flush_folder(folder: Path) -> None:
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
