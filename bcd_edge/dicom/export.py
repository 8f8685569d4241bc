"""DICOM objects of the answers in a folder of results, with what their images say of patient and study."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcd_edge.dicom.annotations import tile_annotations
from bcd_edge.dicom.captures import capture
from bcd_edge.dicom.reports import report, source
from bcd_edge.errors import InputError
from bcd_edge.readers import raster
from bcd_edge.results.pictures import places, read
from bcd_edge.results.records import result_path
from bcd_edge.system.atomic import atomic_write

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True, slots=True)
class DicomAnswer:
    """The answer to a DICOM image.

    Attributes:
        sha256: of the image file.
        bundle_sha256: of the bundle that answered.
        record: the answer as plain values.
    """

    sha256: str
    bundle_sha256: str
    record: dict[str, Any]

    @property
    def is_slide(self) -> bool:
        return bool(self.record.get("kind") == "slide")


def answers(db: sqlite3.Connection, *, study: str | None = None, patient: str | None = None) -> Iterator[DicomAnswer]:
    """Answers to DICOM images, the latest of each image, in the order of answering; of a study or patient alone where one is given."""
    rows = db.execute(
        """SELECT sha256, bundle_sha256, record FROM cases JOIN images USING (sha256, bundle_sha256)
           WHERE json_extract(record, '$.intake.study') IS NOT NULL ORDER BY ended_at, sha256"""
    )
    for row in rows:
        record = json.loads(row["record"])
        about = record["intake"]
        if study in (None, about["study"]) and patient in (None, about["patient"]):
            yield DicomAnswer(row["sha256"], row["bundle_sha256"], record)


def objects(db: sqlite3.Connection, results: Path, inbox: Path | None, answer: DicomAnswer) -> dict[str, Dataset]:
    """The `report` of an answer, where it was drawn its `overlay`, and of a whole slide the `annotations` of its tiles.

    Raises:
        InputError: the image is nowhere to be found, or its header lacks what an object must say of it.
    """
    try:
        return _objects(_header(db, results, inbox, answer), results, answer)
    except InputError:
        raise
    except Exception as error:  # pydicom and highdicom have many kinds for a header that lacks something
        raise InputError(f"Nothing can refer to this image, because of its header ({error}); correct the header and answer it again.") from None


def _objects(header: Dataset, results: Path, answer: DicomAnswer) -> dict[str, Dataset]:
    made = {"report": report(header, answer.record)}
    overlay = results / f"{result_path(answer.sha256, answer.bundle_sha256).removesuffix('.json')}.overlay.png"
    if overlay.exists():
        made["overlay"] = capture(header, answer.record, raster.decode(overlay))
    if answer.is_slide and (tiles := results / answer.record["slide"]["files"] / "tiles.csv").exists():
        annotations = tile_annotations(header, answer.record, tiles)
        return made | ({"annotations": annotations} if annotations else {})
    return made


def _header(db: sqlite3.Connection, results: Path, inbox: Path | None, answer: DicomAnswer) -> Dataset:
    if not answer.is_slide:
        return source(io.BytesIO(read(db, results, inbox, answer.sha256)))
    path = next((path for path in places(db, results, inbox, answer.sha256) if path.is_file()), None)
    if path is None:
        raise InputError("The slide was moved or deleted after it was answered; put it back where the watcher found it.")
    with path.open("rb") as file:  # too large to be hashed again
        return source(file)


def write(dataset: Dataset, folder: Path) -> Path:
    """Writes an object as a file that is named by its UID; returns the file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    path = folder / f"{dataset.Modality}-{dataset.SOPInstanceUID}.dcm"
    atomic_write(path, buffer.getvalue())
    return path
