"""Blinded mode: whatever the answers are, a reader without an opinion of a picture gets the same from every route."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from starlette.routing import Route

from bcd_edge.results.journal import NAME, connect

from .conftest import Server, png

PATIENT = "P7"
# What has nothing to do with the pictures.
ELSEWHERE = {"/healthz", "/readyz", "/login", "/logout", "/v2/health/live", "/v2/health/ready"}
# Files something and leads to another page, or gives an opinion, after which the answer is shown.
FILING = {
    *("/cases/{sha256}/review", "/reviews/{id:int}/undo", "/api/v1/reviews", "/api/v1/reviews/{id}/undo"),
    *("/consult", "/consult/{token}", "/cases/{sha256}/link", "/consult/links/{id}/revoke"),
}
INFER = json.dumps({"inputs": [{"name": "IMAGE", "shape": [1, 32, 32, 3], "datatype": "UINT8", "data": np.zeros(3072, int).tolist()}]})
SIGN_OUT = {"decision": "benign", "uid": "12345678"}
BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/images": {"content": png(1), "params": {"name": "1.png"}},
    "/api/v1/patients/{patient:path}/sign-outs": {"json": SIGN_OUT},
    "/patients/{patient:path}/sign-out": {"data": SIGN_OUT},
    "/cases/{sha256}/consult": {"data": {"recipient": "Dr Far", "whole": "yes", "overlays": "yes"}},
    "/v2/models/{model}/infer": {"content": INFER},
    "/v2/models/{model}/versions/{version}/infer": {"content": INFER},
}


@pytest.fixture
def blinded(start: Callable[..., Server]) -> tuple[Server, list[str]]:
    """Two pictures of a patient, reviewed by a second reader, one of them given away by a link."""
    server = start(blinded=True)
    hashes = [str(server.upload(seed, patient=PATIENT)["sha256"]) for seed in (1, 2)]
    for sha256 in hashes:
        server.post("/api/v1/reviews", "second", json={"sha256": sha256, "decision": "malignant"})
    server.post(f"/cases/{hashes[0]}/link", "second", data={"recipient": "Dr Far"})
    return server, hashes


def change_answers(server: Server, hashes: list[str]) -> None:
    """Every answer becomes another one."""
    with closing(connect(server.root / NAME)) as db:
        for sha256 in hashes:
            record = json.loads(db.execute("SELECT record FROM images WHERE sha256 = ?", (sha256,)).fetchone()[0])
            decision = "review" if record["decision"] == "malignant" else "malignant"
            record |= {"decision": decision, "label": "malignant" if record["label"] == "benign" else "benign", "p_malignant": 0.87654}
            record |= {"novelty": 1.98765, "reasons": ["changed by the test"], "quality": record["quality"] | {"focus": 0.76543}}
            given = {"record": json.dumps(record), "decision": decision, "p": record["p_malignant"], "sha256": sha256}
            db.execute("UPDATE images SET record = :record, decision = :decision, p_malignant = :p WHERE sha256 = :sha256", given)
            db.execute("UPDATE cases SET decision = :decision, p_malignant = :p, novelty = 1.98765 WHERE sha256 = :sha256", given)


def walk(server: Server, hashes: list[str], who: str) -> dict[str, tuple[int, str]]:
    """What every route answers, without hashes and times."""
    model = server.get("/v2/models/x", "submitter").json()["detail"]
    name, version = re.search(r"here is (\S+), version (\d+)", model).groups()  # type: ignore[union-attr]
    token = re.search(r'value="http://testserver/consult/([^"]+)"', server.get("/consult", who).text)[1]  # type: ignore[index]
    fields = {"sha256": hashes[0], "patient:path": PATIENT, "model": name, "version": version, "token": token, "id": "0", "name:path": "index.html"}
    answers = {}
    for route in server.client.app.routes:  # type: ignore[attr-defined]
        for method in sorted(getattr(route, "methods", None) or ()):
            if not isinstance(route, Route) or route.path in ELSEWHERE or method == "HEAD" or (method == "POST" and route.path in FILING):
                continue
            path = re.sub(r"\{(.*?)\}", lambda match: fields[match[1]], route.path)
            answer = server.client.request(method, path, headers=server.as_(who), **(BODIES.get(route.path, {}) if method == "POST" else {}))
            answers[f"{method} {route.path}"] = (answer.status_code, _plain(answer.content))
    return answers


def _plain(content: bytes) -> str:
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = archive.read(archive.namelist()[0])
    return re.sub(r"[0-9a-f]{8,}|\d\d:\d\d:\d\d(\.\d+)?", "", content.decode(errors="replace"))


def test_no_route_tells_a_reader_an_answer_before_the_opinion(blinded: tuple[Server, list[str]]) -> None:
    server, hashes = blinded
    before = walk(server, hashes, "reviewer")
    change_answers(server, hashes)
    after = walk(server, hashes, "reviewer")
    assert [route for route in before if before[route] != after[route]] == []
    assert [route for route, (status, _) in before.items() if status >= 500] == []


def test_whoever_hands_pictures_in_and_whoever_has_an_opinion_gets_the_answer(blinded: tuple[Server, list[str]]) -> None:
    server, hashes = blinded
    path = f"/api/v1/images/{hashes[0]}"
    answer = server.get(path, "submitter").json()
    assert answer["p_malignant"] is not None
    assert server.get(path).json()["p_malignant"] is None
    assert server.get(f"{path}/overlay").status_code == 403
    filed = server.post("/api/v1/reviews", json={"sha256": hashes[0], "decision": "benign"}).json()
    assert filed["p_malignant"] == answer["p_malignant"]
    assert server.get(path).json()["decision"] == answer["decision"]
    undone = server.post(f"/api/v1/reviews/{filed['id']}/undo", json={}).json()
    assert (undone["answer"], server.get(path).json()["decision"]) == (None, None)


def test_a_blinded_reader_signs_out_only_what_was_read(blinded: tuple[Server, list[str]]) -> None:
    server, hashes = blinded
    path, given = f"/api/v1/patients/{PATIENT}/sign-outs", SIGN_OUT | {"confirmed": True}
    assert server.post(path, json=given).status_code == 400
    assert "first give your opinion of each" in server.get(f"/patients/{PATIENT}").text
    for sha256 in hashes:
        server.post("/api/v1/reviews", json={"sha256": sha256, "decision": "benign"})
    assert server.post(path, json=given).status_code == 201
