"""A whole slide among the cases: its thumbnail as the picture, and its page where the answer may be seen."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bcd_edge.classifier import Classifier
from bcd_edge.options import RunOptions
from bcd_edge.records import Record
from bcd_edge.results.folder import Results
from bcd_edge.slides.classify import classify
from bcd_edge.slides.settings import SlideSettings
from benchmarks.slide_files import Drawn, write_svs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """A folder of results with an answered slide."""
    root = tmp_path_factory.mktemp("answered") / "results"
    path = write_svs(root.parent / "biopsy.svs", Drawn(1024, 1024, ((0.0, 0.0, 1.0, 1.0),), downsamples=(1, 4)), 1.0, AppMag="10")
    with Classifier.load(None, RunOptions(provider="null"), purpose="throughput") as classifier, Results.open(root) as results:
        record = classify(classifier, path, SlideSettings(folder=root / "slides" / "one"), name="biopsy.svs")
        assert record.slide
        record = replace(record, slide=replace(record.slide, files="slides/one"))
        results.use(classifier.bundle, classifier.rule)
        results.commit("biopsy.svs", record)
    return root, record


@pytest.fixture
def answered(made: tuple[Path, Record], tmp_path: Path) -> tuple[Path, Record]:
    """A copy of it."""
    shutil.copytree(made[0], tmp_path / "results")
    return tmp_path / "results", made[1]


def test_the_case_shows_the_slide_and_leads_to_its_page(start: Callable[..., Any], answered: tuple[Path, Record]) -> None:
    root, record = answered
    server = start(root)
    case = server.get(f"/cases/{record.sha256}")
    assert case.status_code == 200
    assert f'href="/slides/{record.sha256}/index.html"' in case.text
    assert 'id="overlay"' not in case.text
    assert server.get(f"/api/v1/images/{record.sha256}/picture").headers["content-type"] == "image/png"
    assert server.get(f"/api/v1/images/{record.sha256}/overlay").status_code == 404
    kinds = {
        **{"index.html": "text/html", "page.js": "javascript", "slide.js": "javascript", "page.css": "text/css", "tiles.png": "image/png"},
        **{"heatmap.png": "image/png", "openseadragon.min.js": "javascript", "pyramid/0/0_0.jpg": "image/jpeg"},
    }
    for name, kind in kinds.items():
        answer = server.get(f"/slides/{record.sha256}/{name}")
        assert (answer.status_code, kind in answer.headers["content-type"]) == (200, True), name


def test_nothing_else_is_served(start: Callable[..., Any], answered: tuple[Path, Record]) -> None:
    root, record = answered
    server = start(root)
    for name in ("tiles.csv", "run.json", "%2e%2e/%2e%2e/journal.sqlite3", "pyramid/0/%2e%2e/%2e%2e/run.json", "pyramid/99/0_0.jpg", ""):
        assert server.get(f"/slides/{record.sha256}/{name}").status_code == 404, name
    assert server.get(f"/slides/{'0' * 64}/index.html").status_code == 404


def test_who_may_not_see_the_answer_gets_no_page(start: Callable[..., Any], answered: tuple[Path, Record]) -> None:
    root, record = answered
    server = start(root, blinded=True)
    assert server.get(f"/slides/{record.sha256}/heatmap.png").status_code == 403
    assert server.client.get(f"/slides/{record.sha256}/index.html").status_code in (303, 401)
    assert server.get(f"/slides/{record.sha256}/index.html", "submitter").status_code == 403
    assert f"/slides/{record.sha256}" not in server.get(f"/cases/{record.sha256}").text
    assert server.get(f"/api/v1/images/{record.sha256}").json()["slide"] is None
    assert server.get(f"/api/v1/images/{record.sha256}/picture").status_code == 200
