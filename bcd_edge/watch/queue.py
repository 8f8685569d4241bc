"""The queue of a watcher: a row per file of the inbox, in the journal, so that it survives the end of the process.

Only the watcher that holds the lock of the results uses it. `now` and `due` are of the monotonic clock.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence

from bcd_edge.results.journal import Journal
from bcd_edge.watch.models import FailedAttempt, PendingDisposal, QueuedFile
from bcd_edge.watch.scanner import FileStat


class FileQueue:
    """Files that were seen, taken, done, failed, quarantined or are gone; and answered inputs that are to be put away."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._db = journal, journal.connection

    def begin(self, now: float, stable_for_s: float) -> None:
        """At a start: files that an earlier run left unanswered must hold still once more.

        What was in hand when that run was killed becomes poison; what was in hand alone has failed once more.
        """
        with self._journal.transaction() as db:
            db.execute("UPDATE files SET state = 'seen', attempts = attempts + poison, poison = 1, due = ? WHERE state = 'taken'", (now,))
            db.execute("UPDATE files SET due = ? WHERE due IS NOT NULL", (now + stable_for_s,))

    def reprocess(self, bundle_sha256: str, now: float) -> int:
        """Has every file classified that this bundle has not answered; returns how many. They are in the inbox, or were moved."""
        with self._journal.transaction() as db:
            return db.execute(
                """UPDATE files SET state = 'seen', due = ?, attempts = 0 WHERE state IN ('done', 'quarantined') AND sha256 IS NOT NULL
                   AND NOT EXISTS (SELECT 1 FROM images WHERE images.sha256 = files.sha256 AND bundle_sha256 = ?)""",
                (now, bundle_sha256),
            ).rowcount

    def note_seen(self, stats: Sequence[FileStat], now: float, stable_for_s: float, at: str) -> int:
        """Notes what was seen; returns how many files are new or changed.

        One that is still being written is due `stable_for_s` after its last change.
        """
        changed = [stat for stat in stats if self._is_news(stat)]
        if changed:
            with self._journal.transaction() as db:
                db.executemany(
                    """INSERT INTO files (path, size, mtime_ns, ctime_ns, state, due, seen_at) VALUES (?, ?, ?, ?, 'seen', ?, ?)
                       ON CONFLICT (path) DO UPDATE SET size = excluded.size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns,
                       state = 'seen', due = excluded.due, attempts = 0, poison = 0, sha256 = NULL, reason = NULL, seen_at = excluded.seen_at""",
                    [(os.fsencode(stat.path), stat.size, stat.mtime_ns, stat.ctime_ns, now + stable_for_s, at) for stat in changed],
                )
        return len(changed)

    def _is_news(self, stat: FileStat) -> bool:
        row = self._db.execute("SELECT size, mtime_ns, ctime_ns, state FROM files WHERE path = ?", (os.fsencode(stat.path),)).fetchone()
        return row is None or tuple(row)[:3] != (stat.size, stat.mtime_ns, stat.ctime_ns) or row["state"] == "gone"

    def due(self, now: float, limit: int, *, poison: bool) -> list[QueuedFile]:
        """Files that are due, the longest waiting first."""
        rows = self._db.execute(
            "SELECT * FROM files WHERE due IS NOT NULL AND poison = ? AND due <= ? ORDER BY due LIMIT ?", (int(poison), now, limit)
        )
        return [QueuedFile(_stat(row), row["attempts"], bool(row["poison"]), row["seen_at"], row["sha256"]) for row in rows]

    def is_due(self, now: float) -> bool:
        return self._db.execute("SELECT 1 FROM files WHERE due IS NOT NULL AND poison IN (0, 1) AND due <= ? LIMIT 1", (now,)).fetchone() is not None

    def take(self, files: Iterable[QueuedFile], at: str) -> None:
        """In hand: should this process be killed, the next one knows."""
        with self._journal.transaction() as db:
            db.executemany(
                "UPDATE files SET state = 'taken', due = NULL, taken_at = ? WHERE path = ?", [(at, os.fsencode(file.path)) for file in files]
            )

    def note_done(self, file: QueuedFile, sha256: str, at: str) -> None:
        """A file has its answer, unless it changed meanwhile; in the caller's transaction."""
        stat = file.stat
        self._db.execute(
            """UPDATE files SET state = 'done', sha256 = ?, due = NULL, poison = 0, reason = NULL, ended_at = ?
               WHERE path = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ?""",
            (sha256, at, os.fsencode(stat.path), stat.size, stat.mtime_ns, stat.ctime_ns),
        )

    def note_failed(self, attempt: FailedAttempt, at: str) -> None:
        """A file has no answer, unless it changed meanwhile; in the caller's transaction."""
        stat = attempt.file.stat
        if attempt.record is not None:
            self._journal.quarantine(attempt.record)
        self._db.execute(
            """UPDATE files SET state = ?, reason = ?, due = ?, attempts = ?, poison = ?, sha256 = ?, ended_at = ?
               WHERE path = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ?""",
            (
                *(attempt.state, attempt.reason, attempt.due, attempt.attempts, int(attempt.poison), attempt.sha256, at),
                *(os.fsencode(stat.path), stat.size, stat.mtime_ns, stat.ctime_ns),
            ),
        )

    def add_disposal(self, file: QueuedFile, sha256: str, bundle_sha256: str, target: str | None) -> None:
        """An answered input is to be moved, or deleted without `target`; in the caller's transaction."""
        stat = file.stat
        self._db.execute(
            "INSERT OR REPLACE INTO disposals (path, size, mtime_ns, ctime_ns, sha256, bundle_sha256, target) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *(os.fsencode(stat.path), stat.size, stat.mtime_ns, stat.ctime_ns, sha256, bundle_sha256),
                os.fsencode(target) if target else None,
            ),
        )

    def pending_disposals(self, beyond: int, limit: int) -> list[PendingDisposal]:
        """Those with ids beyond one; nothing is deleted before its overlay is drawn."""
        rows = self._db.execute(
            """SELECT disposals.* FROM disposals JOIN images USING (sha256, bundle_sha256)
               WHERE id > ? AND (target IS NOT NULL OR overlay IS NOT 'wanted') ORDER BY id LIMIT ?""",
            (beyond, limit),
        ).fetchall()
        return [PendingDisposal(row["id"], _stat(row), row["sha256"], os.fsdecode(row["target"]) if row["target"] else None) for row in rows]

    def note_disposed(self, disposed: Iterable[tuple[PendingDisposal, str | None]]) -> None:
        """Notes where inputs lie below the results now, or None."""
        with self._journal.transaction() as db:
            for pending, target in disposed:
                if target:
                    self._journal.place(pending.stat.path, pending.sha256, target)
                db.execute("DELETE FROM disposals WHERE id = ?", (pending.id,))

    def waiting(self) -> int:
        """Files that will be taken, those in quarantine that could not be read among them; from an index alone, and often asked."""
        return int(self._db.execute("SELECT COUNT(*) FROM files WHERE due IS NOT NULL").fetchone()[0])

    def unanswered(self) -> int:
        """Files that will be taken and are not in quarantine."""
        return int(self._db.execute("SELECT COUNT(*) FROM files WHERE due IS NOT NULL AND state IN ('seen', 'failed')").fetchone()[0])


def _stat(row: sqlite3.Row) -> FileStat:
    return FileStat(os.fsdecode(row["path"]), row["size"], row["mtime_ns"], row["ctime_ns"])
