"""Atomic writes: a temporary file, then a rename."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def atomic_write(path: str | Path, content: bytes, *, temporary: str | Path | None = None, durable: bool = False) -> None:
    """Replaces a file, or leaves the old one if interrupted or out of space; after a power cut either may be there.

    Args:
        path: the file.
        content: all of it.
        temporary: folder for the partial file, on the same disk; that of `path` if not given.
        durable: flush file and folder, so that the new content survives a power cut.

    Raises:
        OSError: the file could not be written; no partial file is left.
    """
    with atomic_file(path, temporary=temporary, durable=durable) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_file(path: str | Path, *, temporary: str | Path | None = None, durable: bool = False) -> Iterator[BinaryIO]:
    """`atomic_write` for content that is too large to hold twice: what is written to the file replaces `path` at the end of the block."""
    folder, name = os.path.split(path)
    partial = os.path.join(temporary or folder, f".{os.getpid()}.{name}.part")
    try:
        with open(partial, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
    if durable:
        flush_folder(folder)


def write(path: str | Path, content: bytes, *, durable: bool) -> None:
    """Writes a file, not atomically; where it is `durable` and its folder is flushed, it survives a power cut.

    Raises:
        OSError: the file could not be written.
    """
    with open(path, "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def flush_folder(folder: str | Path) -> None:
    """Flushes the names in a folder."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no such call, and needs none
        return
    descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
