"""Bytes to pixels to network input: the one implementation, used by training and serving alike.

The written policy of `decode`; `docs/decoding.md` has how it is held to a second decoder:

| input | what happens |
|---|---|
| JPEG, PNG, TIFF, BMP, WebP, AVIF, HEIC, DICOM | told apart by content, not by name; any other format is refused by its name |
| orientation in EXIF, XMP or TIFF | applied, so that a rotated camera gives the upright picture; else only the width of a pixel is read of metadata |
| 16 bits per sample | mapped linearly from 0..65535 to 0..255, rounded |
| 8 to 14 bits stored in 16 | refused: their white point is unknown; in DICOM, which declares it, mapped linearly |
| float, signed or other samples | refused: their white point is unknown |
| grey, palette, 1, 2 or 4 bits | expanded to RGB |
| alpha | composited on white, the colour of empty glass in bright-field microscopy; a further sample that is not declared as alpha is ignored |
| CMYK | converted to RGB by the plain formula; embedded ICC profiles are not applied to any format |
| several frames or pages | refused: which one would the answer be about? |
| reduced copies and masks in a TIFF, what follows the first picture in a phone's JPEG | ignored |
| whole slides | refused by that name here; `bcd_edge.readers.slide` reads them |
| more than 89,478,485 pixels | refused from the header, before memory is allocated |
| empty, truncated, damaged | refused: a decoder's warning is an error, checksums must match, and a compressed part must end where its pixels do |
"""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path
from types import ModuleType
from typing import Final

import cv2
import numpy as np

from bcd_edge import plugins
from bcd_edge.bundle import Input
from bcd_edge.errors import InputError
from bcd_edge.readers.metadata import Metadata
from bcd_edge.readers.pixels import MAX_PIXELS, UInt8Image

__all__ = ["MAX_PIXELS", "Metadata", "UInt8Image", "decode", "has_image", "is_image", "metadata", "read", "resize", "suffixes"]

CODECS: Final = "bcd_edge.readers.codecs"
MAX_BYTES: Final = 512 * 2**20
# As many bytes as tell any format.
HEAD_BYTES: Final = 132
# What else people take for an image: place and value of the first bytes.
OTHERS: Final = (
    (0, b"GIF8", "GIF"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    *((at, b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03", "An encrypted file (CMS)") for at in (2, 4, 5, 6)),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "Photoshop"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"<svg", "SVG"),
    (0, b"\x00\x00\x01\x00", "ICO"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"\x89HDF", "HDF5"),
)

# OpenCV logs damaged input to stderr by itself; the InputError says it already.
(cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel)(0)  # moved in OpenCV 5


def read(source: str | Path) -> bytes:
    """The bytes of an image file.

    Raises:
        InputError: it does not exist, may not be read, is no regular file, is empty, or is larger than 512 MiB.
    """
    path = os.fspath(source)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is a folder or a device, not a file; give the path of an image.")
        if status.st_size > MAX_BYTES:
            raise InputError(f"{path} is larger than 512 MiB; cut the slide into fields of view and give those.")
        with open(path, "rb") as file:
            data = file.read()
    except InputError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path} does not exist; give the path of an image.") from None
    except PermissionError:
        raise InputError(f"{path} may not be read; give this user permission to read it.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} could not be read: {getattr(error, 'strerror', None) or error}.") from None
    if not data:
        raise InputError(f"{path} is empty (0 bytes); copy it again from where it came.")
    return data


def decode(source: str | Path | bytes) -> UInt8Image:
    """Decodes one image under the policy in this module's docstring.

    Args:
        source: a path, or the bytes of an image file.

    Returns:
        uint8 RGB, H x W x 3, contiguous.

    Raises:
        InputError: with a sentence saying what is wrong and what to do.
    """
    data = source if isinstance(source, bytes) else read(source)
    if not data:
        raise InputError("The image is empty (0 bytes); copy it again from where it came.")
    for codec in _codecs():
        if codec.matches(data):
            return codec.decode(data)  # type: ignore[no-any-return]
    kind = next((name for at, mark, name in OTHERS if data.startswith(mark, at)), None)
    if kind:
        raise InputError(f"{kind} is not read; export the image as PNG, JPEG or TIFF.")
    raise InputError("This is not an image in a known format; export it as PNG, JPEG or TIFF.")


def metadata(data: bytes) -> Metadata:
    """What an image file says beside its pixels: nothing, in a format of which nothing else is read, or where it is damaged."""
    codec = next((codec for codec in _codecs() if codec.matches(data)), None)
    return codec.metadata(data) if hasattr(codec, "metadata") else Metadata()  # type: ignore[union-attr]


@functools.cache
def suffixes() -> tuple[str, ...]:
    """Of the formats that `decode` reads, in lower case."""
    return tuple(suffix for codec in _codecs() for suffix in codec.SUFFIXES)


def is_image(head: bytes) -> bool:
    """Whether the first `HEAD_BYTES` of a file, or more, begin like a format that `decode` reads."""
    return any(codec.matches(head) for codec in _codecs())


def has_image(path: str) -> bool:
    """Whether a file's name or, where it has no suffix, its content is that of an image.

    Raises:
        OSError: the content cannot be read.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix:
        return suffix in suffixes()
    with open(path, "rb", opener=_without_waiting) as file:
        return is_image(file.read(HEAD_BYTES))


def _without_waiting(path: str, flags: int) -> int:
    """Opens a pipe without waiting for its writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@functools.cache
def _codecs() -> list[ModuleType]:
    return [plugins.load(CODECS, name) for name in plugins.names(CODECS)]


def resize(image_hwc_u8: UInt8Image, spec: Input) -> UInt8Image:
    """Resizes to the network's input.

    The whole field of view is kept and its aspect ratio is not: a tumour at the edge must not be cropped away.
    Shrinking averages areas (no aliasing of nuclei); growing in any direction interpolates linearly.

    Args:
        image_hwc_u8: uint8 RGB, H x W x 3.
        spec: the bundle's input.

    Returns:
        uint8 RGB, `spec.height` x `spec.width` x 3.
    """
    height, width = image_hwc_u8.shape[:2]
    shrinks = height >= spec.height and width >= spec.width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image_hwc_u8, (spec.width, spec.height), interpolation=method), np.uint8)
