"""The page of a slide in a browser, opened from its folder without a server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from bcd_edge.classifier import Classifier
from bcd_edge.options import RunOptions
from bcd_edge.slides.classify import classify
from bcd_edge.slides.settings import SlideSettings

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")


def test_the_page_zooms_shows_answers_and_asks_for_nothing_else(svs: Path, tmp_path: Path) -> None:
    with Classifier.load(None, RunOptions(provider="null"), purpose="throughput") as classifier:
        record = classify(classifier, svs, SlideSettings(tmp_path))
    assert record.slide
    folder = shutil.copytree(record.slide.files, tmp_path / "a copy")
    content = json.loads((folder / "slide.js").read_text(encoding="utf-8").partition(" = ")[2].rstrip(";\n"))
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        asked, complaints = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((folder / "index.html").as_uri())
        page.wait_for_function("viewer.world.getItemCount() === 1 && viewer.world.getItemAt(0).getFullyLoaded()")
        assert page.get_by_role("heading", level=1).inner_text() == "biopsy.svs"
        assert page.locator("#answer").inner_text().startswith("review; p(malignant)")
        before = page.evaluate("viewer.viewport.getZoom()")
        page.get_by_role("button", name="Zoom in").click()
        page.wait_for_function(f"viewer.viewport.getZoom() > {1.3 * before}")
        column, row, p, decision = content["suspicious"][0]
        page.locator("#suspicious button").first.click()
        assert page.locator("#here").inner_text() == f"Tile {column}, {row}: p {p:.3f}, {decision}"
        centre = page.evaluate("(({x, y}) => [x, y])(viewer.viewport.getCenter(false).times(slide.width))")
        assert centre == pytest.approx([(column + 0.5) * 200, (row + 0.5) * 200], abs=2)
        page.wait_for_selector(".mark")
        page.get_by_label("Heat map").fill("0")
        assert page.evaluate("heat.style.opacity") == "0"
        assert page.locator("#length").inner_text().endswith("µm")
        assert complaints == []
        assert [violation["id"] for violation in Axe().run(page).response["violations"]] == []
        assert {url.split(":")[0] for url in asked} <= {"file", "data", "blob"}
        browser.close()
