"""µm per pixel from a picture of a stage micrometer, by the distance of its lines.

The profile across the lines is correlated with itself: its first high peak is the distance of the lines, and the peak a whole number of lines away
tells it to a hundredth of a pixel or better. Lines may be upright or level, within two degrees: a profile is that of a narrow strip, and their
correlations are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from bcd_edge.errors import InputError
from bcd_edge.readers.raster import UInt8Image

# Lines nearer than this are no longer told from each other; fewer than this many are no ruler.
LEAST_DISTANCE: Final = 4
LEAST_LINES: Final = 4
# Correlation of the profile with itself one line further: of rulers above 0.5, also where every fifth line is longer; of tissue below 0.3.
LEAST_CORRELATION: Final = 0.4
# Height of a strip in pixels: lines two degrees askew move by less than a pixel in it.
STRIP: Final = 24
# The first peak beside the highest one, which is that of the longer fifth lines.
FIRST: Final = 0.5
Profile = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ruler:
    """What was measured.

    Attributes:
        pixels_per_line: from one line to the next.
        lines: how many distances fit into the picture.
        correlation: of the profile with itself, one line further, 0..1.
    """

    pixels_per_line: float
    lines: int
    correlation: float


def measure(image_hwc_u8: UInt8Image) -> Ruler:
    """Finds the lines in a picture, uint8 RGB, H x W x 3.

    Raises:
        InputError: there are none.
    """
    grey = np.asarray(cv2.cvtColor(image_hwc_u8, cv2.COLOR_RGB2GRAY), np.float64)
    rulers = [ruler for picture in (grey, grey.T) if (ruler := _measure(picture))]
    best = max(rulers, key=lambda ruler: ruler.correlation, default=None)
    if best is None or best.correlation < LEAST_CORRELATION:
        raise InputError(
            f"The picture shows no ruler with {LEAST_LINES} lines or more at the same distance; focus on the lines of the stage micrometer, "
            "turn it until they are upright, and let them fill the picture."
        )
    return best


def _measure(grey: Profile) -> Ruler | None:
    """The ruler whose lines cross the rows; None if nothing repeats."""
    length = grey.shape[1]
    strips = [grey[start : start + STRIP].mean(axis=0) for start in range(0, max(1, len(grey) - STRIP + 1), STRIP)]
    uneven = [cv2.GaussianBlur(strip[None], (0, 0), length / 8, borderType=cv2.BORDER_REFLECT)[0] for strip in strips]
    correlation = np.mean([_autocorrelation(strip - light) for strip, light in zip(strips, uneven, strict=True)], axis=0)
    first = _first_peak(correlation)
    if first is None or length / first < LEAST_LINES:
        return None
    distance = _refined(correlation, first)
    for count in range(2, int(0.75 * length / first) + 1):  # each peak corrects the estimate of where the next one is
        at = _local_maximum(correlation, round(count * distance), max(1, round(distance / 4)))
        if at is None or correlation[at] < correlation[first] / 2:
            break
        distance = _refined(correlation, at) / count
    return Ruler(float(distance), int(length / distance), float(correlation[first]))


def _autocorrelation(profile: Profile) -> Profile:
    """Of both parts that overlap, -1..1 for each shift."""
    size = len(profile)
    spectrum = np.fft.rfft(profile, 2 * size)
    sums = np.fft.irfft(spectrum * spectrum.conj())[:size]
    energy = np.cumsum(profile**2)
    heads, tails = energy[::-1], energy[-1] - np.concatenate([[0.0], energy[:-1]])
    return np.asarray(sums / np.sqrt(np.maximum(heads * tails, 1e-9)), np.float64)


def _first_peak(correlation: Profile) -> int | None:
    """The nearest shift whose correlation is a maximum nearly as high as any, after the first fall below zero."""
    falls = np.flatnonzero(correlation < 0)
    most = len(correlation) * 3 // 4
    if not len(falls) or falls[0] >= most:
        return None
    start = max(int(falls[0]), LEAST_DISTANCE)
    highest = correlation[start:most].max(initial=0.0)
    middle = correlation[start : most - 1]
    peaks = start + np.flatnonzero(
        (middle >= correlation[start - 1 : most - 2]) & (middle >= correlation[start + 1 : most]) & (middle > FIRST * highest)
    )
    return int(peaks[0]) if len(peaks) else None


def _local_maximum(correlation: Profile, near: int, reach: int) -> int | None:
    low, high = near - reach, near + reach + 1
    if high >= len(correlation) - 1:
        return None
    return low + int(correlation[low:high].argmax())


def _refined(correlation: Profile, at: int) -> float:
    """To a fraction of a pixel, by the parabola through three values."""
    before, peak, after = correlation[at - 1 : at + 2]
    curve = before - 2 * peak + after
    return at + (0.5 * (before - after) / curve if curve < 0 else 0.0)
