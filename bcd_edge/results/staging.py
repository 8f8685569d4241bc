"""Records on their way to the disk: written and flushed by threads, then renamed into place together."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import psutil

from bcd_edge.system.atomic import flush_folder, write

TEMPORARY: Final = "tmp"
# Flushes at the same time: more were not faster on the disks that were tried.
WRITERS: Final = 8


class Staging:
    """Files that are written to `tmp/` and not yet under their own names.

    The process id is part of a temporary name, so that several processes stage the same record side by side.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._writers = ThreadPoolExecutor(WRITERS, "bcd-edge write")
        self._files: dict[str, tuple[bytes, Future[None]]] = {}

    def add(self, path: str, content: bytes) -> None:
        """Starts to write a file; a file system flushes several at once nearly as fast as one."""
        self._files[path] = (content, self._writers.submit(write, self._temporary(path), content, durable=True))

    def __contains__(self, path: str) -> bool:
        return path in self._files

    def content(self, path: str) -> bytes:
        """What was added."""
        return self._files[path][0]

    def wait(self) -> None:
        """Waits until everything that was added is written and flushed. May be called again after it failed.

        Raises:
            OSError: a file could not be written; writing it starts again.
        """
        for path, (content, writing) in self._files.items():
            try:
                writing.result()
            except OSError:
                self.add(path, content)
                raise

    def publish(self, paths: Iterable[str]) -> None:
        """Renames these files into place and flushes their folders. May be called again after it failed.

        Raises:
            OSError: a file could not be renamed or written.
        """
        for path in (chosen := list(paths)):
            place = os.path.join(self._root, path)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            try:
                os.replace(self._temporary(path), place)
            except FileNotFoundError:  # renamed by an attempt that failed later
                write(self._temporary(path), self._files[path][0], durable=True)
                os.replace(self._temporary(path), place)
        list(self._writers.map(flush_folder, folders(self._root, chosen)))

    def clear(self) -> None:
        """Forgets everything, and removes what was not published."""
        for path in self._files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary(path))
        self._files.clear()

    def close(self) -> None:
        self._writers.shutdown()
        self.clear()

    def _temporary(self, path: str) -> str:
        return os.path.join(self._root, TEMPORARY, f"{os.getpid()}.{path.replace('/', '_')}")


def folders(root: str, paths: Iterable[str]) -> list[str]:
    """The folders of these files and those above them up to `root`: when they are flushed, a renaming is on the disk."""
    below: set[str] = set()
    for path in paths:
        while path:
            path = path.rpartition("/")[0]
            below.add(path)
    return [os.path.join(root, folder) for folder in sorted(below)]


def clear_abandoned(root: str) -> None:
    """Makes `tmp/`, and removes what processes that have ended left in it.

    One that runs elsewhere, in another container, may lose a file to this; `Staging.publish` writes it again.
    """
    folder = os.path.join(root, TEMPORARY)
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        pid = name.lstrip(".").partition(".")[0]
        if not pid.isdigit() or int(pid) == os.getpid() or not psutil.pid_exists(int(pid)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))


def write_below(root: Path, name: str, content: bytes) -> None:
    """Writes a file below the results, whole and flushed.

    Raises:
        OSError: it could not be written.
    """
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    partial = root / TEMPORARY / f"{os.getpid()}.{uuid.uuid4().hex}"  # the same picture may be written by two threads
    write(partial, content, durable=True)
    partial.replace(root / name)
    flush_folder((root / name).parent)
