"""µm per pixel from a picture of a stage micrometer, by the distance of its lines.

Short lines may fill a band of the picture only, and above and below it are the longer fifth and tenth lines alone. So the profile across the
lines is taken in low strips, each is correlated with itself, and the finest distance that several strips agree on is that of the lines: its peaks a
whole number of lines away tell it to a hundredth of a pixel or better. Where weaker lines may lie between those, nothing is measured: a
scale that is five times wrong is worse than none. Lines may be upright or level, within two degrees.
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
# Height of a strip in pixels, and from one to the next: lines two degrees askew move by less than half a pixel in it.
STRIP, STEP = 12, 6
# Strips that must agree on a distance, and by how much it may differ.
LEAST_STRIPS, TOLERANCE = 3, 0.02
# Degree of the polynomial that takes uneven light out of a strip.
LIGHT: Final = 4
# Contrast of a strip beside the strongest one: a strip of tenth lines alone has a third, paper and compression less.
LEAST_CONTRAST: Final = 0.25
# Mean correlation of a profile with itself one to three lines further: of lines above 0.5; of tissue below 0.4.
LEAST_CORRELATION, REPEATS = 0.5, 3
# The same where strips that agree are averaged, and faint lines lie between stronger ones: below it, the next peak may be taken for another.
LEAST_POOLED: Final = 0.2
# The first peak beside the highest one, which is that of the longer fifth lines.
FIRST: Final = 0.5
# How far the correlation rises between the peaks at regular places: from the first on there are finer lines, from the second there may be.
FINER, FAINT = 0.3, 0.1
MOST_FINER: Final = 10
# Blur, as the standard deviation in pixels and beside the distance, that may hide lines five times as near.
MOST_BLUR, BLUR_SHARE = 2.0, 1 / 14
Profiles = npt.NDArray[np.float64]
Profile = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ruler:
    """What was measured.

    Attributes:
        pixels_per_line: from one line to the next.
        lines: how many distances fit into the picture.
        correlation: of the profile with itself, one to three lines further, 0..1.
        doubt: why finer lines may have been missed; empty if they were not.
    """

    pixels_per_line: float
    lines: int
    correlation: float
    doubt: str


def measure(image_hwc_u8: UInt8Image) -> Ruler:
    """Finds the lines in a picture, uint8 RGB, H x W x 3.

    Raises:
        InputError: there are none, or the finest ones are not told for certain.
    """
    grey = np.asarray(cv2.cvtColor(image_hwc_u8, cv2.COLOR_RGB2GRAY), np.float64)
    rulers = [ruler for picture in (grey, grey.T) if (ruler := _measure(np.ascontiguousarray(picture)))]
    best = max(rulers, key=lambda ruler: ruler.correlation, default=None)
    if best is None:
        raise InputError(
            f"The picture shows no ruler with {LEAST_LINES} lines or more at the same distance; focus on the lines of the stage micrometer, "
            "turn it until they are upright or level, and let its shortest lines run through the middle of the picture."
        )
    if best.doubt:
        raise InputError(
            f"The finest lines of the ruler are not told for certain: lines {best.pixels_per_line:.1f} pixels apart are seen, and {best.doubt}; "
            "focus on its shortest lines, bring them into the middle, close the condenser's diaphragm for contrast, and take the picture again."
        )
    return best


def _measure(grey: Profile) -> Ruler | None:
    """The ruler whose lines cross the rows; None if nothing repeats."""
    correlations = _correlations(grey)
    distances = np.array([_distance(correlation) for correlation in correlations])
    finest = next((distance for distance in np.unique(distances[distances > 0]) if _agree(distances, distance).sum() >= LEAST_STRIPS), None)
    if finest is None:
        return None
    agree = _agree(distances, finest)
    pooled = correlations[agree].mean(axis=0)
    distance, heights = _follow(pooled, float(np.median(distances[agree])), len(pooled))
    correlation = float(np.mean(heights[:REPEATS]))
    is_certain = correlation > LEAST_POOLED and abs(distance / finest - 1) < TOLERANCE
    doubt = _doubt(correlations, pooled, distances, distance) if is_certain else "they are too faint"
    return Ruler(distance, int(len(pooled) / distance), correlation, doubt)


def _agree(distances: Profile, distance: float) -> npt.NDArray[np.bool_]:
    return np.asarray(np.abs(distances / distance - 1) < TOLERANCE, np.bool_)


def _correlations(grey: Profile) -> Profiles:
    """The profile of each strip with itself, -1..1 for each shift, of both parts that overlap; of strips with enough contrast."""
    length = grey.shape[1]
    strips = np.array([grey[start : start + STRIP].mean(axis=0) for start in range(0, max(1, len(grey) - STRIP + 1), STEP)])
    light = np.linalg.qr(np.vander(np.linspace(-1, 1, length), LIGHT + 1))[0]
    strips -= strips @ light @ light.T
    strips -= cv2.GaussianBlur(strips, (0, 0), sigmaX=length / 8, sigmaY=1e-3, borderType=cv2.BORDER_REFLECT)
    strips -= strips.mean(axis=1, keepdims=True)
    contrast = strips.std(axis=1)
    strips = strips[contrast >= LEAST_CONTRAST * contrast.max()]
    spectra = np.fft.rfft(strips, 2 * length, axis=1)
    sums = np.fft.irfft(spectra * spectra.conj(), axis=1)[:, :length]
    energy = np.cumsum(strips**2, axis=1)
    heads, tails = energy[:, ::-1], energy[:, -1:] - np.pad(energy, ((0, 0), (1, 0)))[:, :length]
    return np.asarray(sums / np.sqrt(np.maximum(heads * tails, 1e-9)), np.float64)


def _distance(correlation: Profile) -> float:
    """Of one strip's lines; 0 if it has none."""
    first = _first_peak(correlation)
    if first is None:
        return 0.0
    distance, heights = _follow(correlation, first, REPEATS)
    if len(heights) < REPEATS or np.mean(heights) < LEAST_CORRELATION or len(correlation) / distance < LEAST_LINES:
        return 0.0
    rise, divisor = _finer(correlation[None], distance)
    return distance / int(divisor[0]) if rise[0] > FINER else distance


