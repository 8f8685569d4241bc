"""`bcd-edge serve` as clients meet it: start and memory, load, 100,000 results, and thousands of requests drawn from its document."""

from __future__ import annotations

import http.client
import json
import re
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import psutil

from bcd_edge.bundle import open as open_bundle
from bcd_edge.results import users
from bcd_edge.results.folder import Results
from bcd_edge.synthetic import tissue
from benchmarks import servers, tables
from benchmarks.reviewers import reviewers
from benchmarks.tables import Row

CLIENTS = (1, 8, 32)
ROLES = ("submitter", "reviewer", "admin")
# Ours beside other servers: with their engine, and as shipped.
OURS = {"ours, cpu": ("--provider", "cpu"), "ours, as shipped": ()}
BESIDE_CLIENTS, BESIDE_TURNS = 8, 2
BOUNDARY = "a-boundary-that-is-in-no-picture"
DOCUMENTED = "not_a_server_error,response_schema_conformance,status_code_conformance,content_type_conformance"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    root: Path
    netloc: str
    tokens: dict[str, str]
    process: psutil.Process
    started_s: float

    def rss_mb(self) -> float:
        """Resident memory."""
        return self.process.memory_info().rss / 1e6

    @property
    def target(self) -> Target:
        """Where pictures go."""
        return Target(self.netloc, "/api/v1/images", {"authorization": f"Bearer {self.tokens['submitter']}"})


@dataclass(frozen=True, slots=True)
class Target:
    """Where pictures are sent: as the body, or as the `field` of a form."""

    netloc: str
    path: str
    headers: dict[str, str]
    field: str = ""


