"""The journal: an SQLite file that knows of every file what became of it, and of every content what was answered.

Written by one process, in its main thread. WAL, so that others can read meanwhile; SQLite's WAL does not work on network
shares, so the folder of results must be on a disk of this computer.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bcd_edge.bundle import Decision
from bcd_edge.errors import OutputError
from bcd_edge.watch.models import Answer, File, Setback, Unsettled, Wanted
from bcd_edge.watch.scanner import Look

NAME: Final = "journal.sqlite3"
PATIENCE_S: Final = 30.0

# Each brings the schema to the version that is its place in the list, counted from 1; what was published is never changed.
MIGRATIONS: Final = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB);
    INSERT INTO meta VALUES ('pseudonym_key', randomblob(16));
    CREATE TABLE bundles (sha256 TEXT PRIMARY KEY, name TEXT, threshold REAL, review_low REAL, review_high REAL, used_at TEXT);
    CREATE TABLE files (
        path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
        state TEXT CHECK (state IN ('seen', 'taken', 'done', 'failed', 'quarantined', 'gone')),
        due REAL, tries INTEGER DEFAULT 0, suspect INTEGER DEFAULT 0, sha256 TEXT, reason TEXT, seen_at TEXT, taken_at TEXT, ended_at TEXT
    ) WITHOUT ROWID;
    CREATE INDEX files_due ON files (suspect, due) WHERE due IS NOT NULL;
    CREATE INDEX files_state ON files (state, ended_at) WHERE state IN ('taken', 'failed', 'quarantined', 'gone');
    CREATE TABLE images (
        sha256 TEXT, bundle_sha256 TEXT, state TEXT CHECK (state IN ('done', 'quarantined')), record TEXT, result_sha256 TEXT,
        p_malignant REAL, decision TEXT, seen_at TEXT, taken_at TEXT, ended_at TEXT, overlay TEXT,
        PRIMARY KEY (sha256, bundle_sha256)
    );
    CREATE INDEX images_overlay ON images (ended_at) WHERE overlay = 'wanted';
    CREATE TABLE names (
        sha256 TEXT, bundle_sha256 TEXT, path BLOB, day TEXT, same_as BLOB, patient TEXT, slide TEXT, answered_at TEXT,
        after TEXT CHECK (after IN ('keep', 'move', 'delete')), target BLOB, settled INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
        PRIMARY KEY (sha256, bundle_sha256, path)
    );
    CREATE INDEX names_path ON names (path);
    CREATE INDEX names_day ON names (day);
    CREATE INDEX names_patient ON names (patient) WHERE patient IS NOT NULL;
    CREATE INDEX names_unsettled ON names (settled) WHERE settled = 0;
    CREATE TABLE days (day TEXT PRIMARY KEY, bytes INTEGER, benign INTEGER, malignant INTEGER, review INTEGER, linked INTEGER);
    """,
)


