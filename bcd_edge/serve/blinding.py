"""What a reader must not see yet: others' opinions of a picture and, in blinded mode, its answer, while the reader has no opinion of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from bcd_edge.results import reviews
from bcd_edge.results.reviews import Review, SignOut


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks. `is_admin` takes all reviews and labels by the API, as an export; `is_blinded` is the blinded mode."""

    name: str
    is_admin: bool
    is_blinded: bool

    def hides_opinions(self, holding: Iterable[Review]) -> bool:
        """Whether others' opinions of a picture are hidden, of those that hold."""
        return not self.has_opinion(holding)

    def hides_answer(self, holding: Iterable[Review]) -> bool:
        """Whether a picture's answer is hidden."""
        return self.is_blinded and not self.has_opinion(holding)

    def has_opinion(self, holding: Iterable[Review]) -> bool:
        """Whether one of these opinions is the viewer's own."""
        return any(review.reader == self.name for review in holding)

    def hides_sign_outs(self, holding: Iterable[list[Review]]) -> bool:
        """Whether others' sign-outs are hidden, of the opinions that hold on each picture of a patient: while one is."""
        return any(opinions and self.hides_opinions(opinions) for opinions in holding)


def viewer(request: Request) -> Viewer:
    """Who asks for a page or by the API."""
    person = request.state.person
    return Viewer(person.name, "admin" in person.roles, request.app.state.settings.blinded)


def hidden_case(holding: list[Review], who: Viewer) -> dict[str, Any]:
    """What of a case is hidden, and the opinions that hold where they are not, the first reader's first."""
    is_blind = who.hides_opinions(holding)
    decisions = [] if is_blind else [review.decision for review in holding]
    return {"is_hidden": who.hides_answer(holding), "is_blind": is_blind and bool(holding), "decisions": decisions}


def of_patient(db: sqlite3.Connection, patient: str) -> list[list[Review]]:
    """The opinions that hold on each picture of a patient."""
    rows = db.execute("SELECT sha256 FROM cases WHERE sha256 IN (SELECT sha256 FROM names WHERE patient = ?)", (patient,))
    return list(reviews.of_cases(db, [row["sha256"] for row in rows]).values())


def sign_outs(db: sqlite3.Connection, patient: str, who: Viewer) -> tuple[list[SignOut], int]:
    """The sign-outs of a patient that may be seen, and how many may not."""
    entries = reviews.sign_outs(db, patient)
    if not entries or not who.hides_sign_outs(of_patient(db, patient)):
        return entries, 0
    shown = [entry for entry in entries if entry.reader == who.name]
    return shown, len(entries) - len(shown)


def hides_answers(db: sqlite3.Connection, patient: str, who: Viewer) -> bool:
    """Whether what a patient's answers say together is hidden: while the answer of one picture is."""
    return who.is_blinded and any(map(who.hides_answer, of_patient(db, patient)))
