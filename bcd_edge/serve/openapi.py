"""The document of the HTTP API, OpenAPI 3.1: what handlers check queries and bodies against, what is shown at /api/v1/docs, and what tests try."""

from __future__ import annotations

import functools
from typing import Any, Final

from bcd_edge import __version__
from bcd_edge.results.reviews import DECISIONS, LONGEST_COMMENT, LONGEST_NAME
from bcd_edge.results.worklist import STATES

Json = dict[str, Any]
SHA256: Final = "3b0c3a3f54d5a2b1d0f2a6f7f3c1f0b3f1f8f7c0a8f6d3a5a9b6c1e2d4f70812"
TEXT: Final[Json] = {"type": "string"}
OPTIONAL: Final[Json] = {"type": ["string", "null"]}
NUMBER: Final[Json] = {"type": ["number", "null"]}
COUNT: Final[Json] = {"type": "integer", "minimum": 0}
WHEN: Final[Json] = {"type": ["string", "null"], "format": "date-time"}
DECISION: Final[Json] = {"type": "string", "enum": list(DECISIONS)}
VERDICT: Final[Json] = {"type": ["string", "null"], "enum": ["benign", "malignant", "review", None]}
UID: Final[Json] = {"type": "string", "minLength": 8, "maxLength": 64, "pattern": "^[A-Za-z0-9_-]+$"}


def _object(required: str, **properties: Json) -> Json:
    return {"type": "object", "required": required.split(), "properties": properties}


def _closed(required: str, **properties: Json) -> Json:
    return _object(required, **properties) | {"additionalProperties": False}


def _list(of: str) -> Json:
    return {"type": "array", "items": _ref(of)}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


RECORD_EXAMPLE: Final[Json] = {
    **{"source": "upload/field-1.png", "sha256": SHA256, "status": "ok", "error": None, "label": "malignant", "p_malignant": 0.61},
    **{
        "decision": "review",
        "reasons": ["p_malignant 0.610 lies in the review band, 0.204 to 0.742: needs pathologist review"],
    },
    **{"timing_ms": {"decode": 6.1, "resize": 0.7, "infer": 9.8, "total": 16.6}, "novelty": 0.41, "um_per_pixel": 0.25},
    "execution": {
        **{"provider": "cpu", "device": "CPU", "precision": "int8", "bundle": "resnet50-breast 3", "bundle_sha256": SHA256},
        **{"version": __version__, "requested": "auto"},
    },
    "quality": {"focus": 0.2, "exposure": 0.93, "contrast": 0.19, "tissue": 0.88, "stain": 0.99, "reasons": []},
    "intake": {
        **{"patient": "P7", "slide": None, "study": None, "seen": "2026-11-27T09:00:00.000+05:30", "taken": "2026-11-27T09:00:00.000+05:30"},
        "answered": "2026-11-27T09:00:00.120+05:30",
    },
}
REVIEW_EXAMPLE: Final[Json] = {"sha256": SHA256, "decision": "malignant", "comment": "mitoses", "uid": "f3b7c1d2-0001"}

