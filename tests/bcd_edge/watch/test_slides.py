"""Whole slides in the inbox, between pictures."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bcd_edge.errors import OutputError, UsageError
from bcd_edge.readers import slide
from bcd_edge.results.patients import compile_pattern
from bcd_edge.results.report import patients
from bcd_edge.slides.settings import SlideSettings
from bcd_edge.watch import watcher
from bcd_edge.watch.run import watch
from bcd_edge.watch.scanner import is_wanted
from bcd_edge.watch.settings import ControlSignals, Stats
from benchmarks.slide_files import Drawn, write_dicom, write_svs

SMALL = Drawn(1024, 1024, ((0.0, 0.0, 1.0, 1.0),), downsamples=(1, 4))


def test_a_slide_is_answered_once_and_has_its_files_below_the_results(place: Any) -> None:
    place.drop("a.png", "z.png")
    write_svs(place.inbox / "biopsy.svs", SMALL, 1.0, AppMag="10")
    write_svs(place.inbox / "no-scale.svs", SMALL, None)
    stats = place.run(max_attempts=1, overlay=False)
    records = {record["source"]: record for record in place.records()}
    assert set(records) == {"a.png", "z.png", "biopsy.svs"}
    record = records["biopsy.svs"]
    assert (record["kind"], record["decision"], record["slide"]["tiles"]) == ("slide", "review", 36)
    folder = place.results / record["slide"]["files"]
    assert folder == place.results / "slides" / record["sha256"][:16]
    assert {"index.html", "heatmap.png", "tiles.csv", "regions.geojson"} <= {path.name for path in folder.iterdir()}
    assert stats.failed_attempts["quarantined"] == 1
    assert place.query("SELECT reason FROM files WHERE state = 'quarantined'")[0].startswith("The width of a pixel")
    assert [row["kind"] for row in place.rows() if row["source"] == "biopsy.svs"] == ["slide"]
    assert place.verification().problems == ()
    assert place.run(max_attempts=1).answered == 0


def test_the_pixel_size_of_the_watcher_is_for_slides_too(place: Any) -> None:
    write_svs(place.inbox / "no-scale.svs", SMALL, None)
    model = place.settings().model
    place.run(model=model | {"um_per_pixel": 1.0})
    assert [record["um_per_pixel"] for record in place.records()] == [1.0]


def test_an_answered_slide_can_be_moved(place: Any) -> None:
    write_svs(place.inbox / "biopsy.svs", SMALL, 1.0, AppMag="10")
    place.run(after="move")
    assert list(place.inbox.iterdir()) == []
    assert place.verification().moved == 1
    assert place.verification().problems == ()


def test_a_slide_does_not_enter_the_mean_of_the_pictures_of_its_patient(place: Any) -> None:
    for patient, names in {"P1": ("a.png", "biopsy.svs"), "P2": ("biopsy.svs",)}.items():
        (place.inbox / patient).mkdir()
        for name in names:
            if name.endswith(".svs"):
                write_svs(place.inbox / patient / name, replace(SMALL, height=1024 + 256 * len(names)), 1.0, AppMag="10")
            else:
                place.drop(f"{patient}/{name}")
    place.run(patients=compile_pattern("folder"))
    p = {record["source"]: record["p_malignant"] for record in place.records()}
    with closing(sqlite3.connect(place.results / "journal.sqlite3")) as db:
        db.row_factory = sqlite3.Row
        means = {patient.name: (patient.p_malignant, patient.images, patient.review) for patient in patients(db)}
    assert means["P1"][:2] == (p["P1/a.png"], 2)
    assert means["P1"][2] >= 1
    assert means["P2"] == (p["P2/biopsy.svs"], 1, 1)


def test_tiles_of_another_size_that_overlap(place: Any) -> None:
    write_svs(place.inbox / "biopsy.svs", SMALL, 1.0, AppMag="10")
    place.run(slides=SlideSettings(field_um=369.0, overlap=0.5))
    assert [(record["slide"]["field_um"], record["slide"]["overlap"]) for record in place.records()] == [(369.0, 0.5)]
    with pytest.raises(UsageError, match="Tiles of 5 µm cannot be classified"):
        place.run(slides=SlideSettings(field_um=5.0))


def test_the_levels_of_a_dicom_slide_are_one_slide(place: Any) -> None:
    pytest.importorskip("pydicom")
    write_dicom(place.inbox / "slide", replace(SMALL, width=2048), 1.0)
    (place.inbox / "slide" / "level1.dcm").rename(place.inbox / "slide" / "level1")  # without a suffix
    place.run(after="move")
    assert [record["slide"]["width"] for record in place.records()] == [2048]
    assert len(list((place.inbox / "slide").iterdir())) == 2, "it stays together"
    assert place.run().answered == 0
    assert place.verification().problems == ()


def test_names_are_not_shown_where_they_are_replaced(place: Any) -> None:
    write_svs(place.inbox / "Mary Miller.svs", SMALL, 1.0, AppMag="10")
    place.run(pseudonymise=True)
    (record,) = place.records()
    page = (place.results / record["slide"]["files"] / "slide.js").read_text(encoding="utf-8")
    assert "Miller" not in page
    assert "Miller" not in json.dumps(record["slide"])


def test_a_watcher_that_is_stopped_in_a_slide_goes_on_with_it(place: Any) -> None:
    write_svs(place.inbox / "long.svs", Drawn(3072, 2048, ((0.0, 0.0, 1.0, 1.0),), downsamples=(1, 4)), 1.0, AppMag="10")
    process = subprocess.Popen(place.command("--provider-option", "delay=60ms"), stderr=subprocess.DEVNULL)
    while not any(path.read_text(encoding="utf-8").count("\n") > 60 for path in place.results.glob("slides/*/tiles.csv")):
        assert process.poll() is None
        time.sleep(0.02)
    process.terminate()
    assert process.wait() == 0
    (tiles,) = place.results.glob("slides/*/tiles.csv")
    before = tiles.read_text(encoding="utf-8").splitlines()
    assert 60 < len(before) <= 177
    place.run()
    assert tiles.read_text(encoding="utf-8").splitlines()[: len(before)] == before
    assert [record["slide"]["tiles"] + record["slide"]["left_out"] for record in place.records()] == [176]
    assert place.query("SELECT attempts FROM files") == [0]


def test_a_watcher_waits_where_the_files_of_a_slide_cannot_be_written(
    place: Any, monkeypatch: pytest.MonkeyPatch, until: Callable[[Callable[[], object], str], None], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watcher, "LONGEST_PAUSE_S", 0.1)
    write_svs(place.inbox / "biopsy.svs", SMALL, 1.0, AppMag="10")
    place.results.mkdir()
    (place.results / "slides").write_bytes(b"")  # where a folder has to be
    with pytest.raises(OutputError, match="could not be written"):
        place.run()
    settings, signals = place.settings(once=False), ControlSignals()
    thread = threading.Thread(target=watch, args=(settings, signals, Stats(), lambda: settings))
    thread.start()
    try:
        until(lambda: "Trying again in" in caplog.text, "a warning")
        (place.results / "slides").unlink()
        until(lambda: place.done() == 1, "an answer")
    finally:
        signals.ask(stop=True)
        thread.join()
    assert place.query("SELECT attempts FROM files") == [0]


@pytest.mark.parametrize("is_installed", [True, False])
def test_slides_are_taken_where_they_can_be_read(monkeypatch: pytest.MonkeyPatch, is_installed: bool) -> None:
    from bcd_edge.watch import scanner

    monkeypatch.setattr(slide, "is_installed", lambda: is_installed)
    scanner._suffixes.cache_clear()
    assert is_wanted("scans/A.SVS", (), ()) == is_installed
    assert is_wanted("a.png", (), ())
    scanner._suffixes.cache_clear()
    assert Path("a.svs").suffix in slide.SUFFIXES
