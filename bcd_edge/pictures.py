"""Pictures as `Classifier` takes them: a path, bytes or pixels, with hash and decoding time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bcd_edge.errors import InputError
from bcd_edge.readers import raster
from bcd_edge.readers.raster import UInt8Image


@dataclass(frozen=True, slots=True)
class HashedBytes:
    """The bytes of an image file with their known SHA-256."""

    data: bytes
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """Pixels, uint8 RGB, H x W x 3, with the SHA-256 of their file and the milliseconds of decoding. See `decode`.

    `um_per_pixel` is the width of a pixel on the slide in µm, where the file tells it.
    """

    pixels_hwc_u8: UInt8Image
    sha256: str
    decode_ms: float
    um_per_pixel: float | None = None


Picture = str | Path | bytes | HashedBytes | DecodedImage | UInt8Image


def default_name(picture: Picture) -> str:
    """The name of a picture in its record if none was given."""
    return str(picture) if isinstance(picture, str | Path) else "<bytes>" if isinstance(picture, bytes | HashedBytes) else "<array>"


def decode(picture: Picture | InputError | Callable[[], Picture]) -> DecodedImage:
    """Reads, hashes and decodes one image.

    Args:
        picture: the image; a function is called for it, in the time of decoding.

    Raises:
        InputError: it cannot be read or decoded, or `picture` is such an error already.
    """
    started = time.perf_counter()
    if callable(picture):
        picture = picture()
    if isinstance(picture, InputError):
        raise picture
    if isinstance(picture, DecodedImage):
        return picture
    if isinstance(picture, np.ndarray):
        pixels = _pixels(picture)
        return DecodedImage(pixels, hashlib.sha256(pixels.tobytes()).hexdigest(), 1000 * (time.perf_counter() - started))
    data, sha256 = _hashed(picture)
    with failing_with(sha256):
        pixels = raster.decode(data)
        return DecodedImage(pixels, sha256, 1000 * (time.perf_counter() - started), raster.metadata(data).um_per_pixel)


@contextmanager
def failing_with(sha256: str) -> Iterator[None]:
    """Adds the hash of the image's bytes to an `InputError`."""
    try:
        yield
    except MemoryError:
        error = InputError("The image needs more memory than is available; split it into fields of view and classify those.")
        error.sha256 = sha256
        raise error from None
    except InputError as error:
        error.sha256 = sha256
        raise


def _hashed(picture: str | Path | bytes | HashedBytes) -> tuple[bytes, str]:
    """The bytes of an image file and their SHA-256."""
    if isinstance(picture, HashedBytes):
        return picture.data, picture.sha256
    data = picture if isinstance(picture, bytes) else raster.read(picture)
    return data, hashlib.sha256(data).hexdigest()


def _pixels(array: UInt8Image) -> UInt8Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise InputError(f"Pixels of shape {array.shape} and type {array.dtype} cannot be classified; give uint8 RGB, H x W x 3.")
    return array
