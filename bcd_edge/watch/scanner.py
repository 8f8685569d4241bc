"""What lies in the inbox: a thread looks through it again and again, another hears of changes where the system tells them."""

from __future__ import annotations

import fnmatch
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bcd_edge.readers.raster import SUFFIXES

log = logging.getLogger(__name__)

# What programs call a file that they have not finished.
TEMPORARY: Final = (".part", ".partial", ".filepart", ".crdownload", ".tmp", ".temp", "~")
# Looks that wait to be told at most: a folder of any size needs no more memory.
WAITING: Final = 2000
# A look through a folder that takes long is not begun again before it has rested for so many times as long.
REST: Final = 5


@dataclass(frozen=True, slots=True)
class Look:
    """A file as it was at one moment: its path below the inbox, and what changes when its content, name or rights do."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int


def look(inbox: Path, path: str) -> Look | None:
    """The file as it is now; None where there is none, or something that is no regular file. Links are not followed.

    Raises:
        OSError: it may not be looked at.
    """
    try:
        status = os.lstat(os.path.join(inbox, path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if (status.st_mode & 0o170000) != 0o100000:
        return None
    return Look(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def is_wanted(path: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether a file is to be classified, by its path below the inbox.

    Hidden and temporary names never are. Globs match the name or the whole path, in any case of letters; without
    `include` a name must end as that of an image.
    """
    lowered = path.lower()
    if any(part.startswith((".", "~")) for part in lowered.split("/")) or lowered.endswith(TEMPORARY):
        return False
    if _matches(lowered, exclude):
        return False
    return _matches(lowered, include) if include else lowered.endswith(SUFFIXES)


def _matches(lowered: str, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern.lower()) for pattern in globs for text in (lowered.rpartition("/")[2], lowered))


class Folder:
    """Looks through an inbox in the background; a context manager.

    Attributes:
        looks: what was seen, known or not; bounded.
        walks: how often all of it was looked through.
        problem: why the inbox cannot be read now, or None.
    """

    def __init__(self, inbox: Path, *, include: Sequence[str] = (), exclude: Sequence[str] = (), scan_s: float, events: bool) -> None:
        self.inbox, self.include, self.exclude, self.scan_s = inbox, include, exclude, scan_s
        self.looks: queue.Queue[Look] = queue.Queue(WAITING)
        self.walks = 0
        self.problem: str | None = None
        self._stop = threading.Event()
        self._unreadable: set[str] = set()
        self._threads = [threading.Thread(target=work, daemon=True) for work in ([self._walk_on, self._listen] if events else [self._walk_on])]

    def __enter__(self) -> Folder:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2.0)  # one that hangs in a dead share is left behind

    def seen(self, most: int) -> list[Look]:
        """Takes up to so many looks that are waiting."""
        found: list[Look] = []
        while len(found) < most:
            try:
                found.append(self.looks.get_nowait())
            except queue.Empty:
                break
        return found

    def _walk_on(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self._walk()
            self._stop.wait(max(self.scan_s, REST * (time.monotonic() - began)))

    def _walk(self) -> None:
        try:
            os.scandir(self.inbox).close()
        except OSError as error:
            self.problem = f"the inbox {self.inbox} cannot be read ({error.strerror})"
            return
        self.problem = None
        self._tell(self._below(""))
        self.walks += 1

    def _below(self, folder: str) -> Iterator[Look]:
        """Every wanted file below a folder of the inbox; a folder that may not be read is said once."""
        try:
            with os.scandir(os.path.join(self.inbox, folder)) as listing:
                entries = list(listing)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            if folder not in self._unreadable:
                self._unreadable.add(folder)
                log.warning("The folder %s could not be read (%s); give this user permission to read it.", self.inbox / folder, error.strerror)
            return
        self._unreadable.discard(folder)
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith((".", "~")):
                        yield from self._below(path)
                elif is_wanted(path, self.include, self.exclude) and (found := look(self.inbox, path)):
                    yield found
            except OSError:  # it may not be looked at: the next walk tries again
                continue

    def _tell(self, looks: Iterator[Look]) -> None:
        for one in looks:
            while not self._stop.is_set():
                try:
                    self.looks.put(one, timeout=0.2)
                    break
                except queue.Full:
                    continue
            else:
                return

    def _listen(self) -> None:
        """Hears of changes. What it misses, and all on network shares, which tell nothing, the walk finds."""
        from watchfiles import watch

        said = False
        while not self._stop.is_set():
            try:
                known, listening = os.stat(self.inbox).st_ino, False
                arguments = {"watch_filter": None, "debounce": 200, "rust_timeout": 1000, "yield_on_timeout": True, "ignore_permission_denied": True}
                for changes in watch(self.inbox, stop_event=self._stop, raise_interrupt=False, **arguments):
                    if not listening:  # what came between the last walk and the first moment of listening
                        self._walk()
                        listening = True
                    for path in {changed for _, changed in changes}:
                        self._hear(path)
                    if os.stat(self.inbox).st_ino != known:  # another folder of this name: listen to that one
                        break
            except Exception as error:  # its own kinds beside OSError, one for a name that is no Unicode
                if not said and os.path.isdir(self.inbox):
                    log.info("Changes in %s are not told by the system (%s); it is looked through instead.", self.inbox, error)
                    said = True
            self._stop.wait(1.0)  # what is missed meanwhile, the next walk finds

    def _hear(self, changed: str) -> None:
        path = os.path.relpath(changed, self.inbox).replace(os.sep, "/")
        if path.startswith("..") or not os.path.lexists(changed):
            return
        if os.path.isdir(changed) and not os.path.islink(changed):
            self._tell(self._below("" if path == "." else path))
        elif is_wanted(path, self.include, self.exclude) and (found := look(self.inbox, path)):
            self._tell(iter([found]))
