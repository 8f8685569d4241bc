"""Links and packages over HTTP, without a browser."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bcd_edge.classifier import Classifier
from bcd_edge.consult import package
from bcd_edge.results.folder import Results

from .conftest import NULL, Server, png


def made(server: Server) -> str:
    """The path of a link to an uploaded picture of a patient."""
    sha256 = server.upload(1, patient="Jane Doe")["sha256"]
    assert server.post(f"/cases/{sha256}/link", data={"recipient": "Dr Far", "whole": "yes"}).headers["location"] == "/consult"
    (url,) = re.findall(r'value="http://testserver(/consult/[^"]+)"', server.get("/consult").text)
    return str(url)


def opinion(page: str, **changes: Any) -> dict[str, str]:
    """What the page sends."""
    case = json.loads(re.search(r'id="case">(.*?)</script>', page)[1])  # type: ignore[index]
    (picture,) = json.loads(case["package"])["pictures"]
    decisions = [{"sha256": picture["sha256"], "decision": "benign", "comment": "", "blinded": True}]
    given = {"uid": "ab" * 16, "reader": "Dr Far", "place": "", "decided_at": "2026-03-01T08:00:00Z", "decisions": decisions} | changes
    text = json.dumps(given)
    return {"package": case["package"], "seal": case["seal"], "opinion": text, "signature": package.signature(case["key"], text)}


def test_a_link_needs_no_account_and_takes_one_opinion(server: Server) -> None:
    path = made(server)
    answer = server.client.get(path)
    assert answer.status_code == 200
    assert "Jane Doe" not in answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert "script-src 'sha256-" in answer.headers["content-security-policy"]
    given = opinion(answer.text)
    assert server.client.post(path, json=given).json() == server.client.post(path, json=given).json() == {"filed": 1}
    assert server.client.post(path, json=opinion(answer.text, uid="cd" * 16)).status_code == 409
    assert [review["source"] for review in server.get("/api/v1/reviews", "admin").json()["reviews"]] == ["link"]


@pytest.mark.parametrize("change", [{"seal": "0" * 64}, {"signature": "0" * 64}, {"opinion": "{}"}, {"more": 1}])
def test_a_forged_opinion_is_refused(server: Server, change: dict[str, Any]) -> None:
    path = made(server)
    answer = server.client.post(path, json=opinion(server.client.get(path).text) | change)
    assert answer.status_code == 422
    assert server.get("/api/v1/reviews").json()["reviews"] == []


def test_what_is_too_large_or_from_another_site_is_refused(server: Server) -> None:
    path = made(server)
    assert server.client.post(path, content=b"x" * 1_000_001).status_code == 413
    given = opinion(server.client.get(path).text)
    assert server.client.post(path, json=given, headers={"sec-fetch-site": "cross-site"}).status_code == 403


def test_a_revoked_link_shows_nothing(server: Server) -> None:
    path = made(server)
    link_id = path.split("/")[2].split(".")[0]
    assert server.post(f"/consult/links/{link_id}/revoke").status_code == 303
    assert server.client.get(path).status_code == server.client.post(path, json={}).status_code == 410
    assert path not in server.get("/consult").text
    assert server.client.get("/consult/0.0.0").status_code == 404


def test_a_case_is_saved_as_a_zip(server: Server) -> None:
    sha256 = server.upload(1, patient="Jane Doe")["sha256"]
    saved = server.post(f"/cases/{sha256}/consult", data={"recipient": "<b>Dr Far"})
    assert re.fullmatch(r'attachment; filename="case-[0-9a-f]{8}\.zip"', saved.headers["content-disposition"])
    with zipfile.ZipFile(io.BytesIO(saved.content)) as archive:
        assert "For &lt;b&gt;Dr Far." in archive.read(archive.namelist()[0]).decode()
    assert server.post(f"/cases/{'0' * 64}/consult", data={}).status_code == 404


def test_an_answer_of_another_bundle_is_not_explained_by_this_one(start: Callable[..., Server], tmp_path: Path) -> None:
    with Results.open(tmp_path / "results") as results, Classifier.load(options=NULL) as classifier:
        record = classifier.classify(png(1), name="a.png")
        earlier = replace(record, execution=replace(record.execution, bundle_sha256="0" * 64))
        results.commit("a.png", earlier)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "a.png").write_bytes(png(1))
    server = start(inbox=tmp_path / "inbox")
    assert "another bundle is served" in server.get(f"/api/v1/images/{record.sha256}/overlay").json()["detail"]
    saved = server.post(f"/cases/{record.sha256}/consult", data={"overlays": "yes"})
    with zipfile.ZipFile(io.BytesIO(saved.content)) as archive:
        assert 'class="overlay"' not in archive.read(archive.namelist()[0]).decode()


@pytest.mark.parametrize("filed", ["", "x", "-1", "²", "9" * 50])
def test_the_page_takes_any_query(server: Server, filed: str) -> None:
    assert server.get("/consult", params={"filed": filed}).status_code == 200


def test_a_wrong_file_is_a_sentence_on_the_page_and_the_same_one_was_filed_before(server: Server) -> None:
    given = {"opinion": json.dumps(opinion(server.client.get(made(server)).text))}
    assert "1 new review." in server.get(server.post("/consult", data=given).headers["location"]).text
    assert "filed before" in server.get(server.post("/consult", data=given).headers["location"]).text
    for wrong in ("{}", "PK", "[]"):
        answer = server.post("/consult", data={"opinion": wrong}, headers={"accept": "text/html"})
        assert answer.status_code == 422
        assert "This file was not filed." in answer.text
        assert "give the opinion.json" in answer.text
        assert 'type="file"' in answer.text


def test_what_came_back_is_said_with_its_author_and_pictures(server: Server) -> None:
    given = opinion(server.client.get(made(server)).text)
    answer = server.post("/consult", data={"opinion": json.dumps(given)})
    page = server.get(answer.headers["location"]).text
    (picture,) = json.loads(given["package"])["pictures"]
    assert f'Dr Far: <a href="/cases/{picture["sha256"]}' in page
    assert "verdict" not in page
