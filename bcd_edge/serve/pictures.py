"""The bytes of an answered picture: where an upload was kept, where a watcher has put it, or still in the inbox."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path, PurePath

import cv2

from bcd_edge.errors import InputError
from bcd_edge.readers import raster
from bcd_edge.results.pictures import watched_inbox
from bcd_edge.serve import uploads
from bcd_edge.serve.settings import Settings


def read(db: sqlite3.Connection, settings: Settings, sha256: str) -> bytes:
    """The picture's bytes, which have this hash.

    Raises:
        InputError: they are nowhere to be found.
    """
    for path in _places(db, settings, sha256):
        try:
            data = raster.read(path)
        except InputError:
            continue
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
    raise InputError("The picture was moved or deleted after it was answered; put it back where the watcher found it, or send it again.")


def shown(data: bytes) -> bytes:
    """As a PNG, which every browser shows, with the pixels that were classified.

    Raises:
        InputError: it cannot be decoded.
    """
    return cv2.imencode(".png", raster.decode(data)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _places(db: sqlite3.Connection, settings: Settings, sha256: str) -> list[Path]:
    rows = db.execute("SELECT path, target FROM names WHERE sha256 = ? ORDER BY target IS NULL, rowid", (sha256,)).fetchall()
    inbox = settings.inbox or watched_inbox(settings.results)
    names = [PurePath(os.fsdecode(row["path"])) for row in rows] if inbox else []
    inside = [name for name in names if not name.is_absolute() and ".." not in name.parts]
    targets = [settings.results / os.fsdecode(row["target"]) for row in rows if row["target"]]
    return [settings.results / uploads.path(sha256), *targets, *(Path(inbox or "") / name for name in inside)]