SCHEMAS: Final[Json] = {
    "Problem": _object("type status detail", type=TEXT, status={"type": "integer"}, detail=TEXT)
    | {"description": "Problem details, RFC 9457.", "examples": [{"type": "about:blank", "status": 404, "detail": "There is no such case."}]},
    "Record": _object(
        "source sha256 status error label p_malignant decision reasons timing_ms execution quality novelty",
        source=TEXT,
        sha256=OPTIONAL,
        status={"type": "string", "enum": ["ok", "failed"]},
        error=OPTIONAL,
        label={"type": ["string", "null"], "enum": ["benign", "malignant", None]},
        p_malignant={"type": ["number", "null"], "minimum": 0, "maximum": 1},
        decision=VERDICT,
        reasons={"type": "array", "items": TEXT},
        timing_ms={"type": ["object", "null"]},
        execution=_object(
            "provider device precision bundle bundle_sha256 version requested",
            **dict.fromkeys(("provider", "device", "precision", "bundle", "bundle_sha256", "version", "requested"), TEXT),
        ),
        quality={"type": ["object", "null"]},
        novelty=NUMBER,
        um_per_pixel=NUMBER,
        kind={"type": "string", "enum": ["image", "slide"]},
        slide={"type": ["object", "null"]},
        intake=_object("patient slide seen taken answered", patient=OPTIONAL, slide=OPTIONAL, study=OPTIONAL, seen=WHEN, taken=WHEN, answered=WHEN),
    )
    | {"description": "One picture's answer, the same as of predict and watch.", "examples": [RECORD_EXAMPLE]},
    "Session": _object("name roles csrf", name=TEXT, roles={"type": "array", "items": TEXT}, csrf=OPTIONAL),
    "Records": _object("records", records=_list("Record")),
    "Accepted": _object("sha256 status", sha256=TEXT, status={"type": "string", "enum": ["pending"]}),
    "AcceptedList": _object("accepted", accepted=_list("Accepted")),
    "Case": _object(
        "sha256 bundle_sha256 decision p_malignant novelty answered_at path patient slide open opinions first second reviewed_at "
        "disagreement decisions",
        **dict.fromkeys(("sha256", "bundle_sha256", "path"), TEXT),
        **dict.fromkeys(("patient", "slide", "first", "second"), OPTIONAL),
        **{"decision": VERDICT, "p_malignant": NUMBER, "novelty": NUMBER, "answered_at": WHEN, "reviewed_at": WHEN},
        **{"open": {"type": "boolean"}, "opinions": COUNT, "disagreement": {"type": ["boolean", "null"]}},
        decisions={"type": "array", "items": DECISION},
    )
    | {"description": "Others' opinions are hidden until the reader has an own one: `first`, `second`, `disagreement` null, `decisions` empty."},
    "Queue": _object("cases total counts", cases=_list("Case"), total=COUNT, counts={"type": "object", "additionalProperties": COUNT}),
    "Patient": _object("name images p_malignant decision open", name=TEXT, images=COUNT, p_malignant=NUMBER, decision=VERDICT, open=COUNT),
    "Patients": _object("patients", patients=_list("Patient")),
    "PatientCases": _object("patient cases sign_outs", patient=TEXT, cases=_list("Case"), sign_outs=_list("SignOut")),
    "NewSignOut": _closed(
        "decision", decision=DECISION, comment={"type": "string", "maxLength": LONGEST_COMMENT}, uid=UID, confirmed={"type": "boolean"}
    )
    | {"description": "`confirmed` is true to sign out against answers, or while readers disagree."}
    | {"examples": [{"decision": "benign", "comment": "fibroadenoma", "uid": "f3b7c1d2-0002"}]},
    "SignOut": _object(
        "id uid patient reader decision comment images last_review at is_current",
        **{"id": COUNT, "uid": TEXT, "patient": TEXT, "reader": TEXT, "decision": DECISION, "comment": TEXT, "images": COUNT},
        **{"last_review": COUNT, "at": WHEN, "is_current": {"type": "boolean"}},
    ),
    "NewReview": _closed(
        "sha256 decision",
        sha256={"type": "string", "pattern": "^[0-9a-f]{64}$"},
        bundle_sha256={"type": "string", "pattern": "^[0-9a-f]{64}$"},
        decision=DECISION,
        comment={"type": "string", "maxLength": LONGEST_COMMENT},
        blinded={"type": "boolean"},
        uid=UID,
    )
    | {"description": "`uid` is the same when the request is repeated.", "examples": [REVIEW_EXAMPLE]},
    "Review": _object(
        "id uid sha256 bundle_sha256 path patient reader decision undoes comment reading source blinded answer p_malignant at decided_at",
        **dict.fromkeys(("uid", "sha256", "bundle_sha256", "path", "comment", "source"), TEXT),
        reader={"type": "string", "maxLength": LONGEST_NAME},
        decision={"type": "string", "enum": [*DECISIONS, "undo"]},
        **{"id": COUNT, "undoes": {"type": ["integer", "null"]}, "reading": COUNT, "blinded": {"type": "boolean"}, "patient": OPTIONAL},
        **{"answer": VERDICT, "p_malignant": NUMBER, "at": WHEN, "decided_at": WHEN},
    ),
    "Reviews": _object("reviews next", reviews=_list("Review"), next=COUNT),
    "Label": _object(
        "sha256 patient outcome readers",
        **{"sha256": TEXT, "patient": OPTIONAL, "readers": COUNT, "outcome": {"type": "string", "enum": [*DECISIONS, "disagreement"]}},
    ),
    "Labels": _object("labels", labels=_list("Label")),
    "Undo": {"type": "object", "properties": {"uid": UID}, "additionalProperties": False},
}


def _query(name: str, schema: Json, text: str) -> Json:
    return {"name": name, "in": "query", "schema": schema, "description": text}


def _path(name: str, pattern: str | None = None) -> Json:
    schema = {"type": "string", "pattern": pattern, "minLength": 1} if pattern else {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema}


HASH: Final = _path("sha256", "^[0-9a-f]{64}$")
LIMIT: Final = _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}, "How many at most.")
OFFSET: Final = _query("offset", {"type": "integer", "minimum": 0, "maximum": 10_000_000, "default": 0}, "How many to leave out first.")
AFTER: Final = _query("after", {"type": "integer", "minimum": 0, "maximum": 2**53, "default": 0}, "Entries with a larger number.")
NAME: Final[Json] = {"type": "string", "maxLength": LONGEST_NAME, "pattern": "^[^\\x00-\\x1f\\x7f]*$"}
UPLOAD: Final = [
    _query("name", NAME, "Name of a single picture; multipart parts have their own."),
    _query("patient", NAME, "Whose pictures they are."),
    _query("slide", NAME, "Which slide of the patient."),
    _query("wait", {"type": "boolean", "default": True}, "Whether to answer with the record; else 202 and its location."),
]
BINARY: Final[Json] = {"schema": {"type": "string", "format": "binary"}}
MULTIPART: Final[Json] = {"schema": {"type": "object", "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}}}}


def _operation(summary: str, answers: dict[str, str | None], *, parameters: list[Json] | None = None, body: str | None = None) -> Json:
    """`answers`: the schema, or the type of content, for each status."""
    operation: Json = {"summary": summary, "parameters": parameters or [], "responses": {}}
    for status, name in ({"401": "Problem", "403": "Problem", "default": "Problem"} | answers).items():
        content = "application/problem+json" if name == "Problem" else name if name and "/" in name else "application/json"
        schema = {} if content == "image/png" else {"schema": _ref(name) if name and "/" not in name else {}}
        operation["responses"][status] = {"description": STATUS.get(status, "Done."), "content": {content: schema}}
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(body)}}}
    return operation


