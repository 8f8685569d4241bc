"""Is the scale right that `bcd-edge live calibrate` measures? Of drawn stage micrometers, as they are and as they should not be."""

from __future__ import annotations

import collections
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from bcd_edge.errors import InputError
from bcd_edge.live import micrometer
from bcd_edge.readers.raster import UInt8Image
from benchmarks.tables import put

SIZES: Final = ((500, 400), (640, 480), (1280, 960), (1920, 1080))
# Beyond it, a scale is wrong.
TOLERANCE: Final = 0.005


@dataclass(frozen=True, slots=True)
class Drawing:
    """A stage micrometer in a picture.

    Attributes:
        size: width and height of the picture.
        pixels: from one line to the next.
        lengths: of ordinary, fifth and tenth lines, beside the picture's height.
        position: of the lines' middle, from the top, 0..1.
        degrees: by which the lines are askew.
        thickness: of a line in pixels.
        contrast: of a line, in grey values.
        faintness: factor of the ordinary lines' contrast.
        uneven: by how much the light falls off to the corners, 0..1.
        noise: standard deviation in grey values.
        blur: standard deviation in pixels.
        is_bright: lines on dark ground.
        has_common_foot: lines begin at the same height, and are not centred.
        phase: of the first line.
    """

    size: tuple[int, int] = (640, 480)
    pixels: float = 20.0
    lengths: tuple[float, float, float] = (0.5, 0.6, 0.7)
    position: float = 0.5
    degrees: float = 0.0
    thickness: float = 2.5
    contrast: float = 120.0
    faintness: float = 1.0
    uneven: float = 0.3
    noise: float = 3.0
    blur: float = 0.8
    is_bright: bool = False
    has_common_foot: bool = False
    phase: float = 0.0


def draw(ruler: Drawing, seed: int = 0) -> UInt8Image:
    """uint8 RGB, H x W x 3."""
    width, height = ruler.size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = np.radians(ruler.degrees)
    across = (x - width / 2) * np.cos(angle) + (y - height / 2) * np.sin(angle)
    along = (y - height * ruler.position) * np.cos(angle) - (x - width / 2) * np.sin(angle)
    count = np.rint(across / ruler.pixels + ruler.phase)
    distance = np.abs(across - (count - ruler.phase) * ruler.pixels)
    rank = np.where(count % 10 == 0, 2, np.where(count % 5 == 0, 1, 0))
    length = height * np.array(ruler.lengths, np.float32)[rank]
    foot = height * ruler.lengths[0] / 2 if ruler.has_common_foot else length / 2
    ink = np.clip(ruler.thickness / 2 + 0.5 - distance, 0, 1) * np.where(rank == 0, ruler.faintness, 1.0) * ((along < foot) & (along > foot - length))
    ink = cv2.GaussianBlur(ink.astype(np.float32), (0, 0), ruler.blur)
    light = 1 - 2 * ruler.uneven * ((x / width - 0.4) ** 2 + (y / height - 0.6) ** 2)
    grey = (50 + ruler.contrast * ink if ruler.is_bright else 220 - ruler.contrast * ink) * light
    grey += np.random.default_rng(seed).normal(0, ruler.noise, grey.shape)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def ordinary(random: np.random.Generator) -> Drawing:
    """As a careful user takes it."""
    return _drawing(random, (5, 8), 0.08, (0.3, 0.7), (1, 5), (50, 150), (0.8, 1), (0.7, 1.2))


def careless(random: np.random.Generator) -> Drawing:
    """Also out of focus, hardly visible, with faint ordinary lines, in a corner, or too near each other to be told apart."""
    return _drawing(random, (2.5, 6), 0.04, (0.1, 0.9), (0.3, 8), (20, 150), (0.07, 1), (0.7, 3))


def _drawing(
    random: np.random.Generator,
    distance: tuple[float, float],
    shortest: float,
    position: tuple[float, float],
    noise: tuple[float, float],
    contrast: tuple[float, float],
    faintness: tuple[float, float],
    blur: tuple[float, float],
) -> Drawing:
    """`distance` is from so many pixels to such a part of the width."""
    size = SIZES[random.integers(len(SIZES))]
    pixels = float(np.exp(random.uniform(np.log(distance[0]), np.log(size[0] / distance[1]))))
    lengths = random.uniform(shortest, 0.7) * np.cumprod([1.0, random.uniform(1, 1.6), random.uniform(1, 1.6)])
    return Drawing(
        size,
        pixels,
        tuple(np.minimum(lengths, 1.0).tolist()),
        position=random.uniform(*position),
        degrees=random.uniform(-1, 1),
        thickness=max(1.2, pixels * random.choice([0.05, 0.125, 0.25, 0.4])),
        contrast=random.uniform(*contrast),
        faintness=random.uniform(*faintness),
        uneven=random.uniform(0, 0.6),
        noise=random.uniform(*noise),
        blur=random.uniform(*blur),
        is_bright=bool(random.integers(2)),
        has_common_foot=bool(random.integers(2)),
        phase=random.uniform(-5, 5),
    )


def outcome(picture_hwc_u8: UInt8Image, pixels: float) -> str:
    """`right`, `wrong` or `refused`."""
    try:
        measured = micrometer.measure(picture_hwc_u8).pixels_per_line
    except InputError:
        return "refused"
    return "right" if abs(measured / pixels - 1) <= TOLERANCE else "wrong"


def measure(number: int, out: Path | None) -> None:
    """Prints a table of so many drawings of each kind, and puts it between the marks `rulers` of `out`."""
    lines = ["| drawn rulers | right to 0.5 % | refused | wrong |", "|---|---|---|---|"]
    for name, kind in (("as a careful user takes them", ordinary), ("out of focus, faint, cut off, or too fine as well", careless)):
        random = np.random.default_rng(1)
        drawings = [kind(random) for _ in range(number)]
        counts = collections.Counter(outcome(draw(drawing, seed), drawing.pixels) for seed, drawing in enumerate(drawings))
        lines.append(f"| {name} | {counts['right']} of {number} | {counts['refused']} | {counts['wrong']} |")
    put("\n".join(lines), out, "rulers")
