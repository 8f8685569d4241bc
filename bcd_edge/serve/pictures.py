"""The bytes of an answered picture: where an upload was kept, where a watcher has put it, or still in the inbox."""

from __future__ import annotations

import sqlite3

import cv2

from bcd_edge.readers import raster
from bcd_edge.results import pictures
from bcd_edge.serve.settings import Settings


def read(db: sqlite3.Connection, settings: Settings, sha256: str) -> bytes:
    """The picture's bytes, which have this hash.

    Raises:
        InputError: they are nowhere to be found.
    """
    inbox = settings.inbox or pictures.watched_inbox(settings.results)
    return pictures.read(db, settings.results, inbox, sha256, also=[settings.results / pictures.kept_path(sha256)])


def shown(data: bytes) -> bytes:
    """As a PNG, which every browser shows, with the pixels that were classified.

    Raises:
        InputError: it cannot be decoded.
    """
    return cv2.imencode(".png", raster.decode(data)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
