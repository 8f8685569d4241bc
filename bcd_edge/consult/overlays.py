"""Overlays of a case that were not drawn yet, so that a page can hold them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import cv2

from bcd_edge.classifier import EXPLAINED_BATCH, Classifier
from bcd_edge.errors import UsageError
from bcd_edge.explain import Settings
from bcd_edge.explain.files import explained
from bcd_edge.explain.overlay import layer
from bcd_edge.options import RunOptions
from bcd_edge.readers import raster
from bcd_edge.records import Record
from bcd_edge.results.pictures import read, watched_inbox
from bcd_edge.results.records import result_path
from bcd_edge.results.staging import TEMPORARY
from bcd_edge.system.atomic import atomic_write


def draw_missing(db: sqlite3.Connection, results: Path, pictures: Sequence[str], *, inbox: Path | None = None, bundle: Path | None = None) -> int:
    """Explains the pictures of a case that have no overlay, by what answered them; returns how many.

    Args:
        db: the journal.
        results: its folder.
        pictures: SHA-256 of answered pictures.
        inbox: where a watcher's pictures lie; as its heartbeat says if not given.
        bundle: the bundle that answered; the embedded one if not given.

    Raises:
        UsageError: another bundle answered.
        InputError: a picture is no longer to be found.
        ProviderError: what answered cannot run here.
    """
    missing = [(record, path) for record, path in (_layer(db, results, sha256) for sha256 in pictures) if path is not None]
    if not missing:
        return 0
    ran = missing[0][0].execution
    with Classifier.load(bundle, RunOptions(provider=ran.provider, precision=ran.precision, batch=EXPLAINED_BATCH)) as classifier:
        for record, path in missing:
            if record.execution.bundle_sha256 != classifier.bundle.sha256:
                raise UsageError(
                    f"The bundle {record.execution.bundle} {record.execution.bundle_sha256[:12]} answered, and {classifier.bundle.sha256[:12]} would "
                    "explain; give --bundle with the former."
                )
            image = raster.decode(read(db, results, inbox or watched_inbox(results), str(record.sha256)))
            explanation = explained(classifier.probabilities, classifier.bundle.input, record, image, "hadamard", Settings()).explanation
            colours = cv2.cvtColor(layer(explanation, *image.shape[:2]), cv2.COLOR_RGBA2BGRA)
            atomic_write(path, cv2.imencode(".png", colours)[1].tobytes(), temporary=results / TEMPORARY, durable=True)
    return len(missing)


def _layer(db: sqlite3.Connection, results: Path, sha256: str) -> tuple[Record, Path | None]:
    """The answer to a picture, and where its layer is to be written; None where there is an overlay already."""
    row = db.execute("SELECT record FROM cases JOIN images USING (sha256, bundle_sha256) WHERE sha256 = ?", (sha256,)).fetchone()
    record = Record.from_dict({key: value for key, value in json.loads(row["record"]).items() if key != "intake"})
    stem = results / result_path(sha256, record.execution.bundle_sha256).removesuffix(".json")
    is_there = any(Path(f"{stem}.{kind}.png").exists() for kind in ("layer", "overlay"))
    return record, None if is_there else Path(f"{stem}.layer.png")
