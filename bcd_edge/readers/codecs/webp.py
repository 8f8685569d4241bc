"""WebP, by Pillow's libwebp; a picture that does not need all of its data is damaged."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from PIL import WebPImagePlugin

from bcd_edge.errors import InputError
from bcd_edge.readers.by_pillow import opened, picture
from bcd_edge.readers.pixels import UInt8Image, check_size, damaged

# A decoder reads ahead of what it needs, and an encoder may fill up its last bytes.
SPARE: Final = 16


def matches(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def decode(data: bytes) -> UInt8Image:
    """Decodes one picture.

    Raises:
        InputError: it is damaged, truncated or animated.
    """
    _check(data)
    with opened(data, WebPImagePlugin.WebPImageFile) as image:
        return picture(image)


def pixels(data: bytes) -> UInt8Image:
    """The stored pixels, H x W x 3 or 4, as in a TIFF's segment."""
    _check(data)
    with opened(data, WebPImagePlugin.WebPImageFile) as image:
        return np.asarray(image.convert(image.mode if image.mode == "RGBA" else "RGB"), np.uint8)


def _check(data: bytes) -> None:
    """WebP has no checksums, but a hole makes its decoder lose step, and then it needs more data than there is, or less."""
    if not matches(data) or len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise damaged("the WebP ends early")
    check_size(*_size(data))
    shorter = _shortened(data)
    if shorter is None:
        return
    try:
        with opened(shorter, WebPImagePlugin.WebPImageFile) as image:
            image.load()
    except InputError:
        return
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
