"""The live page: a recording through the server, its picture, its answer, and a frame that becomes a case."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette", reason="bcd-edge[serve] is not installed")
httpx = pytest.importorskip("httpx", reason="needs an HTTP client")

from bcd_edge.live.session import View  # noqa: E402
from bcd_edge.serve.live import shown  # noqa: E402
from bcd_edge.synthetic import tissue  # noqa: E402

from .conftest import Server, tokens  # noqa: E402

COMMAND = [sys.executable, "-m", "bcd_edge", "serve"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One field for 80 seconds; the server begins it again."""
    path: Path = tmp_path_factory.mktemp("frames")
    frame = tissue(5, height=240, width=320, glands=3, scattered=80)
    cv2.imwrite(str(path / "000.png"), np.ascontiguousarray(frame[..., ::-1]))
    for number in range(1, 2000):
        (path / f"{number:04}.png").symlink_to("000.png")
    return path


@pytest.fixture(scope="module")
def live(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client without credentials, the tokens, and the process, which must end although somebody looks at the picture."""
    root = tmp_path_factory.mktemp("live") / "results"
    secrets = tokens(root)
    command = [*COMMAND, str(root), "--port", "0", "--live", str(folder), "--provider", "null", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        link = re.search(r"http\S+", running.stdout.readline())
        assert link
        with httpx.Client(base_url=link.group().partition("/login")[0], timeout=60) as client:
            yield client, {name: {"authorization": f"Bearer {token}"} for name, token in secrets.items()}
            with client.stream("GET", "/live/stream", headers={"authorization": f"Bearer {secrets['reviewer']}"}) as looking:
                next(looking.iter_raw())
                running.terminate()
                assert running.wait(60) == 0


def until_answered(client: Any, headers: dict[str, str]) -> dict[str, Any]:
    for _ in range(1200):
        state: dict[str, Any] = client.get("/live/state", headers=headers).json()
        if state["update"] and state["update"]["smoothed"]:
            return state
        time.sleep(0.1)
    raise AssertionError(state)


def test_the_page_shows_the_picture_and_its_answer(live: Any) -> None:
    client, who = live
    state = until_answered(client, who["reviewer"])
    assert state["problem"] == ""
    assert state["used"] is None
    assert state["update"]["state"] == "answered"
    page = client.get("/live", headers=who["reviewer"] | {"accept-language": "fr"}).text
    assert "Image en direct du microscope" in page
    assert "inconnu : les réponses ne valent" in page
    assert 'href="/live"' in client.get("/", headers=who["reviewer"]).text
    with client.stream("GET", "/live/stream", headers=who["reviewer"]) as stream:
        assert stream.headers["content-type"].startswith("multipart/x-mixed-replace")
        part = next(part for part in stream.iter_raw() if b"\xff\xd8" in part)
    jpeg = part[part.index(b"\xff\xd8") :]
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (240, 320, 3)


def test_the_part_of_a_frame_that_is_answered_is_marked() -> None:
    frame = np.full((400, 500, 3), 120, np.uint8)
    whole, part = (View(0, frame, used, frame) for used in ((500, 400, 0, 0), (154, 154, 173, 123)))
    assert np.array_equal(shown(whole), frame)
    marked = (shown(part) != frame).any(axis=2)
    rows, columns = np.nonzero(marked)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((123, 276, 173, 326), abs=2)
    assert not marked[130:270, 180:320].any()
    large = View(0, np.zeros((1600, 2000, 3), np.uint8), (616, 616, 692, 492), frame)
    assert shown(large).shape == (819, 1024, 3)


def test_a_frame_becomes_a_case(live: Any) -> None:
    client, who = live
    until_answered(client, who["reviewer"])
    kept = client.post("/live/frames", headers=who["reviewer"], data={"patient": "P7"})
    assert kept.status_code == 201, kept.text
    assert client.get(kept.json()["location"], headers=who["reviewer"]).status_code == 200
    record = client.get(f"/api/v1/images/{kept.json()['sha256']}", headers=who["reviewer"]).json()
    assert record["intake"]["patient"] == "P7"
    assert record["source"].startswith("live/")


@pytest.mark.parametrize("path", ["/live", "/live/state", "/live/stream"])
def test_only_readers_look(live: Any, path: str) -> None:
    client, who = live
    assert client.get(path).status_code == 401
    assert client.get(path, headers=who["submitter"]).status_code == 403


def test_a_server_without_a_camera_says_so(server: Server) -> None:
    answer = server.get("/live/state")
    assert answer.status_code == 404
    assert "start it with --live SOURCE" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--live", "nowhere.mp4"], "is no source of frames"),
        (["--live", ".", "--blinded"], "--live shows answers that --blinded hides"),
        (["--objective", "10x"], "--objective is for a camera"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, str(tmp_path), *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_the_page_is_accessible_and_stores_a_frame_by_a_key(live: Any) -> None:
    from .test_browser import CHROMIUM, SIZES, playwright, until, violations

    if CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")
    client, who = live
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(extra_http_headers=who["reviewer"]).new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(str(client.base_url.join("/live")), wait_until="commit")
        until(page, "document.getElementById('trend')?.getAttribute('d')?.includes('L')")
        assert page.evaluate("document.querySelector('#frame img').naturalWidth") == 320
        page.keyboard.press("s")
        until(page, "document.querySelector('#stored a')")
        assert violations(page) == []
        for width, height in SIZES.values():
            page.set_viewport_size({"width": width, "height": height})
            assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), width
        browser.close()
    assert complaints == []
