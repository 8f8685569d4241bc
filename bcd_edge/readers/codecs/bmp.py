"""BMP, by Pillow, which takes the fourth byte of a pixel for transparency only where the header says so."""

from __future__ import annotations

from typing import Final

from bcd_edge.readers.pixels import UInt8Image, damaged

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

    if int.from_bytes(data[2:6], "little") > len(data):
        raise damaged("the BMP ends early")
    with opened(data, BmpImagePlugin.BmpImageFile) as image:
        return picture(image)