@contextmanager
def serving(*options: str, root: Path | None = None) -> Iterator[Server]:
    """Starts a server with a token for each role, on a folder of its own if none is given."""
    with tempfile.TemporaryDirectory() as name:
        folder = root or Path(name, "results")
        with Results.open(folder) as results:
            for role in ROLES:
                users.add(results, role, role, None, by="a benchmark")
            tokens = {role: users.add_token(results, role, by="a benchmark") for role in ROLES}
        started = time.monotonic()
        command = [sys.executable, "-m", "bcd_edge", "serve", str(folder), "--port", "0", "--quiet", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                link = re.search(r"http\S+", process.stdout.readline())
                assert link, "the server did not start"
                yield Server(folder, urlsplit(link[0]).netloc, tokens, psutil.Process(process.pid), time.monotonic() - started)
            finally:
                process.terminate()


def measure(out: Path | None, *, pictures: int, cases: int, results: int, open_s: float, kills: int) -> None:
    """Measures everything, and prints or writes the table."""
    steps: list[Callable[[], Iterator[Row]]] = [
        lambda: _start(),
        lambda: _load(pictures, open_s),
        lambda: _beside(pictures),
        lambda: _large(results),
        lambda: _properties(cases),
        lambda: iter([reviewers(200 * kills, 100 * kills, kills, seed=19)]),
    ]
    rows = tables.shown(row for step in steps for row in step())
    tables.put(tables.markdown(open_bundle(None).name, rows), out, "serve")


def _start() -> Iterator[Row]:
    with serving() as server:
        _get(server, "/", "reviewer")
        detail = f"{server.rss_mb():.0f} MB with the model loaded and a page shown; bcd-edge predict of one picture: {_predict_mb():.0f} MB at most"
        yield Row("start of the server, until it takes requests", "-", f"{server.started_s:.1f} s", detail)


def _predict_mb() -> float:
    script = "import resource; from bcd_edge import Classifier; Classifier.load(); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    return int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout) / 1e3


def _load(pictures: int, open_s: float) -> Iterator[Row]:
    images = _Pictures()
    rate = _predict_rate(images, pictures)
    best = service_ms = 0.0
    with serving() as server:
        _closed(server.target, images, 1, 20)
        for clients in CLIENTS:
            reached, latencies = _closed(server.target, images, clients, pictures)
            best, service_ms = max(best, reached), service_ms or float(np.median(latencies))
            figures = f"{reached:.1f} pictures/s, p50 {np.percentile(latencies, 50):.0f} ms, p99 {np.percentile(latencies, 99):.0f} ms"
            wanted = "at least 0.9" if clients == max(CLIENTS) else "-"
            yield Row(f"closed loop, {clients} clients, PNG 700 x 460, beside predict ({rate:.1f}/s)", wanted, f"{reached / rate:.2f} x", figures)
        before = server.rss_mb()
        latencies = _open(server.target, images, 0.7 * best, open_s)
        p99 = float(np.percentile(latencies, 99))
        detail = f"p50 {np.percentile(latencies, 50):.0f} ms, p99 {p99:.0f} ms of {len(latencies):,}; one alone takes {service_ms:.0f} ms"
        yield Row(f"open loop at 70 % for {open_s:g} s: p99 beside one picture alone", "at most 5", f"{p99 / service_ms:.1f} x", detail)
        yield Row("memory over that time", "flat", f"{server.rss_mb() - before:+.0f} MB", f"{before:.0f} MB before")


def _beside(pictures: int) -> Iterator[Row]:
    """Each server in turns, alone on the machine, with the same ONNX file; and ours as it is shipped."""
    others = [name for name in servers.FIELDS if not servers.missing(name)]
    rates: dict[str, list[float]] = {}
    latencies: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.onnx")
        model.write_bytes(open_bundle(None).model(None, "cpu")[1][0])
        for _ in range(BESIDE_TURNS):
            for name in (*OURS, *others):
                with _target(name, model) as target:
                    images = _Pictures()
                    _closed(target, images, BESIDE_CLIENTS, 4 * BESIDE_CLIENTS)
                    reached, times = _closed(target, images, BESIDE_CLIENTS, pictures)
                rates.setdefault(name, []).append(reached)
                latencies.setdefault(name, []).extend(times)
    for name in servers.FIELDS:
        work = f"closed loop, {BESIDE_CLIENTS} clients, beside {name} with onnxruntime and the same file"
        if name not in others:
            yield Row(work, "more", "not measured", servers.missing(name))
            continue
        figures = (f"{label} {np.median(rates[label]):.1f} pictures/s, p99 {np.percentile(latencies[label], 99):.0f} ms" for label in (name, *OURS))
        yield Row(work, "more", f"{np.median(rates['ours, cpu']) / np.median(rates[name]):.2f} x with cpu", "; ".join(figures))


@contextmanager
def _target(name: str, model: Path) -> Iterator[Target]:
    if name in OURS:
        with serving(*OURS[name]) as server:
            yield server.target
        return
    with servers.running(name, model) as netloc:
        yield Target(netloc, "/predict", {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}, servers.FIELDS[name])


class _Pictures:
    """Pictures with the same pixels and another content each: a comment in the PNG differs."""

    def __init__(self) -> None:
        self._png = cv2.imencode(".png", tissue(0)[..., ::-1])[1].tobytes()
        self._number = 0
        self._lock = threading.Lock()

    def next(self) -> bytes:
        with self._lock:
            self._number += 1
            text = b"tEXtComment\0" + f"{self._number} {time.time_ns()}".encode()
        chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
        return self._png[:-12] + chunk + self._png[-12:]


def _predict_rate(images: _Pictures, count: int) -> float:
    """Pictures a second of `bcd-edge predict` on a folder, without its start."""
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            Path(name, f"{number}.png").write_bytes(images.next())
        single_s, folder_s = (_predict_s(Path(name, "0.png")), _predict_s(Path(name)))
    return (count - 1) / (folder_s - single_s)


def _predict_s(path: Path) -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "bcd_edge", "predict", str(path), "--format", "jsonl"], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - started


def _closed(target: Target, images: _Pictures, clients: int, count: int) -> tuple[float, list[float]]:
    """Each client sends the next when it has its answer; pictures a second, and milliseconds of each."""
    latencies: list[float] = []
    left = iter(range(count))
    lock = threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection(target.netloc, timeout=120)
        while True:
            with lock:
                if next(left, None) is None:
                    return
            latencies.append(_post(connection, target, images.next()))

    started = time.monotonic()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count / (time.monotonic() - started), latencies


