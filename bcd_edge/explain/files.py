"""Files of an explanation: overlay, numbers and pages."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import cv2

from bcd_edge.bundle import Input
from bcd_edge.errors import InputError
from bcd_edge.explain import PredictFn, Settings, explain
from bcd_edge.explain.overlay import draw
from bcd_edge.explain.page import Explained, page
from bcd_edge.outputs import printable
from bcd_edge.readers import raster
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.records import Record
from bcd_edge.system.atomic import atomic_write

# A page contains its pictures; browsers are slow with more of them.
IMAGES_PER_PAGE: Final = 100
# Bytes; file systems allow names of 255, suffix and hash included.
MAX_STEM_BYTES: Final = 150


def write(predict: PredictFn, size: Input, record: Record, image_hwc_u8: UInt8Image, out: Path, explainer: str, settings: Settings) -> Explained:
    """Explains one classified image; writes `NAME-HASH.png` and `NAME-HASH.json` into `out`.

    Args:
        predict: the model, see `bcd_edge.explain.PredictFn`.
        size: size of the network input.
        record: the image's record.
        image_hwc_u8: the decoded image.
        out: an existing folder.
        explainer: see `bcd_edge.explain.explain`.
        settings: how to explain.

    Raises:
        OSError: a file could not be written; no partial file is left.
    """
    explanation = explained(predict, size, record, image_hwc_u8, explainer, settings)
    stem = f"{os.fsencode(Path(_name(record)).stem)[:MAX_STEM_BYTES].decode(errors='ignore')}-{str(record.sha256)[:8]}"
    atomic_write(out / f"{stem}.png", explanation.png)
    atomic_write(out / f"{stem}.json", numbers(explanation))
    return explanation


def explained(predict: PredictFn, size: Input, record: Record, image_hwc_u8: UInt8Image, explainer: str, settings: Settings) -> Explained:
    """Explains the record's label, or the label in the settings if there is one, and draws the overlay; see `write`."""
    labelled = settings if settings.label else replace(settings, label=record.label)
    explanation = explain(predict, raster.resize(image_hwc_u8, size), explainer, labelled)
    heading = [printable(_name(record)), f"decision: {record.decision}", *(printable(reason) for reason in record.reasons)]
    overlay = cv2.imencode(".png", draw(image_hwc_u8, explanation, heading)[..., ::-1])[1].tobytes()
    return Explained(record, explanation, overlay)


def numbers(explained: Explained) -> bytes:
    """A record and its explanation as JSON."""
    return json.dumps({"record": explained.record.as_dict(), "explanation": explained.explanation.as_dict()}, indent=1).encode()


def _name(record: Record) -> str:
    return "stdin" if record.source == "-" else os.path.basename(record.source)


def unchanged(source: str | Path | bytes, record: Record) -> bytes:
    """The bytes of a classified image, read again.

    Raises:
        InputError: they cannot be read, or have changed.
    """
    data = source if isinstance(source, bytes) else raster.read(source)
    if hashlib.sha256(data).hexdigest() != record.sha256:
        raise InputError("The file changed after it was classified, so it was not explained; classify it again.")
    return data


@dataclass
class Pages:
    """`index.html`, then `index-2.html` and so on, with at most `IMAGES_PER_PAGE` explanations each.

    Attributes:
        out: an existing folder.
        written: the pages written until now, in order.
        images: number of explanations added.
    """

    out: Path
    written: list[Path] = field(default_factory=list)
    images: int = 0
    _waiting: list[Explained] = field(default_factory=list)

    def add(self, explained: Explained) -> None:
        """Adds an explanation; writes the page when it is full."""
        self.images += 1
        self._waiting.append(explained)
        if len(self._waiting) == IMAGES_PER_PAGE:
            self.close()

    def close(self) -> None:
        """Writes the last page."""
        if self._waiting:
            number = len(self.written) + 1
            self.written.append(self.out / ("index.html" if number == 1 else f"index-{number}.html"))
            atomic_write(self.written[-1], page(self._waiting).encode())
            self._waiting = []
