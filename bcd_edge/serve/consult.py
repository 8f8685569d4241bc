"""Cases for readers elsewhere: a ZIP to save, links, what comes back; and `/consult/TOKEN`, for which no account is needed."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from bcd_edge.consult import links, opinion
from bcd_edge.consult.links import Link, LinkError
from bcd_edge.consult.opinion import Filed
from bcd_edge.consult.package import MOST_PICTURES, Package, build, find, note_export, policy
from bcd_edge.errors import BcdEdgeError, InputError
from bcd_edge.languages import languages
from bcd_edge.results import audit, worklist
from bcd_edge.results.folder import Results
from bcd_edge.results.journal import NAME, connect
from bcd_edge.results.reviews import LONGEST_NAME
from bcd_edge.serve.auth import address, requires
from bcd_edge.serve.pages import language, render
from bcd_edge.serve.security import wants_page
from bcd_edge.serve.settings import Settings

HEADERS: Final = {
    "Content-Security-Policy": f"{policy(link=True)}; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
}
# Of a link that is made on a page.
LINK_S: Final = 7 * 86400.0
# Making a page decodes every picture of the case: two at a time.
_BUILDERS: Final = ThreadPoolExecutor(2, "bcd-edge consult")


@requires()
async def show(request: Request) -> Response:
    """The page with the form."""
    link = await _link(request)
    package = await _built(request, link.pictures, recipient=link.recipient, package_id=link.id, link=True)

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
    person = request.state.person
    recipient, pictures = await _asked(request)
    chosen = str((await request.form()).get("language", ""))
    package = await _built(request, pictures, recipient=recipient, language=chosen if chosen in languages() else language(request))
    await request.app.state.store.write(lambda results: note_export(results, package, who=person.name, address=address(request)))
    disposition = f'attachment; filename="case-{package.id[:8]}.zip"'
    return Response(package.zip, media_type="application/zip", headers={"Content-Disposition": disposition})


@requires("reviewer", "admin")
async def make_link(request: Request) -> Response:
    """A link to a picture, or to all of its patient; it is on the page that this leads to."""
    recipient, pictures = await _asked(request)
    who, where = request.state.person.name, address(request)

    def make(results: Results) -> None:
        links.make(results, pictures, lifetime_s=LINK_S, recipient=recipient, who=who, address=where)

    await request.app.state.store.write(make)
    return RedirectResponse("/consult", 303)


@requires("reviewer", "admin")
async def revoke(request: Request) -> Response:
    """Has a link accepted no more."""
    who, where, link_id = request.state.person.name, address(request), request.path_params["id"]
    await request.app.state.store.write(lambda results: links.revoke(results, link_id, who=who, address=where))
    return RedirectResponse("/consult", 303)


@requires("reviewer", "admin")
async def overview(request: Request) -> Response:
    """Every link, and the form for an opinion that came back."""
    return await _overview(request)


async def _overview(request: Request, problem: str = "", status: int = 200) -> Response:
    base, now = str(request.base_url), time.time()

    filed, numbers = request.query_params.get("filed", ""), request.query_params.get("reviews", "").split(",")[:MOST_PICTURES]
    store = request.app.state.store

    def find_all(db: sqlite3.Connection) -> dict[str, Any]:
        # whose and on what, and not what: whoever brings an opinion in may be the next reader
        rows = [
            db.execute("SELECT reader, sha256, path FROM reviews WHERE id = ?", (int(number),)).fetchone() for number in filter(_is_number, numbers)
        ]
        opinions = [dict(row) | {"path": store.display_name(os.fsdecode(row["path"] or b""))} for row in rows if row]
        return {"links": [_shown(db, link, base, now) for link in links.listed(db)], "opinions": opinions}

    listing = await store.read(find_all)
    return render(request, "consult.html", status, **listing, filed=int(filed) if _is_number(filed) else None, problem=problem)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 16


def _shown(db: sqlite3.Connection, link: Link, base: str, now: float) -> dict[str, Any]:
    is_valid = link.revoked_at is None and link.expires > now
    until = datetime.fromtimestamp(link.expires).astimezone().isoformat()
    return asdict(link) | {"until": until, "url": f"{base}consult/{links.token(db, link.id, link.expires)}" if is_valid else None}


@requires("reviewer", "admin")
async def import_opinion(request: Request) -> Response:
    """Files an opinion that came back as a file."""
    content = str((await request.form()).get("opinion", "")).encode(errors="replace")
    who, where = request.state.person.name, address(request)

    def file(results: Results) -> Filed:
        given = opinion.check(results.journal.connection, content)
        return opinion.file(results, given, source="consult", who=who, address=where)

    try:
        filed = await request.app.state.store.write(file)
    except InputError as error:
        if not wants_page(request):
            raise
        return await _overview(request, str(error), 422)
    return RedirectResponse(f"/consult?filed={filed.new}&reviews={','.join(str(review.id) for review in filed.reviews)}", 303)


def routes() -> list[Route]:
    """`/consult` for readers, `/consult/TOKEN` for those elsewhere, and the buttons of a case's page."""
    return [
        Route("/consult", overview, methods=["GET"]),
        Route("/consult", import_opinion, methods=["POST"]),
        Route("/consult/{token}", show, methods=["GET"]),
        Route("/consult/{token}", answer, methods=["POST"]),
        Route("/consult/links/{id}/revoke", revoke, methods=["POST"]),
        Route("/cases/{sha256}/consult", export, methods=["POST"]),
        Route("/cases/{sha256}/link", make_link, methods=["POST"]),
    ]


async def _asked(request: Request) -> tuple[str, list[str]]:
    """For whom, and which pictures, of the form on a case's page; their overlays are drawn, where that was asked for and can be."""
    form, sha256 = await request.form(), request.path_params["sha256"]
    recipient = str(form.get("recipient", "")).strip()[:LONGEST_NAME]
    pictures = await request.app.state.store.read(lambda db: _pictures(db, sha256, is_whole=form.get("whole") == "yes"))
    has_overlays = form.get("overlays") == "yes" and not request.app.state.settings.blinded
    for record in await request.app.state.store.read(lambda db: _records(db, pictures)) if has_overlays else ():
        with suppress(BcdEdgeError):
            await request.app.state.explainer.file(request, record, "layer")
    return recipient, pictures


def _records(db: sqlite3.Connection, pictures: list[str]) -> list[dict[str, Any]]:
    query = "SELECT record FROM cases JOIN images USING (sha256, bundle_sha256) WHERE sha256 = ?"
    return [json.loads(db.execute(query, (sha256,)).fetchone()["record"]) for sha256 in pictures[:MOST_PICTURES]]


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


async def _built(request: Request, pictures: Sequence[str], **more: Any) -> Package:
    """The page, without answers in blinded mode: a reader here can open it, too."""
    settings: Settings = request.app.state.settings
    given: dict[str, Any] = {"language": language(request), "has_answers": not settings.blinded, "inbox": settings.inbox} | more

    def work() -> Package:
        with closing(connect(settings.results / NAME)) as db:
            return build(db, settings.results, pictures, **given)

    return await asyncio.get_running_loop().run_in_executor(_BUILDERS, work)
