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
from bcd_edge.records import THUMBNAIL
from bcd_edge.results.staging import write_below


def read(db: sqlite3.Connection, root: Path, inbox: Path | None, sha256: str, also: Iterable[Path] = ()) -> bytes:
    """The picture's bytes, which have this hash; of a whole slide its thumbnail.

    Args:
        db: the journal.
        root: the folder of results.
        inbox: the folder that a watcher took pictures from.
        sha256: the content.
        also: where to look first.

    Raises:
        InputError: they are nowhere to be found.
    """
    if thumbnail := _thumbnail(db, root, sha256):
        return raster.read(thumbnail)
    for path in (*also, *places(db, root, inbox, sha256)):
        try:
            data = raster.read(path)
        except InputError:
            continue
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
    raise InputError("The picture was moved or deleted after it was answered; put it back where the watcher found it, or send it again.")


def _thumbnail(db: sqlite3.Connection, root: Path, sha256: str) -> Path | None:
    """Of a whole slide; None of a picture."""
    row = db.execute(
        "SELECT json_extract(record, '$.slide.files') AS files FROM images WHERE sha256 = ? AND json_valid(record)", (sha256,)
    ).fetchone()
    return root / row["files"] / THUMBNAIL if row and row["files"] else None


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


def kept_path(sha256: str) -> str:
    """Where a picture that came without a folder of its own, uploaded or from a camera, is kept below the results."""
    return f"uploads/{sha256[:2]}/{sha256}"


def keep(root: Path, sha256: str, data: bytes) -> None:
    """Writes such a picture, flushed, unless it is there.

    Raises:
        OSError: it could not be written.
    """
    if not (root / kept_path(sha256)).exists():
        write_below(root, kept_path(sha256), data)
