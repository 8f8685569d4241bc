"""Reviews: what readers decided about pictures and patients. They are added, never changed; the answer stays beside them.

A writer commits in one short flushed transaction, beside a watcher, and may add what belongs to it in the same one:

    with results.journal.transaction(flushed=True):
        review = reviews.add(results, sha256, "benign", reader="Dr Rao")
        ...

Readers take any connection to the journal, also one by `journal.reading`.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from bcd_edge.errors import UsageError
from bcd_edge.results.folder import Results

DECISIONS: Final = ("benign", "malignant", "cannot tell", "unusable")
SOURCES: Final = ("local", "consult", "link")
LONGEST_COMMENT: Final = 4000
LONGEST_NAME: Final = 100
# A content under several patients belongs to each.
_OF_PATIENT: Final = "sha256 IN (SELECT sha256 FROM names WHERE patient = ?)"


@dataclass(frozen=True, slots=True)
class Review:
    """One entry: a decision, or the undoing of one.

    Attributes:
        id: rises with every entry of the folder.
        uid: given by the caller, so that repeating a request does not repeat the entry.
        sha256: the content that was reviewed.
        bundle_sha256: the bundle whose answer belongs to it.
        path: the content's first name.
        patient: whose picture it is, as the folder knew it then.
        reader: who decided.
        decision: one of `DECISIONS`, or `undo`.
        undoes: the entry that an `undo` takes back.
        comment: in the reader's words.
        reading: 1 for the first reader of the content, 2 for the second, and so on; another opinion of the same reader has the same.
        source: where it was given: `local` on the review page, `consult` in a package, `link` by a link to one case.
        blinded: whether the answer was hidden until the decision.
        answer: the bundle's decision, benign, malignant or review.
        p_malignant: the bundle's probability, 0..1.
        audit: whether the picture was in the random audit share and not in need of review.
        at: when it was filed, ISO 8601 with offset.
        decided_at: when it was decided, as its author says, where that is another time.
    """

    id: int
    uid: str
    sha256: str
    bundle_sha256: str
    path: str
    patient: str | None
    reader: str
    decision: str
    undoes: int | None
    comment: str
    reading: int
    source: str
    blinded: bool
    answer: str | None
    p_malignant: float | None
    audit: bool
    at: str
    decided_at: str | None


# What can speak against a sign-out, of one and of more pictures; also texts of the catalogues.
CONTRADICTIONS: Final = {
    "disagreement": ("Readers disagree on {n} picture.", "Readers disagree on {n} pictures."),
    "malignant": ("{n} picture has the answer or an opinion malignant.", "{n} pictures have the answer or an opinion malignant."),
    "not malignant": (
        "The only picture has neither the answer nor an opinion malignant.",
        "None of the {n} pictures has the answer or an opinion malignant.",
    ),
}


class ContradictionError(UsageError):
    """A sign-out against which answers or opinions speak; `pictures` is how many, by the keys of `CONTRADICTIONS`."""

    def __init__(self, pictures: dict[str, int]) -> None:
        sentences = " ".join(CONTRADICTIONS[name][number != 1].format(n=number) for name, number in pictures.items())
        super().__init__(f'{sentences} Look at them again, or sign out with "confirmed": true.')
        self.pictures = pictures


@dataclass(frozen=True, slots=True)
class SignOut:
    """The last word on a patient: `images` and `last_review` say what it was based on, `is_current` whether nothing has come since."""

    id: int
    uid: str
    patient: str
    reader: str
    decision: str
    comment: str
    images: int
    last_review: int
    at: str
    is_current: bool


def add(
    results: Results,
    sha256: str,
    decision: str,
    *,
    reader: str,
    comment: str = "",
    bundle_sha256: str | None = None,
    blinded: bool = False,
    source: str = "local",
    uid: str | None = None,
    decided_at: str | None = None,
) -> Review:
    """Adds an opinion.

    Args:
        results: the folder.
        sha256: the content.
        decision: one of `DECISIONS`.
        reader: who decided.
        comment: in the reader's words.
        bundle_sha256: the bundle whose answer the reader saw; the latest if not given.
        blinded: whether the answer was hidden until now.
        source: one of `SOURCES`.
        uid: the same for a repeated request, which gives the entry that is there; a fresh one if not given.
        decided_at: when it was decided, if not now.

    Raises:
        UsageError: there is no answer to this content, or something cannot be filed.
    """
    _check(decision, reader, comment)
    if source not in SOURCES:
        raise UsageError(f"The source {source!r} is unknown; give one of {', '.join(SOURCES)}.")
    with results.journal.transaction(flushed=True) as db:
        if uid and (known := _by_uid(db, uid)):
            return known
        case = _case(db, sha256, bundle_sha256)
        earlier = opinions(of_case(db, sha256))
        own = [review.reading for review in earlier if review.reader == reader]
        reading = own[0] if own else 1 + max((review.reading for review in earlier), default=0)
        values = {
            **{"uid": uid or uuid.uuid4().hex, "reader": reader, "decision": decision, "comment": comment, "reading": reading, "source": source},
            **{"blinded": blinded, "at": results.clock.text(), "decided_at": decided_at, "audit": case["reason"] == "audit"},
            **{name: case[name] for name in ("sha256", "bundle_sha256", "path", "patient", "answer", "p_malignant")},
        }
        return _insert(db, values)


def undo(results: Results, review_id: int, *, reader: str, uid: str | None = None) -> Review:
    """Takes an opinion back by a further entry.

    Raises:
        UsageError: it is not there, is another reader's, or was taken back before.
    """
    with results.journal.transaction(flushed=True) as db:
        if uid and (known := _by_uid(db, uid)):
            return known
        row = db.execute("SELECT * FROM reviews WHERE id = ?", (review_id,)).fetchone()
        if row is None or row["decision"] == "undo":
            raise UsageError(f"There is no opinion {review_id} to undo; take its number from the list of reviews.")
        if row["reader"] != reader:
            raise UsageError(f"Opinion {review_id} is {row['reader']}'s, and only its reader can undo it; add your own opinion.")
        if db.execute("SELECT 1 FROM reviews WHERE undoes = ?", (review_id,)).fetchone():
            raise UsageError(f"Opinion {review_id} was undone before; reload the case to see what holds.")
        kept = {name: value for name, value in dict(row).items() if name not in ("id", "decided_at")}
        changed = {"uid": uid or uuid.uuid4().hex, "decision": "undo", "undoes": review_id, "comment": "", "at": results.clock.text()}
        return _insert(db, kept | changed)


def of_case(db: sqlite3.Connection, sha256: str) -> list[Review]:
    """Every entry about a content, the earliest first."""
    return [_review(row) for row in db.execute("SELECT * FROM reviews WHERE sha256 = ? ORDER BY id", (sha256,))]


def listed(db: sqlite3.Connection, *, after: int = 0, limit: int = -1) -> Iterator[Review]:
    """Entries of the whole folder with a larger id than `after`, the earliest first."""
    return map(_review, db.execute("SELECT * FROM reviews WHERE id > ? ORDER BY id LIMIT ?", (after, limit)))


def opinions(entries: Iterable[Review]) -> list[Review]:
    """What holds of the entries about one content, the earliest first: the last opinion of each reader that was not taken back, by reading."""
    entries = list(entries)
    undone = {review.undoes for review in entries}
    latest = {review.reader: review for review in entries if review.decision != "undo" and review.id not in undone}
    return sorted(latest.values(), key=lambda review: review.reading)


def of_cases(db: sqlite3.Connection, hashes: Iterable[str]) -> dict[str, list[Review]]:
    """The opinions that hold about each of these contents, at most some thousand."""
    entries: dict[str, list[Review]] = {sha256: [] for sha256 in hashes}
    for row in db.execute(f"SELECT * FROM reviews WHERE sha256 IN ({', '.join('?' * len(entries))}) ORDER BY id", tuple(entries)):
        entries[row["sha256"]].append(_review(row))
    return {sha256: opinions(own) for sha256, own in entries.items()}


def sign_out(
    results: Results, patient: str, decision: str, *, reader: str, comment: str = "", uid: str | None = None, confirmed: bool = False
) -> SignOut:
    """Adds the last word on a patient; a later one replaces it.

    Args:
        results: the folder.
        patient: whose pictures.
        decision: one of `DECISIONS`.
        reader: who decided.
        comment: in the reader's words.
        uid: the same for a repeated request.
        confirmed: whether the reader knows what speaks against it.

    Raises:
        ContradictionError: something speaks against it, and it is not confirmed.
        UsageError: there is no such patient, pictures of it still need review, or something cannot be filed.
    """
    _check(decision, reader, comment)
    with results.journal.transaction(flushed=True) as db:
        if uid and db.execute("SELECT 1 FROM sign_outs WHERE uid = ?", (uid,)).fetchone():
            return next(entry for entry in sign_outs(db, patient) if entry.uid == uid)
        images, left, last_review = _basis(db, patient)
        if not images:
            raise UsageError(f"There is no patient {patient}; take the name from the list of patients.")
        if left:
            raise UsageError(f"Patient {patient} cannot be signed out while pictures need review; review {left} of {images} first.")
        contradicting = contradictions(db, patient, decision)
        if contradicting and not confirmed:
            raise ContradictionError(contradicting)
        db.execute(
            "INSERT INTO sign_outs (uid, patient, reader, decision, comment, images, last_review, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (uid or uuid.uuid4().hex, patient, reader, decision, comment, images, last_review, results.clock.text()),
        )
        return sign_outs(db, patient)[-1]


def sign_outs(db: sqlite3.Connection, patient: str) -> list[SignOut]:
    """Of one patient, the earliest first; only the last can be current."""
    rows = db.execute("SELECT * FROM sign_outs WHERE patient = ? ORDER BY id", (patient,)).fetchall()
    if not rows:
        return []
    images, _, last_review = _basis(db, patient)
    current = [row is rows[-1] and (row["images"], row["last_review"]) == (images, last_review) for row in rows]
    return [SignOut(**dict(row), is_current=is_current) for row, is_current in zip(rows, current, strict=True)]


def contradictions(db: sqlite3.Connection, patient: str, decision: str) -> dict[str, int]:
    """What speaks against this last word on a patient: how many pictures, by the keys of `CONTRADICTIONS`."""
    rows = db.execute(f"SELECT sha256, decision, disagreement FROM cases WHERE {_OF_PATIENT}", (patient,)).fetchall()
    holding = of_cases(db, (row["sha256"] for row in rows))
    malignant = sum("malignant" in {row["decision"], *(review.decision for review in holding[row["sha256"]])} for row in rows)
    numbers = {
        "disagreement": sum(row["disagreement"] for row in rows),
        "malignant": malignant if decision != "malignant" else 0,
        "not malignant": len(rows) if decision == "malignant" and not malignant else 0,
    }
    return {name: number for name, number in numbers.items() if number}


def _basis(db: sqlite3.Connection, patient: str) -> tuple[int, int, int]:
    """How many pictures a patient has, how many of them are open, and the last review of any."""
    images, left = db.execute(f"SELECT COUNT(*), TOTAL(open) FROM cases WHERE {_OF_PATIENT}", (patient,)).fetchone()
    last = db.execute(f"SELECT MAX(id) FROM reviews WHERE {_OF_PATIENT}", (patient,)).fetchone()
    return images, int(left), last[0] or 0


def _check(decision: str, reader: str, comment: str) -> None:
    if decision not in DECISIONS:
        raise UsageError(f"The decision {decision!r} is unknown; give one of {', '.join(DECISIONS)}.")
    if not reader.strip() or len(reader) > LONGEST_NAME:
        raise UsageError(f"The reader's name {reader[:LONGEST_NAME]!r} is empty or too long; give 1 to {LONGEST_NAME} characters.")
    if len(comment) > LONGEST_COMMENT:
        raise UsageError(f"The comment has {len(comment)} characters; shorten it to {LONGEST_COMMENT}.")


def _case(db: sqlite3.Connection, sha256: str, bundle_sha256: str | None) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute(
        """SELECT sha256, images.bundle_sha256, cases.path, patient, images.decision AS answer, images.p_malignant, reason
           FROM cases JOIN images USING (sha256) WHERE sha256 = ? AND state = 'done' AND images.bundle_sha256 = COALESCE(?, cases.bundle_sha256)""",
        (sha256, bundle_sha256),
    ).fetchone()
    if row is None:
        raise UsageError(f"There is no answer to review with SHA-256 {sha256[:64]}; take it from the queue.")
    return row


def _insert(db: sqlite3.Connection, values: dict[str, object]) -> Review:
    marks = ", ".join("?" * len(values))
    row = db.execute(f"INSERT INTO reviews ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))
    entries = of_case(db, str(values["sha256"]))
    holding = opinions(entries)
    first, second = [*(review.decision for review in holding), None, None][:2]
    db.execute(
        "UPDATE cases SET opinions = ?, first = ?, second = ?, disagreement = ?, reviewed_at = ? WHERE sha256 = ?",
        (len(holding), first, second, len({review.decision for review in holding}) > 1, values["at"], values["sha256"]),
    )
    return next(review for review in entries if review.id == row.lastrowid)


def _by_uid(db: sqlite3.Connection, uid: str) -> Review | None:
    row = db.execute("SELECT * FROM reviews WHERE uid = ?", (uid,)).fetchone()
    return _review(row) if row else None


def _review(row: sqlite3.Row) -> Review:
    values = dict(row)
    path = os.fsdecode(values["path"] or b"")
    return Review(**values | {"path": path, "blinded": bool(values["blinded"]), "audit": bool(values["audit"])})
