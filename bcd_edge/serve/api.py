"""The HTTP API below /api/v1, but for uploads, which are in `submitting`; its document is in `openapi`."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from bcd_edge.errors import InputError
from bcd_edge.results import consensus, report, reviews, worklist
from bcd_edge.results.worklist import Case, Filter
from bcd_edge.serve import filing, openapi, pictures, uploads
from bcd_edge.serve.auth import requires
from bcd_edge.serve.bodies import arguments, json_body

BASE: Final = "/api/v1"
NAMED: Final = "SELECT path, patient, slide, answered_at, record FROM names JOIN images USING (sha256, bundle_sha256)"
EVERYONE: Final = ("submitter", "reviewer", "admin")


def shown_record(request: Request, record: dict[str, Any]) -> dict[str, Any]:
    """A record with names as this folder shows them."""
    shown = request.app.state.store.shown
    named = record | {"source": shown(record["source"])}
    if "intake" in record:
        named["intake"] = record["intake"] | {"patient": record["intake"]["patient"] and shown(record["intake"]["patient"])}
    return named


async def record_of(request: Request) -> dict[str, Any]:
    """The latest answer to the content in the path.

    Raises:
        HTTPException: 404 there is none.
    """
    sha256 = _sha256(request)

    def find(db: sqlite3.Connection) -> str | None:
        row = db.execute("SELECT record FROM cases JOIN images USING (sha256, bundle_sha256) WHERE sha256 = ?", (sha256,)).fetchone()
        return row["record"] if row else None

    text = await request.app.state.store.read(find)
    if text is None:
        raise HTTPException(404, f"There is no answer to a picture with SHA-256 {sha256[:12]}...; send the picture first.")
    record: dict[str, Any] = json.loads(text)
    return record


def _sha256(request: Request) -> str:
    sha256: str = request.path_params["sha256"]
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise HTTPException(404, "That is no SHA-256; it has 64 of the characters 0-9 and a-f.")
    return sha256


@requires(*EVERYONE)
async def get_image(request: Request) -> Response:
    """An answer, or 202 while it is pending."""
    arguments(request)
    try:
        return JSONResponse(shown_record(request, await record_of(request)))
    except HTTPException:
        about = uploads.pending(request.app.state.settings.results, request.path_params["sha256"])
        if about is None:
            raise
    if "error" in about:
        return JSONResponse(shown_record(request, about["record"]), 422)
    return JSONResponse({"sha256": request.path_params["sha256"], "status": "pending"}, 202, {"retry-after": "1"})


async def picture_bytes(request: Request) -> bytes:
    """The bytes of the picture in the path; 404 where they are gone."""
    try:
        data: bytes = await request.app.state.store.read(lambda db: pictures.read(db, request.app.state.settings, _sha256(request)))
    except InputError as error:
        raise HTTPException(404, str(error)) from None
    return data


@requires("reviewer", "admin")
async def get_picture(request: Request) -> Response:
    """The pixels."""
    arguments(request)
    if request.state.person.csrf is None:  # a page notes that the case was seen
        await filing.view(request, _sha256(request))
    shown = await asyncio.to_thread(pictures.shown, await picture_bytes(request))
    return Response(shown, media_type="image/png", headers={"cache-control": "private, max-age=3600"})


@requires("reviewer", "admin")
async def get_overlay(request: Request) -> Response:
    """The explanation as a picture."""
    return await _explained(request, "layer" if arguments(request)["layer"] else "overlay", "image/png")


@requires("reviewer", "admin")
async def get_explanation(request: Request) -> Response:
    """The explanation as numbers."""
    arguments(request)
    return await _explained(request, "explanation", "application/json")


async def _explained(request: Request, kind: str, media_type: str) -> Response:
    record = await record_of(request)
    try:
        path = await request.app.state.explainer.file(request, record, kind)
    except InputError as error:
        raise HTTPException(404, str(error)) from None
    return FileResponse(path, media_type=media_type)


@requires("reviewer", "admin")
async def get_records(request: Request) -> Response:
    """Answers by name."""
    asked = arguments(request)

    def find(db: sqlite3.Connection) -> list[dict[str, Any]]:
        rows = db.execute(
            f"{NAMED} ORDER BY names.rowid DESC LIMIT ? OFFSET ?",
            (asked["limit"], asked["offset"]),
        )
        return [named_record(row) for row in rows]

    records = await request.app.state.store.read(find)
    return JSONResponse({"records": [shown_record(request, record) for record in records]})


def named_record(row: sqlite3.Row) -> dict[str, Any]:
    """The record as of this name."""
    record: dict[str, Any] = json.loads(row["record"])
    own = {"patient": row["patient"], "slide": row["slide"], "answered": row["answered_at"]}
    return record | {"source": os.fsdecode(row["path"]), "intake": record["intake"] | own}


def plain_case(case: Case, shown: Callable[[str], str]) -> dict[str, Any]:
    """A case for clients: without what tells that it was drawn at random."""
    values = {name: value for name, value in asdict(case).items() if name not in ("reason", "urgency")}
    return values | {"path": shown(case.path), "patient": case.patient and shown(case.patient)}


@requires("reviewer", "admin")
async def get_queue(request: Request) -> Response:
    """The worklist."""
    asked, store, reader = arguments(request), request.app.state.store, request.state.person.name
    chosen = await chosen_cases(request, asked)

    def find(db: sqlite3.Connection) -> dict[str, Any]:
        cases, total = worklist.page(db, chosen, limit=asked["limit"], offset=asked["offset"])
        return {
            "cases": [plain_case(case, store.shown) for case in cases],
            "total": total,
            "counts": worklist.counts(db, reader),
        }

    return JSONResponse(await store.read(find))


async def chosen_cases(request: Request, asked: dict[str, Any]) -> Filter:
    """The filter in a query's parameters, for this reader."""
    patient = await patient_named(request, asked["patient"]) if asked.get("patient") else None
    return Filter(asked.get("state", "open"), asked.get("decision") or None, patient, asked.get("text") or "", request.state.person.name)


