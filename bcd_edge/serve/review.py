"""The pages on which a reader works: worklist, case, patients, and the sheet to print. They work without scripts, except zoom and keys."""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import quote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from bcd_edge.results import report, reviews, worklist
from bcd_edge.results.agreement import agreement
from bcd_edge.results.clock import Clock
from bcd_edge.results.reviews import CONTRADICTIONS, ContradictionError, Review
from bcd_edge.results.worklist import STATES, Case, Filter
from bcd_edge.serve import blinding, filing
from bcd_edge.serve.api import patient_named, record_of
from bcd_edge.serve.auth import requires
from bcd_edge.serve.pages import render

# Cases on a page of the worklist, and patients on one of theirs.
PAGE: Final = 50
# Pictures shown on a patient's sheet; its table has a row for each, and twenty fit on one page of A4.
PRINTED_PICTURES: Final = 6
# Key of each decision on a case's page.
KEYS: Final = dict(zip(("b", "m", "c", "u"), reviews.DECISIONS, strict=True))


@requires("reviewer", "admin")
async def queue(request: Request) -> Response:
    """The worklist."""
    chosen, offset = await _chosen(request), _number(request, "offset")
    who, store = blinding.viewer(request), request.app.state.store

    def find(db: sqlite3.Connection) -> dict[str, Any]:
        cases, total = worklist.page(db, chosen, limit=PAGE, offset=offset)
        holding = reviews.of_cases(db, (case.sha256 for case in cases))
        rows = [_row(case, store.display_name) | blinding.hidden_case(holding[case.sha256], who) for case in cases]
        more = {"agreement": agreement(db)} if chosen.state == "disagreement" else {"agreement": None}
        return {"rows": rows, "total": total, "counts": worklist.counts(db, who.name)} | more

    listing = await store.read(find)
    values: dict[str, Any] = {
        "query": _query(request),
        "states": list(STATES),
        "chosen": chosen,
        "offset": offset,
        "page": PAGE,
        "filed": await _filed(request),
        "is_blinded": who.is_blinded,
    }
    return render(request, "queue.html", **listing, **values, **_names(request))


def _names(request: Request) -> dict[str, Any]:
    """What the fields of the filter show."""
    return {name: request.query_params.get(name, "")[:100] for name in ("text", "patient", "decision")}


async def _chosen(request: Request) -> Filter:
    given = request.query_params
    state = given.get("state", "open")
    patient = await patient_named(request, given["patient"]) if given.get("patient") else None
    decision = given.get("decision") if given.get("decision") in ("benign", "malignant", "review") else None
    who = blinding.viewer(request)
    return Filter(state if state in STATES else "open", decision, patient, given.get("text", "")[:100], who.name, who.is_blinded)  # type: ignore[arg-type]  # checked


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0


def _query(request: Request, **changed: str) -> str:
    """The filter as a query, to come back to it."""
    kept = {name: value for name, value in request.query_params.items() if name in ("state", "decision", "patient", "text") and value}
    return urlencode(kept | changed)


def _row(case: Case, display_name: Callable[[str], str]) -> dict[str, Any]:
    return asdict(case) | {"path": display_name(case.path), "patient": case.patient and display_name(case.patient)}


@requires("reviewer", "admin")
async def case(request: Request) -> Response:
    """One case; in blinded mode, the answer only when the reader has an opinion."""
    record, who, store = await record_of(request), blinding.viewer(request), request.app.state.store
    chosen = await _chosen(request)
    sha256 = record["sha256"]

    def find(db: sqlite3.Connection) -> dict[str, Any]:
        here = worklist.case(db, sha256)
        assert here is not None
        entries = reviews.of_case(db, sha256)
        holding = reviews.opinions(entries)
        hidden = blinding.hidden_case(holding, who)
        rule = db.execute("SELECT threshold, review_low, review_high FROM bundles WHERE sha256 = ?", (here.bundle_sha256,)).fetchone()
        following = worklist.following(db, sha256, chosen)
        return {
            **{"case": _row(here, store.display_name) | hidden, "has_opinion": who.has_opinion(holding)},
            **{"entries": [_entry(review, entries) for review in entries if not who.hides_opinions(holding) or review.reader == who.name]},
            **{"others": len({review.reader for review in holding} - {who.name}), "rule": dict(rule) if rule else None},
            **{"following": following and following.sha256, "left": worklist.count(db, chosen)},
        }

    case_page = await store.read(find)
    await filing.view(request, sha256)
    filed = await _filed(request)
    values: dict[str, Any] = {"filed": filed, "undone": await _undone(request), "state": chosen.state, "query": _query(request)}
    return render(request, "case.html", record=record, keys=KEYS, uid=uuid.uuid4().hex, **values, **case_page)


