"""Bytes to pixels to network input: the one implementation, used by training and serving alike.

The written policy of `decode`:

| input | what happens |
|---|---|
| JPEG, PNG, TIFF, BMP, WebP | decoded by OpenCV; any other format is refused |
| EXIF orientation | applied, so that a rotated camera gives the upright picture |
| 16 bits per sample | mapped linearly from 0..65535 to 0..255, rounded; 12 bits stored in 16 look dark, so export 8 bits |
| float or other samples | refused: their white point is unknown |
| grey, palette, 1 bit | expanded to RGB |
| alpha | composited on white, the colour of empty glass in bright-field microscopy |
| CMYK JPEG | converted to RGB by the decoder; embedded ICC profiles are not applied to any format |
| several frames or pages | refused: which one would the answer be about? |
| more than 89,478,485 pixels | refused from the header, before memory is allocated |
| empty, truncated, damaged | refused; a JPEG must reach its end marker, PNG chunks must match their checksums |
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from bcd_edge.bundle import Input
from bcd_edge.errors import InputError

UInt8Image = npt.NDArray[np.uint8]

FORMATS: Final = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")

# Pillow's own threshold for a decompression bomb: 256 MiB of 24-bit pixels. A 20x microscope
# camera gives 5 to 50 megapixels; a larger picture is a whole slide and needs tiling first.
MAX_PIXELS: Final = 89_478_485
MAX_BYTES: Final = 512 * 2**20

# Where a PNG can say that it must be turned: its own chunk, ImageMagick's text, Adobe's XMP.
PNG_EXIF: Final = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")

# OpenCV logs damaged input to stderr by itself; the InputError says it already.
(cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel)(0)  # moved in OpenCV 5
# `_header` refuses such a picture itself, with a sentence.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# And what Pillow says of damaged tags; whether the image is whole is decided here.
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")


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
    orientation = _header(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, MemoryError) as error:
        raise InputError(f"The image could not be decoded ({str(error).strip()[-80:]}); export it again.") from None
    if pixels is None:
        raise InputError("The image is damaged or truncated and could not be decoded; copy it again from where it came.")
    return np.ascontiguousarray(_upright(_rgb(pixels), orientation))


def fit(image_hwc_u8: UInt8Image, spec: Input) -> UInt8Image:
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


def _header(data: bytes) -> int:
    """Checks format, size, frames and completeness without decoding; returns the EXIF orientation still to undo, 1..8."""
    with _pillow(data) as header:
        kind, (width, height) = str(header.format), header.size
        if kind not in FORMATS:
            raise InputError(f"{kind} is not read; export the image as one of {', '.join(FORMATS)}.")
        if width * height > MAX_PIXELS:
            raise InputError(_too_large(f"{width} x {height}"))
        frames = int(getattr(header, "n_frames", 1))
        if frames > 1:
            raise InputError(f"The file holds {frames} frames or pages; export the one to be classified as a file of its own.")
        # Pillow decodes a whole PNG to look behind its pixels for EXIF: as long as OpenCV takes for the image itself
        orientation = int(header.getexif().get(0x0112, 1)) if kind != "PNG" or any(mark in data for mark in PNG_EXIF) else 1
    if kind == "PNG":
        with _pillow(data) as header:  # afresh: it wants a file that nothing was read from
            header.verify()  # the checksum of every chunk
    if kind == "JPEG" and not _jpeg_is_complete(data):
        raise InputError("The JPEG ends before its end marker, so a part is missing; copy it again from where it came.")
    # OpenCV turns a TIFF upright by itself, whatever the flags
    return orientation if 1 <= orientation <= 8 and kind != "TIFF" else 1


@contextmanager
def _pillow(data: bytes) -> Iterator[Image.Image]:
    """The image opened by Pillow, which reads no more than the header; its complaints as sentences."""
    try:
        with Image.open(io.BytesIO(data)) as header:
            yield header
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(_too_large("more than 178 million")) from None
    except UnidentifiedImageError:
        raise InputError(f"This is not an image in a known format; export it as one of {', '.join(FORMATS)}.") from None
    except Exception as error:  # Pillow's parsers raise nearly anything on damaged input; none of it is our bug
        raise InputError(f"The image is damaged ({str(error).strip() or type(error).__name__}); export it again.") from None


def _too_large(pixels: str) -> str:
    return f"The image has {pixels} pixels, more than the {MAX_PIXELS:,} allowed; cut it into fields of view and give those."


def _jpeg_is_complete(data: bytes) -> bool:
    """Whether an end marker follows the first scan (ITU-T T.81 B.1): libjpeg fills a missing rest with grey and says fine.

    Inside entropy-coded data 0xFF is always followed by 0x00 or a restart marker, so the first FF D9 after the
    scan's start is the real end; thumbnails with an end marker of their own sit in segments before it.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xFF:  # fill byte
            at += 1
        elif data[at + 1] == 0xDA:
            return data.find(b"\xff\xd9", at) >= 0
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _rgb(pixels: npt.NDArray[np.integer[Any] | np.floating[Any]]) -> UInt8Image:
    """OpenCV's unchanged pixels (grey, BGR or BGRA; 8 or 16 bits) as uint8 RGB."""
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels.astype(np.float32) / 257).astype(np.uint8)  # 65535 / 255 = 257
    elif pixels.dtype != np.uint8:
        raise InputError(f"Samples of type {pixels.dtype} have no known white; export the image with 8 bits per channel.")
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.float32) / 255
        blended = pixels[..., 2::-1].astype(np.float32) * alpha + 255 * (1 - alpha)
        return np.rint(blended).astype(np.uint8)
    if pixels.shape[2] != 3:
        raise InputError(f"{pixels.shape[2]} channels are neither grey nor colour; export the image as RGB.")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)


def _upright(image: UInt8Image, orientation: int) -> UInt8Image:
    """Undoes an EXIF orientation (CIPA DC-008, tag 274)."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image
