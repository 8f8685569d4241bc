"""What a watcher does beside answering: heartbeat, page, free space, rate, and the state on the screen."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import sqlite3
from collections import deque
from typing import Final

from bcd_edge.results import summary
from bcd_edge.results.folder import Results
from bcd_edge.results.staging import TEMPORARY
from bcd_edge.system.atomic import atomic_write
from bcd_edge.watch.lock import HEARTBEAT
from bcd_edge.watch.queue import FileQueue
from bcd_edge.watch.scanner import Scanner
from bcd_edge.watch.settings import Session

log = logging.getLogger(__name__)

BEAT_S: Final = 5.0
PAGE_S: Final = 10.0
CHECK_S: Final = 1.0
# Seconds that the rate is taken over.
RATE_OVER: Final = 30


class Housekeeping:
    """Everything that is done every so often; `tick` is called between any two steps, and is cheap where nothing is due.

    Attributes:
        low: whether the disk has less free space than is to stay free.
    """

    def __init__(self, session: Session, results: Results, queue: FileQueue, scanner: Scanner) -> None:
        self._session, self._results, self._queue, self._scanner = session, results, queue, scanner
        self.low = False
        self._checked = self._beat = self._paged = -1e9
        self._page_of: tuple[object, ...] = ()
        self._problem: str | None = None
        self._rates: deque[tuple[float, int]] = deque(maxlen=RATE_OVER)

    def tick(self) -> None:
        """Does what is due."""
        now = self._session.clock.now()
        if now - self._checked >= CHECK_S:
            self._checked = now
            self._check(now)
        if now - self._beat >= BEAT_S:
            self._beat = now
            self.beat()
        if now - self._paged >= PAGE_S:
            self._paged = now
            self.write_page()

    def _check(self, now: float) -> None:
        """Looks at disk, inbox and rate, and reports what changed."""
        stats = self._session.stats
        stats.free_bytes = shutil.disk_usage(self._results.root).free
        self._check_disk(stats.free_bytes < self._session.settings.min_free)
        self._check_inbox()
        with contextlib.suppress(sqlite3.OperationalError):  # whatever keeps it from being read is reported where it matters
            stats.waiting = self._queue.waiting()
        self._rates.append((now, stats.answered))
        then, before = self._rates[0]
        stats.rate = (stats.answered - before) / (now - then) if now > then else 0.0

    def _check_disk(self, low: bool) -> None:
        if low == self.low:
            return
        free, least = self._session.stats.free_bytes / 1e6, self._session.settings.min_free / 1e6
        if low:
            log.warning("The disk of the results has %.0f MB left, less than --min-free %.0f MB: nothing is taken until there is room.", free, least)
        else:
            log.warning("The disk of the results has %.0f MB free again; going on.", free)
        self.low = low

    def _check_inbox(self) -> None:
        stats, problem, skipped = self._session.stats, self._scanner.problem, self._scanner.skipped
        if problem != self._problem:
            log.warning("%s; waiting until it can be.", problem[0].upper() + problem[1:]) if problem else log.warning("The inbox can be read again.")
            self._problem = problem
        if skipped.keys() - stats.skipped.keys():  # once for each new suffix, not for each file
            log.warning("%s", summary.skipped_files(skipped))
        stats.skipped = skipped

    def finish(self, state: str) -> None:
        """Heartbeat and page at the end."""
        self.set_state(state)
        self._check(self._session.clock.now())
        with contextlib.suppress(sqlite3.OperationalError):
            self._session.stats.waiting = self._queue.unanswered()
        self.beat()
        self.write_page()

    def set_state(self, state: str) -> None:
        """What the watcher does now."""
        self._session.stats.state = state

    def beat(self) -> None:
        """Writes the heartbeat. A full disk keeps the old one, whose age tells."""
        stats, clock = self._session.stats, self._session.clock
        stats.beat_at = clock.wall().timestamp()
        heartbeat = {
            **{"time": clock.text(), "pid": os.getpid(), "host": socket.gethostname(), "started": self._session.started, "state": stats.state},
            **{"inbox": str(self._session.settings.inbox), "waiting": stats.waiting, "answered": stats.answered, "rate": round(stats.rate, 3)},
            **{"free_bytes": stats.free_bytes, "provider_failures": stats.provider_failures, "skipped": stats.skipped},
        }
        with contextlib.suppress(OSError):
            self._write(HEARTBEAT, json.dumps(heartbeat, indent=1))

    def write_page(self) -> None:
        """Writes `summary.html`, if anything on it changed. A full disk keeps the old one."""
        stats, db = self._session.stats, self._results.journal.connection
        counts = (stats.answered, stats.waiting, sum(stats.failed_attempts.values()), sum(stats.skipped.values()))
        others = db.execute("PRAGMA data_version").fetchone()[0]  # another process wrote, such as `watch recount`
        page_of = (stats.state, *counts, self._session.clock.day(), others)
        if page_of == self._page_of:
            return
        with contextlib.suppress(OSError, sqlite3.OperationalError):
            time = self._session.clock.text()
            self._write("summary.html", summary.page(db, self._results.display_name, state=stats.state, time=time, skipped=stats.skipped))
            self._page_of = page_of

    def _write(self, name: str, text: str) -> None:
        root = str(self._results.root)
        atomic_write(os.path.join(root, name), text.encode(), temporary=os.path.join(root, TEMPORARY), durable=True)
