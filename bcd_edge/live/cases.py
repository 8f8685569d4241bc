"""A frame as a case: a PNG with its scale, classified as any file is, and committed to a folder of results with its record."""

from __future__ import annotations

import hashlib
import struct
import zlib
from datetime import datetime, timezone

import cv2

from bcd_edge.classifier import Classifier
from bcd_edge.errors import InputError
from bcd_edge.pictures import HashedBytes
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.records import Record
from bcd_edge.results import pictures
from bcd_edge.results.folder import Results
from bcd_edge.results.models import Answer, Committed, intake


def png(picture_hwc_u8: UInt8Image, um_per_pixel: float | None) -> HashedBytes:
    """A picture, uint8 RGB, H x W x 3, without loss; its chunk pHYs tells the scale, so that `predict` answers the file as the frame was."""
    data = cv2.imencode(".png", picture_hwc_u8[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    if um_per_pixel:
        per_metre = round(1e6 / um_per_pixel)
        body = b"pHYs" + struct.pack(">IIB", per_metre, per_metre, 1)
        end = 8 + 25  # of the signature and IHDR
        data = data[:end] + struct.pack(">I", 9) + body + struct.pack(">I", zlib.crc32(body)) + data[end:]
    return HashedBytes(data, hashlib.sha256(data).hexdigest())


def file_name() -> str:
    """Of a frame that is kept now; UTC, to the millisecond."""
    return f"live/{datetime.now(timezone.utc):%Y%m%dT%H%M%S.%f}"[:-3] + "Z.png"


def keep(
    results: Results, classifier: Classifier, picture_hwc_u8: UInt8Image, um_per_pixel: float | None, *, patient: str | None = None
) -> tuple[str, Record]:
    """Commits a frame; returns its name in the results and the record.

    Raises:
        InputError: nothing can be seen in it.
        OSError: it could not be written.
    """
    file, name, at = png(picture_hwc_u8, um_per_pixel), file_name(), results.clock.text()
    record = classifier.classify(file, name=name)
    if record.status == "failed":
        raise InputError(str(record.error))
    pictures.keep(results.root, file.sha256, file.data)
    results.stage(Answer(name, record.as_dict() | {"intake": intake(seen=at, taken=at, answered=at, patient=patient)}))

    def place(committed: list[Committed]) -> None:
        results.journal.place(name, file.sha256, pictures.kept_path(file.sha256))

    try:
        results.commit_staged(place)
    finally:
        results.discard_staged()
    return name, record
