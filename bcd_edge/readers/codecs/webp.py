"""WebP: pixels by OpenCV, which takes a third of the memory of Pillow's decoder, metadata by Pillow. Unused data is damage."""

from __future__ import annotations

import struct
from typing import Any, Final

import cv2
import numpy as np

from bcd_edge.readers.by_pillow import opened, orientation
from bcd_edge.readers.pixels import UInt8Image, check_size, damaged, rgb, upright

SUFFIXES: Final = (".webp",)
# A decoder reads ahead of what it needs, and an encoder may fill up its last bytes.
SPARE: Final = 16


def matches(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def decode(data: bytes) -> UInt8Image:
    """Decodes one picture.

    Raises:
        InputError: it is damaged, truncated or animated.
    """
    from PIL import WebPImagePlugin

    check_size(*_size(data))  # Pillow allocates its canvas when it opens the file
    with opened(data, WebPImagePlugin.WebPImageFile) as image:
        turn = orientation(image)
    samples = pixels(data)
    return upright(rgb(samples, "straight" if samples.shape[2] == 4 else "none"), turn)


def pixels(data: bytes) -> UInt8Image:
    """The stored pixels, H x W x 3 or 4, as in a TIFF's segment.

    Raises:
        InputError: they are damaged, truncated or animated.
    """
    _check(data)
    samples = _decoded(data)
    if samples is None:
        raise damaged("the WebP could not be decoded")
    return np.asarray(samples[..., (2, 1, 0, 3)] if samples.shape[2] == 4 else samples[..., ::-1], np.uint8)


def _decoded(data: bytes) -> Any:
    """The pixels as OpenCV's libwebp gives them, H x W x BGR or BGRA; None if they are damaged."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def _check(data: bytes) -> None:
    """WebP has no checksums, but a hole makes its decoder lose step, and then it needs more data than there is, or less."""
    if not matches(data) or len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise damaged("the WebP ends early")
    check_size(*_size(data))
    shorter = _shortened(data)
    if shorter is not None and _decoded(shorter) is not None:
        raise damaged("the WebP's pixels end before its data")


def _size(data: bytes) -> tuple[int, int]:
    """Width and height from the header, before libwebp allocates its canvas."""
    kind, body = data[12:16], data[20:30].ljust(10, b"\0")
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        packed = int.from_bytes(body[1:5], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF


def _shortened(data: bytes) -> bytes | None:
    """The same file with its compressed pixels cut by `SPARE` bytes; None where they cannot be cut."""
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind in (b"VP8L", b"VP8 "):
            if length < 4 * SPARE:
                return None
            kept = (length - SPARE) & ~1
            chunk = struct.pack("<4sI", kind, kept) + data[at + 8 : at + 8 + kept]
            body = data[8:at] + chunk
            return b"RIFF" + struct.pack("<I", len(body)) + body
        at += 8 + length + (length & 1)
    return None
