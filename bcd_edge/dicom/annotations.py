"""The tiles of a whole slide as Microscopy Bulk Simple Annotations: a rectangle each, grouped by decision, with its probability."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bcd_edge import __version__
from bcd_edge.dicom.reports import MANUFACTURER, coded_decision, dated, series, uid

if TYPE_CHECKING:
    from pydicom import Dataset

SERIES_NUMBER: Final = 9903
Tiles = Sequence[dict[str, str]]


def tile_annotations(header: Dataset, record: dict[str, Any], tiles: Path) -> Dataset | None:
    """The annotations of a slide's tiles, in pixels of its total matrix; None where no tile has an answer.

    Args:
        header: of the slide's level of full resolution.
        record: of the slide's answer, as plain values.
        tiles: see `bcd_edge.slides.tiles`.
    """
    from highdicom.ann import MicroscopyBulkSimpleAnnotations

    with tiles.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["decision"]]
    decisions = [decision for decision in ("malignant", "review", "benign") if any(row["decision"] == decision for row in rows)]
    if not decisions:
        return None
    groups = [_group(number, decision, [row for row in rows if row["decision"] == decision], record) for number, decision in enumerate(decisions, 1)]
    made = MicroscopyBulkSimpleAnnotations(
        source_images=[header],
        annotation_coordinate_type="2D",
        annotation_groups=groups,
        series_number=SERIES_NUMBER,
        series_description=f"{MANUFACTURER} tiles, for research",
        content_label="TILES",
        content_description="Tiles by decision, with their probability of cancer",
        specific_character_set="ISO_IR 192",
        **series(header, record, "annotations"),
    )
    made.Laterality = ""  # required where it is unknown, too
    return dated(made, record)


def _group(number: int, decision: str, tiles: Tiles, record: dict[str, Any]) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.ann import AnnotationGroup, Measurements
    from pydicom.sr.codedict import codes

    ran = record["execution"]
    parameters = {"bundle": ran["bundle"], "bundle_sha256": ran["bundle_sha256"]}
    algorithm = AlgorithmIdentificationSequence(MANUFACTURER, codes.cid7162.ArtificialIntelligence, __version__, parameters=parameters)
    probabilities = np.array([100 * float(tile["p_malignant"]) for tile in tiles], np.float32)
    return AnnotationGroup(
        number=number,
        uid=uid(record["sha256"], ran["bundle_sha256"], "tiles", decision),
        label=decision,
        annotated_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        annotated_property_type=coded_decision(decision),
        graphic_type="RECTANGLE",
        graphic_data=[_corners(tile) for tile in tiles],
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        measurements=[Measurements(codes.DCM.ProbabilityOfCancer, probabilities, codes.UCUM.Percent)],
    )


def _corners(tile: dict[str, str]) -> Any:
    """Clockwise from the upper left, 4 x 2."""
    x, y, side = float(tile["x"]), float(tile["y"]), float(tile["side"])
    return np.array([(x, y), (x + side, y), (x + side, y + side), (x, y + side)], np.float32)
