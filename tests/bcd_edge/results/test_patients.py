"""Patients in paths, found again, and images that several patients share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcd_edge.decision import DECISIONS
from bcd_edge.errors import UsageError
from bcd_edge.records import Verdict
from bcd_edge.results import report
from bcd_edge.results.folder import Results
from bcd_edge.results.patients import PATTERNS, compile_pattern, is_outdated, match, recount

from .conftest import checked, rows


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("breakhis", "SOB_M_DC-14-2523-40-001.png", ("2523", None)),
        ("breakhis", "40X/SOB_B_TA-14-22549AB-100-012.png", ("22549", "AB")),
        ("breakhis", "SOB_M_PC-14-190EF-400-003.png", ("190EF", None)),
        ("breakhis", "SOB_M_DC-14-2523-40-001/holiday.png", (None, None)),
        ("breakhis", "holiday.png", (None, None)),
        ("folder", "P07/a.png", ("P07", None)),
        ("folder", "P07/slide 3/a.png", ("P07", None)),
        ("folder", "a.png", (None, None)),
        ("folder/slide", "P07/slide 3/a.png", ("P07", "slide 3")),
        ("folder/slide", "P07/a.png", (None, None)),
        (r"^(?P<patient>P\d+)_(?P<slide>S\d+)", "P07_S3_x.png", ("P07", "S3")),
        (r"(?P<patient>P\d+)/[^/]*$", "2026/P07/x.png", ("P07", None)),
    ],
)
def test_patient_and_slide(pattern: str, path: str, expected: tuple[str | None, str | None]) -> None:
    assert match(compile_pattern(pattern), path) == expected


@pytest.mark.parametrize("pattern", ["(", "(?P<slide>x)", "breakhiss"])
def test_patterns_without_a_patient_are_refused_with_the_names_of_those_that_have_one(pattern: str) -> None:
    with pytest.raises(UsageError, match="folder/slide"):
        compile_pattern(pattern)


def test_images_that_were_answered_without_a_pattern_get_their_patients_afterwards(results: Results, record: Callable[..., Any]) -> None:
    for seed, key in enumerate(("P1/a.png", "P1/b.png", "P2/c.png", "loose.png")):
        results.commit(key, record(key, seed))
    results.commit("P3/again.png", record("P3/again.png", 2))
    assert report.patients(results.journal.connection) == []
    assert is_outdated(results, compile_pattern("folder"))
    assert recount(results, compile_pattern(PATTERNS["folder"])) == 4
    assert {patient.name: patient.images for patient in report.patients(results.journal.connection)} == {"P1": 2, "P2": 1, "P3": 1}
    assert [row["intake.patient"] for row in rows(results.root)] == ["P1", "P1", "P2", "", "P3"]
    records = [json.loads(path.read_text()) for path in (results.root / "records").rglob("*.json")]
    bearers = {entry["source"]: entry["intake"]["patient"] for entry in records}
    assert bearers == {"P1/a.png": "P1", "P1/b.png": "P1", "P2/c.png": "P2", "loose.png": None}
    assert checked(results.root).problems == ()
    assert recount(results, compile_pattern("folder")) == 0
    assert not is_outdated(results, compile_pattern("folder"))


def test_a_recount_that_was_interrupted_is_finished_by_the_next(
    results: Results, record: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, key in enumerate(("P1/a.png", "P2/b.png", "P3/c.png")):
        results.commit(key, record(key, seed))
    real, calls = Results.restore_record, iter([False, True])

    def interrupted(*arguments: Any) -> None:
        real(*arguments)
        if next(calls, False):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Results, "restore_record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recount(results, compile_pattern("folder"))
    recount(results, compile_pattern("folder"))
    records = [json.loads(path.read_text()) for path in (results.root / "records").rglob("*.json")]
    assert sorted(entry["intake"]["patient"] for entry in records) == ["P1", "P2", "P3"]
    assert checked(results.root).problems == ()


def test_an_image_of_several_patients_is_listed_and_counted_for_each(results: Results, record: Callable[..., Any]) -> None:
    results.commit("P1/a.png", record("P1/a.png", 1), patient="P1")
    results.commit("P2/copy.png", record("P2/copy.png", 1), patient="P2")
    results.commit("P2/b.png", record("P2/b.png", 2), patient="P2")
    db = results.journal.connection
    (image,) = report.shared_images(db)
    assert (image.patients, image.paths) == (("P1", "P2"), ("P1/a.png", "P2/copy.png"))
    assert {patient.name: (patient.images, patient.shared) for patient in report.patients(db)} == {"P1": (1, 1), "P2": (2, 1)}


def test_slides_are_unknown_where_the_pattern_names_none(results: Results, record: Callable[..., Any]) -> None:
    results.commit("P1/a.png", record("P1/a.png", 1), patient="P1")
    results.commit("P2/b.png", record("P2/b.png", 2), patient="P2", slide="S1")
    assert {patient.name: patient.slides for patient in report.patients(results.journal.connection)} == {"P1": None, "P2": 1}


@given(st.sampled_from(DECISIONS), st.integers(0, 3), st.integers(0, 3))
def test_a_patient_is_called_nothing_that_no_picture_of_theirs_is_called(of_mean: Verdict, malignant: int, review: int) -> None:
    decision = report.patient_decision(of_mean, malignant, review)
    assert decision in (of_mean, "review")
    if decision == "benign":
        assert malignant == review == 0
    if decision == "malignant":
        assert malignant
