"""The bytes of an answered picture: where a watcher or a server has put it, or still in the inbox."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from bcd_edge.errors import InputError
from bcd_edge.readers import raster


def read(db: sqlite3.Connection, root: Path, inbox: Path | None, sha256: str, also: Iterable[Path] = ()) -> bytes:
    """The picture's bytes, which have this hash.

    Args:
        db: the journal.
        root: the folder of results.
        inbox: the folder that a watcher took pictures from.
        sha256: the content.
        also: where to look first.

    Raises:
        InputError: they are nowhere to be found.
    """
    for path in (*also, *places(db, root, inbox, sha256)):
        try:
            data = raster.read(path)
        except InputError:
            continue
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
    raise InputError("The picture was moved or deleted after it was answered; put it back where the watcher found it, or send it again.")


def places(db: sqlite3.Connection, root: Path, inbox: Path | None, sha256: str) -> Iterator[Path]:
    """Where it may lie, the likeliest first; nothing outside of both folders."""
    rows = db.execute("SELECT path, target FROM names WHERE sha256 = ? ORDER BY target IS NULL, rowid", (sha256,)).fetchall()
    for row in rows:
        if row["target"]:
            yield root / os.fsdecode(row["target"])
    for row in rows if inbox else ():
        name = PurePath(os.fsdecode(row["path"]))
        if not name.is_absolute() and ".." not in name.parts:
            yield Path(inbox or "") / name


def watched_inbox(root: Path) -> Path | None:
    """The inbox of the watcher that wrote the last heartbeat; None if there is none."""
    try:
        inbox = json.loads((root / "heartbeat.json").read_bytes()).get("inbox")
    except (OSError, ValueError, AttributeError):
        return None
    return Path(inbox) if isinstance(inbox, str) else None
