"""The heat map: the tiles' probabilities over the slide, with scale bar and legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bcd_edge.decision import DecisionRule
from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.slides.aggregation import TileAnswer
from bcd_edge.slides.tiling import Grid

ALPHA: Final = 0.5
LEFT_OUT: Final = (110, 110, 110)
FONT_SIZE: Final = 18
LEGEND_HEIGHT: Final = 96
MIN_WIDTH: Final = 720
# Lengths in µm of which the longest that fits is drawn.
BARS_UM: Final = (10_000, 5_000, 2_000, 1_000, 500, 200, 100, 50, 20, 10)


def layer(answers: Sequence[TileAnswer], grid: Grid) -> UInt8Image:
    """A pixel for each tile, uint8 RGBA, rows x columns x 4: Viridis (Smith and van der Walt, 2015) from 0 to 1, grey where left out."""
    picture = np.zeros((grid.rows, grid.columns, 4), np.uint8)
    for answer in answers:
        colour = LEFT_OUT if answer.p_malignant is None else colours(np.array([answer.p_malignant]))[0]
        picture[answer.tile.row, answer.tile.column] = (*colour, 255)
    return picture


def colours(p: np.ndarray[tuple[int], np.dtype[np.float64]]) -> UInt8Image:
    """Colours of probabilities, uint8 RGB, N x 3."""
    levels = np.rint(255 * p).astype(np.uint8)[:, np.newaxis]
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[:, 0, ::-1], np.uint8)


def draw(picture_hwc_u8: UInt8Image, scale: float, tiles: UInt8Image, grid: Grid, um_per_pixel: float, rule: DecisionRule, heading: str) -> bytes:
    """The heat map as a PNG.

    Args:
        picture_hwc_u8: the slide at low resolution.
        scale: pixels of level 0 along the side of one of its pixels.
        tiles: see `layer`.
        grid: where the tiles lie.
        um_per_pixel: of level 0.
        rule: marks on the legend.
        heading: a line above it.
    """
    factor = max(1.0, MIN_WIDTH / picture_hwc_u8.shape[1])
    width, height = (round(side * factor) for side in picture_hwc_u8.shape[1::-1])
    slide = cv2.resize(picture_hwc_u8, (width, height), interpolation=cv2.INTER_LINEAR)
    heat = _placed(tiles, grid.step / scale * factor, width, height)
    mixed = np.where(heat[..., 3:], cv2.addWeighted(slide, 1 - ALPHA, np.ascontiguousarray(heat[..., :3]), ALPHA, 0), slide)
    canvas = Image.new("RGB", (width, height + LEGEND_HEIGHT), "white")
    canvas.paste(Image.fromarray(mixed), (0, 0))
    _legend(ImageDraw.Draw(canvas), canvas, height, um_per_pixel * scale / factor, rule, heading)
    return cv2.imencode(".png", np.asarray(canvas)[..., ::-1])[1].tobytes()


def _placed(tiles_rgba: UInt8Image, step: float, width: int, height: int) -> UInt8Image:
    """The layer enlarged so that a tile takes `step` pixels, and cut to the slide."""
    rows = np.minimum((np.arange(height) / step).astype(int), tiles_rgba.shape[0] - 1)
    columns = np.minimum((np.arange(width) / step).astype(int), tiles_rgba.shape[1] - 1)
    return np.asarray(tiles_rgba[rows][:, columns], np.uint8)


def _legend(pen: ImageDraw.ImageDraw, canvas: Image.Image, top: int, um_per_pixel: float, rule: DecisionRule, heading: str) -> None:
    font = ImageFont.load_default(FONT_SIZE)
    pen.text((12, top + 6), heading, "black", font)
    length = next((um for um in BARS_UM if um / um_per_pixel <= canvas.width / 4), BARS_UM[-1])
    pixels = round(length / um_per_pixel)
    pen.rectangle((12, top + 62, 12 + pixels, top + 67), "black")
    pen.text((12, top + 36), f"{length / 1000:g} mm", "black", font)  # the font has no µ
    left, width = canvas.width // 4 + 40, canvas.width // 3
    ramp = np.repeat(colours(np.linspace(0, 1, width))[np.newaxis], 16, axis=0)
    canvas.paste(Image.fromarray(ramp), (left, top + 38))
    for value, is_named in ((0.0, rule.review_low > 0.12), (rule.review_low, True), (rule.review_high, True), (1.0, rule.review_high < 0.88)):
        x = left + round(value * (width - 1))
        pen.line((x, top + 34, x, top + 58), "black", 2)
        if is_named:  # unless its number would lie over that of the band
            pen.text((x, top + 60), f"{value:.2g}", "black", font, anchor="ma")
    pen.text((left + width + 14, top + 34), "p(malignant)", "black", font)
    pen.rectangle((left + width + 14, top + 62, left + width + 30, top + 78), LEFT_OUT)
    pen.text((left + width + 38, top + 58), "left out", "black", font)
