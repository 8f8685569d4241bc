"""What lies in the inbox: a thread scans it again and again, another listens for changes where the system reports them."""

from __future__ import annotations

import fnmatch
import functools
import logging
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bcd_edge.readers import raster, slide
from bcd_edge.system.folders import is_ignored

log = logging.getLogger(__name__)

# How programs name a file that they have not finished.
TEMPORARY: Final = (".part", ".partial", ".filepart", ".crdownload", ".tmp", ".temp", "~")
# Files that wait to be fetched at most: a folder of any size needs no more memory.
WAITING: Final = 2000
# A scan that takes long starts again only after a pause of so many times its duration.
REST: Final = 5


@dataclass(frozen=True, slots=True)
class FileStat:
    """A file as it was at one moment: its path below the inbox, and what changes when its content, name or rights do."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int


def stat(inbox: Path, path: str) -> FileStat | None:
    """The file as it is now; None where there is none, or something that is not a regular file. Links are not followed.

    Raises:
        OSError: its status may not be read.
    """
    try:
        status = os.lstat(os.path.join(inbox, path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if (status.st_mode & 0o170000) != 0o100000:
        return None
    return FileStat(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def is_wanted(path: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether a file is to be classified, by its path below the inbox; a name without a suffix says nothing.

    Hidden and temporary names and a system's own folders never are. Globs match the name or the whole path, in any case of
    letters; without `include` a name must have the suffix of an image.
    """
    lowered = path.lower()
    if is_passed_over(lowered) or _matches(lowered, exclude):
        return False
    return _matches(lowered, include) if include else lowered.endswith(_suffixes())


@functools.cache
def _suffixes() -> tuple[str, ...]:
    """Of what can be classified here."""
    return (*raster.suffixes(), *(slide.SUFFIXES if slide.is_installed() else ()))


def is_passed_over(path: str) -> bool:
    """Whether a file is left alone without being counted: hidden, a system's, or not finished."""
    lowered = path.lower()
    return is_ignored(lowered) or any(part.startswith("~") for part in lowered.split("/")) or lowered.endswith(TEMPORARY)


@functools.lru_cache(maxsize=10_000)
def _has_image(inbox: Path, file: FileStat) -> bool:
    """See `raster.has_image`; a file that did not change is not read at every scan."""
    return raster.has_image(os.path.join(inbox, file.path))


@functools.lru_cache(maxsize=10_000)
def _is_secondary(inbox: Path, file: FileStat) -> bool:
    """See `slide.is_secondary`; a file that did not change is not read at every scan."""
    may_be = os.path.splitext(file.path)[1].lower() in ("", ".dcm", ".dicom")
    return may_be and slide.is_secondary(os.path.join(inbox, file.path))


def _matches(lowered: str, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern.lower()) for pattern in globs for text in (lowered.rpartition("/")[2], lowered))


class Scanner:
    """Looks through an inbox in the background; a context manager. It finds files and does nothing with them.

    Attributes:
        seen: files, known or not; bounded.
        scans: how often all of the inbox was looked through.
        skipped: files that are not taken, by suffix, as of the last scan.
        problem: why the inbox cannot be read now, or None.
    """

    def __init__(self, inbox: Path, *, include: Sequence[str] = (), exclude: Sequence[str] = (), scan_s: float, events: bool) -> None:
        self.inbox, self.include, self.exclude, self.scan_s = inbox, include, exclude, scan_s
        self.seen: queue.Queue[FileStat] = queue.Queue(WAITING)
        self.scans = 0
        self.skipped: dict[str, int] = {}
        self.problem: str | None = None
        self._stop = threading.Event()
        self._unreadable: set[str] = set()
        self._threads = [threading.Thread(target=work, daemon=True) for work in ([self._scan_on, self._listen] if events else [self._scan_on])]

    def __enter__(self) -> Scanner:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2.0)  # one that hangs in a dead share is left behind

    def fetch(self, limit: int) -> list[FileStat]:
        """Takes up to `limit` files that were seen."""
        files: list[FileStat] = []
        while len(files) < limit:
            try:
                files.append(self.seen.get_nowait())
            except queue.Empty:
                break
        return files

    def _scan_on(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self._scan()
            self._stop.wait(max(self.scan_s, REST * (time.monotonic() - began)))

    def _scan(self) -> None:
        try:
            os.scandir(self.inbox).close()
        except OSError as error:
            self.problem = f"the inbox {self.inbox} cannot be read ({error.strerror})"
            return
        self.problem = None
        skipped: Counter[str] = Counter()
        self._report(self._below("", skipped))
        self.skipped = dict(skipped)
        self.scans += 1

    def _below(self, folder: str, skipped: Counter[str]) -> Iterator[FileStat]:
        """Every wanted file below a folder of the inbox; a folder that may not be read is reported once."""
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
                    if not is_ignored(entry.name) and not entry.name.startswith("~"):
                        yield from self._below(path, skipped)
                elif file := self._wanted(path):
                    yield file
                elif is_wanted(path, ("*",), self.exclude) and not is_wanted(path, self.include, self.exclude):
                    skipped[os.path.splitext(entry.name)[1].lower()] += 1
            except OSError:  # its status may not be read: the next scan tries again
                continue

    def _wanted(self, path: str) -> FileStat | None:
        """A file that is to be classified: by its name, or by its content if the name has no suffix. None for others, and for what is no file.

        Raises:
            OSError: its status or content may not be read.
        """
        by_name = is_wanted(path, self.include, self.exclude)
        if not by_name and (self.include or os.path.splitext(path)[1] or not is_wanted(path, ("*",), self.exclude)):
            return None
        file = stat(self.inbox, path)
        is_taken = file and (by_name or _has_image(self.inbox, file)) and not _is_secondary(self.inbox, file)
        return file if is_taken else None

    def _report(self, files: Iterator[FileStat]) -> None:
        for file in files:
            while not self._stop.is_set():
                try:
                    self.seen.put(file, timeout=0.2)
                    break
                except queue.Full:
                    continue
            else:
                return

    def _listen(self) -> None:
        """Hears of changes. What it misses, and everything on network shares, which report nothing, the next scan finds."""
        from watchfiles import watch

        reported = False
        while not self._stop.is_set():
            try:
                inode, listening = os.stat(self.inbox).st_ino, False
                arguments = {"watch_filter": None, "debounce": 200, "rust_timeout": 1000, "yield_on_timeout": True, "ignore_permission_denied": True}
                for changes in watch(self.inbox, stop_event=self._stop, raise_interrupt=False, **arguments):
                    if not listening:  # what came between the last scan and the first moment of listening
                        self._scan()
                        listening = True
                    for path in {changed for _, changed in changes}:
                        self._hear(path)
                    if os.stat(self.inbox).st_ino != inode:  # another folder of this name: listen to that one
                        break
            except Exception as error:  # its own kinds beside OSError, one for a name that is not Unicode
                if not reported and os.path.isdir(self.inbox):
                    log.info("The system does not report changes in %s (%s); it is scanned instead.", self.inbox, error)
                    reported = True
            self._stop.wait(1.0)  # what is missed meanwhile, the next scan finds

    def _hear(self, changed: str) -> None:
        path = os.path.relpath(changed, self.inbox).replace(os.sep, "/")
        if path.startswith("..") or not os.path.lexists(changed):
            return
        if os.path.isdir(changed) and not os.path.islink(changed):
            if path == "." or not is_passed_over(path):
                self._report(self._below("" if path == "." else path, Counter()))
        elif file := self._wanted(path):
            self._report(iter([file]))
