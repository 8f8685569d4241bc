"""BMP, by Pillow, which takes the fourth byte of a pixel for transparency only where the header says so."""

from __future__ import annotations

import struct
from typing import Final

from bcd_edge.readers.pixels import UInt8Image, damaged

OS2_HEADER: Final = 12  # bytes
RUN_LENGTHS: Final = (1, 2)  # compression
SUFFIXES: Final = (".bmp",)


def matches(data: bytes) -> bool:
    return data.startswith(b"BM") and data[15:18] == bytes(3)  # the length of its header is below 256


def decode(data: bytes) -> UInt8Image:
    """Decodes one picture.

    Raises:
        InputError: it is damaged or truncated.
    """
    from PIL import BmpImagePlugin

    from bcd_edge.readers.by_pillow import opened, picture

    with opened(data, BmpImagePlugin.BmpImageFile) as image:
        if _end_of_pixels(data) > len(data):
            raise damaged("the BMP ends early")
        return picture(image)


def _end_of_pixels(data: bytes) -> int:
    """Where the pixels end, from the header; the length of the file that it gives as well is often wrong, and counts where they are compressed."""
    length, place, size = (int.from_bytes(data[at : at + 4], "little") for at in (2, 10, 14))
    if size == OS2_HEADER:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    return length if compression in RUN_LENGTHS else place + (width * bits + 31) // 32 * 4 * abs(height)
