"""Compiled models and tuning results in the user's cache folder, verified by checksum before use."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import platformdirs

from bcd_edge.system import lock
from bcd_edge.system.atomic import atomic_write

log = logging.getLogger(__name__)

SEAL: Final = "sha256.json"
# TensorRT takes minutes to build an engine; after this long a process goes on without the cache.
LOCK_TIMEOUT_S: Final = 1800.0


def root() -> Path:
    """`$BCD_EDGE_CACHE`, else `bcd-edge` in the user's cache folder, or in the temporary folder for a user without a home."""
    if override := os.environ.get("BCD_EDGE_CACHE"):
        return Path(override)
    path = platformdirs.user_cache_path("bcd-edge")
    return path if path.is_absolute() else Path(tempfile.gettempdir()) / "bcd-edge"


def folder(kind: str, *key: str) -> Path:
    """The folder of one entry; `key` is everything that decides the content, so that a stale entry is never found."""
    return root() / kind / hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]


@contextmanager
def entry(path: Path | None) -> Iterator[Path | None]:
    """Yields an entry's folder, to load from or to build in; on a normal exit its files are sealed with checksums.

    An entry whose files do not match their checksums is deleted first: an engine that loads a damaged file may crash, or give wrong
    results silently. Another process that wants the same entry waits, then uses what this one built.

    Args:
        path: from `folder`; None yields None, as does a path that cannot be written.
    """
    with _locked(path) as held:
        verified = _verified(held)
        before = verified and _stamps(verified)
        yield verified
        if verified and _stamps(verified) != before:
            _seal(verified)


@contextmanager
def _locked(path: Path | None) -> Iterator[Path | None]:
    """Holds the entry's lock; yields None if another process does not release it in time."""
    if path is None:
        yield None
        return
    held = True
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            waiting = "Another bcd-edge process is preparing the same model; waiting for it."
            held = stack.enter_context(lock.exclusive(path.with_name(f"{path.name}.lock"), LOCK_TIMEOUT_S, lambda: log.warning(waiting)))
        except (OSError, sqlite3.OperationalError):  # a file system without locks: every process builds its own
            pass
        if not held:
            log.warning("Timed out; this process prepares the model again, without caching it.")
        yield path if held else None


def _verified(path: Path | None) -> Path | None:
    """The folder, emptied if its files do not match their checksums; None if it cannot be written."""
    if path is None:
        return None
    try:
        if path.exists() and _checksums(path) != json.loads((path / SEAL).read_text(encoding="utf-8")):
            shutil.rmtree(path)
    except (OSError, ValueError):  # interrupted before it was sealed, or the seal itself is damaged
        shutil.rmtree(path, ignore_errors=True)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return path if os.access(path, os.W_OK) else None


def _seal(path: Path) -> None:
    """Writes the checksums; on a full disk the entry is deleted, and the next run builds again."""
    try:
        atomic_write(path / SEAL, json.dumps(_checksums(path), indent=1).encode())
    except OSError:
        shutil.rmtree(path, ignore_errors=True)


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name != SEAL and file.suffix != ".part")


def _stamps(path: Path) -> list[tuple[Path, int, int]]:
    """Path, size and modification time of each file: cheaper than checksums, because start-up waits for this."""
    try:
        return [(file, file.stat().st_size, file.stat().st_mtime_ns) for file in _files(path)]
    except OSError:  # deleted by another process, on a file system without locks
        return []


def _checksums(path: Path) -> dict[str, str]:
    return {file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in _files(path)}
