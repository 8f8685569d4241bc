"""Delivers the results of DICOM images to an archive, in a thread beside a watcher: what the journal lists as not sent, until it is.

A report that was delivered just before the process was killed is sent again, with the same UID, so that the archive has it once.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bcd_edge.dicom import require_package
from bcd_edge.dicom.export import DicomAnswer, objects
from bcd_edge.dicom.sender import Archive, send
from bcd_edge.errors import BcdEdgeError, OutputError
from bcd_edge.results.clock import Clock
from bcd_edge.results.journal import NAME, Journal

log = logging.getLogger(__name__)

PAUSE_S: Final = 1.0
BATCH: Final = 16
# Between attempts: doubles from the first to the last.
FIRST_RETRY_S, LAST_RETRY_S = 2.0, 300.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How results are returned.

    Attributes:
        archive: where they go.
        results: the folder of results.
        inbox: where images lie that a watcher left there.
    """

    archive: Archive
    results: Path
    inbox: Path


@contextmanager
def returning(settings: Settings) -> Iterator[None]:
    """Delivers while the context lasts, and at its end once more what is due.

    Raises:
        ProviderError: the extra `dicom` is not installed.
    """
    require_package()
    stop = threading.Event()
    thread = threading.Thread(target=_work, args=(settings, stop), name="bcd-edge return")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _work(settings: Settings, stop: threading.Event) -> None:
    while not (settings.results / NAME).exists():  # until the watcher has made it
        if stop.wait(PAUSE_S):
            return
    with closing(Journal(settings.results / NAME)) as journal:
        while True:
            is_last = stop.is_set()
            try:
                while deliver(journal, settings):
                    pass
            except (OSError, sqlite3.OperationalError) as error:
                log.warning("The journal could not be read or written (%s); results are sent later.", error)
            if is_last:
                return
            stop.wait(PAUSE_S)


def deliver(journal: Journal, settings: Settings) -> int:
    """Sends what is due, a few at a time; returns how many were sent, 0 also where the archive cannot take them now."""
    rows = journal.connection.execute(
        """SELECT returns.id, kind, attempts, sha256, bundle_sha256, record FROM returns JOIN images USING (sha256, bundle_sha256)
           WHERE due <= ? ORDER BY due, returns.id LIMIT ?""",
        (time.time(), BATCH),
    ).fetchall()
    for sent, row in enumerate(rows):
        answer = DicomAnswer(row["sha256"], row["bundle_sha256"], json.loads(row["record"]))
        try:
            made = objects(journal.connection, settings.results, settings.inbox, answer)
            wanted = ("report", "annotations") if row["kind"] == "report" else ("overlay",)
            send(settings.archive, [made[kind] for kind in wanted if kind in made])
        except OutputError as error:
            wait = min(FIRST_RETRY_S * 2 ** min(row["attempts"], 10), LAST_RETRY_S)
            _note(journal, row["id"], due=time.time() + wait, reason=str(error))
            log.warning("Results are not returned: %s Trying again in %g s.", error, wait)
            return sent
        except Exception as error:  # of this image alone, whatever it is: others are still to be returned
            sentence = str(error) if isinstance(error, BcdEdgeError) else f"{type(error).__name__}: {error}"
            _note(journal, row["id"], due=None, reason=sentence)
            log.warning("The %s of %s is not returned: %s", row["kind"], row["sha256"][:16], sentence)
        else:
            _note(journal, row["id"], due=None, sent_at=Clock().text())
            log.info("The %s of %s is returned.", row["kind"], row["sha256"][:16])
    return len(rows)


def listed(db: sqlite3.Connection) -> tuple[int, int, list[tuple[str, str, str]]]:
    """How many objects were sent, how many are still to be, and of those that failed the last time the image's SHA-256, the kind, and why."""
    sent, waiting = db.execute("SELECT TOTAL(sent_at IS NOT NULL), TOTAL(due IS NOT NULL) FROM returns").fetchone()
    rows = db.execute("SELECT sha256, kind, reason FROM returns WHERE sent_at IS NULL AND reason IS NOT NULL ORDER BY id")
    return int(sent), int(waiting), [(row["sha256"], row["kind"], row["reason"]) for row in rows]


def retry(journal: Journal) -> int:
    """Has everything sent that was not, at once; returns how many objects."""
    with journal.transaction() as db:
        return db.execute("UPDATE returns SET due = 0, attempts = 0 WHERE sent_at IS NULL").rowcount


def _note(journal: Journal, number: int, *, due: float | None, reason: str | None = None, sent_at: str | None = None) -> None:
    with journal.transaction(flushed=sent_at is not None) as db:
        db.execute("UPDATE returns SET due = ?, reason = ?, sent_at = ?, attempts = attempts + 1 WHERE id = ?", (due, reason, sent_at, number))
