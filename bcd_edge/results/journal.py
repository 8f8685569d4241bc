"""The journal: an SQLite file that holds every answer, every name it was given for, and a watcher's queue.

Several processes write to it, each in short transactions, and any number read (WAL). SQLite's WAL does not work on network
shares, so the folder of results must be on a disk of this computer.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from bcd_edge.decision import DecisionRule
from bcd_edge.errors import OutputError
from bcd_edge.results import schema
from bcd_edge.results.models import Committed, PendingOverlay

NAME: Final = "journal.sqlite3"
# How long a process waits for the transaction of another.
BUSY_TIMEOUT_S: Final = 30.0


def connect(path: Path) -> sqlite3.Connection:
    """Opens the file for reading and writing, and makes it or brings its schema up to date.

    Raises:
        OutputError: it is damaged, cannot be written, or belongs to another version.
        OSError: the disk is full.
    """
    with suppress(OSError):  # names, hashes of passwords and keys are in it; SQLite gives its other files the same mode
        path.touch(mode=0o600, exist_ok=False)
    try:
        with ExitStack() as unless_ready:
            connection = unless_ready.enter_context(closing(sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)))
            _use_wal(connection)
            connection.row_factory = sqlite3.Row
            _migrate(connection, path)
            unless_ready.pop_all()
    except sqlite3.DatabaseError as error:
        if any(word in str(error) for word in ("full", "I/O")):
            raise OSError(errno.ENOSPC, str(error)) from None
        raise OutputError(f"The journal {path} cannot be used ({error}); {_advice(str(error))}") from None
    return connection


def _advice(error: str) -> str:
    if "readonly" in error or "unable to open" in error:
        return "give this user permission to write in its folder."
    return "the records beside it are whole; restore the journal from a backup, or give another --out."


def _use_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait where two processes make the file at the same time, so this does."""
    ends = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > ends:
                raise
            time.sleep(0.05)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_version(version: int, path: Path) -> None:
    if version > schema.VERSION:
        raise OutputError(f"The journal {path} was written by a later bcd-edge (schema {version}); install that one.")
    if 0 < version < schema.FIRST:
        raise OutputError(f"The journal {path} was written by a bcd-edge before 0.1.0, whose records have other keys; give another --out.")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection)
    _check_version(version, path)
    if version == schema.VERSION:
        return
    missing = schema.MIGRATIONS[max(0, version - schema.FIRST + 1) :]
    try:
        # executescript ends an open transaction, so the script brings its own
        connection.executescript("\n".join(["BEGIN IMMEDIATE;", *missing, f"PRAGMA user_version = {schema.VERSION};", "COMMIT;"]))
    except sqlite3.DatabaseError:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if _version(connection) != schema.VERSION:  # else another process was faster
            raise


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Opens a journal for reading alone, also beside writers, without the right to write, and on read-only media.

    Raises:
        OutputError: it is damaged or belongs to another version.
    """
    with tempfile.TemporaryDirectory(prefix="bcd-edge-") as spare:
        try:
            connection = _open_for_reading(path, Path(spare))
            with closing(connection):
                connection.row_factory = sqlite3.Row
                _check_version(_version(connection), path)
                yield connection
        except sqlite3.DatabaseError as error:
            if "no such table" in str(error):
                raise OutputError(
                    f"The journal {path} is from an earlier bcd-edge, which had no {str(error).split()[-1]}; start watch or serve on it once."
                ) from None
            raise OutputError(f"The journal {path} cannot be read ({error}); run bcd-edge watch verify, or restore it from a backup.") from None


def _open_for_reading(path: Path, spare: Path) -> sqlite3.Connection:
    """Without the right to write, SQLite reads a journal with unfinished WAL only as a copy."""
    place = path.absolute().as_uri()
    connection = sqlite3.connect(f"{place}?mode=ro", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S)
    try:
        connection.execute("SELECT COUNT(*) FROM sqlite_master")
        return connection
    except sqlite3.DatabaseError as error:
        connection.close()
        if not isinstance(error, sqlite3.OperationalError):
            raise
    if not os.path.exists(f"{path}-wal"):
        return sqlite3.connect(f"{place}?mode=ro&immutable=1", uri=True, isolation_level=None)
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{spare / path.name}{suffix}")
    return sqlite3.connect(spare / path.name, isolation_level=None)


class Journal:
    """What a writer needs of the journal; one object per thread. Times are text in ISO 8601."""

    def __init__(self, path: Path) -> None:
        self.connection = connect(path)

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def transaction(self, *, flushed: bool = False) -> Iterator[sqlite3.Connection]:
        """All or nothing, and no other process writes meanwhile; inside another one it is a part of that.

        What is not `flushed` survives the end of this process, and after a power cut is found out again.
        """
        if self.connection.in_transaction:
            yield self.connection
            return
        self.connection.execute(f"PRAGMA synchronous = {'FULL' if flushed else 'NORMAL'}")
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def setting(self, name: str) -> bool:
        """A setting that all processes share."""
        row = self.connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return bool(row and row["value"])

    def change_setting(self, name: str, value: bool | None) -> bool:
        """Changes a setting, unless `value` is None; returns whether it was another. In the caller's transaction."""
        if value is None or value == self.setting(name):
            return False
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, int(value)))
        return True

    def use_bundle(self, sha256: str, name: str, rule: DecisionRule, at: str) -> None:
        """Notes the bundle that answers from now on."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO bundles (sha256, name, threshold, review_low, review_high, used_at) VALUES (?, ?, ?, ?, ?, ?)",
                (sha256, name, rule.threshold, rule.review_low, rule.review_high, at),
            )

    def known(self, sha256: str, bundle_sha256: str, *, by_any: bool) -> tuple[str, dict[str, Any]] | None:
        """State (`done`, `quarantined`) and record of a content that this bundle has answered, or else `by_any` other: the latest."""
        row = self.connection.execute(
            """SELECT state, record FROM images WHERE sha256 = ? AND (bundle_sha256 = ? OR ?)
               ORDER BY bundle_sha256 = ? DESC, ended_at DESC LIMIT 1""",
            (sha256, bundle_sha256, by_any, bundle_sha256),
        ).fetchone()
        return (row["state"], json.loads(row["record"])) if row else None

    def is_named(self, key: str, sha256: str, bundle_sha256: str) -> bool:
        """Whether this name has been given its answer before."""
        row = self.connection.execute(
            "SELECT 1 FROM names WHERE sha256 = ? AND bundle_sha256 = ? AND path = ?", (sha256, bundle_sha256, os.fsencode(key))
        )
        return row.fetchone() is not None

    def insert_image(self, record: dict[str, Any], content: bytes, *, overlay: bool) -> None:
        """Adds the answer to a content, and the `content` of its record's file; replaces one that was in quarantine."""
        times, text = record["intake"], content.decode().rstrip("\n")
        self.connection.execute(
            """INSERT OR REPLACE INTO images (state, sha256, bundle_sha256, record, result_sha256, p_malignant, decision,
               seen_at, taken_at, ended_at, overlay) VALUES ('done', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (
                *(record["sha256"], record["execution"]["bundle_sha256"], text, hashlib.sha256(content).hexdigest()),
                *(record["p_malignant"], record["decision"], times["seen"], times["taken"], times["answered"], "wanted" if overlay else None),
            ),
        )

    def replace_record(self, sha256: str, bundle_sha256: str, content: bytes) -> None:
        """Notes another record of the same answer, in the caller's transaction."""
        self.connection.execute(
            "UPDATE images SET record = ?, result_sha256 = ? WHERE sha256 = ? AND bundle_sha256 = ?",
            (content.decode().rstrip("\n"), hashlib.sha256(content).hexdigest(), sha256, bundle_sha256),
        )

    def insert_name(self, committed: Committed, day: str) -> None:
        """Adds a name of an answered content."""
        answer, same_as = committed.answer, committed.same_as
        times = answer.record["intake"]
        self.connection.execute(
            "INSERT INTO names (sha256, bundle_sha256, path, day, same_as, patient, slide, answered_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(answer.sha256, answer.bundle_sha256, os.fsencode(answer.key), day, os.fsencode(same_as) if same_as else None),
                *(times["patient"], times["slide"], times["answered"]),
            ),
        )

    def quarantine(self, record: dict[str, Any]) -> None:
        """Notes that a content cannot be answered, unless it has been, by any process; in the caller's transaction."""
        times = record["intake"]
        self.connection.execute(
            """INSERT INTO images (state, sha256, bundle_sha256, record, seen_at, taken_at, ended_at) VALUES ('quarantined', ?, ?, ?, ?, ?, ?)
               ON CONFLICT DO UPDATE SET record = excluded.record, ended_at = excluded.ended_at WHERE state = 'quarantined'""",
            (record["sha256"], record["execution"]["bundle_sha256"], json.dumps(record), times["seen"], times["taken"], times["answered"]),
        )

    def add_to_day(self, day: str, csv_bytes: int, committed: list[Committed]) -> None:
        """Counts what was committed, and notes the length of the day's CSV."""
        new = [entry.answer.record["decision"] for entry in committed if entry.same_as is None]
        self.connection.execute(
            """INSERT INTO days (day, bytes, benign, malignant, review, linked) VALUES (?, ?, ?, ?, ?, ?)
               ON CONFLICT (day) DO UPDATE SET bytes = excluded.bytes, benign = benign + excluded.benign,
               malignant = malignant + excluded.malignant, review = review + excluded.review, linked = linked + excluded.linked""",
            (day, csv_bytes, *(new.count(name) for name in ("benign", "malignant", "review")), len(committed) - len(new)),
        )

    def other_patients(self, sha256: str, patient: str) -> list[str]:
        """Whose names a content carries beside that of `patient`."""
        rows = self.connection.execute("SELECT DISTINCT patient FROM names WHERE sha256 = ? AND patient != ? ORDER BY patient", (sha256, patient))
        return [row["patient"] for row in rows]

    def place(self, key: str, sha256: str, target: str) -> None:
        """Notes where an answered input lies below the results."""
        with self.transaction() as db:
            db.execute("UPDATE names SET target = ? WHERE path = ? AND sha256 = ?", (os.fsencode(target), os.fsencode(key), sha256))

    def placed(self, key: str, sha256: str | None) -> str | None:
        """Where an answered input lies below the results, if it does."""
        row = self.connection.execute(
            "SELECT target FROM names WHERE path = ? AND sha256 = ? AND target IS NOT NULL ORDER BY rowid DESC LIMIT 1", (os.fsencode(key), sha256)
        ).fetchone()
        return os.fsdecode(row["target"]) if row else None

    def pending_overlay(self, bundle_sha256: str) -> PendingOverlay | None:
        """The image that has waited longest for its overlay."""
        row = self.connection.execute(
            """SELECT images.sha256, path, target, record FROM images JOIN names USING (sha256, bundle_sha256)
               WHERE overlay = 'wanted' AND bundle_sha256 = ? ORDER BY ended_at, target IS NULL LIMIT 1""",
            (bundle_sha256,),
        ).fetchone()
        if row is None:
            return None
        return PendingOverlay(
            row["sha256"], os.fsdecode(row["path"]), os.fsdecode(row["target"]) if row["target"] else None, json.loads(row["record"])
        )

    def cancel_overlays(self) -> None:
        """Those that are still pending are not drawn."""
        with self.transaction() as db:
            db.execute("UPDATE images SET overlay = NULL WHERE overlay = 'wanted'")

    def note_overlay(self, sha256: str, bundle_sha256: str, path: str) -> None:
        """Where an overlay lies below the results; or a sentence why there is none."""
        with self.transaction() as db:
            db.execute("UPDATE images SET overlay = ? WHERE sha256 = ? AND bundle_sha256 = ?", (path, sha256, bundle_sha256))
