"""Writing so that a power cut leaves the old file or the new one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

TEMPORARY: Final = "tmp"


def write(root: Path, path: str, content: bytes) -> None:
    """Writes one file below `root`: beside the others in `tmp`, flushed, renamed, and the folder flushed.

    Raises:
        OSError: there is no half file under its name.
    """
    _write(root, path, content)
    flush_folders(root, [path])


def write_all(root: Path, files: Sequence[tuple[str, bytes]], threads: Executor) -> None:
    """Like `write` for many, at the same time: a file system flushes several at once nearly as fast as one."""
    for future in [threads.submit(_write, root, path, content) for path, content in files]:
        future.result()
    flush_folders(root, [path for path, _ in files])


def _write(root: Path, path: str, content: bytes) -> None:
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


def flush_folders(root: Path, paths: Iterable[str]) -> None:
    """Flushes the folders that hold these files, and those above them up to `root`: a rename is on the disk then."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no such call, and needs none
        return
    for folder in sorted({parent for path in paths for parent in (root / path).parents if parent.is_relative_to(root)}):
        flush_folder(folder)


def flush_folder(folder: Path) -> None:
    """Flushes one folder's names, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
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