def connect(path: Path) -> sqlite3.Connection:
    """Opens the file, and brings its schema up to date in one transaction.

    Raises:
        OutputError: it is damaged, or was written by a later version.
        OSError: the disk is full.
    """
    try:
        found = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S)
        found.execute("PRAGMA journal_mode = WAL")
        found.row_factory = sqlite3.Row
        _migrate(found, path)
    except sqlite3.DatabaseError as error:
        if any(word in str(error) for word in ("full", "I/O")):
            raise OSError(errno.ENOSPC, str(error)) from None
        raise OutputError(f"The journal {path} cannot be used ({error}); move the folder of results away, or restore the journal.") from None
    return found


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise OutputError(f"The journal {path} was written by a later bcd-edge (schema {version}); install that one.")
    if version == len(MIGRATIONS):
        return
    # executescript ends an open transaction, so the script brings its own
    script = "\n".join(MIGRATIONS[version:])
    try:
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {len(MIGRATIONS)};\nCOMMIT;")
    except sqlite3.DatabaseError:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class Journal:
    """What the watcher writes. Times on the wall clock are text, in ISO 8601; `now` and `due` are of the monotonic clock."""

    def __init__(self, path: Path, bundle_sha256: str) -> None:
        self.bundle_sha256 = bundle_sha256
        self._db = connect(path)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self, *, flushed: bool = False) -> Iterator[sqlite3.Connection]:
        """All or nothing. What is not `flushed` outlives this process, and after a power cut is found out again."""
        self._db.execute(f"PRAGMA synchronous = {'FULL' if flushed else 'NORMAL'}")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def begin(self, name: str, rule: Decision, now: float, settle_s: float, at: str) -> None:
        """Of a run: notes the bundle, and has files that an earlier run left unanswered looked at twice again.

        What was in hand when that run ended by force becomes suspect; what was in hand alone has failed once more.
        """
        with self._transaction() as db:
            row = (self.bundle_sha256, name, rule.threshold, rule.review_low, rule.review_high, at)
            db.execute("INSERT OR REPLACE INTO bundles (sha256, name, threshold, review_low, review_high, used_at) VALUES (?, ?, ?, ?, ?, ?)", row)
            db.execute("UPDATE files SET state = 'seen', tries = tries + suspect, suspect = 1, due = ? WHERE state = 'taken'", (now,))
            db.execute("UPDATE files SET due = ? WHERE due IS NOT NULL", (now + settle_s,))

    def reprocess(self, now: float) -> int:
        """Has every file classified that this bundle has not answered; returns how many. They are in the inbox, or were moved."""
        with self._transaction() as db:
            found = db.execute(
                """UPDATE files SET state = 'seen', due = ?, tries = 0 WHERE state IN ('done', 'quarantined') AND sha256 IS NOT NULL
                   AND NOT EXISTS (SELECT 1 FROM images WHERE images.sha256 = files.sha256 AND bundle_sha256 = ?)""",
                (now, self.bundle_sha256),
            )
            return found.rowcount

    def saw(self, looks: Sequence[Look], now: float, settle_s: float, at: str) -> int:
        """Notes what was seen; returns how many of them are new or not what they were.

        One that is still being written has its second look, `settle_s` later, put off.
        """
        changed = [one for one in looks if self._is_news(one)]
        if changed:
            with self._transaction() as db:
                db.executemany(
                    """INSERT INTO files (path, size, mtime_ns, ctime_ns, state, due, seen_at) VALUES (?, ?, ?, ?, 'seen', ?, ?)
                       ON CONFLICT (path) DO UPDATE SET size = excluded.size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns,
                       state = 'seen', due = excluded.due, tries = 0, suspect = 0, sha256 = NULL, reason = NULL, seen_at = excluded.seen_at""",
                    [(os.fsencode(one.path), one.size, one.mtime_ns, one.ctime_ns, now + settle_s, at) for one in changed],
                )
        return len(changed)

    def _is_news(self, one: Look) -> bool:
        row = self._db.execute("SELECT size, mtime_ns, ctime_ns, state FROM files WHERE path = ?", (os.fsencode(one.path),)).fetchone()
        return row is None or tuple(row)[:3] != (one.size, one.mtime_ns, one.ctime_ns) or row["state"] == "gone"

    def due(self, now: float, limit: int, *, suspect: bool) -> list[File]:
        """Files whose time has come, the longest waiting first."""
        rows = self._db.execute(
            "SELECT * FROM files WHERE due IS NOT NULL AND suspect = ? AND due <= ? ORDER BY due LIMIT ?", (int(suspect), now, limit)
        )
        return [File(_look(row), row["tries"], bool(row["suspect"]), row["seen_at"], row["sha256"]) for row in rows]

    def is_due(self, now: float) -> bool:
        return self._db.execute("SELECT 1 FROM files WHERE due IS NOT NULL AND suspect IN (0, 1) AND due <= ? LIMIT 1", (now,)).fetchone() is not None

    def take(self, files: Iterable[File], at: str) -> None:
        """In hand: should this process end now, the next one knows."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE files SET state = 'taken', due = NULL, taken_at = ? WHERE path = ?", [(at, os.fsencode(one.path)) for one in files]
            )

    def answered(self, sha256: str, *, by_any: bool) -> tuple[str, dict[str, Any]] | None:
        """State and record of a content that this bundle has answered, or failing that, `by_any` other: the latest that has."""
        row = self._db.execute(
            """SELECT state, record FROM images WHERE sha256 = ? AND (bundle_sha256 = ? OR ?)
               ORDER BY bundle_sha256 = ? DESC, ended_at DESC LIMIT 1""",
            (sha256, self.bundle_sha256, by_any, self.bundle_sha256),
        ).fetchone()
        return (row["state"], json.loads(row["record"])) if row else None

    def moved(self, file: File) -> str | None:
        """Where a file was moved, below the results, if it was."""
        row = self._db.execute(
            "SELECT target FROM names WHERE path = ? AND sha256 = ? AND settled = 1 AND target IS NOT NULL ORDER BY rowid DESC LIMIT 1",
            (os.fsencode(file.path), file.sha256),
        ).fetchone()
        return os.fsdecode(row["target"]) if row else None

    def day_bytes(self, day: str) -> int:
        """Length of a day's CSV as far as its rows are in the journal."""
        row = self._db.execute("SELECT bytes FROM days WHERE day = ?", (day,)).fetchone()
        return row["bytes"] if row else 0

    def note_day_bytes(self, day: str, length: int) -> None:
        """Of a CSV that was written anew."""
        with self._transaction(flushed=True) as db:
            db.execute("UPDATE days SET bytes = ? WHERE day = ?", (length, day))

    def is_named(self, answer: Answer) -> bool:
        """Whether this very name has been told its answer before."""
        key = (answer.sha256, answer.record["execution"]["bundle_sha256"], os.fsencode(answer.file.path))
        return self._db.execute("SELECT 1 FROM names WHERE sha256 = ? AND bundle_sha256 = ? AND path = ?", key).fetchone() is not None

    def finish(self, answers: Sequence[Answer], setbacks: Sequence[Setback], day: str, csv_bytes: int, at: str) -> None:
        """Writes a batch, flushed to the disk. A file that changed while it was in hand stays seen."""
        with self._transaction(flushed=bool(answers)) as db:
            for one in answers:
                _insert_answer(db, one, day)
            if answers:
                counted = [sum(one.result_sha256 is not None and one.record["decision"] == name for one in answers) for name in _DECISIONS]
                linked = sum(one.result_sha256 is None for one in answers)
                db.execute(
                    """INSERT INTO days (day, bytes, benign, malignant, review, linked) VALUES (?, ?, ?, ?, ?, ?)
                       ON CONFLICT (day) DO UPDATE SET bytes = excluded.bytes,
                       benign = benign + excluded.benign, malignant = malignant + excluded.malignant, review = review + excluded.review,
                       linked = linked + excluded.linked""",
                    (day, csv_bytes, *counted, linked),
                )
            for setback in setbacks:
                _note_setback(db, setback, self.bundle_sha256, at)

    def unsettled(self, beyond: int, limit: int) -> list[Unsettled]:
        """Answered inputs that are to be moved or deleted, by rowid `beyond` one; none is deleted before its overlay is drawn."""
        rows = self._db.execute(
            """SELECT names.rowid, names.* FROM names JOIN images USING (sha256, bundle_sha256)
               WHERE settled = 0 AND names.rowid > ? AND (after = 'move' OR overlay IS NOT 'wanted') ORDER BY names.rowid LIMIT ?""",
            (beyond, limit),
        ).fetchall()
        return [
            Unsettled(
                row["rowid"],
                _look(row),
                row["sha256"],
                row["after"],
                os.fsdecode(row["target"]) if row["target"] else None,
            )
            for row in rows
        ]

    def settle(self, done: Iterable[tuple[int, str | None]]) -> None:
        """Notes by rowid what became of inputs: where they lie below the results, or None."""
        with self._transaction() as db:
            db.executemany(
                "UPDATE names SET settled = 1, target = ? WHERE rowid = ?", [(os.fsencode(at) if at else None, rowid) for rowid, at in done]
            )

    def waiting(self) -> int:
        """Files that will be taken, those in quarantine that could not be read among them; from an index alone, and often asked."""
        return int(self._db.execute("SELECT COUNT(*) FROM files WHERE due IS NOT NULL").fetchone()[0])

    def unanswered(self) -> int:
        """Files that will be taken and are not in quarantine."""
        return int(self._db.execute("SELECT COUNT(*) FROM files WHERE due IS NOT NULL AND state IN ('seen', 'failed')").fetchone()[0])

    def overlay_wanted(self) -> Wanted | None:
        """The image of this bundle that has waited longest for its overlay."""
        row = self._db.execute(
            """SELECT images.sha256, path, CASE settled WHEN 1 THEN target END AS place, record
               FROM images JOIN names USING (sha256, bundle_sha256)
               WHERE overlay = 'wanted' AND bundle_sha256 = ? ORDER BY ended_at, place IS NULL LIMIT 1""",
            (self.bundle_sha256,),
        ).fetchone()
        if row is None:
            return None
        return Wanted(row["sha256"], os.fsdecode(row["path"]), os.fsdecode(row["place"]) if row["place"] else None, json.loads(row["record"]))

    def want_no_overlays(self) -> None:
        """Those that an earlier run did not come to are not wanted any more."""
        with self._transaction() as db:
            db.execute("UPDATE images SET overlay = NULL WHERE overlay = 'wanted'")

    def note_overlay(self, sha256: str, path: str) -> None:
        """Where an overlay lies, below the results; or a sentence why there is none."""
        with self._transaction() as db:
            db.execute("UPDATE images SET overlay = ? WHERE sha256 = ? AND bundle_sha256 = ?", (path, sha256, self.bundle_sha256))

    @property
    def connection(self) -> sqlite3.Connection:
        """For reading."""
        return self._db


