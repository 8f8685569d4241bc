"""Opinions and sign-outs, filed for whoever asks, and what was seen: an entry and its audit are one transaction."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from bcd_edge.results import audit, reviews
from bcd_edge.results.folder import Results
from bcd_edge.results.reviews import Review, SignOut
from bcd_edge.serve import blinding
from bcd_edge.serve.auth import address


async def review(request: Request, body: dict[str, Any]) -> Review:
    """Files an opinion.

    Raises:
        UsageError: it cannot be filed.
    """
    source = _source(request)
    given = {name: value for name, value in body.items() if name not in ("sha256", "decision")}

    def write(results: Results) -> Review:
        filed = reviews.add(results, body["sha256"], body["decision"], reader=source["who"], **given)
        audit.add_review(results, filed.uid, **source)
        return filed

    added: Review = await request.app.state.store.write(write)
    return added


async def undo(request: Request, review_id: int, body: dict[str, Any]) -> Review:
    """Files that an opinion is taken back.

    Raises:
        UsageError: it cannot be.
    """
    source = _source(request)

    def write(results: Results) -> Review:
        filed = reviews.undo(results, review_id, reader=source["who"], **body)
        audit.add_review(results, filed.uid, **source)
        return filed

    undone: Review = await request.app.state.store.write(write)
    return undone


async def sign_out(request: Request, patient: str, body: dict[str, Any]) -> SignOut:
    """Files the last word on a patient.

    Raises:
        UsageError: pictures still need review, or in blinded mode the reader has not seen all.
    """
    source, who = _source(request), blinding.viewer(request)

    def write(results: Results) -> SignOut:
        blinding.check_sign_out(results.journal.connection, patient, who)
        filed = reviews.sign_out(results, patient, reader=source["who"], **body)
        audit.add_sign_out(results, filed.uid, **source)
        return filed

    signed: SignOut = await request.app.state.store.write(write)
    return signed


async def view(request: Request, about: str) -> None:
    """Notes who saw a case or patient."""
    source = _source(request)
    await request.app.state.store.write(lambda results: audit.add(results, "view", about=about, **source))


def _source(request: Request) -> dict[str, str]:
    return {"who": request.state.person.name, "address": address(request)}
