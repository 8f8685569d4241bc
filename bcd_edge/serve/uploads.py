"""Uploaded pictures below the results: each content once, and what was accepted without waiting for its answer."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bcd_edge.results.staging import TEMPORARY
from bcd_edge.system.atomic import flush_folder, write

FOLDER: Final = "uploads"
PENDING: Final = "uploads/pending"


def path(sha256: str) -> str:
    """Of a picture, below the results."""
    return f"{FOLDER}/{sha256[:2]}/{sha256}"


def keep(root: Path, sha256: str, data: bytes) -> None:
    """Writes a picture, flushed, unless it is there.

    Raises:
        OSError: it could not be written.
    """
    if not (root / path(sha256)).exists():
        _write(root, path(sha256), data)


def accept(root: Path, sha256: str, about: dict[str, Any]) -> None:
    """Notes, flushed, that a kept picture is to be answered, after a crash, too; or with an `error` that it cannot be."""
    _write(root, f"{PENDING}/{sha256}.json", json.dumps(about).encode())


def pending(root: Path, sha256: str) -> dict[str, Any] | None:
    """What was noted about a picture, until it is answered."""
    try:
        about: dict[str, Any] = json.loads((root / PENDING / f"{sha256}.json").read_bytes())
    except (OSError, ValueError):
        return None
    return about


def all_pending(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a server that ended has left unanswered."""
    for file in sorted((root / PENDING).glob("*.json")):
        about = pending(root, file.stem)
        if about is not None and "error" not in about:
            yield file.stem, about


def settle(root: Path, sha256: str) -> None:
    """The picture is answered."""
    with contextlib.suppress(FileNotFoundError):
        (root / PENDING / f"{sha256}.json").unlink()


def _write(root: Path, name: str, content: bytes) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    partial = root / TEMPORARY / f"{os.getpid()}.{uuid.uuid4().hex}"  # the same picture may be written by two threads
    write(partial, content, durable=True)
    partial.replace(root / name)
    flush_folder((root / name).parent)
