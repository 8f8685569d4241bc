"""What readers say of a picture together: the label that training and monitoring take, or why there is none.

1. Who cannot tell contradicts nobody. If the other readers agree, their decision is the outcome.
2. If one finds it unusable and another does not, or one benign and another malignant, they disagree. The patient's current
   sign-out settles that: as benign, no picture of the patient shows cancer, so that benign beats malignant; otherwise the opinion of
   the reader who signed out as benign or malignant counts, because a malignant patient has benign pictures, too.
3. A picture that every reader calls malignant, of a patient signed out as benign, is a disagreement, too.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from typing import Final, Literal

from bcd_edge.results import reviews
from bcd_edge.results.reviews import Review, SignOut

Outcome = Literal["benign", "malignant", "cannot tell", "unusable", "disagreement"]
LABELS: Final = ("benign", "malignant")


def outcome(opinions: Sequence[Review], sign_out: SignOut | None = None) -> Outcome:
    """The outcome for one picture.

    Args:
        opinions: those that hold, of `reviews.opinions`, at least one.
        sign_out: of its patient, if it is current.
    """
    decisions = {review.decision for review in opinions} - {"cannot tell"}
    final = sign_out.decision if sign_out else None
    if not decisions:
        return "cannot tell"
    if len(decisions) == 1 and not (decisions == {"malignant"} and final == "benign"):
        return decisions.pop()  # type: ignore[return-value]
    if decisions == set(LABELS) and final == "benign":
        return "benign"
    own = {review.decision for review in opinions if sign_out and review.reader == sign_out.reader} & set(LABELS)
    if not own or final not in LABELS or (own == {"malignant"} and final == "benign"):
        return "disagreement"
    return own.pop()  # type: ignore[return-value]


def outcomes(db: sqlite3.Connection) -> dict[str, Outcome]:
    """SHA-256 of every content with an opinion that holds, to its outcome."""
    entries: dict[str, list[Review]] = defaultdict(list)
    for review in reviews.listed(db):
        entries[review.sha256].append(review)
    last = {name: reviews.sign_outs(db, name)[-1] for (name,) in db.execute("SELECT DISTINCT patient FROM sign_outs").fetchall()}
    current = {name: entry for name, entry in last.items() if entry.is_current}
    patients = dict(db.execute("SELECT sha256, patient FROM cases WHERE opinions > 0").fetchall())
    holding = {sha256: reviews.opinions(own) for sha256, own in entries.items()}
    return {sha256: outcome(own, current.get(patients.get(sha256))) for sha256, own in holding.items() if own}