def _entry(review: Review, entries: list[Review]) -> dict[str, Any]:
    undone = {other.undoes for other in entries}
    return asdict(review) | {"is_undone": review.id in undone}


async def _filed(request: Request) -> dict[str, Any] | None:
    """The reader's entry that led to this page, to be undone."""
    number = _number(request, "filed")
    if not number:
        return None
    row = await request.app.state.store.read(
        lambda db: db.execute(
            """SELECT id, sha256, decision, path FROM reviews WHERE id = ? AND reader = ?
               AND NOT EXISTS (SELECT 1 FROM reviews AS other WHERE other.undoes = reviews.id)""",
            (number, request.state.person.name),
        ).fetchone()
    )
    return dict(row) | {"path": request.app.state.store.display_name(os.fsdecode(row["path"] or b""))} if row else None


async def _undone(request: Request) -> dict[str, Any] | None:
    """The reader's entry that was taken back, which led to this page."""
    number = _number(request, "undone")
    query = "SELECT decision, path FROM reviews WHERE id = ? AND reader = ? AND decision != 'undo'"
    row = await request.app.state.store.read(lambda db: db.execute(query, (number, request.state.person.name)).fetchone())
    return {"decision": row["decision"], "path": request.app.state.store.display_name(os.fsdecode(row["path"] or b""))} if row else None


@requires("reviewer")
async def decide(request: Request) -> Response:
    """Files the decision in the form, and leads to the next case; in blinded mode to the same one, with its answer."""
    form = await request.form()
    sha256, given = request.path_params["sha256"], {name: str(form.get(name, "")) for name in ("decision", "comment", "uid", "bundle_sha256")}
    if given["decision"] not in reviews.DECISIONS:
        raise HTTPException(400, "The form has no decision; go back, and press one of the keys.")
    chosen = await _chosen(request)
    before = await request.app.state.store.read(lambda db: worklist.following(db, sha256, chosen))
    body = {name: value for name, value in given.items() if value} | {"sha256": sha256, "blinded": form.get("blinded") == "yes"}
    review = await filing.review(request, body)
    target = sha256 if request.app.state.settings.blinded and body["blinded"] else before.sha256 if before else None
    query = _query(request, filed=str(review.id))
    return RedirectResponse(f"/cases/{target}?{query}" if target else f"/?{query}", 303)


@requires("reviewer")
async def undo(request: Request) -> Response:
    """Takes an opinion back, and leads to its case."""
    review = await filing.undo(request, int(request.path_params["id"]), {})
    return RedirectResponse(f"/cases/{review.sha256}?{_query(request, undone=str(review.undoes))}", 303)


@requires("reviewer", "admin")
async def patients(request: Request) -> Response:
    """Patients, the latest first."""
    display_name, who = request.app.state.store.display_name, blinding.viewer(request)
    text, offset = request.query_params.get("text", "")[:100], _number(request, "offset")

    def find(db: sqlite3.Connection) -> list[dict[str, Any]]:
        counts = worklist.latest_patients(db, text, limit=PAGE + 1, offset=offset)
        answers = {patient.name: patient for patient in report.patients(db, names=list(counts))}
        return [
            {"shown": display_name(name), "pictures": pictures, "open": left, "answer": answers.get(name)} | _seen(db, name, who)
            for name, (pictures, left) in counts.items()
        ]

    rows = await request.app.state.store.read(find)
    return render(request, "patients.html", patients=rows[:PAGE], text=text, offset=offset, page=PAGE, has_more=len(rows) > PAGE)


def _seen(db: sqlite3.Connection, patient: str, who: blinding.Viewer) -> dict[str, Any]:
    entries, hidden = blinding.sign_outs(db, patient, who)
    return {"sign_out": entries[-1] if entries else None, "hidden_sign_outs": hidden, "is_hidden": blinding.hides_answers(db, patient, who)}


