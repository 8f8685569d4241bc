"""Whether everything that the journal calls done has its files, and whether they are what was written."""

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

from bcd_edge.results import files
from bcd_edge.watch.results import DAY, result_path


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was looked at; `problems` are sentences, and `strays` are results that no row speaks of.

    A stray was written just before a power cut; its image is classified again, which replaces it.
    """

    done: int
    moved: int
    problems: tuple[str, ...]
    strays: tuple[str, ...]


def verify(db: sqlite3.Connection, results: Path, *, running: bool) -> Verdict:
    """Reads every result, CSV and moved input.

    Args:
        db: the journal.
        results: its folder.
        running: whether a watcher is at work, whose unfinished files are no problem.
    """
    db.execute("BEGIN")  # one moment's rows, whatever is added meanwhile
    try:
        there = () if running else (path.relative_to(results).as_posix() for path in (results / "records").rglob("*.json"))
        strays = {path for path in there if not path.endswith(".explanation.json")}
        problems = [f"The journal is damaged: {row[0]}." for row in db.execute("PRAGMA quick_check") if row[0] != "ok"]
        done = 0
        for row in db.execute("SELECT sha256, bundle_sha256, result_sha256, overlay FROM images WHERE state = 'done'"):
            done += 1
            path = result_path(row[0], row[1])
            strays.discard(path)
            problems += _compare(results, path, row[2])
            if row[3] and row[3].startswith("records/") and not (results / row[3]).is_file():
                problems.append(f"{row[3]} is missing.")
        problems += _rows(db, results, running=running)
        targets = db.execute("SELECT DISTINCT target, sha256 FROM names WHERE settled = 1 AND target IS NOT NULL").fetchall()
        for target, sha256 in targets:
            problems += _compare(results, os.fsdecode(target), sha256)
    finally:
        db.execute("ROLLBACK")
    if not running:
        problems += [f"{left.relative_to(results)} was left half-written." for left in (results / files.TEMPORARY).glob("*")]
    return Verdict(done, len(targets), tuple(problems), tuple(sorted(strays)))


def _compare(results: Path, path: str, sha256: str) -> Iterator[str]:
    try:
        content = (results / path).read_bytes()
    except OSError as error:
        yield f"{path} could not be read ({error.strerror})."
        return
    if hashlib.sha256(content).hexdigest() != sha256:
        yield f"{path} is not what was written."


def _rows(db: sqlite3.Connection, results: Path, *, running: bool) -> Iterator[str]:
    """Every name has exactly one row, in the CSV of its day, and no row is without one."""
    lengths = dict(db.execute("SELECT day, bytes FROM days").fetchall())
    for day, length in lengths.items():
        path = results / "daily" / f"{day}.csv"
        try:
            content = path.read_bytes()
        except OSError as error:
            yield f"daily/{day}.csv could not be read ({error.strerror})."
            continue
        if len(content) < length or (len(content) > length and not running):
            yield f"daily/{day}.csv has {len(content)} bytes and not {length}."
        there = Counter(
            (row["sha256"], row["execution.bundle_sha256"], bool(row["watch.same_as"]))
            for row in csv.DictReader(io.StringIO(content[:length].decode(errors="replace"), newline=""))
        )
        wanted = Counter(
            (sha256, bundle, linked != 0)
            for sha256, bundle, linked in db.execute("SELECT sha256, bundle_sha256, same_as IS NOT NULL FROM names WHERE day = ?", (day,))
        )
        if there != wanted:
            yield f"daily/{day}.csv lacks {(wanted - there).total()} rows and has {(there - wanted).total()} that it should not have."
    if not running:
        for path in (results / "daily").glob("*.csv"):
            if DAY.fullmatch(path.name) and path.stem not in lengths:
                yield f"daily/{path.name} is of a day that the journal does not know."
