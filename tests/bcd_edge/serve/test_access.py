"""Every route x every role x every kind of credentials: the written matrix, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from starlette.routing import Mount, Route

from .conftest import Server

EVERYBODY, NOBODY_SIGNED_IN, READERS, REVIEWERS = "asr-", "asr", "ar", "r"
# Who may use what: a admin, s submitter, r reviewer, - whoever comes without credentials. An admin has every role.
MATRIX = {
    "GET /healthz": EVERYBODY,
    "GET /readyz": EVERYBODY,
    "GET /metrics": NOBODY_SIGNED_IN,
    "GET /login": EVERYBODY,
    "POST /login": EVERYBODY,
    "POST /logout": NOBODY_SIGNED_IN,
    "GET /": READERS,
    "GET /cases/{sha256}": READERS,
    "POST /cases/{sha256}/review": READERS,
    "POST /reviews/{id:int}/undo": READERS,
    "POST /cases/{sha256}/consult": READERS,
    "POST /cases/{sha256}/link": READERS,
    "GET /consult": READERS,
    "POST /consult": READERS,
    "POST /consult/links/{id}/revoke": READERS,
    "GET /consult/{token}": EVERYBODY,  # the token is the credential
    "POST /consult/{token}": EVERYBODY,
    "GET /slides/{sha256}/{name:path}": READERS,
    "GET /live": READERS,
    "GET /live/state": READERS,
    "GET /live/stream": READERS,
    "POST /live/frames": READERS,
    "GET /patients": READERS,
    "GET /patients/{patient:path}": READERS,
    "GET /patients/{patient:path}/sheet": READERS,
    "POST /patients/{patient:path}/sign-out": READERS,
    "GET /api/v1/docs": NOBODY_SIGNED_IN,
    "GET /api/v1/openapi.json": NOBODY_SIGNED_IN,
    "GET /api/v1/session": NOBODY_SIGNED_IN,
    "POST /api/v1/images": NOBODY_SIGNED_IN,
    "GET /api/v1/images/{sha256}": NOBODY_SIGNED_IN,
    "GET /api/v1/images/{sha256}/picture": READERS,
    "GET /api/v1/images/{sha256}/overlay": READERS,
    "GET /api/v1/images/{sha256}/explanation": READERS,
    "GET /api/v1/records": READERS,
    "GET /api/v1/patients": READERS,
    "GET /api/v1/patients/{patient:path}": READERS,
    "POST /api/v1/patients/{patient:path}/sign-outs": READERS,
    "GET /api/v1/queue": READERS,
    "GET /api/v1/reviews": READERS,
    "POST /api/v1/reviews": READERS,
    "POST /api/v1/reviews/{id}/undo": READERS,
    "GET /api/v1/labels": READERS,
    "GET /v2": NOBODY_SIGNED_IN,
    "GET /v2/health/live": EVERYBODY,
    "GET /v2/health/ready": EVERYBODY,
    "GET /v2/models/{model}": NOBODY_SIGNED_IN,
    "GET /v2/models/{model}/ready": NOBODY_SIGNED_IN,
    "POST /v2/models/{model}/infer": NOBODY_SIGNED_IN,
    "GET /v2/models/{model}/versions/{version}": NOBODY_SIGNED_IN,
    "GET /v2/models/{model}/versions/{version}/ready": NOBODY_SIGNED_IN,
    "POST /v2/models/{model}/versions/{version}/infer": NOBODY_SIGNED_IN,
}


def every_route(server: Server) -> list[str]:
    routes = [route for route in server.client.app.routes if isinstance(route, Route)]  # type: ignore[attr-defined]
    return [f"{method} {route.path}" for route in routes for method in sorted((route.methods or set()) - {"HEAD"})]


def test_every_route_is_in_the_matrix_and_the_rest_is_files(server: Server) -> None:
    assert sorted(every_route(server)) == sorted(MATRIX)
    mounts = [route for route in server.client.app.routes if not isinstance(route, Route)]  # type: ignore[attr-defined]
    assert [mount.path for mount in mounts if isinstance(mount, Mount)] == ["/static"]


def test_each_role_may_use_what_the_matrix_says(server: Server) -> None:
    expired = {"authorization": "Bearer bcd_" + "x" * 43}
    headers = {"a": server.as_("admin"), "s": server.as_("submitter"), "r": server.as_("reviewer"), "-": {}, "wrong": expired}
    allowed: dict[str, str] = {}
    for route in MATRIX:
        method, path = route.split()
        filled = re.sub(r"\{[^}]*\}", "0", path)
        answers = {who: server.client.request(method, filled, headers=given).status_code for who, given in headers.items()}
        allowed[route] = "".join(who for who in "asr-" if answers[who] not in (401, 403) or (route.endswith("/login") and answers[who] != 403))
        assert answers["wrong"] == 401 or "-" in MATRIX[route], route
        assert 500 not in answers.values(), route
    assert allowed == MATRIX


def test_a_session_changes_nothing_without_its_token(server: Server) -> None:
    link = server.client.app.state.authenticator.link  # type: ignore[attr-defined]
    assert server.client.get(link).status_code == 303
    sha256 = server.upload(1)["sha256"]
    for given in ({}, {"x-csrf-token": "x"}):
        refused = server.client.post("/api/v1/reviews", json={"sha256": sha256, "decision": "benign"}, headers=given)
        assert refused.status_code == 403
        assert server.client.post(f"/cases/{sha256}/review", data={"decision": "benign", "csrf": "x"}, headers=given).status_code == 403
    token = server.client.get("/api/v1/session").json()["csrf"]
    assert server.client.post(f"/cases/{sha256}/review", data={"decision": "benign", "csrf": token}).status_code == 303
    second = server.client.post("/api/v1/reviews", json={"sha256": sha256, "decision": "benign"}, headers={"x-csrf-token": token})
    assert second.status_code == 201


@pytest.mark.parametrize("host", ["evil.example", "testserver.evil.example", "", "127.0.0.1.nip.io:80"])
def test_dns_rebinding_finds_nobody(server: Server, host: str) -> None:
    assert server.client.get("/healthz", headers={"host": host}).status_code == 421


def test_every_answer_has_the_headers_that_keep_a_page_to_itself(server: Server) -> None:
    for path in ("/", "/healthz", "/static/style.css", "/nowhere"):
        headers = server.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_files_outside_static_are_not_served(server: Server) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2fcli%2fserve.py"):
        assert server.get(path).status_code == 404


def test_what_only_a_reviewer_may_do_a_submitter_cannot(server: Server, start: Callable[..., Server]) -> None:
    sha256 = server.upload(1)["sha256"]
    assert server.post("/api/v1/reviews", "submitter", json={"sha256": sha256, "decision": "benign"}).status_code == 403
    assert server.get("/api/v1/queue", "submitter").status_code == 403
