"""Formats that Pillow decodes, its complaints as sentences."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from bcd_edge.errors import InputError
from bcd_edge.readers.ifd import exif_orientation, xmp_orientation
from bcd_edge.readers.pixels import PART, UInt8Image, check_size, damaged, rgb, upright

if TYPE_CHECKING:
    from PIL import Image, ImageFile


@contextmanager
def opened(data: bytes, plugin: Callable[[io.BytesIO], ImageFile.ImageFile]) -> Iterator[Image.Image]:
    """The image opened by one of Pillow's plug-ins, its size checked, nothing decoded yet.

    A plug-in is called directly, because `Image.open` warns of large pictures, and a filter for warnings belongs to the whole process.

    Raises:
        InputError: it is damaged, too large, of a kind that Pillow does not read, or holds several frames.
    """
    try:
        with plugin(io.BytesIO(data)) as image:
            check_size(*image.size)
            frames = int(getattr(image, "n_frames", 1))
            if frames > 1:
                raise InputError(f"The file holds {frames} frames or pages; export the one to be classified as a file of its own.")
            yield image
    except InputError:
        raise
    except Exception as error:  # Pillow's plug-ins raise nearly anything on damaged input; none of it is our bug
        if str(error).startswith("Unsupported "):
            raise InputError(f"The image is of a kind that is not read ({str(error)[12:]}); export it as RGB with 8 bits per channel.") from None
        raise damaged(str(error) or type(error).__name__) from None


def picture(image: Image.Image) -> UInt8Image:
    """The pixels of an opened image of 8 bits per channel, or grey of 16, upright, on white."""
    if image.mode.startswith("I;16"):
        return upright(rgb(np.asarray(image, np.uint16)[..., np.newaxis]), orientation(image))
    has_alpha = "A" in image.mode or "transparency" in image.info
    samples = _samples(image, "RGBA" if has_alpha else "RGB")
    return upright(rgb(samples, "straight" if has_alpha else "none"), orientation(image))


def orientation(image: Image.Image) -> int:
    """The orientation in the metadata of an opened image, 1..8."""
    exif = image.info.get("exif", b"")
    return exif_orientation(exif.removeprefix(b"Exif\0\0")) if exif else xmp_orientation(image.info.get("xmp", b""))


def _samples(image: Image.Image, mode: str) -> UInt8Image:
    """The pixels in a mode of 3 or 4 bytes, in parts, because Pillow converts and hands out copies."""
    samples = np.empty((image.height, image.width, len(mode)), np.uint8)
    rows = max(1, PART // image.width)
    for top in range(0, image.height, rows):
        part = image.crop((0, top, image.width, min(top + rows, image.height)))
        samples[top : top + rows] = np.asarray(part if part.mode == mode else part.convert(mode), np.uint8)
    return samples
