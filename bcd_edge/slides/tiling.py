"""The grid of tiles: fields of view of one size in µm, read from the level that is just fine enough for the network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from bcd_edge.bundle import Bundle
from bcd_edge.errors import InputError, UsageError
from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.readers.slide import Slide
from bcd_edge.slides.tissue import Bools, Tissue
from bcd_edge.triage.quality import LEAST_TISSUE

# A level may be coarser than the network's pixels by this factor: scanners round their pixel size, and the next level has sixteen times the pixels.
COARSER: Final = 1.1
# Tiles of fewer pixels than the network's by this factor are refused: the coarsest training pictures, patches of 50 pixels, were enlarged so far.
ENLARGED: Final = 4.0
# Pixels of a level that are read at a time: a block of tiles decodes the scanner's own tiles at its edges for less, and takes 15 MB.
BLOCK_PIXELS: Final = 3 * 2**19
# Field of bundles that do not know theirs: that of a microscope's camera at 100X, see docs/slides.md.
FIELD_UM: Final = 369.0
MOST_OVERLAP: Final = 0.75
# Why a tile is left out before it is read.
DIRT, FOLD = "pen, dust or a bubble", "a fold"


class Tile(NamedTuple):
    """A tile by its place in the grid."""

    column: int
    row: int


@dataclass(frozen=True, slots=True)
class Grid:
    """Square tiles over a slide; those of the last column and row end where the slide ends.

    Attributes:
        width: of the slide, in pixels of level 0.
        height: of the slide, in pixels of level 0.
        columns: number of tiles side by side.
        rows: number of tiles above each other.
        side: of a tile, in pixels of level 0.
        step: from one tile to the next, in pixels of level 0; less than `side` where they overlap.
        level: that they are read from.
        pixels: of a tile's side, in that level.
        um_per_pixel: of a pixel that is read.
    """

    width: int
    height: int
    columns: int
    rows: int
    side: float
    step: float
    level: int
    pixels: int
    um_per_pixel: float

    def origin(self, tile: Tile) -> tuple[int, int]:
        """Left and upper edge of a tile, in pixels of level 0."""
        return int(self.starts(self.columns, self.width)[tile.column]), int(self.starts(self.rows, self.height)[tile.row])

    def starts(self, count: int, length: int) -> npt.NDArray[np.int64]:
        """Where columns or rows of tiles begin on a slide of this length, in pixels of level 0."""
        starts = np.minimum(np.arange(count) * self.step, max(0.0, length - self.side))
        return np.asarray(np.rint(starts), np.int64)


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring tiles that are read together: `tiles` of the grid's columns and rows from the first."""

    tiles: tuple[Tile, ...]

    def read(self, slide: Slide, grid: Grid) -> Iterator[tuple[Tile, UInt8Image]]:
        """The tiles with their pixels, uint8 RGB, `grid.pixels` along each side.

        Raises:
            InputError: the slide is damaged.
        """
        corners = [grid.origin(tile) for tile in self.tiles]
        left, top = (min(corner[axis] for corner in corners) for axis in (0, 1))
        downsample = slide.levels[grid.level].downsample
        places = [(round((x - left) / downsample), round((y - top) / downsample)) for x, y in corners]
        width, height = (max(place[axis] for place in places) + grid.pixels for axis in (0, 1))
        pixels = slide.read(grid.level, left, top, width, height)
        for tile, (x, y) in zip(self.tiles, places, strict=True):
            yield tile, np.ascontiguousarray(pixels[y : y + grid.pixels, x : x + grid.pixels])


def default_field_um(bundle: Bundle) -> float:
    """Side in µm of the fields of view that the bundle is best validated on.

    Of the collections in its manifest that have a known field and an interval of the AUROC, the one whose interval begins highest.
    """
    trained: dict[str, float] = bundle.manifest.get("scale", {}).get("trained_um", {})
    tested = bundle.manifest["variants"][0].get("test", {})
    lows = {name: tested.get(name, {}).get("metrics", {}).get("auroc", {}).get("low") for name in trained}
    known = {name: low for name, low in lows.items() if low is not None}
    return trained[max(known, key=lambda name: known[name])] if known else next(iter(trained.values()), FIELD_UM)


