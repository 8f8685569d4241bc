"""What a reader must not see yet: others' opinions of a picture and, in blinded mode, its answer, while the reader has no opinion of it.

A reader is whoever may review, an admin too. Accounts that only hand pictures in get every answer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request

from bcd_edge.errors import UsageError
from bcd_edge.results import reviews
from bcd_edge.results.reviews import Review, SignOut

# Of a record, where its answer is hidden.
NO_ANSWER: Final[dict[str, Any]] = {
    "label": None,
    "p_malignant": None,
    "decision": None,
    "reasons": [],
    "quality": None,
    "novelty": None,
    "slide": None,
}


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks. `is_admin` takes all reviews and labels by the API, as an export; `is_blinded` is a reader in blinded mode."""

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
    return Viewer(person.name, "admin" in person.roles, request.app.state.settings.blinded and "reviewer" in person.roles)


async def hidden(request: Request, hashes: Iterable[str]) -> set[str]:
    """The contents of these, at most some thousand, whose answer is hidden from whoever asks."""
    who = viewer(request)
    if not who.is_blinded:
        return set()
    holding: dict[str, list[Review]] = await request.app.state.store.read(lambda db: reviews.of_cases(db, hashes))
    return {sha256 for sha256, opinions in holding.items() if who.hides_answer(opinions)}


async def check_answer(request: Request, sha256: str) -> None:
    """Whether whoever asks may see what the answer to a content is made of.

    Raises:
        HTTPException: 403, it is hidden.
    """
    if await hidden(request, [sha256]):
        raise HTTPException(403, "The answer and its explanation are shown after your opinion; decide on this picture first.")


def check_machine(request: Request) -> None:
    """Whether whoever asks may have answers to pixels, which have no opinions, and numbers of all answers, which tell the next one.

    Raises:
        HTTPException: 403, it is a reader in blinded mode.
    """
    if viewer(request).is_blinded:
        raise HTTPException(403, "In blinded mode a reader may not see this; call with the token of an account with the role submitter.")


def check_sign_out(db: sqlite3.Connection, patient: str, who: Viewer) -> None:
    """Whether a reader may sign a patient out, which tells what speaks against it.

    Raises:
        UsageError: it would give away an answer that is hidden.
    """
    if who.is_blinded and who.hides_sign_outs(of_patient(db, patient)):
        raise UsageError("In blinded mode a patient is signed out by who has an opinion of each reviewed picture; give yours of the others first.")


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
    own = [entry for entry in entries if entry.reader == who.name]
    return own, len(entries) - len(own)


def hides_answers(db: sqlite3.Connection, patient: str, who: Viewer) -> bool:
    """Whether what a patient's answers say together is hidden: while the answer of one picture is."""
    return who.is_blinded and any(map(who.hides_answer, of_patient(db, patient)))