_DECISIONS: Final = ("benign", "malignant", "review")


def _look(row: sqlite3.Row) -> Look:
    return Look(os.fsdecode(row["path"]), row["size"], row["mtime_ns"], row["ctime_ns"])


def _insert_answer(db: sqlite3.Connection, one: Answer, day: str) -> None:
    path, look, record = os.fsencode(one.file.path), one.file.look, one.record
    bundle, told = record["execution"]["bundle_sha256"], record["watch"]
    if one.result_sha256 is not None:
        db.execute(
            """INSERT OR REPLACE INTO images (state, sha256, bundle_sha256, record, result_sha256, p_malignant, decision,
               seen_at, taken_at, ended_at, overlay) VALUES ('done', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (
                *(one.sha256, bundle, json.dumps(record), one.result_sha256, record["p_malignant"], record["decision"]),
                *(told["seen"], told["taken"], told["answered"], "wanted" if one.overlay else None),
            ),
        )
    same_as = os.fsencode(one.same_as) if one.same_as else None
    target = os.fsencode(one.target) if one.target else None
    db.execute(
        """INSERT INTO names (sha256, bundle_sha256, path, day, same_as, patient, slide, answered_at, after, target, settled,
           size, mtime_ns, ctime_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET after = excluded.after,
           target = COALESCE(excluded.target, target), settled = excluded.settled,
           size = excluded.size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns""",
        (
            *(one.sha256, bundle, path, day, same_as, told["patient"], told["slide"], told["answered"]),
            *(one.after, target, int(one.after == "keep"), look.size, look.mtime_ns, look.ctime_ns),
        ),
    )
    db.execute(
        """UPDATE files SET state = 'done', sha256 = ?, due = NULL, suspect = 0, reason = NULL, ended_at = ?
           WHERE path = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ?""",
        (one.sha256, told["answered"], path, look.size, look.mtime_ns, look.ctime_ns),
    )


def _note_setback(db: sqlite3.Connection, one: Setback, bundle_sha256: str, at: str) -> None:
    look = one.file.look
    if one.record is not None and one.sha256 is not None:
        told = one.record["watch"]
        db.execute(
            """INSERT OR REPLACE INTO images (state, sha256, bundle_sha256, record, seen_at, taken_at, ended_at)
               VALUES ('quarantined', ?, ?, ?, ?, ?, ?)""",
            (one.sha256, bundle_sha256, json.dumps(one.record), told["seen"], told["taken"], told["answered"]),
        )
    db.execute(
        """UPDATE files SET state = ?, reason = ?, due = ?, tries = ?, suspect = ?, sha256 = ?, ended_at = ?
           WHERE path = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ?""",
        (
            *(one.state, one.reason, one.due, one.tries, int(one.suspect), one.sha256, at),
            *(os.fsencode(look.path), look.size, look.mtime_ns, look.ctime_ns),
        ),
    )
