"""Can this be a field of view of H&E-stained tissue, in focus and well exposed? Measured on the pixels alone, in under a millisecond.

The thresholds were fitted on the real images; `docs/quality.md` has how, and what they catch and miss.
"""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from bcd_edge.errors import InputError
from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.records import Quality

# The longest side that is looked at, near what networks see: what is lost by shrinking to it does not reach an answer.
SIDE: Final = 192

# Nothing to see: a single colour but for noise (standard deviation of brightness, of 255).
NOTHING: Final = 2.0
# Uniform: less contrast than any field of tissue.
LEAST_CONTRAST: Final = 6.5
# Exposure: brightness that 2 % of the pixels reach; share of nearly black pixels; share of pixels with two channels at the top.
WHITE_SHARE, LEAST_WHITE = 0.98, 135.0
BLACK, MOST_BLACK = 40, 0.12
CLIPPED, MOST_CLIPPED = 254, 0.4
# Tissue: mean optical density above that of glass, and the share of the picture that must have it.
GLASS_DENSITY, LEAST_TISSUE = 0.12, 0.08
# Stain: share of the colour that lies between the blue of haematoxylin and the pink of eosin, and the colour's share of the density.
LEAST_STAIN, LEAST_COLOUR = 0.53, 0.075
# Focus: finest detail beside that of four times its size. Small pictures were shrunk by who made them and have more of it.
LEAST_FOCUS, FOCUS_EXPONENT = 0.055, 1.0
SMALLEST: Final = 48
# Standard deviation in pixels of the blur that takes the finest octave away.
FINEST: Final = 0.7
# Variance that rounding to 8 bits adds, which is no detail.
ROUNDING: Final = 1 / 12

DENSITY: Final = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
ONES: Final = np.ones(3, np.float32)


def quality(image_hwc_u8: UInt8Image, reduced_hwc_u8: UInt8Image | None = None) -> Quality:
    """Measures a picture and says what speaks against classifying it.

    Args:
        image_hwc_u8: uint8 RGB, H x W x 3, of any size.
        reduced_hwc_u8: the same shrunk to `SIDE` x `SIDE` by areas, where it is at hand.

    Returns:
        Measures and reasons; no reasons where nothing speaks against it.

    Raises:
        InputError: there is nothing to see.
    """
    small = reduced(image_hwc_u8) if reduced_hwc_u8 is None else reduced_hwc_u8
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
    contrast = float(cv2.meanStdDev(grey)[1][0, 0])
    if contrast < NOTHING:
        raise InputError("Nothing can be seen in the image: it has one colour only; check lamp, focus and slide, and take it again.")
    shares = np.cumsum(cv2.calcHist([grey], [0], None, [256], [0, 256])) / grey.size
    white, black = float(np.searchsorted(shares, WHITE_SHARE)), float(shares[BLACK - 1])
    sparse = small[::3, ::3].reshape(-1, 3)
    red, green, blue = (sparse >= CLIPPED).T
    clipped = float((red & green | blue & (red | green)).mean())
    density = DENSITY[sparse]
    tissue = float((density @ ONES > 3 * GLASS_DENSITY).mean())
    stain, colour = _stain(sparse, density)
    detail = focus(grey)
    exposure, content = _exposure(white, black, clipped), _content(contrast, tissue)
    reasons = (*exposure, *content, *_colour(stain, colour), *blur_reasons(detail, min(grey.shape)))
    return Quality(round(detail, 4), round(white / 255, 4), round(contrast / 255, 4), round(tissue, 4), round(stain, 4), reasons)


def reduced(image_hwc_u8: UInt8Image, input_hwc_u8: UInt8Image | None = None) -> UInt8Image:
    """What is looked at of a picture: a network's input serves where it is the same, so that the picture is not shrunk twice."""
    if input_hwc_u8 is not None and input_hwc_u8.shape[:2] == (SIDE, SIDE) and min(image_hwc_u8.shape[:2]) >= SIDE:
        return input_hwc_u8
    height, width = image_hwc_u8.shape[:2]
    if max(height, width) <= SIDE:
        return image_hwc_u8
    return np.asarray(cv2.resize(image_hwc_u8, (min(width, SIDE), min(height, SIDE)), interpolation=cv2.INTER_AREA), np.uint8)


