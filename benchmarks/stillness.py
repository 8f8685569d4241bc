"""By how much the picture changes, for `bcd_edge.live.stillness`, with noise, with the lamp, and when the field moves."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from bcd_edge import bundle
from bcd_edge.live.stillness import MOST_CHANGE, Stillness
from bcd_edge.readers import raster
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.synthetic import tissue
from benchmarks.tables import put

WIDTH, HEIGHT = 1280, 800
# Pixels by which the field moves, noise in grey values, and factors of the lamp.
SHIFTS, NOISES, LAMPS = (2, 3, 6, 13, 26), (3, 8), (1.01, 1.03)


def measure(pictures: Path | None, out: Path | None) -> None:
    """Prints a table, and puts it between the marks of `out`.

    Args:
        pictures: folder of tissue; 20 drawn ones if not given.
        out: a Markdown file with the marks `stillness`.
    """
    fields = [raster.decode(raster.read(path)) for path in sorted(pictures.glob("*.png"))] if pictures else [tissue(seed) for seed in range(20)]
    changes: dict[str, list[float]] = {}
    for seed, field in enumerate(fields):
        for name, change in _changes(field, seed).items():
            changes.setdefault(name, []).append(change)
    head = f"{len(fields)} {'fields' if pictures else 'drawn fields'} at {WIDTH} x {HEIGHT}; the limit is {MOST_CHANGE}."
    lines = [head, "", "| from one frame to the next | least | median | most |", "|---|---|---|---|"]
    lines += [f"| {name} | {min(values):.2f} | {np.median(values):.2f} | {max(values):.2f} |" for name, values in changes.items()]
    put("\n".join(lines), out, "stillness")


def _changes(picture: UInt8Image, seed: int) -> dict[str, float]:
    size = WIDTH + max(SHIFTS), HEIGHT
    wide = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    random, still = np.random.default_rng(seed), wide[:, :WIDTH].astype(np.float64)
    later = {f"noise of {noise} grey values": _pixels(still + random.normal(0, noise, still.shape)) for noise in NOISES}
    later |= {f"a lamp {100 * (factor - 1):.0f} % brighter": _pixels(still * factor) for factor in LAMPS}
    later |= {f"a shift of {100 * shift / WIDTH:.2f} % of the width": wide[:, shift : shift + WIDTH] for shift in SHIFTS}
    return {name: _change(wide[:, :WIDTH], frame) for name, frame in later.items()}


def _change(first: UInt8Image, second: UInt8Image) -> float:
    stillness, size = Stillness(), bundle.open().input
    for frame in (first, second):
        stillness.is_still(raster.resize(np.ascontiguousarray(frame), size))
    return stillness.change


def _pixels(values: np.ndarray) -> UInt8Image:
    return np.clip(values, 0, 255).astype(np.uint8)
