"""The worklist: every answered content as a case for a reader. The uncertain and the novel come first, a patient's pictures together.

So do the malignant answers, which nobody may miss. A random share of the benign ones is on it, too, at random places and not
marked, so that misses are found. Kept by triggers of the journal: see `schema`.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from bcd_edge.errors import UsageError
from bcd_edge.results.journal import Journal

State = Literal["open", "second", "disagreement", "reviewed", "all"]
# What an index of the journal holds of each, and the order in which it is read.
STATES: Final[dict[str, tuple[str, str]]] = {
    "open": ("open", "case_groups.urgency DESC, case_groups.group_key, cases.urgency DESC"),
    "second": ("opinions = 1", "reviewed_at DESC"),
    "disagreement": ("disagreement", "reviewed_at DESC"),
    "reviewed": ("opinions > 0", "reviewed_at DESC"),
    "all": ("1", "answered_at DESC"),
}

# How far down a case is looked for on its list; a reader starts at the top.
LOOKED_THROUGH: Final = 1000
# What a search finds beyond a page is listed as far as this, since counting it would look through everything once more.
COUNTED: Final = 500


@dataclass(frozen=True, slots=True)
class Case:
    """A content and what is known about it; the record is in `images`, the opinions are in `reviews`.

    Attributes:
        sha256: the content.
        bundle_sha256: the bundle that gave the latest answer.
        decision: the latest answer: benign, malignant or review.
        p_malignant: its probability, 0..1.
        novelty: how unlike the training pictures it is; None where the bundle cannot tell.
        answered_at: when, ISO 8601.
        path: its first name.
        patient: whose picture it is.
        slide: which slide of the patient.
        reason: why it is to be reviewed: `review` or `malignant`, the answer, or `audit` for a benign one drawn at random. Not shown to readers.
        urgency: 0..2; None where it need not be reviewed.
        open: whether it is still to be reviewed.
        opinions: how many readers have one that holds.
        first: decision of the first reader.
        second: decision of the second reader.
        disagreement: whether any two opinions that hold differ.
        reviewed_at: time of the last entry, ISO 8601.
    """

    sha256: str
    bundle_sha256: str
    decision: str
    p_malignant: float
    novelty: float | None
    answered_at: str
    path: str
    patient: str | None
    slide: str | None
    reason: str | None
    urgency: float | None
    open: bool
    opinions: int
    first: str | None
    second: str | None
    disagreement: bool
    reviewed_at: str | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which cases: all conditions hold.

    Attributes:
        state: `open` is still to be reviewed; `second` has one opinion, and not of `reader`; `disagreement` has some that differ.
        decision: the answer.
        patient: whose pictures, those under another patient, too, included.
        text: part of the name or patient, in either case of its letters, or the beginning of the SHA-256.
        reader: who asks.
        is_blinded: whether `decision` leaves out nothing that this reader has no opinion of, so that it does not tell the answer.
    """

    state: State = "open"
    decision: str | None = None
    patient: str | None = None
    text: str = ""
    reader: str = ""
    is_blinded: bool = False


# Of a reader, that holds.
_HAS_OPINION: Final = """EXISTS (
    SELECT 1 FROM reviews AS own WHERE own.sha256 = cases.sha256 AND own.reader = ? AND own.decision != 'undo'
    AND NOT EXISTS (SELECT 1 FROM reviews AS other WHERE other.sha256 = own.sha256 AND other.undoes = own.id))"""
_COLUMNS: Final = ", ".join(f"cases.{field.name}" for field in fields(Case))


def cases(db: sqlite3.Connection, chosen: Filter, *, limit: int = 50, offset: int = 0) -> list[Case]:
    """Cases in the order in which they are to be worked through, or the latest first where that is not `open`."""
    where, values = _condition(chosen)
    source, order = "cases", STATES[chosen.state][1]
    if chosen.state == "open" and chosen.patient:
        order = "+cases.group_key, cases.urgency DESC"  # with a plus, the few are found and then sorted
    elif chosen.state == "open":
        # CROSS JOIN: the groups in their order, and then the cases of each; both are indices, and nothing is sorted
        source = "case_groups CROSS JOIN cases USING (group_key)"
    rows = db.execute(f"SELECT {_COLUMNS} FROM {source} WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?", (*values, limit, offset))
    return [_case(row) for row in rows]


def case(db: sqlite3.Connection, sha256: str) -> Case | None:
    """One case."""
    row = db.execute(f"SELECT {_COLUMNS} FROM cases WHERE sha256 = ?", (sha256,)).fetchone()
    return _case(row) if row else None


def following(db: sqlite3.Connection, sha256: str, chosen: Filter) -> Case | None:
    """What to review after a case: the one below it on the list, from its end on the first; another of the same patient, and else
    the first, where it is no longer on it. What `chosen.reader` has an opinion of is
    left out, except on the lists of what has an opinion. None where there is no other.
    """
    listed = cases(db, chosen, limit=LOOKED_THROUGH)
    hashes = [candidate.sha256 for candidate in listed if candidate.sha256 != sha256]
    decided = set() if chosen.state in ("disagreement", "reviewed") else _decided(db, hashes, chosen.reader)
    listed = [candidate for candidate in listed if candidate.sha256 not in decided]
    place = next((number for number, candidate in enumerate(listed) if candidate.sha256 == sha256), None)
    if place is not None:
        return listed[(place + 1) % len(listed)] if len(listed) > 1 else None
    here = case(db, sha256)
    patient = here.patient if here else None
    return next((candidate for candidate in listed if patient and candidate.patient == patient), listed[0] if listed else None)


