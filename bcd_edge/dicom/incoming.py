"""Where received files go: an image into the inbox at once, the files of a slide into a hidden folder until nothing of it arrives any more."""

from __future__ import annotations

import filecmp
import hashlib
import os
import re
import threading
import time
from pathlib import Path
from typing import Final

from bcd_edge.system.atomic import flush_folder

UID: Final = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
SERIES: Final = 0x0020000E
# Hidden, so that a scan passes over what is not whole yet: files, and slides.
PARTIAL, SLIDES = ".dicom", ".slides"
# A slide's files come one after another; an archive may send each in an association of its own.
QUIET_S: Final = 10.0
# Two callers may send the same image at the same time.
WRITING: Final = threading.Lock()


def folder_of(path: Path, uid: str) -> str:
    """The name of a slide's folder: its series' UID, a hash where that is none, and the file's own UID where it has no series."""
    from pydicom.filereader import read_partial

    with path.open("rb") as file:
        element = read_partial(file, stop_when=lambda tag, vr, length: tag > SERIES).get_item(SERIES)
    value = (element.value if element else None) or b""
    series = value.decode("ascii", "replace").strip(" \0")
    if not series:
        return uid
    return series if UID.fullmatch(series) else hashlib.sha256(value).hexdigest()[:32]


def put(received: Path, inbox: Path, name: str, slide: str | None) -> None:
    """Moves a whole file to its place, flushed.

    Args:
        received: below `PARTIAL` of the inbox.
        inbox: the inbox.
        name: of the file.
        slide: folder of a slide, whose files stay together.

    Raises:
        OSError: it cannot be moved.
    """
    with WRITING:
        place = inbox if slide is None else inbox / slide
        if _is_there(received, place / name):
            flush_folder(place)  # the run that put it there may have ended before
            return
        if slide is not None:
            place = inbox / SLIDES / slide
            place.mkdir(parents=True, exist_ok=True)
            for folder in (inbox / SLIDES, inbox):
                flush_folder(folder)
        _move(received, place / name)


def _is_there(received: Path, path: Path) -> bool:
    return path.exists() and filecmp.cmp(received, path, shallow=False)


def _move(received: Path, path: Path) -> None:
    with received.open("rb") as file:
        os.fsync(file.fileno())
    received.replace(path)
    flush_folder(path.parent)


def release(inbox: Path, quiet_s: float) -> None:
    """Moves the slides that are complete into the inbox, each in a folder of its own.

    Raises:
        OSError: one cannot be moved.
    """
    for folder in _quiet(inbox / SLIDES, quiet_s):
        with WRITING:
            target = inbox / folder.name
            if target.exists():  # more of a slide that was handed on before
                for file in list(folder.iterdir()):
                    file.replace(target / file.name)
                flush_folder(target)
                folder.rmdir()
            else:
                folder.rename(target)
            flush_folder(inbox)


def _quiet(slides: Path, seconds: float) -> list[Path]:
    """The folders below one that got no file for so long."""
    try:
        return [folder for folder in slides.iterdir() if abs(time.time() - folder.stat().st_mtime) > seconds]
    except FileNotFoundError:
        return []
