"""A whole slide among the cases: its thumbnail as the picture, and its page where the answer may be seen."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bcd_edge.classifier import Classifier
from bcd_edge.options import RunOptions
from bcd_edge.records import Record
from bcd_edge.results.folder import Results
from bcd_edge.serve.engine import Engine
from bcd_edge.serve.settings import Settings
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
        **{"heatmap.png": "image/png", "viewer.js": "javascript", "pyramid/0/0_0.jpg": "image/jpeg"},
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


SMALL = Drawn(1024, 1024, ((0.0, 0.0, 1.0, 1.0),), downsamples=(1, 4))


def test_a_slide_that_is_sent_is_answered_beside_the_pictures(start: Callable[..., Any], tmp_path: Path) -> None:
    server = start(slides=SlideSettings(overlap=0.5))
    data = write_svs(tmp_path / "biopsy.svs", SMALL, 1.0, AppMag="10").read_bytes()
    answer = server.post("/api/v1/images", "submitter", params={"name": "biopsy.svs"}, content=data)
    assert answer.status_code == 200, answer.text
    record = answer.json()
    assert (record["kind"], record["source"], record["decision"], record["slide"]["overlap"]) == ("slide", "upload/biopsy.svs", "review", 0.5)
    assert record["slide"]["files"] == f"slides/{record['sha256'][:16]}"
    assert "biopsy.svs" in server.get(f"/slides/{record['sha256']}/slide.js").text
    assert server.post("/api/v1/images", "submitter", params={"name": "biopsy.svs"}, content=data).json()["slide"] == record["slide"]
    assert server.upload(1)["kind"] == "image"


def test_a_slide_without_a_pixel_size_is_refused_by_its_name(start: Callable[..., Any], tmp_path: Path) -> None:
    data = write_svs(tmp_path / "biopsy.svs", SMALL, None).read_bytes()
    refused = start().post("/api/v1/images", "submitter", params={"name": "old.svs"}, content=data)
    assert (refused.status_code, "pixel of the slide old.svs is not known" in refused.json()["error"]) == (422, True)


def test_an_accepted_slide_is_gone_on_with_after_a_stop(start: Callable[..., Any], tmp_path: Path) -> None:
    drawn = Drawn(3072, 2048, ((0.0, 0.0, 1.0, 1.0),), downsamples=(1, 4))
    data = write_svs(tmp_path / "long.svs", drawn, 1.0, AppMag="10").read_bytes()
    slow = RunOptions(provider="null", provider_options=(("delay", "60ms"),))
    server = start(options=slow)
    accepted = server.post("/api/v1/images", "submitter", params={"name": "long.svs", "wait": "false"}, content=data)
    assert accepted.status_code == 202
    while not any(path.read_text(encoding="utf-8").count("\n") > 60 for path in server.root.glob("slides/*/tiles.csv")):
        time.sleep(0.02)
    server.engine.end()
    (tiles,) = server.root.glob("slides/*/tiles.csv")
    before = tiles.read_text(encoding="utf-8")
    assert 60 < before.count("\n") < 177
    settings = Settings(server.root, {"options": RunOptions(provider="null")})
    engine = Engine(settings, lambda: Classifier.load(**settings.model, purpose="throughput"))
    engine.begin()
    engine_has_answered(engine)
    engine.end()
    assert tiles.read_text(encoding="utf-8").startswith(before)
    assert tiles.read_text(encoding="utf-8").count("\n") == 177
    assert not list((server.root / "uploads" / "pending").iterdir())


def engine_has_answered(engine: Engine) -> None:
    while engine.stats.waiting:
        time.sleep(0.02)
