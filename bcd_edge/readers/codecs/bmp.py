"""BMP, by Pillow, which takes the fourth byte of a pixel for transparency only where the header says so."""

from __future__ import annotations

from bcd_edge.readers.pixels import UInt8Image, damaged


def matches(data: bytes) -> bool:
    return data.startswith(b"BM")


def decode(data: bytes) -> UInt8Image:
    """Decodes one picture.

    Raises:
        InputError: it is damaged or truncated.
    """
    from PIL import BmpImagePlugin  # not at the start: most runs read PNG or JPEG and need no Pillow

    from bcd_edge.readers.by_pillow import opened, picture

    if int.from_bytes(data[2:6], "little") > len(data):
        raise damaged("the BMP ends early")
    with opened(data, BmpImagePlugin.BmpImageFile) as image:
        return picture(image)