def _open(target: Target, images: _Pictures, rate: float, seconds: float) -> list[float]:
    """Pictures arrive as a Poisson process, whatever has been answered; milliseconds from their arrival."""
    generator, threads, latencies = np.random.default_rng(1), [], []
    at = started = time.monotonic()

    def send(due: float) -> None:
        _post(http.client.HTTPConnection(target.netloc, timeout=120), target, images.next())
        latencies.append(1000 * (time.monotonic() - due))

    while at - started < seconds:
        at += float(generator.exponential(1 / rate))
        time.sleep(max(0.0, at - time.monotonic()))
        threads.append(threading.Thread(target=send, args=(at,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return latencies


def _post(connection: http.client.HTTPConnection, target: Target, data: bytes) -> float:
    started = time.monotonic()
    connection.request("POST", target.path, _multipart(target.field, data) if target.field else data, target.headers)
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, body
    return 1000 * (time.monotonic() - started)


def _multipart(field: str, data: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="field.png"\r\nContent-Type: image/png\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def _get(server: Server, path: str, role: str) -> tuple[float, bytes]:
    started = time.monotonic()
    connection = http.client.HTTPConnection(server.netloc, timeout=120)
    connection.request("GET", path, headers={"authorization": f"Bearer {server.tokens[role]}"})
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, body
    return 1000 * (time.monotonic() - started), body


def _large(count: int) -> Iterator[Row]:
    """Pages on a folder with many results."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "results")
        _fill(root, count)
        with serving("--provider", "null", root=root) as server:
            sha256 = json.loads(_get(server, "/api/v1/queue", "reviewer")[1])["cases"][7]["sha256"]
            for path in (
                *("/", "/api/v1/queue", f"/cases/{sha256}", "/?text=field-0999", "/?state=all&text=field-0999", "/?state=all&text=png"),
                *("/patients", "/patients?text=99", "/patients/P99", "/api/v1/patients"),
            ):
                latencies = [_get(server, path, "reviewer")[0] for _ in range(40)]
                p95 = float(np.percentile(latencies, 95))
                page = path.replace(sha256, "SHA256")
                yield Row(f"{page} at {count:,} results", "p95 under 100 ms", f"{p95:.0f} ms", f"p50 {np.percentile(latencies, 50):.0f} ms")


def _fill(root: Path, count: int) -> None:
    """Answers as a watcher commits them, straight into the journal; a third need review, twenty make a patient."""
    generator = np.random.default_rng(3)
    with Results.open(root) as results, results.journal.transaction() as db:
        db.execute("INSERT INTO bundles VALUES ('b', 'drawn', 0.4, 0.2, 0.7, '2026')")
        for number in range(count):
            sha256 = generator.bytes(32).hex()
            decision, p = ("review", "benign", "benign")[number % 3], float(generator.random())
            execution = dict.fromkeys(("provider", "device", "precision", "bundle", "version", "requested"), "drawn") | {"bundle_sha256": "b"}
            times = {"patient": None, "slide": None, "seen": None, "taken": None, "answered": "2026-01-01T00:00:00+00:00"}
            record = {
                **{"source": f"field-{number:06}.png", "sha256": sha256, "status": "ok", "error": None, "label": "benign", "p_malignant": p},
                **{"decision": decision, "reasons": ["drawn"], "timing_ms": None, "execution": execution, "quality": None, "novelty": 0.5},
                "intake": times,
            }
            db.execute(
                """INSERT INTO images (state, sha256, bundle_sha256, record, p_malignant, decision, ended_at)
                   VALUES ('done', ?, 'b', ?, ?, ?, '2026-01-01T00:00:00+00:00')""",
                (sha256, json.dumps(record), p, decision),
            )
            db.execute(
                "INSERT INTO names (sha256, bundle_sha256, path, day, patient) VALUES (?, 'b', ?, '2026-01-01', ?)",
                (sha256, record["source"].encode(), f"P{number // 20}"),
            )


def _properties(cases: int) -> Iterator[Row]:
    """Schemathesis, as each role."""
    for role in ROLES:
        with serving("--provider", "null") as server:
            url = f"http://{server.netloc}/api/v1"
            command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json", "--url", url, "--no-color"]
            options = ("-n", str(max(1, cases // 15)), "--checks", DOCUMENTED, "--phases", "examples,coverage,fuzzing")
            header = ("-H", f"Authorization: Bearer {server.tokens[role]}")
            # in the folder of results, because it leaves a cache where it runs
            text = subprocess.run([*command, *options, *header], cwd=server.root, capture_output=True, text=True).stdout
            counts = re.search(r"([\d,]+) generated, ([\d,]+) passed", text)
            ratio = f"{counts[2]} of {counts[1]} requests passed" if counts else f"failed: {text[-300:]}"
            yield Row(f"requests drawn from the document, as {role}", "no 5xx, no answer outside the document", ratio, "Schemathesis")
