"""What was accepted without waiting for its answer; the pictures themselves are kept by `bcd_edge.results.pictures`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bcd_edge.results.staging import write_below

PENDING: Final = "uploads/pending"


def accept(root: Path, sha256: str, about: dict[str, Any]) -> None:
    """Notes, flushed, that a kept picture is to be answered, after a crash, too; or with an `error` that it cannot be."""
    write_below(root, f"{PENDING}/{sha256}.json", json.dumps(about).encode())


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
