"""What is kept between runs in the user's cache folder, and trusted only as far as its checksums go."""

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
# TensorRT builds an engine for minutes; who waited for so long goes on without the cache.
PATIENCE_S: Final = 1800.0


def root() -> Path:
    """`$BCD_EDGE_CACHE`, or `bcd-edge` in the user's cache folder; in the temporary one for a user without a home."""
    if named := os.environ.get("BCD_EDGE_CACHE"):
        return Path(named)
    path = platformdirs.user_cache_path("bcd-edge")
    return path if path.is_absolute() else Path(tempfile.gettempdir()) / "bcd-edge"


def folder(kind: str, *key: str) -> Path:
    """The folder of one entry: everything that decides its content is in its name, so that nothing stale is found."""
    return root() / kind / hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]


@contextmanager
def entry(place: Path | None) -> Iterator[Path | None]:
    """An entry's folder, to load from or to build in; what is in it at the end is sealed with checksums, unless an exception ends it.

    A file that is not what was sealed is thrown away first, with all others: an engine that loads a damaged file may crash, or answer
    wrongly without a word. Another process that wants the same entry waits, and finds what this one built.

    Args:
        place: from `folder`; None gives None, as does a place where nothing can be kept.
    """
    with _alone(place) as found:
        kept = _trusted(found)
        before = kept and _stamps(kept)
        yield kept
        if kept and _stamps(kept) != before:
            _seal(kept)


@contextmanager
def _alone(place: Path | None) -> Iterator[Path | None]:
    """Holds the entry's lock; None where another process does not give it back."""
    if place is None:
        yield None
        return
    held = True
    with ExitStack() as stack:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            waiting = "Another bcd-edge prepares the same model; waiting for it."
            held = stack.enter_context(lock.exclusive(place.with_name(f"{place.name}.lock"), PATIENCE_S, lambda: log.warning(waiting)))
        except (OSError, sqlite3.OperationalError):  # a file system without locks: each for itself
            pass
        if not held:
            log.warning("It took too long; the model is prepared once more, and not kept.")
        yield place if held else None


def _trusted(place: Path | None) -> Path | None:
    if place is None:
        return None
    try:
        if place.exists() and _sums(place) != json.loads((place / SEAL).read_text(encoding="utf-8")):
            shutil.rmtree(place)
    except (OSError, ValueError):  # interrupted before it was sealed, or the seal itself is damaged
        shutil.rmtree(place, ignore_errors=True)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return place if os.access(place, os.W_OK) else None


def _seal(place: Path) -> None:
    """A disk that is full keeps nothing: the next run builds again."""
    try:
        atomic_write(place / SEAL, json.dumps(_sums(place), indent=1).encode())
    except OSError:
        shutil.rmtree(place, ignore_errors=True)


def _files(place: Path) -> list[Path]:
    return sorted(file for file in place.rglob("*") if file.is_file() and file.name != SEAL and file.suffix != ".part")


def _stamps(place: Path) -> list[tuple[Path, int, int]]:
    """What changes when a file does, at less cost than its checksum: start-up waits for this."""
    try:
        return [(file, file.stat().st_size, file.stat().st_mtime_ns) for file in _files(place)]
    except OSError:  # thrown away by another process, where locks do nothing
        return []


def _sums(place: Path) -> dict[str, str]:
    return {file.relative_to(place).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in _files(place)}
