"""What the journal says: counts, what needs attention, names and their answers, patients. Reads only, except `retry`."""

from __future__ import annotations

import fnmatch
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bcd_edge.decision import DecisionRule
from bcd_edge.records import Verdict
from bcd_edge.results.patients import Patient, SharedImage


@dataclass(frozen=True, slots=True)
class Day:
    """Images that were classified on a local day, by decision, and further names of images that were known already."""

    day: str
    benign: int
    malignant: int
    review: int
    linked: int


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A file without an answer: `state` is `failed` (tried again) or `quarantined`."""

    path: str
    state: str
    attempts: int
    reason: str
    since: str


@dataclass(frozen=True, slots=True)
class Named:
    """A name and its answer."""

    path: str
    sha256: str
    bundle_sha256: str
    decision: str
    p_malignant: float
    patient: str | None
    same_as: str | None
    answered: str
    overlay: str | None


def counts(db: sqlite3.Connection) -> dict[str, int]:
    """How many files are in each state, and how many contents are done."""
    states = dict.fromkeys(("seen", "taken", "failed", "quarantined", "gone"), 0)
    states |= {
        row[0]: row[1]
        for row in db.execute("SELECT state, COUNT(*) FROM files WHERE state IN ('taken', 'failed', 'quarantined', 'gone') GROUP BY state")
    }
    states["seen"] = db.execute("SELECT COUNT(*) FROM files WHERE due IS NOT NULL AND state = 'seen'").fetchone()[0]
    totals = db.execute("SELECT TOTAL(benign), TOTAL(malignant), TOTAL(review), TOTAL(linked) FROM days").fetchone()
    benign, malignant, review, linked = (int(value) for value in totals)
    return {"done": benign + malignant + review, "benign": benign, "malignant": malignant, "review": review, "linked": linked} | states


def days(db: sqlite3.Connection, limit: int = -1) -> list[Day]:
    """The latest first."""
    return [Day(*row) for row in db.execute("SELECT day, benign, malignant, review, linked FROM days ORDER BY day DESC LIMIT ?", (limit,))]


def unanswered(db: sqlite3.Connection, limit: int = -1) -> list[Unanswered]:
    """Files without an answer, the latest first."""
    rows = db.execute(
        """SELECT path, state, attempts, reason, ended_at FROM files WHERE state IN ('failed', 'quarantined')
           ORDER BY state DESC, ended_at DESC LIMIT ?""",
        (limit,),
    )
    return [Unanswered(os.fsdecode(row[0]), *tuple(row)[1:]) for row in rows]


def names(db: sqlite3.Connection, limit: int = -1, day: str | None = None) -> Iterator[Named]:
    """Names and their answers, the latest first."""
    for row in db.execute(
        """SELECT path, sha256, bundle_sha256, decision, p_malignant, patient, same_as, answered_at, overlay
           FROM names JOIN images USING (sha256, bundle_sha256) WHERE ? IS NULL OR day = ? ORDER BY names.rowid DESC LIMIT ?""",
        (day, day, limit),
    ):
        path, sha256, bundle, decision, p, patient, same_as, answered, overlay = row
        yield Named(os.fsdecode(path), sha256, bundle, decision, p, patient, os.fsdecode(same_as) if same_as else None, answered, overlay)


def patients(db: sqlite3.Connection, limit: int = -1, names: Sequence[str] | None = None) -> list[Patient]:
    """Every patient's mean over the images that the bundle used last has answered, each content once; the latest first.

    A whole slide's p is that of its most suspicious tiles, so that it does not enter a mean of pictures; alone slides have a mean of their own.

    With `names`, only these patients.
    """
    used = db.execute("SELECT sha256, threshold, review_low, review_high FROM bundles ORDER BY used_at DESC LIMIT 1").fetchone()
    if used is None:
        return []
    wanted = {f"name{index}": name for index, name in enumerate(names or ())}
    chosen = "IS NOT NULL" if names is None else f"IN ({', '.join(f':{key}' for key in wanted)})"
    rows = db.execute(
        f"""SELECT linked.patient, COUNT(*), (SELECT COUNT(DISTINCT slide) FROM names WHERE patient = linked.patient AND bundle_sha256 = :bundle),
                  COALESCE(AVG(CASE WHEN instr(record, :slide) = 0 THEN p_malignant END), AVG(p_malignant)),
                  SUM(decision = 'malignant'), SUM(decision = 'review'),
                  SUM(EXISTS (SELECT 1 FROM names AS other WHERE other.sha256 = linked.sha256 AND other.patient != linked.patient))
           FROM (SELECT DISTINCT patient, sha256 FROM names WHERE patient {chosen} AND bundle_sha256 = :bundle) AS linked
           JOIN images ON images.sha256 = linked.sha256 AND images.bundle_sha256 = :bundle
           GROUP BY linked.patient ORDER BY MAX(ended_at) DESC, linked.patient LIMIT :limit""",
        {"bundle": used[0], "slide": '"kind": "slide"', "limit": limit, **wanted},
    )
    rule = DecisionRule(*tuple(used)[1:])
    return [
        Patient(name, images, slides or None, mean, patient_decision(rule.predict(mean).decision, malignant, review), malignant, review, shared)
        for name, images, slides, mean, malignant, review, shared in rows
    ]


def patient_decision(of_mean: Verdict, malignant: int, review: int) -> Verdict:
    """The rule's decision for the mean, where the pictures bear it out.

    A patient is not benign while a picture is malignant or needs review, and not malignant where every picture needs review.
    """
    if (of_mean == "benign" and malignant + review) or (of_mean == "malignant" and not malignant):
        return "review"
    return of_mean


def shared_images(db: sqlite3.Connection, limit: int = -1) -> list[SharedImage]:
    """Contents that carry the names of more than one patient: each counts for all of them, and one name is likely wrong."""
    rows = db.execute(
        """SELECT sha256 FROM names WHERE patient IS NOT NULL GROUP BY sha256 HAVING COUNT(DISTINCT patient) > 1
           ORDER BY MAX(rowid) DESC LIMIT ?""",
        (limit,),
    ).fetchall()
    return [_shared_image(db, row[0]) for row in rows]


def _shared_image(db: sqlite3.Connection, sha256: str) -> SharedImage:
    rows = db.execute(
        "SELECT DISTINCT patient, path FROM names WHERE sha256 = ? AND patient IS NOT NULL ORDER BY patient, path", (sha256,)
    ).fetchall()
    return SharedImage(sha256, tuple(dict.fromkeys(row[0] for row in rows)), tuple(os.fsdecode(row[1]) for row in rows))


def retry(db: sqlite3.Connection, globs: Sequence[str]) -> int:
    """Has files in quarantine, and those that wait for another attempt, tried now; returns how many. May run beside a watcher."""
    db.execute("BEGIN IMMEDIATE")
    try:
        rows = db.execute("SELECT path, sha256 FROM files WHERE state IN ('failed', 'quarantined')").fetchall()
        chosen = [(path, sha256) for path, sha256 in rows if not globs or any(fnmatch.fnmatchcase(os.fsdecode(path), glob) for glob in globs)]
        db.executemany("DELETE FROM images WHERE sha256 = ? AND state = 'quarantined'", [(sha256,) for _, sha256 in chosen])
        db.executemany("UPDATE files SET state = 'seen', due = 0, attempts = 0 WHERE path = ?", [(path,) for path, _ in chosen])
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return len(chosen)