def _decided(db: sqlite3.Connection, hashes: list[str], reader: str) -> set[str]:
    """Of these contents, those that a reader has an opinion of that was not taken back."""
    rows = db.execute(
        f"""SELECT sha256 FROM reviews WHERE reader = ? AND decision != 'undo' AND sha256 IN ({", ".join("?" * len(hashes))})
            AND NOT EXISTS (SELECT 1 FROM reviews AS other WHERE other.undoes = reviews.id)""",
        (reader, *hashes),
    )
    return {row["sha256"] for row in rows}


def count(db: sqlite3.Connection, chosen: Filter) -> int:
    """How many cases there are."""
    where, values = _condition(chosen)
    is_search = chosen.state == "all" and chosen.text and not (chosen.decision or chosen.patient)
    # without being told, SQLite reads the table where a column is computed
    source = "cases INDEXED BY cases_answered" if is_search else "cases"
    return int(db.execute(f"SELECT COUNT(*) FROM {source} WHERE {where}", values).fetchone()[0])


def page(db: sqlite3.Connection, chosen: Filter, *, limit: int, offset: int = 0) -> tuple[list[Case], int]:
    """Cases, and how many there are in all, which takes a further query only where a full page leaves it open."""
    most = limit + COUNTED if chosen.text else limit
    listed = cases(db, chosen, limit=most, offset=offset)
    is_last = len(listed) < most and (listed or not offset)
    return listed[:limit], offset + len(listed) if is_last else count(db, chosen)


def counts(db: sqlite3.Connection, reader: str = "") -> dict[str, int]:
    """How many cases are in each state, for this reader."""
    return {state: count(db, Filter(state, reader=reader)) for state in ("open", "second", "disagreement", "reviewed", "all")}


def latest_patients(db: sqlite3.Connection, text: str = "", *, limit: int, offset: int = 0) -> dict[str, tuple[int, int]]:
    """Patients with `text` in their name, whose picture came last first: how many pictures each has, and how many are still to be reviewed.

    One under several patients counts for each.
    """
    rows = db.execute(
        """SELECT patient FROM names WHERE patient IS NOT NULL AND patient LIKE ? ESCAPE '\\'
           GROUP BY patient ORDER BY MAX(rowid) DESC LIMIT ? OFFSET ?""",
        (part(text), limit, offset),
    ).fetchall()
    query = "SELECT COUNT(*), TOTAL(open) FROM cases WHERE sha256 IN (SELECT sha256 FROM names WHERE patient = ?)"
    counted = ((row["patient"], db.execute(query, (row["patient"],)).fetchone()) for row in rows)
    return {patient: (pictures, int(left)) for patient, (pictures, left) in counted}


def other_patients(db: sqlite3.Connection, patient: str) -> dict[str, list[str]]:
    """Of a patient's contents that are under other patients, too, those patients."""
    others: dict[str, list[str]] = {}
    rows = db.execute(
        """SELECT DISTINCT other.sha256, other.patient FROM names AS own JOIN names AS other USING (sha256)
           WHERE own.patient = ? AND other.patient != own.patient ORDER BY other.patient""",
        (patient,),
    )
    for sha256, other in rows:
        others.setdefault(sha256, []).append(other)
    return others


def audit_share(db: sqlite3.Connection) -> float:
    """Share of the benign answers that is reviewed though it need not be, 0..1."""
    return float(db.execute("SELECT value FROM meta WHERE name = 'audit_share'").fetchone()[0])


def change_audit_share(journal: Journal, share: float) -> None:
    """Changes that share, for earlier answers, too; a larger one holds everything that a smaller one held.

    Raises:
        UsageError: it is not within 0..1.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"The audit share {share} is not a share; give a number from 0 to 1, such as 0.05.")
    with journal.transaction(flushed=True) as db:
        if share != audit_share(db):
            db.execute("UPDATE meta SET value = ? WHERE name = 'audit_share'", (share,))
            db.execute("UPDATE cases SET draw = draw")  # has the triggers decide anew


def _condition(chosen: Filter) -> tuple[str, list[Any]]:
    conditions: list[tuple[str, tuple[Any, ...]]] = [(STATES[chosen.state][0] if chosen.state != "open" else "cases.open", ())]
    if chosen.state == "second":
        conditions.append(("NOT EXISTS (SELECT 1 FROM reviews WHERE reviews.sha256 = cases.sha256 AND reader = ?)", (chosen.reader,)))
    if chosen.decision and chosen.is_blinded:
        conditions.append((f"(cases.decision = ? OR NOT {_HAS_OPINION})", (chosen.decision, chosen.reader)))
    elif chosen.decision:
        conditions.append(("cases.decision = ?", (chosen.decision,)))
    if chosen.patient:
        conditions.append(("cases.sha256 IN (SELECT sha256 FROM names WHERE patient = ?)", (chosen.patient,)))
    if chosen.text:
        conditions.append(_search(chosen.text))
    return " AND ".join(condition for condition, _ in conditions), [value for _, values in conditions for value in values]


def _search(text: str) -> tuple[str, tuple[Any, ...]]:
    """By `cases.text`, which the indices hold; the table is asked only for what could begin a SHA-256."""
    condition, digits = "cases.text LIKE ? ESCAPE '\\'", text.lower()
    if set(digits) - set("0123456789abcdef"):
        return condition, (part(text),)
    return f"({condition} OR cases.rowid IN (SELECT rowid FROM cases WHERE sha256 >= ? AND sha256 < ?))", (part(text), digits, f"{digits}g")


def part(text: str) -> str:
    """The pattern of LIKE for what contains a text."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _case(row: sqlite3.Row) -> Case:
    values = dict(row)
    flags = {name: bool(values[name]) for name in ("open", "disagreement")}
    return Case(**values | {"path": os.fsdecode(values["path"] or b"")} | flags)
