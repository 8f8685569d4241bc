"""The HTTP API: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from starlette.exceptions import HTTPException

from bcd_edge.options import RunOptions
from bcd_edge.results import audit, pictures, reviews
from bcd_edge.results.journal import NAME, reading
from bcd_edge.serve import openapi, uploads
from bcd_edge.synthetic import tissue

from .conftest import Server, png

IMAGES = "/api/v1/images"


def valid(body: Any, schema: str) -> bool:
    jsonschema.Draft202012Validator({**openapi.document(), "$ref": f"#/components/schemas/{schema}"}).validate(body)
    return True


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in ("source", "timing_ms", "intake")}


def test_the_same_bytes_get_the_same_record_from_predict_watch_and_http(server: Server, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "a.png").write_bytes(png(3))
    sent = server.upload(3)
    run = [sys.executable, "-m", "bcd_edge"]
    predicted = subprocess.run([*run, "predict", tmp_path / "inbox" / "a.png", "--provider", "null", "--format", "jsonl"], capture_output=True)
    options = ("--out", tmp_path / "watched", "--once", "--provider", "null", "--stable-for", "0", "--min-free", "0", "--quiet")
    subprocess.run([*run, "watch", tmp_path / "inbox", *options], check=True)
    (watched,) = (tmp_path / "watched" / "records").rglob("*.json")
    assert comparable(sent) == comparable(json.loads(predicted.stdout)) == comparable(json.loads(watched.read_text()))
    assert valid(sent, "Record")


def test_an_upload_is_answered_once_whatever_it_is_called(server: Server) -> None:
    first = server.upload(1, patient="P1")
    again = server.upload(1, patient="P1")
    other = server.upload(1, name="other.png", patient="P2")
    assert first == again
    assert (other["source"], other["timing_ms"]) == ("upload/1.png", first["timing_ms"])
    with reading(server.root / NAME) as db:
        assert db.execute("SELECT COUNT(*) FROM images").fetchone()[0] == 1
        assert [row["patient"] for row in db.execute("SELECT patient FROM names ORDER BY rowid")] == ["P1", "P2"]
    assert server.get(f"{IMAGES}/{first['sha256']}").json() == first
    assert server.get(f"{IMAGES}/{first['sha256']}/picture").content[:4] == b"\x89PNG"


def test_a_dicom_image_says_whose_it_is_unless_the_request_does(server: Server, dicom: Callable[..., bytes]) -> None:
    pixels = tissue(7, height=40, width=40, glands=0)
    for patient, params in (("P7", {}), ("P8", {"patient": "P8"})):
        image = dicom(pixels, PatientID="P7", ContainerIdentifier="S1", StudyInstanceUID="1.2.3", InstanceNumber=len(params) + 1)
        record = server.post(IMAGES, "submitter", content=image, params=params).json()
        assert [record["intake"][name] for name in ("patient", "slide", "study")] == [patient, "S1", "1.2.3"]
        assert valid(record, "Record")


def test_many_pictures_in_one_request_are_answered_in_their_order(server: Server) -> None:
    parts = [("file", (f"{seed}.png", png(seed), "image/png")) for seed in (5, 6, 5)] + [("file", ("no.png", b"no picture"))]
    answer = server.post(IMAGES, "submitter", files=parts, params={"patient": "P"})
    assert valid(answer.json(), "Records")
    records = answer.json()["records"]
    assert [record["sha256"] for record in records] == [hashlib.sha256(part[1][1]).hexdigest() for part in parts]
    assert [record["status"] for record in records] == ["ok", "ok", "ok", "failed"]


def test_without_waiting_it_is_accepted_and_answered_later(server: Server) -> None:
    answer = server.post(f"{IMAGES}?wait=false", "submitter", content=png(7))
    assert (answer.status_code, valid(answer.json(), "Accepted")) == (202, True)
    while (later := server.get(answer.headers["location"], "submitter")).status_code == 202:
        time.sleep(0.02)
    assert (later.status_code, later.json()["sha256"]) == (200, answer.json()["sha256"])
    failed = server.post(f"{IMAGES}?wait=false", "submitter", content=b"no picture")
    while (later := server.get(failed.headers["location"], "submitter")).status_code == 202:
        time.sleep(0.02)
    assert (later.status_code, later.json()["status"]) == (422, "failed")


def test_what_was_accepted_before_a_crash_is_answered_after_it(tmp_path: Path, start: Callable[..., Server]) -> None:
    root, data = tmp_path / "crashed", png(8)
    sha256 = hashlib.sha256(data).hexdigest()
    (root / "tmp").mkdir(parents=True)
    pictures.keep(root, sha256, data)
    about = {"name": "upload/8.png", "owner": "submitter", "received_at": "2026-01-01T00:00:00.000+00:00", "patient": "P", "slide": None}
    uploads.accept(root, sha256, about)
    server = start(root)
    while (answer := server.get(f"{IMAGES}/{sha256}")).status_code == 202:
        time.sleep(0.02)
    assert answer.json()["intake"]["patient"] == "P"
    assert uploads.pending(root, sha256) is None


@pytest.mark.parametrize(("settings", "status"), [({"max_waiting": 1}, 503), ({"max_waiting_each": 1}, 429)])
def test_when_too_many_wait_more_are_told_when_to_come_again(start: Callable[..., Server], settings: dict[str, int], status: int) -> None:
    server = start(options=RunOptions(provider="null", provider_options=(("delay", "1s"),)), **settings)
    assert server.post(f"{IMAGES}?wait=false", "submitter", content=png(1)).status_code == 202
    refused = server.post(f"{IMAGES}?wait=false", "submitter", content=png(2))
    assert (refused.status_code, valid(refused.json(), "Problem")) == (status, True)
    assert int(refused.headers["retry-after"]) >= 1


def test_an_answer_that_takes_too_long_can_be_asked_for_again(start: Callable[..., Server]) -> None:
    server = start(options=RunOptions(provider="null", provider_options=(("delay", "1s"),)), timeout_s=0.3)
    late = server.post(IMAGES, "submitter", content=png(1))
    assert (late.status_code, late.headers["retry-after"]) == (503, "5")


def bomb() -> bytes:
    """A PNG of a few bytes that says it is 60,000 x 60,000."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (head, data, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def endless(total: int) -> Any:
    for _ in range(total // 100_000):
        yield b"x" * 100_000


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ({"content": b""}, 400),
        ({"content": b"no picture"}, 422),
        ({"content": png(1)[:200]}, 422),
        ({"content": bomb()}, 422),
        ({"content": b"x", "headers": {"content-length": "10000000000"}}, 413),
        ({"content": endless(3_000_000)}, 413),
        ({"content": b"--x\r\nno part", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"content": png(1), "params": {"wait": "perhaps"}}, 400),
        ({"content": png(1), "params": {"patient": "a\x00b"}}, 400),
        ({"content": png(1), "params": {"unknown": "1"}}, 400),
        ({"content": png(1), "headers": {"host": "evil.example"}}, 421),
        ({"content": png(1), "headers": {"sec-fetch-site": "cross-site"}}, 403),
    ],
)
def test_what_cannot_be_taken_is_refused_with_a_sentence(start: Callable[..., Server], arguments: dict[str, Any], status: int) -> None:
    server = start(max_body=1_000_000)
    answer = server.post(IMAGES, "submitter", **arguments)
    assert answer.status_code == status
    assert len(answer.json().get("detail") or answer.json()["error"]) > 20


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..\\..\\boot.ini", "<script>alert(1)</script>.png", "a\n\x1b[2Jb.png", "ü" * 400, "...", "\u202egnp.exe"]
)
def test_names_stay_names(server: Server, name: str) -> None:
    answer = server.post(IMAGES, "submitter", files=[("file", (name, png(9)))])
    assert answer.status_code == 200
    source = answer.json()["source"]
    assert source.startswith("upload/")
    assert source.isprintable()
    assert len(source) < 250
    assert source.count("/") == 1
    page = server.client.get("/", headers=server.as_("reviewer") | {"accept": "text/html"})
    assert "<script>alert" not in page.text
    inside = {path.relative_to(server.root).parts[0] for path in server.root.rglob("*")}
    assert {"uploads", "records"} <= inside