STATUS: Final = {
    **{"202": "Taken; the answer will be at Location.", "401": "Nobody is signed in.", "403": "The role or the CSRF token is missing."},
    **{"422": "It cannot be decoded.", "default": "A problem; 429 and 503 say in Retry-After when to try again."},
}
UPLOADING: Final = _operation(
    "Classify pictures; the same content again gives the same answer.",
    {"200": "Record", "202": "Accepted", "422": "Record"},
    parameters=UPLOAD,
)
UPLOADING["requestBody"] = {"required": True, "content": {"application/octet-stream": BINARY, "image/*": BINARY, "multipart/form-data": MULTIPART}}
for _status, _names in {"200": ("Record", "Records"), "202": ("Accepted", "AcceptedList"), "422": ("Record", "Problem")}.items():
    UPLOADING["responses"][_status]["content"] = {"application/json": {"schema": {"anyOf": [_ref(name) for name in _names]}}}
UPLOADING["responses"]["422"]["content"]["application/problem+json"] = {"schema": _ref("Problem")}

FILTERS: Final = [
    _query("state", {"type": "string", "enum": list(STATES), "default": "open"}, "Which cases; `second` are those that another has reviewed."),
    _query("decision", {"type": "string", "enum": ["benign", "malignant", "review"]}, "The answer."),
    _query("patient", NAME, "Whose pictures."),
    _query("text", NAME, "Part of the name or patient, or the beginning of the SHA-256."),
]
PATHS: Final[Json] = {
    "/session": {"get": _operation("Who is signed in, and the token that changes must carry as X-CSRF-Token.", {"200": "Session"})},
    "/images": {"post": UPLOADING},
    "/images/{sha256}": {
        "get": _operation("The answer to a content.", {"200": "Record", "202": "Accepted", "404": "Problem", "422": "Record"}, parameters=[HASH])
    },
    "/images/{sha256}/picture": {"get": _operation("The pixels that were classified.", {"200": "image/png", "404": "Problem"}, parameters=[HASH])},
    "/images/{sha256}/overlay": {
        "get": _operation(
            "The explanation, drawn on the picture; made on request.",
            {"200": "image/png", "404": "Problem"},
            parameters=[HASH, _query("layer", {"type": "boolean", "default": False}, "The colours alone, to be laid over the picture.")],
        )
    },
    "/images/{sha256}/explanation": {
        "get": _operation("Its numbers; made on request.", {"200": "application/json", "404": "Problem"}, parameters=[HASH])
    },
    "/records": {"get": _operation("Answers of all names, the latest first.", {"200": "Records"}, parameters=[LIMIT, OFFSET])},
    "/patients": {
        "get": _operation(
            "Patients, the latest first; null where the bundle used last has not answered.", {"200": "Patients"}, parameters=[LIMIT, OFFSET]
        )
    },
    "/patients/{patient}": {
        "get": _operation("A patient's cases and sign-outs.", {"200": "PatientCases", "404": "Problem"}, parameters=[_path("patient")])
    },
    "/patients/{patient}/sign-outs": {
        "post": _operation("Sign a patient out.", {"201": "SignOut"}, parameters=[_path("patient")], body="NewSignOut")
    },
    "/queue": {"get": _operation("The worklist.", {"200": "Queue"}, parameters=[*FILTERS, LIMIT, OFFSET])},
    "/reviews": {
        "get": _operation(
            "Entries, the earliest first; others' on a picture when the reader has an own opinion of it.",
            {"200": "Reviews"},
            parameters=[AFTER, LIMIT],
        ),
        "post": _operation("Add an opinion.", {"201": "Review"}, body="NewReview"),
    },
    "/labels": {"get": _operation("What the readers of each picture say together.", {"200": "Labels"}, parameters=[LIMIT, OFFSET])},
    "/reviews/{id}/undo": {"post": _operation("Take an opinion back.", {"201": "Review"}, parameters=[_path("id", "^[0-9]{1,15}$")], body="Undo")},
}


@functools.cache
def document() -> Json:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "bcd-edge", "version": __version__, "summary": "Assists a pathologist; it does not diagnose alone."},
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}, {"session": []}],
        "paths": PATHS,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Of a machine."},
                "session": {"type": "apiKey", "in": "cookie", "name": "bcd_edge_session", "description": "Changes need X-CSRF-Token, too."},
            },
        },
    }


def parameters(path: str, method: str) -> list[Json]:
    """A route's query parameters."""
    return [entry for entry in PATHS[path.removeprefix("/api/v1").replace(":path}", "}")][method.lower()]["parameters"] if entry["in"] == "query"]
