"""Answers as DICOM objects: valid, tied to image, patient and study, and the same whenever they are made."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcd_edge import bundle
from bcd_edge.readers import raster
from bcd_edge.results.patients import compile_pattern

pydicom = pytest.importorskip("pydicom")


def exported(node: Any, *options: str) -> list[Any]:
    """The objects that the command writes, by their UID."""
    out = node.folder / "out"
    done = node.run("dicom", "export", node.results, "--out", out, *options)
    assert (done.exit_code, done.stderr) == (0, "")
    return [pydicom.dcmread(path) for path in sorted(out.glob("*.dcm"))]


def texts(item: Any) -> list[str]:
    """Everything that a report says, in its order."""
    own = [item.TextValue] if "TextValue" in item else [item.ConceptCodeSequence[0].CodeMeaning] if "ConceptCodeSequence" in item else []
    return own + [text for below in item.get("ContentSequence", []) for text in texts(below)]


def test_a_report_names_image_patient_study_and_what_answered(node: Any, is_valid: Callable[[Path], None]) -> None:
    (image,) = node.images(1, PatientID="Ж7", PatientName="Рао^Аша", SpecificCharacterSet="ISO_IR 192", PatientSex="F", AccessionNumber="A1")
    image.rename(node.inbox / "image.dcm")
    node.answer()
    (report,) = exported(node)
    asked, record = pydicom.dcmread(node.inbox / "image.dcm"), node.records()[0]
    for name in ("PatientID", "PatientName", "PatientSex", "StudyInstanceUID", "AccessionNumber"):
        assert report[name].value == asked[name].value
    assert report.SeriesInstanceUID != asked.SeriesInstanceUID
    assert (report.ContentQualification, report.PreliminaryFlag, report.VerificationFlag) == ("RESEARCH", "PRELIMINARY", "UNVERIFIED")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert evidence.ReferencedSOPInstanceUID == asked.SOPInstanceUID
    sentences = texts(report)
    assert any(bundle.open().sha256 in text for text in sentences)
    assert any(record["sha256"] in text for text in sentences)
    assert "Needs pathologist review" in sentences
    assert set(record["reasons"]) <= set(sentences)
    for file in (node.folder / "out").iterdir():
        is_valid(file)


def test_an_overlay_is_a_secondary_capture(node: Any, is_valid: Callable[[Path], None]) -> None:
    pytest.importorskip("lime")
    (image,) = node.images(1)
    image.rename(node.inbox / "image.dcm")
    node.answer(overlay=True)
    capture, report = exported(node)
    assert (capture.Modality, report.Modality) == ("OT", "SR")
    assert report.SeriesInstanceUID != capture.SeriesInstanceUID
    assert capture.StudyInstanceUID == report.StudyInstanceUID
    (drawn,) = node.results.rglob("*.overlay.png")
    assert np.array_equal(capture.pixel_array, raster.decode(drawn))
    for file in (node.folder / "out").iterdir():
        is_valid(file)


def test_the_same_answer_gives_the_same_files(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in node.images(2):
        path.rename(node.inbox / path.name)
    node.answer()
    exported(node)
    first = {path.name: path.read_bytes() for path in (node.folder / "out").iterdir()}
    assert len(first) == 2
    monkeypatch.setattr("time.time", lambda: 2e9)
    exported(node)
    assert {path.name: path.read_bytes() for path in (node.folder / "out").iterdir()} == first


def test_a_header_with_little_in_it_and_odd_values_gives_a_valid_report(node: Any, is_valid: Callable[[Path], None]) -> None:
    sparse = dict.fromkeys(("PatientName", "PatientBirthDate", "AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"))
    (image,) = node.images(1, PatientSex="X", **sparse)
    image.rename(node.inbox / "image.dcm")
    node.answer()
    exported(node)
    for file in (node.folder / "out").iterdir():
        is_valid(file)


def test_patient_and_slide_come_from_the_header_and_a_pattern_does_not_change_them(node: Any) -> None:
    (node.inbox / "P1").mkdir()
    for number, path in enumerate(node.images(2, PatientID="P7", ContainerIdentifier="S1", StudyInstanceUID="1.2.3")):
        path.rename(node.inbox / "P1" / f"{number}.dcm")
    node.answer(patients=compile_pattern("folder"))
    about = [record["intake"] for record in node.records()]
    assert [(own["patient"], own["slide"], own["study"]) for own in about] == [("P7", "S1", "1.2.3")] * 2
    assert "0 names changed" in node.run("watch", "recount", node.results, "--patients", "folder").stdout
    assert node.records()[0]["intake"]["patient"] == "P7"
    assert '"P7"' not in node.run("watch", "report", node.results, "--json", "--pseudonymise").stdout


def test_pseudonyms_hide_the_container_too(node: Any) -> None:
    (image,) = node.images(1, PatientID="P7", ContainerIdentifier="S26-1234")
    image.rename(node.inbox / image.name)
    node.answer(pseudonymise=True)
    (day,) = (node.results / "daily").iterdir()
    assert "P7" not in day.read_text(encoding="utf-8")
    assert "S26-1234" not in day.read_text(encoding="utf-8")
    (report,) = exported(node)
    assert report.PatientID == "P7", "an archive needs to know whose it is"


def test_only_a_patient_or_a_study(node: Any) -> None:
    for number in range(2):
        (image,) = node.images(1, PatientID=f"P{number}", StudyInstanceUID=f"1.2.{number}")
        image.rename(node.inbox / f"{number}.dcm")
    node.answer()
    assert [item.PatientID for item in exported(node, "--patient", "P1")] == ["P1"]
    assert len(exported(node, "--study", "1.2.0")) == 2, "the one before and this one"
    done = [json.loads(line) for line in node.query("SELECT record FROM images")]
    assert {record["intake"]["study"] for record in done} == {"1.2.0", "1.2.1"}


def test_an_image_that_is_gone_is_said_and_the_others_are_written(node: Any) -> None:
    for path in node.images(2):
        path.rename(node.inbox / path.name)
    node.answer()
    (node.inbox / "000.dcm").unlink()
    out = node.folder / "out"
    done = node.run("dicom", "export", node.results, "--out", out)
    assert done.exit_code == 1
    assert done.stderr.startswith("000.dcm: The picture was moved or deleted")
    assert len(list(out.iterdir())) == 1


def test_the_tiles_of_a_slide_are_annotations(node: Any, is_valid: Callable[[Path], None]) -> None:
    slide_files = pytest.importorskip("benchmarks.slide_files")
    pytest.importorskip("openslide")
    drawn = slide_files.Drawn(1024, 512, ((0.0, 0.0, 0.5, 1.0),), downsamples=(1,))
    path = slide_files.write_dicom(node.inbox / "slide", drawn, 1.0)
    node.answer()
    annotations, report = exported(node)
    assert (annotations.Modality, report.Modality) == ("ANN", "SR")
    with (node.results / node.records()[0]["slide"]["files"] / "tiles.csv").open(encoding="utf-8", newline="") as file:
        tiles = [row for row in csv.DictReader(file) if row["decision"]]
    groups = annotations.AnnotationGroupSequence
    assert sum(group.NumberOfAnnotations for group in groups) == len(tiles) > 0
    corners = np.frombuffer(groups[0].PointCoordinatesData, "<f4").reshape(-1, 4, 2)
    placed = [row for row in tiles if row["decision"] == groups[0].AnnotationGroupLabel]
    assert corners[0].tolist()[0] == [float(placed[0]["x"]), float(placed[0]["y"])]
    values = np.frombuffer(groups[0].MeasurementsSequence[0].MeasurementValuesSequence[0].FloatingPointValues, "<f4")
    assert values[0] == pytest.approx(100 * float(placed[0]["p_malignant"]))
    asked = pydicom.dcmread(path, stop_before_pixels=True)
    assert annotations.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == asked.SOPInstanceUID
    assert node.records()[0]["intake"]["study"] == asked.StudyInstanceUID
    (written,) = (node.folder / "out").glob("ANN-*")
    is_valid(written)
    assert not any("CommonZCoordinateValue" in group for group in groups)
