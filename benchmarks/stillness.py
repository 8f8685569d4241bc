"""Is a live picture still, and in focus? By how much it changes with noise, with the lamp, and when the field moves; and whether noise hides blur."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from bcd_edge import bundle
from bcd_edge.live.noise import Noise
from bcd_edge.live.stillness import MOST_CHANGE, Stillness
from bcd_edge.readers import raster
from bcd_edge.readers.raster import UInt8Image
from bcd_edge.synthetic import tissue
from bcd_edge.triage.quality import blur_reasons, focus, reduced
from benchmarks.tables import put

WIDTH, HEIGHT = 1280, 800
# Pixels by which the field moves, noise in grey values, and factors of the lamp.
SHIFTS, NOISES, LAMPS = (2, 3, 6, 13, 26), (3, 8), (1.01, 1.03)
# For focus: standard deviations of blur, in the frame's pixels, and of noise, in grey values; frames that are looked at.
BLURS, SENSORS, FRAMES = (0, 4, 8, 14), (0, 2, 3, 5, 8), 3
# Part of a field's shorter side, and pixels, of the square in the middle that is used where a frame shows more than the bundle knows.
SQUARE: Final = (2 / 3, (284, 154))


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
    put("\n".join([*lines, "", *_focus_table(fields)]), out, "stillness")


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


def _focus_table(fields: Sequence[UInt8Image]) -> list[str]:
    """Of each kind of picture, blur and noise, how many are said to be out of focus; by a single picture, and by frames of a stream."""
    kinds = {f"whole field, {WIDTH} x {HEIGHT}": [_resized(field, WIDTH, HEIGHT) for field in fields]}
    kinds |= {f"middle square, {side} x {side}": [_resized(_middle(field), side, side) for field in fields] for side in SQUARE[1]}
    lines = [f"Said to be out of focus of {len(fields)}: by a single picture / in the live picture, with noise of so many grey values.", ""]
    lines += ["| blur, pixels | " + " | ".join(map(str, SENSORS)) + " |", "|---|" + "---|" * len(SENSORS)]
    for kind, pictures in kinds.items():
        for blur in BLURS:
            cells = [_share(pictures, blur, noise) for noise in SENSORS]
            lines.append(f"| {kind}: {blur or 'sharp'} | " + " | ".join(cells) + " |")
    return lines


def _share(pictures: Sequence[UInt8Image], blur: int, noise: int) -> str:
    single = live = 0
    for seed, picture in enumerate(pictures):
        random, sensor = np.random.default_rng(seed), Noise()
        scene = cv2.GaussianBlur(picture.astype(np.float64), (0, 0), blur) if blur else picture.astype(np.float64)
        for number in range(FRAMES):
            frame = _pixels(np.rint(scene + random.normal(0, noise, scene.shape)))
            grey = np.asarray(cv2.cvtColor(reduced(frame), cv2.COLOR_RGB2GRAY), np.uint8)
            sensor.observe(grey, is_still=number > 0)
        single += bool(blur_reasons(focus(grey), min(grey.shape)))
        live += bool(blur_reasons(focus(grey, sensor.energy), min(grey.shape)))
    return f"{single} / {live}"


def _middle(field: UInt8Image) -> UInt8Image:
    side = round(SQUARE[0] * min(field.shape[:2]))
    top, left = (field.shape[0] - side) // 2, (field.shape[1] - side) // 2
    return field[top : top + side, left : left + side]


def _resized(picture: UInt8Image, width: int, height: int) -> UInt8Image:
    shrinks = width * height < picture.shape[0] * picture.shape[1]
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC), np.uint8)
