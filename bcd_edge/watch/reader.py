"""Reading a file whole, and noticing that it changed, vanished or cannot be read."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bcd_edge.errors import InputError
from bcd_edge.readers import raster
from bcd_edge.watch.models import File
from bcd_edge.watch.scanner import Look, look


@dataclass(frozen=True, slots=True)
class Content:
    """A file's bytes; or why there are none: `changed` since the look before (as `now`), `gone`, `unreadable` (a sentence in `reason`).

    `moved` is where it lies below the results, if it is not in the inbox any more.
    """

    file: File
    state: Literal["read", "changed", "gone", "unreadable"]
    data: bytes = b""
    sha256: str = ""
    reason: str = ""
    now: Look | None = None
    moved: str | None = None


def read(file: File, inbox: Path, results: Path, moved: str | None) -> Content:
    """The second look, and reading between two more.

    Args:
        file: as it was at the first look.
        inbox: where it lies.
        results: the folder of results.
        moved: where below the results it was moved after an earlier answer, if it was.
    """
    try:
        now = look(inbox, file.path)
        if now is None:
            return replace(_content(file, os.path.join(results, moved)), moved=moved) if moved else Content(file, "gone")
        if now != file.look:
            return Content(file, "changed", now=now)
        found = _content(file, os.path.join(inbox, file.path))
        after = look(inbox, file.path)
    except OSError as error:
        return Content(file, "unreadable", reason=f"The file could not be looked at ({error.strerror}).")
    if after is None:
        return Content(file, "gone")
    return found if after == now else Content(file, "changed", now=after)


def _content(file: File, path: str) -> Content:
    try:
        data = raster.read(path)
    except InputError as error:
        return Content(file, "unreadable", reason=str(error).replace(path, "The file"))
    return Content(file, "read", data, hashlib.sha256(data).hexdigest())
