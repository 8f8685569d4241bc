"""Opinions and sign-outs, filed for whoever asks: the entry and its audit are one transaction."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from bcd_edge.results import reviews
from bcd_edge.results.folder import Results
from bcd_edge.results.reviews import Review, SignOut


async def review(request: Request, body: dict[str, Any]) -> Review:
    """Files an opinion.

    Raises:
        UsageError: it cannot be filed.
    """
    reader = request.state.person.name

    def write(results: Results) -> Review:
        given = {name: value for name, value in body.items() if name not in ("sha256", "decision")}
        return reviews.add(results, body["sha256"], body["decision"], reader=reader, **given)

    filed: Review = await request.app.state.store.write(write)
    return filed


async def undo(request: Request, review_id: int, body: dict[str, Any]) -> Review:
    """Files that an opinion is taken back.

    Raises:
        UsageError: it cannot be.
    """
    reader = request.state.person.name
    filed: Review = await request.app.state.store.write(lambda results: reviews.undo(results, review_id, reader=reader, **body))
    return filed


async def sign_out(request: Request, patient: str, body: dict[str, Any]) -> SignOut:
    """Files the last word on a patient.

    Raises:
        UsageError: pictures still need review.
    """
    reader = request.state.person.name
    filed: SignOut = await request.app.state.store.write(lambda results: reviews.sign_out(results, patient, reader=reader, **body))
    return filed
