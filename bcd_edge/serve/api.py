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
from bcd_edge.serve import blinding, filing, openapi, pictures, uploads
from bcd_edge.serve.auth import requires
from bcd_edge.serve.blinding import Viewer
from bcd_edge.serve.bodies import arguments, json_body

BASE: Final = "/api/v1"
NAMED: Final = "SELECT path, patient, slide, answered_at, record FROM names JOIN images USING (sha256, bundle_sha256)"
EVERYONE: Final = ("submitter", "reviewer", "admin")


async def shown_records(request: Request, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records with names as this folder shows them, and without answers that whoever asks must not see yet."""
    hidden = await blinding.hidden(request, {str(record["sha256"]) for record in records})
    display_name = request.app.state.store.display_name
    return [_shown_record(record, display_name) | (blinding.NO_ANSWER if record["sha256"] in hidden else {}) for record in records]


def _shown_record(record: dict[str, Any], display_name: Callable[[str], str]) -> dict[str, Any]:
    named = record | {"source": display_name(record["source"])}
    if "intake" in record:
        own = record["intake"]
        named["intake"] = own | {name: own[name] and display_name(own[name]) for name in ("patient", "study") if name in own}
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
        return JSONResponse((await shown_records(request, [await record_of(request)]))[0])
    except HTTPException:
        about = uploads.pending(request.app.state.settings.results, request.path_params["sha256"])
        if about is None:
            raise
    if "error" in about:
        return JSONResponse((await shown_records(request, [about["record"]]))[0], 422)
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
    png = await asyncio.to_thread(pictures.shown, await picture_bytes(request))
    return Response(png, media_type="image/png", headers={"cache-control": "private, max-age=3600"})


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
    await blinding.check_answer(request, record["sha256"])
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
    return JSONResponse({"records": await shown_records(request, records)})


def named_record(row: sqlite3.Row) -> dict[str, Any]:
    """The record as of this name."""
    record: dict[str, Any] = json.loads(row["record"])
    own = {"patient": row["patient"], "slide": row["slide"], "answered": row["answered_at"]}
    return record | {"source": os.fsdecode(row["path"]), "intake": record["intake"] | own}


def plain_cases(db: sqlite3.Connection, cases: list[Case], who: Viewer, display_name: Callable[[str], str]) -> list[dict[str, Any]]:
    """Cases for clients: without what tells that one was drawn at random, or what the viewer must not see yet."""
    holding = reviews.of_cases(db, (case.sha256 for case in cases))
    return [_plain_case(case, holding[case.sha256], who, display_name) for case in cases]


def _plain_case(case: Case, holding: list[reviews.Review], who: Viewer, display_name: Callable[[str], str]) -> dict[str, Any]:
    values = {name: value for name, value in asdict(case).items() if name not in ("reason", "urgency")}
    if who.hides_opinions(holding):
        values |= {"first": None, "second": None, "disagreement": None}
    if who.hides_answer(holding):
        values |= {"decision": None, "p_malignant": None, "novelty": None}
    decisions = blinding.hidden_case(holding, who)["decisions"]
    return values | {"path": display_name(case.path), "patient": case.patient and display_name(case.patient), "decisions": decisions}


@requires("reviewer", "admin")
async def get_queue(request: Request) -> Response:
    """The worklist."""
    asked, store, who = arguments(request), request.app.state.store, blinding.viewer(request)
    chosen = await chosen_cases(request, asked)

    def find(db: sqlite3.Connection) -> dict[str, Any]:
        cases, total = worklist.page(db, chosen, limit=asked["limit"], offset=asked["offset"])
        return {
            "cases": plain_cases(db, cases, who, store.display_name),
            "total": total,
            "counts": worklist.counts(db, who.name),
        }

    return JSONResponse(await store.read(find))


async def chosen_cases(request: Request, asked: dict[str, Any]) -> Filter:
    """The filter in a query's parameters, for this reader."""
    patient = await patient_named(request, asked["patient"]) if asked.get("patient") else None
    who = blinding.viewer(request)
    return Filter(asked.get("state", "open"), asked.get("decision") or None, patient, asked.get("text") or "", who.name, who.is_blinded)


async def patient_named(request: Request, given: str) -> str:
    """The patient behind a name as it is shown, which may be a pseudonym."""
    display_name = request.app.state.store.display_name

    def find(db: sqlite3.Connection) -> str:
        if db.execute("SELECT 1 FROM cases WHERE patient = ?", (given,)).fetchone() and display_name(given) == given:
            return given
        rows = db.execute("SELECT DISTINCT patient FROM cases WHERE patient IS NOT NULL")
        return next((row["patient"] for row in rows if display_name(row["patient"]) == given), given)

    patient: str = await request.app.state.store.read(find)
    return patient


@requires("reviewer", "admin")
async def get_patients(request: Request) -> Response:
    """Patients and what their pictures say together."""
    asked, store, who = arguments(request), request.app.state.store, blinding.viewer(request)

    def find(db: sqlite3.Connection) -> list[dict[str, Any]]:
        counts = worklist.latest_patients(db, limit=asked["limit"], offset=asked["offset"])
        answers = {patient.name: asdict(patient) for patient in report.patients(db, names=list(counts))}
        hidden = dict.fromkeys(("decision", "p_malignant", "malignant", "review"))
        return [
            (hidden | answers.get(name, {}))
            | (hidden if blinding.hides_answers(db, name, who) else {})
            | {"name": store.display_name(name), "images": pictures, "open": left}
            for name, (pictures, left) in counts.items()
        ]

    return JSONResponse({"patients": await store.read(find)})


@requires("reviewer", "admin")
async def get_patient(request: Request) -> Response:
    """One patient."""
    arguments(request)
    store, who, patient = request.app.state.store, blinding.viewer(request), await patient_named(request, request.path_params["patient"])

    def find(db: sqlite3.Connection) -> dict[str, Any]:
        cases = worklist.cases(db, Filter("all", patient=patient), limit=1000)
        signed = [asdict(entry) | {"patient": store.display_name(entry.patient)} for entry in blinding.sign_outs(db, patient, who)[0]]
        return {"patient": store.display_name(patient), "cases": plain_cases(db, cases, who, store.display_name), "sign_outs": signed}

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
    return JSONResponse(asdict(entry) | {"patient": request.app.state.store.display_name(entry.patient)}, 201)


def plain_review(review: reviews.Review, display_name: Callable[[str], str], *, is_hidden: bool = False) -> dict[str, Any]:
    """A review for clients, without the answer where that is hidden."""
    values = {name: value for name, value in asdict(review).items() if name != "audit"}
    hidden = {"answer": None, "p_malignant": None} if is_hidden else {}
    return values | hidden | {"path": display_name(review.path), "patient": review.patient and display_name(review.patient)}


@requires("reviewer", "admin")
async def get_reviews(request: Request) -> Response:
    """Entries in their order, without those that the viewer must not see yet."""
    asked, store, who = arguments(request), request.app.state.store, blinding.viewer(request)

    def find(db: sqlite3.Connection) -> dict[str, Any]:
        entries = list(reviews.listed(db, after=asked["after"], limit=asked["limit"]))
        holding = reviews.of_cases(db, (review.sha256 for review in entries))
        seen = [review for review in entries if who.is_admin or review.reader == who.name or not who.hides_opinions(holding[review.sha256])]
        plain = [plain_review(review, store.display_name, is_hidden=who.hides_answer(holding[review.sha256])) for review in seen]
        return {"reviews": plain, "next": entries[-1].id if entries else asked["after"]}

    return JSONResponse(await store.read(find))


@requires("reviewer")
async def post_review(request: Request) -> Response:
    """Adds an opinion."""
    review = await filing.review(request, await json_body(request, "NewReview"))
    return JSONResponse(plain_review(review, request.app.state.store.display_name), 201)


@requires("reviewer")
async def post_undo(request: Request) -> Response:
    """Takes an opinion back."""
    given = request.path_params["id"]
    if not (given.isascii() and given.isdecimal() and len(given) <= 15):
        raise HTTPException(404, "That is no number of a review; take it from the list of reviews.")
    review = await filing.undo(request, int(given), await json_body(request, "Undo"))
    is_hidden = bool(await blinding.hidden(request, [review.sha256]))
    return JSONResponse(plain_review(review, request.app.state.store.display_name, is_hidden=is_hidden), 201)


@requires("reviewer", "admin")
async def get_labels(request: Request) -> Response:
    """What the readers of each picture say together, where the viewer may see it."""
    asked, store, who = arguments(request), request.app.state.store, blinding.viewer(request)

    def find(db: sqlite3.Connection) -> list[dict[str, Any]]:
        outcomes = sorted(consensus.outcomes(db).items())[asked["offset"] :][: asked["limit"]]
        cases = {sha256: worklist.case(db, sha256) for sha256, _ in outcomes}
        holding = reviews.of_cases(db, cases)
        return [
            {"sha256": sha256, "patient": case.patient and store.display_name(case.patient), "outcome": outcome, "readers": case.opinions}
            for sha256, outcome in outcomes
            if (case := cases[sha256]) and (who.is_admin or not who.hides_opinions(holding[sha256]))
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