def _stain(flat: UInt8Image, density: npt.NDArray[np.float32]) -> tuple[float, float]:
    """How much of the colour is that of H&E, 0..1, and how much of the density is colour, both of what is denser than glass.

    The densities are relative to the picture's own white (Ruifrok and Johnston, 2001), so that a tinted lamp is no stain.
    """
    place = max(0, len(flat) - 1 - len(flat) // 50)
    white = np.clip(np.partition(flat, place, axis=0)[place], 160, 255)
    density = np.maximum(density - DENSITY[white], 0)
    total = density @ ONES  # several times as fast as `sum` of three values
    stained = total > 3 * GLASS_DENSITY
    if stained.sum() < 20:
        stained = np.ones_like(stained)
    is_stain, strength = is_stained(density)
    strength = strength * stained
    whole = float(strength.sum()) + 1e-6
    return float((strength * is_stain).sum()) / whole, whole / (float((total * stained).sum()) / math.sqrt(3) + 1e-6)


def is_stained(density: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Whether the hue of each optical density, ... x 3, lies between haematoxylin's and eosin's, and how strong its colour is."""
    red, green, blue = density[..., 0], density[..., 1], density[..., 2]
    # the plane of colour: zero for grey, at 60 degrees the blue of haematoxylin, at 180 the pink side of eosin
    x, y = (2 * red - green - blue) / math.sqrt(6), (green - blue) / math.sqrt(2)
    return (y >= 0) & (y >= math.sqrt(3) * x), np.sqrt(x * x + y * y)


def focus(grey_hw_u8: UInt8Image, noise: float = 0.0) -> float:
    """Energy of the finest octave of detail beside the octave two above it: blur takes from the first, tissue hardly changes the ratio.

    Args:
        grey_hw_u8: brightness of `reduced`, uint8, H x W.
        noise: energy of a camera's noise in the finest octave, which is no detail, where it is known.
    """
    image: cv2.typing.MatLike = grey_hw_u8.astype(np.float32)
    blurred = [cv2.GaussianBlur(image, (0, 0), sigma) for sigma in (FINEST, 2 * FINEST, 4 * FINEST)]
    fine, coarse = _energy(image, blurred[0]), _energy(blurred[1], blurred[2])
    return max(0.0, fine - max(ROUNDING, noise)) / (coarse + 1e-3)


def _energy(first: cv2.typing.MatLike, second: cv2.typing.MatLike) -> float:
    return float(cv2.norm(first, second, cv2.NORM_L2SQR)) / first.size


def _exposure(white: float, black: float, clipped: float) -> list[str]:
    reasons = []
    if white < LEAST_WHITE:
        reasons.append(f"too dark: 98 % of it is darker than {white / 255:.0%} of white")
    if black > MOST_BLACK:
        reasons.append(f"partly black: {black:.0%} of it, and tissue in bright field is not")
    if clipped > MOST_CLIPPED:
        reasons.append(f"overexposed: {clipped:.0%} of it is at the upper end")
    return reasons


def _content(contrast: float, tissue: float) -> list[str]:
    if contrast < LEAST_CONTRAST:
        return ["uniform: it has hardly any contrast"]
    if tissue < LEAST_TISSUE:
        return [f"hardly any tissue: {1 - tissue:.0%} of it is as bright as glass"]
    return []


def _colour(stain: float, colour: float) -> list[str]:
    if colour < LEAST_COLOUR:
        return ["colourless: no H&E stain"]
    if stain < LEAST_STAIN:
        return [f"not stained with H&E: {1 - stain:.0%} of its colour is another"]
    return []


def blur_reasons(focus: float, side: int) -> list[str]:
    """What speaks against a picture with this `focus`, whose shorter side is so many pixels where it is looked at."""
    least = LEAST_FOCUS * (SIDE / max(side, SMALLEST)) ** FOCUS_EXPONENT
    return [f"out of focus: {focus:.3f} of fine detail, where {least:.3f} is least"] if focus < least else []
