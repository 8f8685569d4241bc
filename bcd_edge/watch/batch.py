"""Answers on their way to the results: collected, and committed together."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from bcd_edge.errors import OutputError
from bcd_edge.results.folder import Results
from bcd_edge.results.models import Answer, Committed
from bcd_edge.watch.housekeeping import Housekeeping
from bcd_edge.watch.models import FailedAttempt, QueuedFile
from bcd_edge.watch.queue import FileQueue
from bcd_edge.watch.settings import Session

log = logging.getLogger(__name__)
Result = TypeVar("Result")

# Answers of one transaction: a flush of the disk for each image would take longer than the image.
BATCH: Final = 64
BATCH_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Answered:
    """A file, its answer, and what to do with it: `move` to a target below the results, `delete`, or `keep`."""

    file: QueuedFile
    answer: Answer
    after: str
    target: str | None


class Batch:
    """What was answered, or got no answer, since the last commit."""

    def __init__(self, session: Session, results: Results, queue: FileQueue, housekeeping: Housekeeping) -> None:
        self._session, self._results, self._queue, self._housekeeping = session, results, queue, housekeeping
        self._answered: list[_Answered] = []
        self._failed: list[FailedAttempt] = []
        self._began = 0.0

    def add(self, file: QueuedFile, answer: Answer, after: str, target: str | None = None) -> None:
        """An answer that is to be committed; its record, if it is a new one, starts to be written at once."""
        self._start_clock()
        self._answered.append(_Answered(file, answer, after, target))
        self._results.stage(answer)

    def fail(self, attempt: FailedAttempt) -> None:
        """A file that got no answer."""
        self._start_clock()
        self._failed.append(attempt)
        self._session.stats.failed_attempts[attempt.state] += 1

    def _start_clock(self) -> None:
        if not self._answered and not self._failed:
            self._began = self._session.clock.now()

    def is_due(self) -> bool:
        """Whether there is enough to be committed, or something has waited long enough."""
        waiting = len(self._answered) + len(self._failed)
        return waiting >= BATCH or (waiting > 0 and self._session.clock.now() - self._began >= BATCH_S)

    def commit(self) -> list[tuple[QueuedFile, str | None]]:
        """Commits everything; returns the files, each with the SHA-256 of its content if it has an answer."""
        if not self._answered and not self._failed:
            return []
        for committed in self.persist(lambda: self._results.commit_staged(self._note)):
            self._count(committed)
        files = [*((entry.file, entry.answer.sha256) for entry in self._answered), *((attempt.file, attempt.sha256) for attempt in self._failed)]
        self._answered, self._failed = [], []
        return files

    def _note(self, committed: list[Committed]) -> None:
        """Inside the transaction: states of the files, and inputs that are to be put away."""
        for entry, now in zip(self._answered, committed, strict=True):
            self._queue.note_done(entry.file, now.answer.sha256, now.answer.record["intake"]["answered"])
            if entry.after != "keep":
                self._queue.add_disposal(entry.file, now.answer.sha256, now.answer.bundle_sha256, entry.target)
        at = self._session.clock.text()
        for attempt in self._failed:
            self._queue.note_failed(attempt, at)

    def _count(self, committed: Committed) -> None:
        stats, record, name = self._session.stats, committed.answer.record, self._results.display_name(committed.answer.key)
        if committed.same_as is not None:
            stats.linked += 1
            log.info("%s: the same as %s, %s", name, self._results.display_name(committed.same_as), record["decision"])
            self._warn_of_shared(name, record["sha256"], record["intake"]["patient"])
            return
        stats.decisions[record["decision"]] += 1
        fields = {"file": name, "sha256": record["sha256"], "decision": record["decision"], "p_malignant": record["p_malignant"]}
        log.info("%s: %s, p %.3f", name, record["decision"], record["p_malignant"], extra={"fields": fields})

    def _warn_of_shared(self, name: str, sha256: str, patient: str | None) -> None:
        others = self._results.journal.other_patients(sha256, patient) if patient else []
        if patient and others:
            patients = " and ".join(map(self._results.display_name, [patient, *others]))
            log.warning("%s: the same image under several patients, %s; it counts for each. See: bcd-edge watch report", name, patients)

    def persist(self, work: Callable[[], Result]) -> Result:
        """Does what writes to the disk, as often as it takes; everything else waits meanwhile, and nothing is lost.

        Raises:
            OutputError: it fails, and the watcher is to stop, or runs `once` and has made enough attempts.
        """
        settings, signals = self._session.settings, self._session.signals
        wait, attempts = settings.retry_s, 0
        while True:
            try:
                result = work()
                if attempts:
                    log.warning("Results can be written again; going on.")
                return result
            except (OSError, sqlite3.OperationalError) as error:
                attempts += 1
                reason = getattr(error, "strerror", None) or error
                if signals.stop or (settings.once and attempts >= settings.max_attempts):
                    advice = "make room there, or allow this user to write, and start again: nothing is lost"
                    raise OutputError(f"Results could not be written ({reason}); {advice}.") from None
                log.warning("Results cannot be written (%s); trying again in %g s.", reason, wait)
                self._housekeeping.set_state(f"results cannot be written ({reason})")
                self._housekeeping.beat()
                signals.wait_for_stop(wait)
                wait = min(2 * wait, LONGEST_PAUSE_S)