async def _patient(request: Request) -> dict[str, Any]:
    store, who = request.app.state.store, blinding.viewer(request)
    patient = await patient_named(request, request.path_params["patient"])

    def find(db: sqlite3.Connection) -> dict[str, Any]:
        cases = worklist.cases(db, Filter("all", patient=patient), limit=500)
        holding = reviews.of_cases(db, (case.sha256 for case in cases))
        others = worklist.other_patients(db, patient)
        rows = [
            _row(case, store.display_name)
            | blinding.hidden_case(holding[case.sha256], who)
            | {"also": [store.display_name(other) for other in others.get(case.sha256, ())]}
            for case in cases
        ]
        entries, hidden = blinding.sign_outs(db, patient, who)
        is_unseen = who.is_blinded and who.hides_sign_outs(holding.values())
        return {"cases": rows, "sign_outs": entries, "hidden_sign_outs": hidden, "open": sum(case.open for case in cases), "is_unseen": is_unseen}

    overview = await store.read(find)
    if not overview["cases"]:
        raise HTTPException(404, "There is no such patient; take the name from the list of patients.")
    await filing.view(request, patient)
    return {**overview, "patient": store.display_name(patient), "link": f"/patients/{quote(store.display_name(patient), safe='')}"}


@requires("reviewer", "admin")
async def patient(request: Request) -> Response:
    """One patient, and the sign-out."""
    return _page_of_patient(request, await _patient(request))


def _page_of_patient(
    request: Request, known: dict[str, Any], given: dict[str, Any] | None = None, pictures: dict[str, int] | None = None
) -> Response:
    # `given` is a sign-out to be confirmed, because `pictures` speak against it
    asked = {"given": given or {"comment": "", "uid": uuid.uuid4().hex}, "contradictions": pictures, "sentences": CONTRADICTIONS}
    return render(request, "patient.html", 409 if given else 200, **known, **asked, decisions=reviews.DECISIONS)


@requires("reviewer", "admin")
async def sheet(request: Request) -> Response:
    """About a patient, to be printed: every picture, who said what about it, and what ran."""
    overview = await _patient(request)
    hashes = [row["sha256"] for row in overview["cases"]]

    def find(db: sqlite3.Connection) -> dict[str, Any]:
        return {"opinions": {sha256: reviews.opinions(reviews.of_case(db, sha256)) for sha256 in hashes}, "models": _models(db, hashes)}

    values = await request.app.state.store.read(find)
    return render(request, "sheet.html", **overview, **values, pictures=PRINTED_PICTURES, printed_at=Clock().text())


def _models(db: sqlite3.Connection, hashes: list[str]) -> list[str]:
    """The bundles, and versions of bcd-edge, that gave these pictures' answers."""
    query = "SELECT record FROM cases JOIN images USING (sha256, bundle_sha256) WHERE sha256 = ?"
    executions = [json.loads(db.execute(query, (sha256,)).fetchone()["record"])["execution"] for sha256 in hashes]
    return sorted({f"{ran['bundle']} ({ran['bundle_sha256'][:12]}, {ran['precision']}), bcd-edge {ran['version']}" for ran in executions})


@requires("reviewer")
async def sign_out(request: Request) -> Response:
    """Signs a patient out; asks again where answers or opinions speak against it."""
    form = await request.form()
    body = {name: str(form.get(name, "")) for name in ("decision", "comment", "uid")}
    patient = await patient_named(request, request.path_params["patient"])
    try:
        entry = await filing.sign_out(request, patient, body | {"confirmed": form.get("confirmed") == "yes"})
    except ContradictionError as error:
        return _page_of_patient(request, await _patient(request), body, error.pictures)
    return RedirectResponse(f"/patients/{quote(request.app.state.store.display_name(entry.patient), safe='')}", 303)


@requires("submitter", "reviewer", "admin")
async def document(request: Request) -> Response:
    """The API's document, to be browsed offline."""
    from bcd_edge.serve import openapi

    return render(request, "document.html", document=openapi.document())


def routes() -> list[Route]:
    """The pages."""
    return [
        Route("/", queue),
        Route("/cases/{sha256}", case),
        Route("/cases/{sha256}/review", decide, methods=["POST"]),
        Route("/reviews/{id:int}/undo", undo, methods=["POST"]),
        Route("/patients", patients),
        Route("/patients/{patient:path}/sheet", sheet),
        Route("/patients/{patient:path}/sign-out", sign_out, methods=["POST"]),
        Route("/patients/{patient:path}", patient),
        Route("/api/v1/docs", document),
    ]