async def patient_named(request: Request, given: str) -> str:
    """The patient behind a name as it is shown, which may be a pseudonym."""
    shown = request.app.state.store.shown

    def find(db: sqlite3.Connection) -> str:
        if db.execute("SELECT 1 FROM cases WHERE patient = ?", (given,)).fetchone() and shown(given) == given:
            return given
        rows = db.execute("SELECT DISTINCT patient FROM cases WHERE patient IS NOT NULL")
        return next((row["patient"] for row in rows if shown(row["patient"]) == given), given)

    patient: str = await request.app.state.store.read(find)
    return patient


@requires("reviewer", "admin")
async def get_patients(request: Request) -> Response:
    """Patients and what their pictures say together."""
    asked, store = arguments(request), request.app.state.store

    def find(db: sqlite3.Connection) -> list[dict[str, Any]]:
        opened = dict(db.execute("SELECT patient, TOTAL(open) FROM cases WHERE patient IS NOT NULL GROUP BY patient").fetchall())
        found = report.patients(db, asked["limit"])
        return [asdict(patient) | {"name": store.shown(patient.name), "open": int(opened.get(patient.name, 0))} for patient in found]

    return JSONResponse({"patients": await store.read(find)})


@requires("reviewer", "admin")
async def get_patient(request: Request) -> Response:
    """One patient."""
    arguments(request)
    store, patient = request.app.state.store, await patient_named(request, request.path_params["patient"])

    def find(db: sqlite3.Connection) -> dict[str, Any]:
        cases = worklist.cases(db, Filter("all", patient=patient), limit=1000)
        signed = [asdict(entry) | {"patient": store.shown(entry.patient)} for entry in reviews.sign_outs(db, patient)]
        return {"patient": store.shown(patient), "cases": [plain_case(case, store.shown) for case in cases], "sign_outs": signed}

    answer = await store.read(find)
    if not answer["cases"]:
        raise HTTPException(404, "There is no such patient; take the name from the list of patients.")
    await filing.view(request, patient)
    return JSONResponse(answer)


