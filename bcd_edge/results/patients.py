"""Whose image it is, from its path: a pattern with a group `patient`, and `slide` where there is one."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from dataclasses import dataclass
from typing import Final

from bcd_edge.errors import UsageError
from bcd_edge.records import Verdict
from bcd_edge.results.folder import Results

# `breakhis`: `SOB_<B|M>_<subtype>-<year>-<patient><slide letters>-<magnification>-<sequence>` (Spanhol et al., IEEE TBME 2016): the
# accession number is the patient, letters after it are slides of one person. 190EF is a whole identifier.
PATTERNS: Final = {
    "breakhis": r"SOB_[BM]_[A-Z]+-\d+-(?P<patient>190EF|\d+)(?P<slide>[A-Z]*)-\d+-\d+[^/]*$",
    "folder": r"^(?P<patient>[^/]+)/",
    "folder/slide": r"^(?P<patient>[^/]+)/(?P<slide>[^/]+)/",
}
# Records that one transaction of `recount` takes.
BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class Patient:
    """What all images of one patient say together.

    Attributes:
        name: the patient.
        images: contents.
        slides: slides, or None where the pattern names none.
        p_malignant: mean over the images.
        decision: the bundle's rule for the mean, or `review` where the pictures do not bear it out, see `report.patient_decision`.
        malignant: images with this decision.
        review: images with this decision.
        shared: images that carry another patient's name, too.
    """

    name: str
    images: int
    slides: int | None
    p_malignant: float
    decision: Verdict
    malignant: int
    review: int
    shared: int


@dataclass(frozen=True, slots=True)
class SharedImage:
    """A content that carries the names of more than one patient."""

    sha256: str
    patients: tuple[str, ...]
    paths: tuple[str, ...]


def compile_pattern(text: str) -> re.Pattern[str]:
    """A name from `PATTERNS`, or a regular expression that is searched for in the path below the inbox, with / between folders.

    Raises:
        UsageError: it is not a regular expression, or has no group `patient`.
    """
    names = ", ".join(PATTERNS)
    try:
        pattern = re.compile(PATTERNS.get(text, text))
    except re.error as error:
        raise UsageError(f"The pattern {text!r} is not a regular expression ({error}); correct it, or write one of {names}.") from None
    if "patient" not in pattern.groupindex:
        raise UsageError(f"The pattern {text!r} has no group for the patient; write for example (?P<patient>[0-9]+), or one of {names}.")
    return pattern


def match(pattern: re.Pattern[str] | None, path: str) -> tuple[str | None, str | None]:
    """Patient and slide in a path below the inbox; None for what it does not contain."""
    matched = pattern.search(path) if pattern else None
    if not matched:
        return None, None
    groups = matched.groupdict()
    return groups["patient"] or None, groups.get("slide") or None


def recount(results: Results, pattern: re.Pattern[str]) -> int:
    """Finds patient and slide of every answered name again; returns how many names changed. May run beside a watcher.

    Journal, CSVs and records are changed in short transactions; after an interruption it is run again.
    """
    db = results.journal.connection
    changed = sum(_recount_day(results, pattern, row["day"]) for row in db.execute("SELECT day FROM days ORDER BY day").fetchall())
    last = 0
    while rows := db.execute("SELECT rowid, sha256, bundle_sha256 FROM images WHERE rowid > ? ORDER BY rowid LIMIT ?", (last, BATCH)).fetchall():
        with results.journal.transaction(flushed=True):
            for row in rows:
                _correct_record(results, pattern, row["sha256"], row["bundle_sha256"])
        last = rows[-1]["rowid"]
    return changed


def is_outdated(results: Results, pattern: re.Pattern[str]) -> bool:
    """Whether an answered name has another patient or slide than the pattern finds."""
    rows = results.journal.connection.execute("SELECT sha256, bundle_sha256, path, patient, slide FROM names")
    return any(_is_other(results, pattern, row) for row in rows)


def _is_other(results: Results, pattern: re.Pattern[str], name: sqlite3.Row) -> bool:
    """Whether the pattern gives a name another patient or slide; not, where the file's header says whose it is."""
    if match(pattern, os.fsdecode(name["path"])) == (name["patient"], name["slide"]):
        return False
    by_header = "SELECT json_extract(record, '$.intake.study') FROM images WHERE sha256 = ? AND bundle_sha256 = ?"
    row = results.journal.connection.execute(by_header, (name["sha256"], name["bundle_sha256"])).fetchone()
    return row is None or row[0] is None


def _recount_day(results: Results, pattern: re.Pattern[str], day: str) -> int:
    with results.journal.transaction(flushed=True) as db:
        names = [
            (*match(pattern, os.fsdecode(row["path"])), row["rowid"])
            for row in db.execute("SELECT rowid, * FROM names WHERE day = ?", (day,)).fetchall()
            if _is_other(results, pattern, row)
        ]
        db.executemany("UPDATE names SET patient = ?, slide = ? WHERE rowid = ?", names)
        if names:
            results.tables.rewrite(day)
    return len(names)


def _correct_record(results: Results, pattern: re.Pattern[str], sha256: str, bundle_sha256: str) -> None:
    """The record bears the patient of the name under which the image was classified."""
    row = results.journal.connection.execute(
        "SELECT record FROM images WHERE sha256 = ? AND bundle_sha256 = ? AND state = 'done'", (sha256, bundle_sha256)
    ).fetchone()
    if row is None:
        return
    record = json.loads(row["record"])
    if record["intake"].get("study"):  # said by the file's header
        return
    patient, slide = match(pattern, record["source"])
    if (patient, slide) != (record["intake"]["patient"], record["intake"]["slide"]):
        record["intake"] |= {"patient": patient, "slide": slide}
        results.replace_record(record)
