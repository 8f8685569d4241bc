"""The review pages in a real browser, by the keyboard, as a reader uses them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

pytest.importorskip("starlette", reason="bcd-edge[serve] is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
httpx = pytest.importorskip("httpx", reason="needs an HTTP client")

from bcd_edge.results import audit, reviews, worklist  # noqa: E402
from bcd_edge.results.journal import NAME, reading  # noqa: E402

from .conftest import Process, png  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")
CASES = 20
SIZES = {"clinic PC": (1366, 768), "tablet": (1024, 768), "upright tablet": (768, 1024), "phone": (390, 844), "large": (1920, 1080)}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(chromium: Any, process: Process) -> Any:
    """Signed in by the one-time link, with twenty cases of five patients; what the pages ask for, and complain of, is kept."""
    with httpx.Client(base_url=process.url, headers={"authorization": f"Bearer {process.tokens['submitter']}"}) as client:
        for seed in range(CASES):
            name = f"field-{seed:02}.png"
            sent = client.post("/api/v1/images", params={"name": name, "patient": f"P{seed // 4}"}, content=png(seed, 64))
            assert sent.status_code == 200, sent.text
    context = chromium.new_context(viewport={"width": 1366, "height": 768})
    context.asked, context.complaints = [], []
    context.on("request", lambda request: context.asked.append(request.url))
    context.on("console", lambda message: context.complaints.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: context.complaints.append(str(error.error)))
    page = context.new_page()
    page.goto(process.link)
    assert page.title().startswith("To review")
    page.close()
    return context


@pytest.fixture
def page(context: Any, process: Process) -> Iterator[Any]:
    page = context.new_page()
    page.goto(process.url)
    yield page
    page.close()


def until(page: Any, script: str) -> None:
    """Waits until a script is true; the pages' policy forbids what Playwright's own waiting does."""
    for _ in range(600):
        if page.evaluate(script):
            return
        page.wait_for_timeout(50)
    raise AssertionError(script)


def press(page: Any, key: str) -> None:
    """A key that leads to another page."""
    with page.expect_navigation():
        page.keyboard.press(key)


def violations(page: Any) -> list[str]:
    broken_rules = axe.Axe().run(page).response["violations"]
    return [f"{entry['id']}: {entry['nodes'][0]['html'][:150]}" for entry in broken_rules]


def test_the_worklist_is_used_by_keys(page: Any) -> None:
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement === document.querySelector('a.open')")
    press(page, "Enter")
    assert page.url.partition("?")[0].rpartition("/")[0].endswith("/cases")
    press(page, "l")
    page.keyboard.press("/")
    page.keyboard.type("field-07")
    press(page, "Enter")
    assert page.locator("a.open").count() == 1


def test_the_picture_is_zoomed_moved_and_overlaid_by_keys(page: Any) -> None:
    press(page, "s")
    page.wait_for_load_state("networkidle")
    transform = "document.getElementById('stage').style.transform"
    whole = page.evaluate(transform)
    for key in "+++":
        page.keyboard.press(key)
    near = page.evaluate(transform)
    page.keyboard.press("ArrowRight")
    assert len({whole, near, page.evaluate(transform)}) == 3
    page.keyboard.press("0")
    assert page.evaluate(transform) == whole
    page.keyboard.press("o")
    until(page, "document.getElementById('layer').naturalWidth > 0")
    assert page.locator("#layer").is_visible()
    page.keyboard.press("]")
    assert page.evaluate("document.getElementById('layer').style.opacity") == "0.6"
    assert violations(page) == []
    page.keyboard.press("o")
    assert not page.locator("#layer").is_visible()


def test_a_patient_is_read_twice_compared_signed_out_and_printed(page: Any, process: Process, chromium: Any) -> None:
    """Twenty cases by the keyboard; one of them undone, commented and decided again."""
    press(page, "s")
    first = page.url
    page.keyboard.press("/")
    page.keyboard.type("not filed yet")
    page.keyboard.press("Escape")
    press(page, "n")
    assert page.locator("#comment").input_value() == ""
    page.keyboard.press("z")
    assert page.locator("#undone").inner_text() == "There is nothing to undo."
    page.goto(first)
    assert page.locator("#comment").input_value() == "not filed yet"
    page.locator("#comment").fill("")
    page.locator("main h1").click()
    decided = 0
    while "/cases/" in page.url and decided < CASES + 5:
        press(page, "bmcu"[decided % 3])
        decided += 1
        if decided == 3:
            press(page, "z")
            page.keyboard.press("/")
            page.keyboard.type("b is no decision here")
            page.keyboard.press("Escape")
            press(page, "u")
    assert decided == CASES
    assert "Every answer that is uncertain, novel or malignant has an opinion" in page.locator("main").inner_text()
    with reading(process.root / NAME) as db:
        entries = list(reviews.listed(db))
        assert len(entries) == CASES + 2
        assert [entry.comment for entry in entries if entry.comment] == ["b is no decision here"]
        assert worklist.counts(db)["reviewed"] == CASES
        assert {entry.action for entry in audit.entries(db)} >= {"view", "review", "undo"}
        assert audit.verify(db).problems == ()

    second = chromium.new_context(extra_http_headers={"authorization": f"Bearer {process.tokens['second']}"}).new_page()
    second.goto(f"{process.url}/?state=second")
    press(second, "s")
    assert "1 other opinion, shown after yours" in second.locator(".panel").inner_text()
    for _ in range(4):
        press(second, "b")
    second.goto(f"{process.url}/?state=disagreement")
    assert "Cohen's kappa" in second.locator("main").inner_text()
    assert second.locator("a.open").count() > 0

    page.goto(f"{process.url}/patients/P0")
    page.get_by_label("Comment").fill("fibroadenoma")
    for name in ("benign", "benign, all the same"):  # a picture was read malignant, so it is asked for again
        with page.expect_navigation():
            page.get_by_role("button", name=name).click()
    page.goto(f"{process.url}/patients/P0/sheet")
    page.wait_for_load_state("networkidle")
    pdf = page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1, "one sheet"
    assert "fibroadenoma" in page.locator("main").inner_text()


def test_every_page_is_accessible_fits_its_screen_and_asks_no_other_host(context: Any, page: Any, process: Process, tmp_path: Path) -> None:
    monitor = [sys.executable, "-m", "bcd_edge", "monitor", str(process.root), "--format", "html", "--out", str(tmp_path / "monitor.html")]
    subprocess.run(monitor, check=True)
    with reading(process.root / NAME) as db:
        sha256 = worklist.cases(db, worklist.Filter("all"))[0].sha256
    paths = [
        "/",
        "/?state=reviewed",
        "/?state=disagreement",
        f"/cases/{sha256}",
        "/patients",
        "/patients/P0",
        "/patients/P0/sheet",
        "/patients?text=nobody",
        "/consult",
        "/api/v1/docs",
        "/cases/0",
    ]
    problems = []
    for path in [*paths, "/?language=fr", f"/cases/{sha256}", "/?language=en", (tmp_path / "monitor.html").as_uri()]:
        page.goto(urljoin(process.url, path))
        problems += [f"{path}: {violation}" for violation in violations(page)]
    for name, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        for path in [*paths, (tmp_path / "monitor.html").as_uri()]:
            page.goto(urljoin(process.url, path))
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                problems.append(f"{path} is wider than a {name}")
    assert problems == []
    assert {urlsplit(url).netloc for url in context.asked if not url.startswith(("data:", "blob:", "file:"))} == {urlsplit(process.url).netloc}
    assert [text for text in context.complaints if "404" not in text and "409" not in text] == []


def test_signing_out_of_the_server_ends_it(page: Any, process: Process) -> None:
    with page.expect_navigation():
        page.get_by_role("button", name="Log out").click()
    page.goto(process.url)
    assert urlsplit(page.url).path == "/login"
    assert violations(page) == []
    page.goto(process.link)
    assert "used before" in page.locator("body").inner_text()
