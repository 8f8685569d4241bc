"""The page of a slide in a browser, opened from its folder without a server."""

from __future__ import annotations

import json
import re
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
        page.wait_for_function("document.querySelector('.tile')?.complete && viewer.scale > 0")
        assert page.get_by_role("heading", level=1).inner_text() == "biopsy.svs"
        assert page.locator("#answer").inner_text().startswith("review; p(malignant)")
        state = "[viewer.scale, viewer.left, viewer.top]"
        whole = page.evaluate(state)
        assert page.evaluate("[viewer.overview.hidden, document.documentElement.scrollWidth <= innerWidth]") == [True, True]

        box = page.locator("#viewer").bounding_box()
        x, y = box["x"] + 300, box["y"] + 300
        place = f"Object.values(viewer.place({{clientX: {x}, clientY: {y}}}))"
        page.mouse.move(x, y)
        assert re.match(r"Tile \d+, \d+: p 0\.\d{3}, ", page.locator("#here").inner_text())
        under = page.evaluate(place)
        page.mouse.wheel(0, -800)
        page.wait_for_function(f"viewer.scale > {whole[0]}")
        assert page.evaluate(place) == pytest.approx(under, abs=1), "what is under the pointer stays there"
        assert not page.evaluate("viewer.overview.hidden")
        # when the finer tiles are there, the others go
        page.wait_for_function("viewer.tiles.size === new Set([...viewer.wanted, `${viewer.base}/0/0`]).size")

        before = page.evaluate(state)
        page.mouse.down()
        page.mouse.move(x - 40, y - 30)
        page.mouse.up()
        assert page.evaluate(state) == pytest.approx([before[0], before[1] + 40 / before[0], before[2] + 30 / before[0]], abs=0.1)
        page.locator("#viewer").press("ArrowRight")
        assert page.evaluate("viewer.left") == pytest.approx(before[1] + 120 / before[0], abs=0.1)
        page.locator("#viewer").press("0")
        assert page.evaluate(state) == pytest.approx(whole)
        page.get_by_role("button", name="Zoom in").click()
        assert page.evaluate("viewer.scale") == pytest.approx(1.6 * whole[0])

        column, row, p, decision = content["suspicious"][0]
        page.locator("#suspicious button").first.click()
        assert page.locator("#here").inner_text() == f"Tile {column}, {row}: p {p:.3f}, {decision}"
        scale, left, top = page.evaluate(state)
        mark = page.locator(".mark").bounding_box()
        assert [mark["x"] - box["x"], mark["y"] - box["y"]] == pytest.approx([(200 * column - left) * scale, (200 * row - top) * scale], abs=1)
        assert mark["width"] == pytest.approx(200 * scale, abs=1)
        assert 0 <= mark["x"] - box["x"] <= box["width"] - mark["width"]
        assert 0 <= mark["y"] - box["y"] <= box["height"] - mark["height"]
        um = int(page.locator("#length").inner_text().removesuffix(" µm"))
        assert page.locator("#bar").bounding_box()["width"] == pytest.approx(um * scale, abs=0.5), "a pixel of this slide is 1 µm"
        page.get_by_label("Heat map").fill("0")
        assert page.evaluate("heat.style.opacity") == "0"
        assert complaints == []
        assert [violation["id"] for violation in Axe().run(page).response["violations"]] == []
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_function("viewer.frame.clientWidth < 400")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert {url.split(":")[0] for url in asked} <= {"file", "data", "blob"}
        browser.close()
