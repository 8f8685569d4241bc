"""What a watcher does beside answering: heartbeat, page, free space, rate, and what stands on the screen."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import sqlite3
from collections import deque
from collections.abc import Callable
from typing import Final

from bcd_edge.results import files
from bcd_edge.watch import summary
from bcd_edge.watch.journal import Journal
from bcd_edge.watch.lock import HEARTBEAT
from bcd_edge.watch.scanner import Folder
from bcd_edge.watch.settings import Clock, Settings, Tally

log = logging.getLogger(__name__)

BEAT_S: Final = 5.0
PAGE_S: Final = 10.0
GLANCE_S: Final = 1.0
# Seconds that the rate is taken over.
RATE_OVER: Final = 30


class Upkeep:
    """Everything that is done every so often; `tick` is called between any two steps, and is cheap where nothing is due.

    Attributes:
        low: whether the disk has less free space than is to stay free.
    """

    def __init__(
        self, settings: Settings, journal: Journal, folder: Folder, tally: Tally, clock: Clock, shown: Callable[[str], str], started: str
    ) -> None:
        self.settings, self.journal, self.folder, self.tally, self.clock, self.shown = settings, journal, folder, tally, clock, shown
        self.low = False
        self._started = started
        self._glanced = self._beat = self._paged = -1e9
        self._said_page: tuple[object, ...] = ()
        self._problem: str | None = None
        self._rates: deque[tuple[float, int]] = deque(maxlen=RATE_OVER)

    def tick(self) -> None:
        """Does what is due."""
        now = self.clock.now()
        if now - self._glanced >= GLANCE_S:
            self._glanced = now
            self._glance(now)
        if now - self._beat >= BEAT_S:
            self._beat = now
            self.beat()
        if now - self._paged >= PAGE_S:
            self._paged = now
            self.write_page()

    def _glance(self, now: float) -> None:
        """Looks at disk, inbox and rate, and says what changed."""
        tally = self.tally
        tally.free_bytes = shutil.disk_usage(self.settings.results).free
        self._say_disk(tally.free_bytes < self.settings.min_free)
        problem = self.folder.problem
        if problem != self._problem:
            log.warning("%s; waiting until it can be.", problem[0].upper() + problem[1:]) if problem else log.warning("The inbox can be read again.")
            self._problem = problem
        with contextlib.suppress(sqlite3.OperationalError):  # whatever keeps it from being read is said where it matters
            tally.waiting = self.journal.waiting()
        self._rates.append((now, tally.answered))
        then, before = self._rates[0]
        tally.rate = (tally.answered - before) / (now - then) if now > then else 0.0

    def _say_disk(self, low: bool) -> None:
        if low != self.low:
            free, least = self.tally.free_bytes / 1e6, self.settings.min_free / 1e6
            if low:
                log.warning(
                    "The disk of the results has %.0f MB left, less than --min-free %.0f MB: nothing is taken until there is room.", free, least
                )
            else:
                log.warning("The disk of the results has %.0f MB free again; going on.", free)
            self.low = low

    def finish(self, state: str) -> None:
        """The last word."""
        self.say(state)
        self._glance(self.clock.now())
        with contextlib.suppress(sqlite3.OperationalError):
            self.tally.waiting = self.journal.unanswered()
        self.beat()
        self.write_page()

    def say(self, state: str) -> None:
        """What the watcher does now."""
        self.tally.state = state

    def beat(self) -> None:
        """Writes the heartbeat. A disk that is full keeps the old one, whose age tells."""
        tally = self.tally
        tally.beat_at = self.clock.wall().timestamp()
        said = {
            **{"time": self.clock.text(), "pid": os.getpid(), "host": socket.gethostname(), "started": self._started, "state": tally.state},
            **{"inbox": str(self.settings.inbox), "waiting": tally.waiting, "answered": tally.answered, "rate": round(tally.rate, 3)},
            **{"free_bytes": tally.free_bytes, "provider_failures": tally.provider_failures},
        }
        with contextlib.suppress(OSError):
            files.write(self.settings.results, HEARTBEAT, json.dumps(said, indent=1).encode())

    def write_page(self) -> None:
        """Writes `summary.html`, if anything on it changed. A disk that is full keeps the old one."""
        now = (self.tally.state, self.tally.answered, self.tally.waiting, sum(self.tally.setbacks.values()), self.clock.day())
        if now == self._said_page:
            return
        with contextlib.suppress(OSError, sqlite3.OperationalError):
            text = summary.page(self.journal.connection, self.shown, state=self.tally.state, time=f"{self.clock.wall():%Y-%m-%d %H:%M:%S}")
            files.write(self.settings.results, "summary.html", text.encode())
            self._said_page = now