def test_an_explanation_is_made_on_request_and_once(server: Server) -> None:
    sha256 = server.upload(2)["sha256"]
    for path, kind in (("overlay", "image/png"), ("overlay?layer=true", "image/png"), ("explanation", "application/json")):
        answer = server.get(f"{IMAGES}/{sha256}/{path}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert len(answer.json()["explanation"]["superpixels"]) > 5


class Visitor:
    """A request whose client leaves when it is told to."""

    def __init__(self) -> None:
        self.has_left = False

    async def is_disconnected(self) -> bool:
        return self.has_left


def test_an_explanation_is_given_up_when_everyone_has_left_and_not_before(start: Callable[..., Server]) -> None:
    server = start(options=RunOptions(provider="null", provider_options=(("delay", "500ms"),)))
    record = server.upload(2)
    explainer = server.client.app.state.explainer  # type: ignore[attr-defined]

    async def ask() -> list[Any]:
        first, second = Visitor(), Visitor()
        asked = [asyncio.ensure_future(explainer.file(visitor, record, "layer")) for visitor in (first, second)]
        await asyncio.sleep(0.3)
        assert len(explainer._jobs) == 1, "both wait for the same"
        first.has_left = True
        with pytest.raises(HTTPException, match="left"):
            await asked[0]
        assert len(explainer._jobs) == 1
        second.has_left = True
        return await asyncio.gather(*asked, return_exceptions=True)

    assert [type(outcome) for outcome in asyncio.run(ask())] == [HTTPException, HTTPException]
    assert explainer._jobs == {}
    assert not list(server.root.rglob("*.layer.png"))
    assert server.get(f"{IMAGES}/{record['sha256']}/overlay?layer=true").status_code == 200


def test_a_picture_that_is_gone_is_not_found(server: Server) -> None:
    sha256 = server.upload(2)["sha256"]
    (server.root / pictures.kept_path(sha256)).write_bytes(b"another")
    for path in ("picture", "overlay", "explanation"):
        assert server.get(f"{IMAGES}/{sha256}/{path}").status_code == 404
    for other in ("0" * 64, "..%2f..%2fetc%2fpasswd", "A" * 64):
        assert server.get(f"{IMAGES}/{other}").status_code == 404


def test_reviewing_by_the_api(server: Server) -> None:
    first, second = (server.upload(seed, patient="P/1") for seed in (1, 2))
    queue = server.get("/api/v1/queue").json()
    assert valid(queue, "Queue")
    assert {case["sha256"] for case in queue["cases"]} == {first["sha256"], second["sha256"]}
    assert "reason" not in queue["cases"][0], "nothing tells that a case was drawn at random"
    body = {"sha256": first["sha256"], "decision": "malignant", "comment": "mitoses", "uid": "abcdefgh-1"}
    filed = server.post("/api/v1/reviews", json=body)
    assert (filed.status_code, valid(filed.json(), "Review"), filed.json()["reader"]) == (201, True, "reviewer")
    assert server.post("/api/v1/reviews", json=body).json() == filed.json()
    assert server.post(f"/api/v1/reviews/{filed.json()['id']}/undo", "second", json={}).status_code == 400
    undone = server.post(f"/api/v1/reviews/{filed.json()['id']}/undo", json={})
    assert (undone.status_code, undone.json()["undoes"]) == (201, filed.json()["id"])
    assert server.post("/api/v1/patients/P%2F1/sign-outs", json={"decision": "benign"}).status_code == 400
    for record in (first, second):
        server.post("/api/v1/reviews", json={"sha256": record["sha256"], "decision": "benign"})
    signed = server.post("/api/v1/patients/P%2F1/sign-outs", json={"decision": "benign"})
    assert (signed.status_code, valid(signed.json(), "SignOut")) == (201, True)
    assert valid(server.get("/api/v1/patients/P%2F1").json(), "PatientCases")
    assert valid(server.get("/api/v1/patients").json(), "Patients")
    assert valid(server.get("/api/v1/records").json(), "Records")
    labels = server.get("/api/v1/labels").json()
    assert (valid(labels, "Labels"), {label["outcome"] for label in labels["labels"]}) == (True, {"benign"})
    page = server.get("/api/v1/reviews?limit=2").json()
    assert (valid(page, "Reviews"), len(server.get(f"/api/v1/reviews?after={page['next']}").json()["reviews"])) == (True, 2)
    with reading(server.root / NAME) as db:
        assert audit.verify(db).problems == ()
        assert [entry.action for entry in audit.entries(db) if entry.uid] == ["review", "undo", "review", "review", "sign out"]
        assert len(list(reviews.listed(db))) == 4


def test_pseudonyms_are_all_that_is_shown_and_can_be_asked_for(tmp_path: Path, start: Callable[..., Server]) -> None:
    from bcd_edge.results.folder import Results

    Results.open(tmp_path / "hidden", pseudonymise=True).close()
    server = start(tmp_path / "hidden")
    server.upload(1, name="Doe-Jane.png", patient="Doe")
    texts = [server.get(f"/api/v1/{path}").text for path in ("queue", "patients", "records")]
    texts.append(server.client.get("/", headers=server.as_("reviewer")).text)
    assert not [text for text in texts if "Doe" in text]
    name = server.get("/api/v1/patients").json()["patients"][0]["name"]
    assert len(server.get(f"/api/v1/patients/{name}").json()["cases"]) == 1
    assert server.get("/api/v1/queue", params={"patient": name}).json()["total"] == 1


def test_who_sends_slowly_or_nothing_loses_the_connection(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bcd_edge", "serve", str(tmp_path / "results"), "--port", "0", "--provider", "null", "--timeout", "300ms"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = int(process.stdout.readline().rpartition("/login")[0].rpartition(":")[2])
        head = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        body = b"POST /login HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 10000\r\n\r\nname="
        try:
            for sent in (b"", head + b"x: ", body):
                with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                    connection.sendall(sent)
                    while connection.recv(10_000):  # until the server closes it
                        pass
        finally:
            process.terminate()
    assert process.returncode == 0


def test_health_and_metrics(server: Server) -> None:
    server.upload(1)
    assert server.client.get("/healthz").json() == {"status": "live"}
    assert server.client.get("/readyz").json() == {"status": "ready"}
    text = server.get("/metrics").text
    assert "bcd_edge_serve_answered 1.0" in text
    assert 'bcd_edge_cases{state="all"} 1.0' in text


def test_metrics_have_the_monitors_figures_as_soon_as_they_are_computed(server: Server) -> None:
    server.upload(1)
    assert "bcd_edge_monitor" not in server.get("/metrics").text
    monitoring = server.client.app.state.monitoring  # type: ignore[attr-defined]
    assert server.client.portal
    server.client.portal.call(monitoring.wait)
    text = server.get("/metrics").text
    assert 'bcd_edge_monitor{end="value",figure="p_malignant"}' in text
    assert "bcd_edge_monitor_age_seconds" in text
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(names) == len(set(names))


def test_the_document_is_whole_and_its_examples_are_valid(server: Server) -> None:
    from bcd_edge.serve.api import BASE, HANDLERS

    document = server.get("/api/v1/openapi.json").json()
    documented = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert documented | {("GET", "/openapi.json")} == set(HANDLERS) | {("POST", "/images")}
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            assert valid(example, name)
    assert document["servers"] == [{"url": BASE}]
    page = server.get("/api/v1/docs").text
    assert [path for path in document["paths"] if f"/api/v1{path}" not in page] == []
