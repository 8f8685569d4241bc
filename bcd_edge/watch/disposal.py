"""Moves or deletes answered inputs, if that was asked for; one that has other content by now is left for the next scan.

A program may replace a file at any moment. So it is renamed first, which nobody can do in between, then looked at, and
put back if it is not the one that was answered.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bcd_edge.results.folder import Results
from bcd_edge.results.staging import TEMPORARY, folders
from bcd_edge.system.atomic import flush_folder
from bcd_edge.watch.models import PendingDisposal
from bcd_edge.watch.queue import FileQueue
from bcd_edge.watch.settings import Session

log = logging.getLogger(__name__)

BATCH: Final = 64
# Inputs that could not be moved or deleted are tried again after so long.
AGAIN_S: Final = 60.0
FAILURES_PER_TURN: Final = 3

# Bytes; a name of 255, the most that file systems take, leaves no room for what is added.
LONGEST_STEM: Final = 200


class Disposer:
    """Puts away what the queue says is answered and pending."""

    def __init__(self, session: Session, results: Results, queue: FileQueue, persist: Callable[[Callable[[], None]], None]) -> None:
        self._session, self._results, self._queue, self._persist = session, results, queue, persist
        self._due_at = 0.0
        self._beyond = 0
        self._reason = ""

    def run(self, *, only_if_due: bool = False) -> None:
        """Moves or deletes inputs; what cannot be is reported, and tried again later."""
        if only_if_due and self._session.clock.now() < self._due_at:
            return
        self._due_at = self._session.clock.now() + AGAIN_S
        failures = 0
        while failures < FAILURES_PER_TURN and (pending := self._queue.pending_disposals(self._beyond, BATCH)):
            disposed: list[tuple[PendingDisposal, str | None]] = []
            for disposal in pending:
                try:
                    disposed.append((disposal, put_away(disposal, self._session.settings.inbox, self._results.root)))
                except OSError as error:
                    failures += 1
                    self._report(disposal.stat.path, str(error.strerror))
            self._beyond = pending[-1].id
            self._persist(lambda done=disposed: self._queue.note_disposed(done))  # type: ignore[misc]
        if failures < FAILURES_PER_TURN:
            self._beyond = 0  # the next turn tries everything that is left

    def _report(self, path: str, reason: str) -> None:
        if reason != self._reason:
            log.warning(
                "%s is answered, but could not be moved or deleted (%s); trying again every minute.", self._results.display_name(path), reason
            )
            self._reason = reason


def target_path(path: str, sha256: str, day: str, results: Path) -> str:
    """Where an input will lie below the results: its own path with a part of its hash, and a number if that is taken."""
    folder, _, name = path.rpartition("/")
    stem, suffix = os.path.splitext(name)
    stem = os.fsdecode(os.fsencode(stem)[:LONGEST_STEM])
    for number in range(1, 1_000_000):
        again = f"-{number}" if number > 1 else ""
        target = "/".join(filter(None, ("processed", day, folder, f"{stem}-{sha256[:8]}{again}{suffix}")))
        if not os.path.lexists(os.path.join(results, target)):
            break
    return target


def put_away(disposal: PendingDisposal, inbox: Path, results: Path) -> str | None:
    """Moves or deletes an input; returns where it lies below the results, or None where it does not.

    Does nothing where it was done before, or where the file is another one by now. May be called again after it was ended
    at any moment.

    Raises:
        OSError: it could not be done; the input lies where it did.
    """
    source = os.path.join(inbox, disposal.stat.path)
    aside = os.path.join(os.path.dirname(source), f".{disposal.sha256[:16]}-{disposal.id}.bcd-edge")
    target = disposal.target
    if target and os.path.lexists(os.path.join(results, target)):
        _unlink(aside)
        return target
    if not _set_aside(source, aside, disposal):
        return None
    try:
        if target is None or _move(aside, target, disposal.sha256, results):
            _unlink(aside)
            return target
    except OSError:
        _put_back(aside, source)
        raise
    _put_back(aside, source)
    return None


def _set_aside(source: str, aside: str, disposal: PendingDisposal) -> bool:
    """Renames the file that was answered; whether it is that one."""
    if os.path.lexists(aside):  # ended in the middle of it
        with open(aside, "rb") as file:
            same = hashlib.sha256(file.read()).hexdigest() == disposal.sha256
    else:
        before = _status(source)
        if before is None or (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
            disposal.stat.size,
            disposal.stat.mtime_ns,
            disposal.stat.ctime_ns,
        ):
            return False
        os.rename(source, aside)
        same = _is_same(_status(aside), before)
    if not same:
        _put_back(aside, source)
    return same


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_same(status: os.stat_result | None, before: os.stat_result) -> bool:
    """Without the time of the last change of status, which changes with the name."""
    return status is not None and (status.st_ino, status.st_size, status.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


def _put_back(aside: str, source: str) -> None:
    """Under its own name, or beside a new file that has that."""
    if not os.path.lexists(aside):
        return
    if os.path.lexists(source):
        folder, name = os.path.split(source)
        stem, suffix = os.path.splitext(name)
        source = os.path.join(folder, f"{os.fsdecode(os.fsencode(stem)[:LONGEST_STEM])}-{os.path.basename(aside)[1:9]}{suffix}")
    os.rename(aside, source)


def _move(aside: str, target: str, sha256: str, results: Path) -> bool:
    """Whether it was moved; not, where a copy to another disk has not the hash that was answered."""
    place = os.path.join(results, target)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    try:
        os.rename(aside, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        if not _copy(aside, place, sha256, results):
            return False
    for folder in folders(str(results), [target]):
        flush_folder(folder)
    return True


def _copy(aside: str, place: str, sha256: str, results: Path) -> bool:
    """To another disk, flushed and compared before the original goes."""
    beside = os.path.join(results, TEMPORARY, f"{os.getpid()}.{sha256}")
    try:
        shutil.copy2(aside, beside)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
            if hashlib.sha256(file.read()).hexdigest() != sha256:
                return False
        os.replace(beside, place)
        return True
    finally:
        _unlink(beside)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
