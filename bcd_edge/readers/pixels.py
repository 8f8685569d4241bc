"""Samples to upright uint8 RGB: the part of the decoding policy that all formats share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from bcd_edge.errors import InputError

UInt8Image = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.unsignedinteger[Any]]
Alpha = Literal["none", "straight", "premultiplied"]

# Pillow's own threshold for a decompression bomb: 256 MiB of 24-bit pixels. A 20x microscope
# camera gives 5 to 50 megapixels; a larger picture is a whole slide and needs tiling first.
MAX_PIXELS: Final = 89_478_485
# A picture whose brightest 16-bit sample is below a quarter of the range holds 14 bits or fewer in 16:
# mapped linearly it would be nearly black.
LEAST_MAXIMUM: Final = 2**14
# Pixels that are converted at a time: float32 needs several times the memory of the picture.
PART: Final = 2**16


def check_size(width: int, height: int) -> None:
    """Refuses a picture from its header, before memory is allocated.

    Raises:
        InputError: it has no pixels, or more than `MAX_PIXELS`.
    """
    if width < 1 or height < 1:
        raise damaged(f"its header gives {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise InputError(
            f"The image has {width} x {height} pixels, more than the {MAX_PIXELS:,} allowed; cut it into fields of view and classify those."
        )


def damaged(reason: str) -> InputError:
    """The error of a file whose pixels are not whole."""
    return InputError(f"The image is damaged ({reason.strip().rstrip('.')}); copy or export it again.")


def rgb(samples: Samples, alpha: Alpha = "none", white: int | None = None) -> UInt8Image:
    """Grey or RGB samples, with or without alpha, as uint8 RGB on white, the colour of empty glass in bright-field microscopy.

    Args:
        samples: uint8 or uint16, H x W x C; C is 1 or 3, and one more with alpha.
        alpha: whether the last channel is alpha, and whether the others were multiplied by it.
        white: the largest possible sample, where the file declares another than that of its type; there is no alpha then.

    Raises:
        InputError: 16-bit samples that use only the lower 14 bits or fewer.
    """
    if white is not None:
        return in_parts(lambda part: np.rint(part.astype(np.float32) * np.float32(255 / white)), samples)
    colours = samples if alpha == "none" else samples[..., :-1]
    if samples.dtype == np.uint16:
        _check_range(int(colours.max()))
    if alpha != "none":
        return in_parts(lambda part: _on_white(part[:, :-1], part[:, -1:], alpha), samples)
    if colours.dtype == np.uint16:
        return in_parts(lambda part: np.rint(part.astype(np.float32) / 257), colours)  # 65535 / 255 = 257
    return np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)), np.uint8)


def cmyk_to_rgb(ink: Samples) -> UInt8Image:
    """CMYK, H x W x 4, 0 without ink, as uint8 RGB without a profile: each ink darkens its own colour, black all of them."""
    top = np.iinfo(ink.dtype).max

    def convert(part: Samples) -> npt.NDArray[np.float32]:
        light = 1 - part.astype(np.float32) / top
        return np.asarray(np.rint(255 * light[:, :3] * light[:, 3:]), np.float32)

    return in_parts(convert, ink)


def upright(image: UInt8Image, orientation: int) -> UInt8Image:
    """Undoes an EXIF or TIFF orientation (CIPA DC-008, tag 274), 1..8."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _check_range(maximum: int) -> None:
    if maximum < LEAST_MAXIMUM:
        bits = max(1, maximum.bit_length())
        raise InputError(
            f"The 16-bit samples use only their lower {bits} bits (the brightest is {maximum:,} of 65,535), so their white is unknown; "
            "export the image with 8 bits per channel."
        )


def in_parts(convert: Callable[[Samples], npt.NDArray[np.float32]], samples: Samples) -> UInt8Image:
    """Converts all pixels of H x W x C to uint8 RGB, H x W x 3, by what turns N x C samples to N x 1 or N x 3 of 0..255."""
    pixels = samples.reshape(-1, samples.shape[2])
    image = np.empty((len(pixels), 3), np.uint8)
    for start in range(0, len(pixels), PART):
        image[start : start + PART] = convert(pixels[start : start + PART])
    return image.reshape(*samples.shape[:2], 3)


def _on_white(colours: Samples, alpha: Samples, kind: Alpha) -> npt.NDArray[np.float32]:
    top = np.float32(np.iinfo(colours.dtype).max)
    share = alpha.astype(np.float32) / top
    light = colours.astype(np.float32) * (255 / top)
    blended = light * (share if kind == "straight" else 1) + 255 * (1 - share)
    return np.asarray(np.rint(np.minimum(blended, 255)), np.float32)