def _first_peak(correlation: Profile) -> int | None:
    """The nearest shift whose correlation is a maximum nearly as high as any, after the first fall below zero."""
    falls = np.flatnonzero(correlation < 0)
    most = len(correlation) * 3 // 4
    start = max(int(falls[0]), LEAST_DISTANCE - 1) if len(falls) else most
    if start >= most - 1:
        return None
    middle = correlation[start : most - 1]
    is_peak = (middle >= correlation[start - 1 : most - 2]) & (middle >= correlation[start + 1 : most]) & (middle > FIRST * middle.max())
    return start + int(is_peak.argmax()) if is_peak.any() else None


def _follow(correlation: Profile, first: float, most: int) -> tuple[float, list[float]]:
    """The distance, corrected by each peak in turn, which tells where the next one is, and their heights."""
    distance = first
    heights: list[float] = []
    for count in range(1, min(most, int(0.75 * len(correlation) / first)) + 1):
        near, reach = round(count * distance), max(1, round(distance / 4))
        if near + reach + 1 >= len(correlation):
            break
        at = near - reach + int(correlation[near - reach : near + reach + 1].argmax())
        if heights and correlation[at] < heights[0] / 2:
            break
        heights.append(float(correlation[at]))
        distance = _refined(correlation, at) / count
    return distance, heights


def _refined(correlation: Profile, at: int) -> float:
    """To a fraction of a pixel, by the parabola through three values."""
    before, peak, after = correlation[at - 1 : at + 2]
    curve = before - 2 * peak + after
    return float(at + (np.clip(0.5 * (before - after) / curve, -0.5, 0.5) if curve < 0 else 0.0))


def _finer(correlations: Profiles, distance: float) -> tuple[Profile, npt.NDArray[np.int64]]:
    """How far each correlation rises at a regular fraction of the distance, and the fraction's divisor where it rises most."""
    rises, divisors = np.zeros(len(correlations)), np.ones(len(correlations), np.int64)
    spans = int(np.clip(0.5 * correlations.shape[1] / distance, 1, 3))
    for divisor in range(2, MOST_FINER + 1):
        step = distance / divisor
        if step < LEAST_DISTANCE / 2:
            break
        at = step * np.array([count for count in range(1, divisor * spans) if count % divisor])
        rise = np.median(_at(correlations, at) - (_at(correlations, at - step / 2) + _at(correlations, at + step / 2)) / 2, axis=1)
        divisors[rise > rises] = divisor
        rises = np.maximum(rises, rise)
    return rises, divisors


def _at(correlations: Profiles, shifts: Profile) -> Profiles:
    """Between whole shifts, linearly."""
    whole = shifts.astype(int)
    part = shifts - whole
    return np.asarray(correlations[:, whole] * (1 - part) + correlations[:, whole + 1] * part, np.float64)


def _doubt(correlations: Profiles, pooled: Profile, distances: Profile, distance: float) -> str:
    """Why these may be the fifth or tenth lines."""
    rises = [np.sort(_finer(correlations, distance)[0])[-LEAST_STRIPS:].mean(), _finer(pooled[None], distance)[0][0]]
    if max(rises) > FAINT:
        return "there may be fainter ones between them"
    if _agree(distances, 5 * distance).sum() >= 2:
        return ""
    if _agree(distances, 2 * distance).sum() >= 2:
        return "each second one is longer, as of fifth and tenth lines"
    if _blur(pooled, round(distance)) > max(MOST_BLUR, BLUR_SHARE * distance):
        return "they are blurred"
    return ""


def _blur(correlation: Profile, near: int) -> float:
    """Standard deviation, in pixels, of a Gaussian line whose correlation has this curve at its peak."""
    at = near - 1 + int(correlation[near - 1 : near + 2].argmax())
    before, peak, after = correlation[at - 1 : at + 2]
    return float(np.sqrt(peak / max(1e-9, 2 * (2 * peak - before - after)))) if peak > 0 else np.inf
