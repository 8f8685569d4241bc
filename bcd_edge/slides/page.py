"""The zoomable page of a slide: a folder that a browser opens without a server."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.readers.slide import Slide
from bcd_edge.records import Record
from bcd_edge.slides.aggregation import TileAnswer, suspicious
from bcd_edge.slides.tiling import Grid
from bcd_edge.system import machine
from bcd_edge.system.atomic import atomic_write

STATIC: Final = ("index.html", "page.css", "page.js", "viewer.js")
# Longest side of the picture that can be zoomed into: of a slide of 25 mm it shows 2.5 µm per pixel, in a few megabytes.
SIDE: Final = 10_000
TILE: Final = 512
JPEG_QUALITY: Final = 80
SUSPICIOUS: Final = 12


def write(folder: Path, slide: Slide, grid: Grid, answers: Sequence[TileAnswer], record: Record, title: str) -> None:
    """Writes page and pictures beside `tiles.png`, which lies over them.

    Raises:
        InputError: the slide is damaged.
        OSError: a file could not be written.
    """
    width, height, levels = _pyramid(folder / "pyramid", slide)
    static = files("bcd_edge.slides").joinpath("static")
    for name in STATIC:
        atomic_write(folder / name, static.joinpath(name).read_bytes())
    content = {"name": title} | _content(slide, grid, answers, record) | {"page": {"width": width, "height": height, "tile": TILE, "levels": levels}}
    atomic_write(folder / "slide.js", f"window.BCD_EDGE_SLIDE = {json.dumps(content)};\n".encode())


def _content(slide: Slide, grid: Grid, answers: Sequence[TileAnswer], record: Record) -> dict[str, Any]:
    summary = record.slide
    assert summary is not None
    reasons = sorted({answer.left_out for answer in answers if answer.left_out})
    places = {reason: index for index, reason in enumerate(reasons)}
    tiles = [[*answer.tile, answer.p_malignant, answer.decision or places[answer.left_out]] for answer in answers]
    return {
        "width": slide.width,
        "height": slide.height,
        "um_per_pixel": record.um_per_pixel,
        "decision": record.decision,
        "p_malignant": record.p_malignant,
        "aggregation": summary.aggregation,
        "reasons": record.reasons,
        "counts": [[name, getattr(summary, name.replace(" ", "_"))] for name in ("malignant", "review", "benign", "left out")],
        "grid": {"columns": grid.columns, "rows": grid.rows, "side": grid.side, "step": grid.step},
        "tiles": tiles,
        "left_out": reasons,
        "suspicious": [[*answer.tile, answer.p_malignant, answer.decision] for answer in suspicious(answers, SUSPICIOUS)],
    }


def _pyramid(folder: Path, slide: Slide) -> tuple[int, int, int]:
    """Writes `LEVEL/COLUMN_ROW.jpg`, each level twice as large as the one before; returns width and height of the largest, and their number."""
    fitting = [index for index, level in enumerate(slide.levels) if max(level.width, level.height) <= SIDE]
    level = fitting[0] if fitting else len(slide.levels) - 1
    factor = 1 if fitting else math.ceil(max(slide.levels[level].width, slide.levels[level].height) / SIDE)
    width, height = (-(-side // factor) for side in (slide.levels[level].width, slide.levels[level].height))
    levels = 1 + math.ceil(math.log2(max(width, height, 2)))
    half = np.full((-(-height // 2), -(-width // 2), 3), 255, np.uint8)

    def add(place: tuple[int, int]) -> None:
        left, top = place
        pixels = slide.reduced(level, left, top, factor, min(TILE, width - left), min(TILE, height - top))
        _save(folder / str(levels - 1), left // TILE, top // TILE, pixels)
        small = _halved(pixels)
        half[top // 2 : top // 2 + small.shape[0], left // 2 : left // 2 + small.shape[1]] = small

    (folder / str(levels - 1)).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(machine.cores()) as pool:
        for _ in pool.map(add, [(left, top) for top in range(0, height, TILE) for left in range(0, width, TILE)]):
            pass
    for index in reversed(range(levels - 1)):
        _save_level(folder / str(index), half)
        half = _halved(half)
    return width, height, levels


def _save_level(folder: Path, picture: UInt8Image) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for top in range(0, picture.shape[0], TILE):
        for left in range(0, picture.shape[1], TILE):
            _save(folder, left // TILE, top // TILE, picture[top : top + TILE, left : left + TILE])


def _save(folder: Path, column: int, row: int, pixels: UInt8Image) -> None:
    content = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    (folder / f"{column}_{row}.jpg").write_bytes(content)


def _halved(picture: UInt8Image) -> UInt8Image:
    """Half as large, rounded up."""
    size = (-(-picture.shape[1] // 2), -(-picture.shape[0] // 2))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
