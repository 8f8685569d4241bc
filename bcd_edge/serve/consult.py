"""Cases for readers elsewhere: a ZIP to save, and `/consult/TOKEN`, for which no account is needed."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from bcd_edge.consult import links, opinion
from bcd_edge.consult.links import Link, LinkError
from bcd_edge.consult.package import Package, build, find, note_export, policy
from bcd_edge.results import audit, worklist
from bcd_edge.results.folder import Results
from bcd_edge.results.journal import NAME, connect
from bcd_edge.results.reviews import LONGEST_NAME
from bcd_edge.serve.auth import address, requires
from bcd_edge.serve.settings import Settings

HEADERS: Final = {
    "Content-Security-Policy": f"{policy(link=True)}; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
}
# Making a page decodes every picture of the case: two at a time.
_BUILDERS: Final = ThreadPoolExecutor(2, "bcd-edge consult")


@requires()
async def show(request: Request) -> Response:
    """The page with the form."""
    link = await _link(request)
    package = await _built(request.app.state.settings, link.pictures, recipient=link.recipient, package_id=link.id, link=True)

    def note(results: Results) -> None:
        for sha256 in link.pictures:
            audit.add(results, "view", who=f"link {link.id[:8]}", address=address(request), about=sha256, recipient=link.recipient)

    await request.app.state.store.write(note)
    return HTMLResponse(package.html, headers=HEADERS)


@requires()
async def answer(request: Request) -> Response:
    """Takes the opinion; 409 if there is another one."""
    link = await _link(request)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > opinion.LARGEST:
            raise HTTPException(413, f"The opinion is larger than {opinion.LARGEST:,} bytes; shorten the comments.")
    given = await request.app.state.store.read(lambda db: opinion.check(db, bytes(body)))
    try:
        filed = await request.app.state.store.write(lambda results: links.answer(results, link, given, address=address(request)))
    except LinkError as error:
        raise HTTPException(409, str(error)) from None
    return JSONResponse({"filed": len(filed.reviews)})


@requires("reviewer", "admin")
async def export(request: Request) -> Response:
    """A picture, or all of its patient, as a ZIP with a page."""
    form, state, person = await request.form(), request.app.state, request.state.person
    recipient = str(form.get("recipient", "")).strip()[:LONGEST_NAME]
    pictures = await state.store.read(lambda db: _pictures(db, request.path_params["sha256"], is_whole=form.get("whole") == "yes"))
    package = await _built(state.settings, pictures, recipient=recipient)
    await state.store.write(lambda results: note_export(results, package, who=person.name, address=address(request)))
    disposition = f'attachment; filename="case-{package.id[:8]}.zip"'
    return Response(package.zip, media_type="application/zip", headers={"Content-Disposition": disposition})


def routes() -> list[Route]:
    """`/consult/TOKEN`, and the button of a case's page."""
    return [
        Route("/consult/{token}", show, methods=["GET"]),
        Route("/consult/{token}", answer, methods=["POST"]),
        Route("/cases/{sha256}/consult", export, methods=["POST"]),
    ]


def _pictures(db: sqlite3.Connection, sha256: str, *, is_whole: bool) -> list[str]:
    case = worklist.case(db, sha256)
    if case is None:
        raise HTTPException(404, "There is no such case; take it from the worklist.")
    return find(db, case.patient) if is_whole and case.patient else [sha256]


async def _link(request: Request) -> Link:
    """The link that the request came by.

    Raises:
        HTTPException: 404, there is none; 410, it was valid once.
    """
    try:
        link: Link = await request.app.state.store.read(lambda db: links.verify(db, request.path_params["token"], time.time()))
    except LinkError as error:
        raise HTTPException(410 if error.is_known else 404, str(error)) from None
    return link


async def _built(settings: Settings, pictures: Sequence[str], **more: Any) -> Package:
    def work() -> Package:
        with closing(connect(settings.results / NAME)) as db:
            return build(db, settings.results, pictures, inbox=settings.inbox, **more)

    return await asyncio.get_running_loop().run_in_executor(_BUILDERS, work)