@requires("reviewer")
async def post_sign_out(request: Request) -> Response:
    """Signs a patient out."""
    patient = await patient_named(request, request.path_params["patient"])
    entry = await filing.sign_out(request, patient, await json_body(request, "NewSignOut"))
    return JSONResponse(asdict(entry) | {"patient": request.app.state.store.shown(entry.patient)}, 201)


def plain_review(review: reviews.Review, shown: Callable[[str], str]) -> dict[str, Any]:
    """A review for clients."""
    values = {name: value for name, value in asdict(review).items() if name != "audit"}
    return values | {"path": shown(review.path), "patient": review.patient and shown(review.patient)}


@requires("reviewer", "admin")
async def get_reviews(request: Request) -> Response:
    """Entries in their order."""
    asked, store = arguments(request), request.app.state.store
    entries = await store.read(lambda db: list(reviews.listed(db, after=asked["after"], limit=asked["limit"])))
    following = entries[-1].id if entries else asked["after"]
    return JSONResponse({"reviews": [plain_review(review, store.shown) for review in entries], "next": following})


@requires("reviewer")
async def post_review(request: Request) -> Response:
    """Adds an opinion."""
    review = await filing.review(request, await json_body(request, "NewReview"))
    return JSONResponse(plain_review(review, request.app.state.store.shown), 201)


@requires("reviewer")
async def post_undo(request: Request) -> Response:
    """Takes an opinion back."""
    given = request.path_params["id"]
    if not (given.isascii() and given.isdecimal() and len(given) <= 15):
        raise HTTPException(404, "That is no number of a review; take it from the list of reviews.")
    review = await filing.undo(request, int(given), await json_body(request, "Undo"))
    return JSONResponse(plain_review(review, request.app.state.store.shown), 201)


@requires("reviewer", "admin")
async def get_labels(request: Request) -> Response:
    """What the readers of each picture say together."""
    asked, store = arguments(request), request.app.state.store

    def find(db: sqlite3.Connection) -> list[dict[str, Any]]:
        outcomes = sorted(consensus.outcomes(db).items())[asked["offset"] :][: asked["limit"]]
        cases = {sha256: worklist.case(db, sha256) for sha256, _ in outcomes}
        return [
            {"sha256": sha256, "patient": case.patient and store.shown(case.patient), "outcome": outcome, "readers": case.opinions}
            for sha256, outcome in outcomes
            if (case := cases[sha256])
        ]

    return JSONResponse({"labels": await store.read(find)})


@requires(*EVERYONE)
async def get_document(request: Request) -> Response:
    """The OpenAPI document."""
    return JSONResponse(openapi.document())


@requires(*EVERYONE)
async def get_session(request: Request) -> Response:
    """Who is signed in, and the CSRF token that changes must carry."""
    arguments(request)
    person = request.state.person
    return JSONResponse({"name": person.name, "roles": sorted(person.roles), "csrf": person.csrf})


HANDLERS: Final = {
    ("GET", "/session"): get_session,
    ("GET", "/images/{sha256}"): get_image,
    ("GET", "/images/{sha256}/picture"): get_picture,
    ("GET", "/images/{sha256}/overlay"): get_overlay,
    ("GET", "/images/{sha256}/explanation"): get_explanation,
    ("GET", "/records"): get_records,
    ("GET", "/patients"): get_patients,
    ("POST", "/patients/{patient}/sign-outs"): post_sign_out,
    ("GET", "/patients/{patient}"): get_patient,
    ("GET", "/queue"): get_queue,
    ("GET", "/reviews"): get_reviews,
    ("POST", "/reviews"): post_review,
    ("POST", "/reviews/{id}/undo"): post_undo,
    ("GET", "/labels"): get_labels,
    ("GET", "/openapi.json"): get_document,
}


def routes() -> list[Route]:
    """Everything below /api/v1."""
    return [Route(BASE + path.replace("{patient}", "{patient:path}"), handler, methods=[method]) for (method, path), handler in HANDLERS.items()]
