"""Answers on their way to the disk: collected, and written down together in an order that survives being killed."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from bcd_edge.errors import OutputError
from bcd_edge.watch import disposal
from bcd_edge.watch.housekeeping import Upkeep
from bcd_edge.watch.journal import Journal
from bcd_edge.watch.models import Answer, Setback
from bcd_edge.watch.results import Results, result_path
from bcd_edge.watch.settings import Clock, Requests, Settings, Tally

log = logging.getLogger(__name__)
Result = TypeVar("Result")

# Answers of one transaction: a flush of the disk for each image would take longer than the image.
BATCH: Final = 64
BATCH_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
# Inputs that could not be moved or deleted are tried again after so long.
PUT_AWAY_AGAIN_S: Final = 60.0
FAILURES_A_TURN: Final = 3


class Batch:
    """What was answered, or got no answer, since the last flush."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        results: Results,
        upkeep: Upkeep,
        requests: Requests,
        tally: Tally,
        clock: Clock,
        shown: Callable[[str], str],
    ) -> None:
        self.settings, self.journal, self.results = settings, journal, results
        self.upkeep, self.requests, self.tally, self.clock, self.shown = upkeep, requests, tally, clock, shown
        self._answers: list[Answer] = []
        self._setbacks: list[Setback] = []
        self._began = 0.0
        self._put_away_at = 0.0
        self._beyond = 0
        self._stuck = ""

    def add(self, answer: Answer, result: bytes | None = None) -> None:
        """An answer that is to be written down; its result, if it is a new one, begins to be written at once."""
        self._count_from_now()
        self._answers.append(answer)
        if result is not None:
            self.results.begin(result_path(answer.sha256, answer.record["execution"]["bundle_sha256"]), result)

    def note(self, setback: Setback) -> None:
        """A file that got no answer."""
        self._count_from_now()
        self._setbacks.append(setback)
        self.tally.setbacks[setback.state] += 1

    def _count_from_now(self) -> None:
        if not self._answers and not self._setbacks:
            self._began = self.clock.now()

    def is_due(self) -> bool:
        """Whether there is enough to be written down, or something has waited long enough."""
        waiting = len(self._answers) + len(self._setbacks)
        return waiting >= BATCH or (waiting > 0 and self.clock.now() - self._began >= BATCH_S)

    def flush(self) -> list[Answer | Setback]:
        """Writes everything down, see `bcd_edge.watch` for the order; returns it."""
        written: list[Answer | Setback] = [*self._answers, *self._setbacks]
        if written:
            self.persist(self._write)
            moving = any(one.after != "keep" for one in self._answers)
            self._answers, self._setbacks = [], []
            if moving:
                self.put_away()
        return written

    def _write(self) -> None:
        self.results.complete()
        day = self.clock.day()
        rows = [one for one in self._answers if not self.journal.is_named(one)]
        length = self.results.append(self.journal, day, rows) if rows else self.journal.day_bytes(day)
        self.journal.finish(self._answers, self._setbacks, day, length, self.clock.text())

    def put_away(self, *, only_if_due: bool = False) -> None:
        """Moves or deletes answered inputs; what cannot be is said, and tried again later."""
        if only_if_due and self.clock.now() < self._put_away_at:
            return
        self._put_away_at = self.clock.now() + PUT_AWAY_AGAIN_S
        failures = 0
        while failures < FAILURES_A_TURN and (unsettled := self.journal.unsettled(self._beyond, BATCH)):
            done: list[tuple[int, str | None]] = []
            for one in unsettled:
                try:
                    done.append((one.rowid, disposal.put_away(one, self.settings.inbox, self.settings.results)))
                except OSError as error:
                    failures += 1
                    self._say_stuck(one.look.path, str(error.strerror))
            self._beyond = unsettled[-1].rowid
            self.persist(partial(self.journal.settle, done))
        if failures < FAILURES_A_TURN:
            self._beyond = 0  # the next turn tries everything that is left

    def _say_stuck(self, path: str, why: str) -> None:
        if why != self._stuck:
            log.warning("%s is answered, but could not be put away (%s); it is tried again every minute.", self.shown(path), why)
            self._stuck = why

    def persist(self, work: Callable[[], Result]) -> Result:
        """Does what writes to the disk, as often as it takes; everything else waits meanwhile, and nothing is lost.

        Raises:
            OutputError: it fails, and the watcher is to stop, or ran `once` and tried enough.
        """
        wait, tried = self.settings.retry_s, 0
        while True:
            try:
                found = work()
                if tried:
                    log.warning("Results can be written again; going on.")
                return found
            except (OSError, sqlite3.OperationalError) as error:
                tried += 1
                said = getattr(error, "strerror", None) or error
                if self.requests.stop or (self.settings.once and tried >= self.settings.tries):
                    raise OutputError(f"Results could not be written ({said}); make room, and start again: nothing is lost.") from None
                log.warning("Results cannot be written (%s); trying again in %g s.", said, wait)
                self.upkeep.say(f"results cannot be written ({said})")
                self.upkeep.beat()
                self.requests.rest(wait)
                wait = min(2 * wait, LONGEST_PAUSE_S)
