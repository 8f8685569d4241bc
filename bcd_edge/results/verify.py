"""Whether every answer in the journal has its files, and whether they are what was written."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bcd_edge.results.daily import DAY, FOLDER
from bcd_edge.results.folder import Results
from bcd_edge.results.records import result_path
from bcd_edge.results.staging import TEMPORARY


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked.

    Attributes:
        done: answered images.
        moved: inputs that were moved below the results.
        problems: sentences.
        strays: records that no answer belongs to, written just before a power cut; their images are classified again, which
            replaces them.
    """

    done: int
    moved: int
    problems: tuple[str, ...]
    strays: tuple[str, ...]


def verify(db: sqlite3.Connection, results: Path, *, running: bool) -> Verification:
    """Reads every record, CSV and moved input.

    Args:
        db: the journal.
        results: its folder.
        running: whether a watcher is running, whose unfinished files are not a problem.
    """
    db.execute("BEGIN")  # the rows of one moment, whatever is added meanwhile
    try:
        there = () if running else (path.relative_to(results).as_posix() for path in (results / "records").rglob("*.json"))
        strays = {path for path in there if not path.endswith(".explanation.json")}
        problems = [f"The journal is damaged: {row[0]}." for row in db.execute("PRAGMA quick_check") if row[0] != "ok"]
        done = 0
        for sha256, bundle_sha256, result_sha256, overlay in _answers(db):
            done += 1
            path = result_path(sha256, bundle_sha256)
            strays.discard(path)
            problems += _compare(results, path, result_sha256)
            if overlay and overlay.startswith("records/") and not (results / overlay).is_file():
                problems.append(f"{overlay} is missing.")
        problems += _tables(db, results, running=running)
        targets = db.execute("SELECT DISTINCT target, sha256 FROM names WHERE target IS NOT NULL").fetchall()
        for target, sha256 in targets:
            problems += _compare(results, os.fsdecode(target), sha256)
    finally:
        db.execute("ROLLBACK")
    if not running:
        problems += [f"{left.relative_to(results)} was left unfinished." for left in (results / TEMPORARY).glob("*")]
    return Verification(done, len(targets), tuple(problems), tuple(sorted(strays)))


def repair(results: Results) -> int:
    """Writes records that are missing or changed anew from the journal, and overlays that are missing are drawn again by the
    next watcher with `--explain`; returns how many files it concerns. CSVs are repaired whenever results are opened.
    """
    repaired = 0
    with results.journal.transaction() as db:
        answers = _answers(db)
    for sha256, bundle_sha256, result_sha256, overlay in answers:
        if list(_compare(results.root, result_path(sha256, bundle_sha256), result_sha256)):
            repaired += _repair_record(results, sha256, bundle_sha256)
        if overlay and overlay.startswith("records/") and not (results.root / overlay).is_file():
            results.journal.note_overlay(sha256, bundle_sha256, "wanted")
            repaired += 1
    return repaired + sum(_repair_table(results, day) for day in _days(results.journal.connection))


def _answers(db: sqlite3.Connection) -> list[tuple[str, str, str, str | None]]:
    return [tuple(row) for row in db.execute("SELECT sha256, bundle_sha256, result_sha256, overlay FROM images WHERE state = 'done'")]


def _days(db: sqlite3.Connection) -> dict[str, int]:
    return {row[0]: row[1] for row in db.execute("SELECT day, bytes FROM days")}


def _repair_record(results: Results, sha256: str, bundle_sha256: str) -> int:
    with results.journal.transaction() as db:
        row = db.execute("SELECT record FROM images WHERE sha256 = ? AND bundle_sha256 = ?", (sha256, bundle_sha256)).fetchone()
        results.restore_record(sha256, bundle_sha256, f"{row['record']}\n".encode())
    return 1


def _repair_table(results: Results, day: str) -> int:
    with results.journal.transaction(flushed=True) as db:
        if not list(_table(db, results.root, day, _days(db)[day], running=False)):
            return 0
        results.tables.rewrite(day)
    return 1


def _compare(results: Path, path: str, sha256: str) -> Iterator[str]:
    try:
        content = (results / path).read_bytes()
    except OSError as error:
        yield f"{path} could not be read ({error.strerror})."
        return
    if hashlib.sha256(content).hexdigest() != sha256:
        yield f"{path} is not what was written."


def _tables(db: sqlite3.Connection, results: Path, *, running: bool) -> Iterator[str]:
    lengths = _days(db)
    for day, length in lengths.items():
        yield from _table(db, results, day, length, running=running)
    if not running:
        for path in (results / FOLDER).glob("*.csv"):
            if DAY.fullmatch(path.name) and path.stem not in lengths:
                yield f"{FOLDER}/{path.name} is of a day that the journal does not know."


def _table(db: sqlite3.Connection, results: Path, day: str, length: int, *, running: bool) -> Iterator[str]:
    """Every name has exactly one row in the CSV of its day, with its answer, and no row is without one."""
    try:
        content = (results / FOLDER / f"{day}.csv").read_bytes()
    except OSError as error:
        yield f"{FOLDER}/{day}.csv could not be read ({error.strerror})."
        return
    if len(content) < length or (len(content) > length and not running):
        yield f"{FOLDER}/{day}.csv has {len(content)} bytes and not {length}."
    there = Counter(
        (row["sha256"], row["execution.bundle_sha256"], bool(row["intake.same_as"]), row["decision"], row["p_malignant"])
        for row in csv.DictReader(io.StringIO(content[:length].decode("utf-8-sig", errors="replace"), newline=""))
    )
    expected = Counter(
        (sha256, bundle_sha256, linked != 0, decision, repr(p))
        for sha256, bundle_sha256, linked, decision, p in db.execute(
            """SELECT sha256, bundle_sha256, same_as IS NOT NULL, decision, p_malignant FROM names JOIN images USING (sha256, bundle_sha256)
               WHERE day = ?""",
            (day,),
        )
    )
    if there != expected:
        yield f"{FOLDER}/{day}.csv lacks {(expected - there).total()} rows and has {(there - expected).total()} that it should not have."
