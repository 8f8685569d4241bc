"""HEIC and AVIF, the formats of recent phones: AVIF by Pillow where it was built with it, HEIC by its plug-in, the extra `heic`."""

from __future__ import annotations

import importlib.util
from typing import Final

from bcd_edge.errors import InputError
from bcd_edge.readers.pixels import UInt8Image

SUFFIXES: Final = (".avif", ".heic", ".heif")
AVIF_BRANDS = (b"avif", b"avis")
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def matches(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in AVIF_BRANDS + HEIC_BRANDS


def decode(data: bytes) -> UInt8Image:
    """Decodes one picture.

    Raises:
        InputError: it is damaged, or what decodes it is not installed.
    """
    from bcd_edge.readers.by_pillow import opened, picture

    if data[8:12] in AVIF_BRANDS or b"avif" in data[16:64]:
        if importlib.util.find_spec("PIL._avif") is None:
            raise InputError("This is an AVIF image, which the Pillow installed here does not decode; export it as PNG or JPEG.")
        from PIL import AvifImagePlugin

        with opened(data, AvifImagePlugin.AvifImageFile) as image:
            return picture(image)
    if importlib.util.find_spec("pillow_heif") is None:
        raise InputError("This is a HEIC image, and what decodes it is not installed: install bcd-edge[heic], or export it as PNG or JPEG.")
    from pillow_heif.as_plugin import HeifImageFile

    with opened(data, HeifImageFile) as image:
        return picture(image)