def checked_field_um(bundle: Bundle, field_um: float | None = None, overlap: float = 0.0) -> float:
    """Side of tiles in µm; `default_field_um` if not given.

    Raises:
        UsageError: the bundle does not know such fields of view, or the overlap is out of its range.
    """
    field = field_um or default_field_um(bundle)
    if bundle.scale and (reasons := bundle.scale.reasons(1, 1, field)):
        raise UsageError(f"Tiles of {field:g} µm cannot be classified by {bundle.name} ({reasons[0].split(',')[0]}); give another --field-um.")
    if not 0 <= overlap <= MOST_OVERLAP:
        raise UsageError(f"An overlap of {overlap:g} is not possible; give a share of the tile from 0 to {MOST_OVERLAP:g}.")
    return field


def grid(slide: Slide, um_per_pixel: float, bundle: Bundle, field_um: float | None = None, overlap: float = 0.0) -> Grid:
    """The grid for a bundle.

    Args:
        slide: where it lies.
        um_per_pixel: of level 0.
        bundle: its input says how fine the tiles have to be.
        field_um: side of a tile in µm; `default_field_um` if not given.
        overlap: share of a tile's side that the next one overlaps, 0..0.75.

    Raises:
        InputError: the slide's pixels are too wide for such tiles.
        UsageError: the bundle does not know such fields of view, or the overlap is out of its range.
    """
    field = checked_field_um(bundle, field_um, overlap)
    side = field / um_per_pixel
    if side * ENLARGED < max(bundle.input.height, bundle.input.width):
        least_um = field * ENLARGED / max(bundle.input.height, bundle.input.width)
        raise InputError(
            f"The pixels of the slide {slide.path.name} are {um_per_pixel:.3g} µm wide, and tiles of {field:g} µm need {least_um:.2g} µm or less; "
            "scan it with a stronger objective."
        )
    step = side * (1 - overlap)
    level = slide.level_for(COARSER * side / max(bundle.input.height, bundle.input.width))
    downsample = slide.levels[level].downsample
    columns, rows = (1 + max(0, math.ceil((length - side) / step)) for length in (slide.width, slide.height))
    return Grid(slide.width, slide.height, columns, rows, side, step, level, max(1, round(side / downsample)), um_per_pixel * downsample)


def choose(grid: Grid, tissue: Tissue) -> tuple[list[Tile], dict[Tile, str]]:
    """The tiles to be classified, row by row, and those that are left out although something is there, each with the reason."""
    shares = [_shares(layer, grid, tissue.scale) for layer in (tissue.kept, tissue.dirt, tissue.folds)]
    kept, dirt, folds = shares
    has_tissue = (kept >= LEAST_TISSUE) & (kept >= dirt) & (kept >= folds)
    left_out = ~has_tissue & (dirt + folds >= LEAST_TISSUE)
    tiles = [Tile(int(column), int(row)) for row, column in np.argwhere(has_tissue)]
    reasons = {Tile(int(column), int(row)): FOLD if folds[row, column] > dirt[row, column] else DIRT for row, column in np.argwhere(left_out)}
    return tiles, reasons


def _shares(layer: Bools, grid: Grid, scale: float) -> npt.NDArray[np.float64]:
    """Share of each tile that a layer covers, rows x columns; of pixels that a tile touches at least one."""
    sums = np.asarray(cv2.integral(layer.astype(np.uint8)), np.int64)
    edges = []
    for count, length, pixels in ((grid.rows, grid.height, layer.shape[0]), (grid.columns, grid.width, layer.shape[1])):
        starts = grid.starts(count, length)
        first = np.minimum(np.rint(starts / scale).astype(int), pixels - 1)
        edges.append((first, np.clip(np.rint((starts + grid.side) / scale).astype(int), first + 1, pixels)))
    (top, bottom), (left, right) = edges
    covered = sums[np.ix_(bottom, right)] - sums[np.ix_(top, right)] - sums[np.ix_(bottom, left)] + sums[np.ix_(top, left)]
    return np.asarray(covered / ((bottom - top)[:, None] * (right - left)[None]), np.float64)


def blocks(tiles: list[Tile], grid: Grid) -> list[Block]:
    """Tiles that lie together, in blocks of about `BLOCK_PIXELS`, in the order in which they are read."""
    spacing = grid.pixels * grid.step / grid.side
    across = max(1, int((BLOCK_PIXELS**0.5 - grid.pixels) / spacing) + 1)
    groups: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        groups.setdefault((tile.row // across, tile.column // across), []).append(tile)
    return [Block(tuple(groups[place])) for place in sorted(groups)]
