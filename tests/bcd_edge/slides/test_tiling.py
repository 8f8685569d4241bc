"""Tiles have the field that was asked for, whatever the slide's pixels; tissue is found, glass, ink and folds are not taken for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcd_edge import bundle
from bcd_edge.errors import UsageError
from bcd_edge.readers import slide
from bcd_edge.readers.slide import Level, Slide
from bcd_edge.slides import tiling, tissue
from bcd_edge.slides.tiling import Tile
from bcd_edge.synthetic import tissue as draw

BUNDLE = bundle.open()


class Pixels(Slide):
    """A slide of one level in memory."""

    def __init__(self, picture: Any, um_per_pixel: float = 1.0) -> None:
        super().__init__(Path("memory"), "memory", (Level(picture.shape[1], picture.shape[0], 1.0),), (um_per_pixel, ""))
        self.picture = picture

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> Any:
        region = np.full((height, width, 3), 255, np.uint8)
        part = self.picture[y : y + height, x : x + width]
        region[: part.shape[0], : part.shape[1]] = part
        return region

    def close(self) -> None:
        pass


def test_the_field_is_that_of_the_collection_whose_interval_begins_highest() -> None:
    low = {name: BUNDLE.manifest["variants"][0]["test"][name]["metrics"]["auroc"]["low"] for name in ("idc", "breakhis/100X", "breakhis/200X")}
    assert max(low, key=lambda name: low[name]) == "idc"
    assert tiling.default_field_um(BUNDLE) == BUNDLE.manifest["scale"]["trained_um"]["idc"] == 200.0


def test_a_bundle_without_known_fields_has_one_nevertheless() -> None:
    unknown: Any = SimpleNamespace(manifest={"variants": [{}]})
    assert tiling.default_field_um(unknown) == tiling.FIELD_UM
    untested: Any = SimpleNamespace(manifest={"variants": [{}], "scale": {"trained_um": {"a": 50.0}}})
    assert tiling.default_field_um(untested) == 50.0


@given(um=st.floats(0.1, 1.0), field=st.floats(62, 1150), overlap=st.floats(0, 0.75), width=st.integers(50, 40_000), height=st.integers(50, 40_000))
def test_tiles_have_the_field_and_cover_the_slide(um: float, field: float, overlap: float, width: int, height: int) -> None:
    levels = tuple(Level(-(-width // d), -(-height // d), float(d)) for d in (1, 2, 4, 16))
    scanned: Any = SimpleNamespace(width=width, height=height, levels=levels, level_for=lambda d: Slide.level_for(scanned, d))
    grid = tiling.grid(scanned, um, BUNDLE, field, overlap)
    assert grid.side * um == pytest.approx(field)
    assert grid.um_per_pixel == um * levels[grid.level].downsample
    assert grid.pixels * grid.um_per_pixel == pytest.approx(field, abs=grid.um_per_pixel)
    assert grid.level == 0 or grid.pixels * tiling.COARSER >= BUNDLE.input.width - 1
    for count, length in ((grid.columns, width), (grid.rows, height)):
        starts = grid.starts(count, length)
        assert starts[0] == 0
        assert (np.diff(starts) <= grid.step + 1).all()
        assert starts[-1] + grid.side >= length - 1
        assert starts[-1] + grid.side <= max(length, grid.side) + 1


@pytest.mark.parametrize(("field", "overlap", "sentence"), [(5.0, 0.0, "Tiles of 5 µm .* --field-um"), (None, 0.9, "overlap of 0.9")])
def test_what_no_grid_can_have_is_refused(field: float | None, overlap: float, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        tiling.grid(Pixels(draw(1)), 1.0, BUNDLE, field, overlap)


def test_blocks_give_the_pixels_of_each_tile_once() -> None:
    picture = draw(4, height=900, width=1300)
    scanned = Pixels(picture)
    grid = tiling.grid(scanned, 1.0, BUNDLE, 200.0, 0.25)
    tiles = [Tile(column, row) for row in range(grid.rows) for column in range(grid.columns) if (row + column) % 3]
    read = [item for block in tiling.blocks(tiles, grid) for item in block.read(scanned, grid)]
    assert sorted(tile for tile, _ in read) == sorted(tiles)
    for tile, pixels in read:
        x, y = grid.origin(tile)
        assert np.array_equal(pixels, picture[y : y + 200, x : x + 200])


def stained(height: int = 1000, width: int = 1000) -> Any:
    """Glass with tissue in the upper left quarter."""
    picture = np.full((height, width, 3), (243, 241, 244), np.uint8)
    picture[: height // 2, : width // 2] = draw(7, height=height // 2, width=width // 2)
    return picture


def test_only_tiles_with_tissue_are_chosen() -> None:
    scanned = Pixels(stained())
    grid = tiling.grid(scanned, 1.0, BUNDLE, 100.0)
    tiles, left_out = tiling.choose(grid, tissue.find(scanned))
    assert tiles == [Tile(column, row) for row in range(5) for column in range(5)]
    assert left_out == {}


INKS = {"blue": (30, 60, 190), "green": (20, 130, 60), "black": (25, 25, 28)}


@pytest.mark.parametrize("ink", INKS)
def test_ink_is_left_out(ink: str) -> None:
    picture = stained()
    picture[600:900, 600:900] = INKS[ink]
    scanned = Pixels(picture)
    grid = tiling.grid(scanned, 1.0, BUNDLE, 100.0)
    tiles, left_out = tiling.choose(grid, tissue.find(scanned))
    assert len(tiles) == 25
    assert set(left_out) == {Tile(column, row) for row in range(6, 9) for column in range(6, 9)}
    assert set(left_out.values()) <= {tiling.DIRT, tiling.FOLD}


def test_a_fold_is_left_out() -> None:
    """Light passes a fold twice or more: the product of transmissions."""
    picture = stained()
    share = picture[200:400, 200:400] / 244
    picture[200:400, 200:400] = np.rint(244 * share**6)
    scanned = Pixels(picture)
    grid = tiling.grid(scanned, 1.0, BUNDLE, 100.0)
    tiles, left_out = tiling.choose(grid, tissue.find(scanned))
    assert set(left_out) == {Tile(column, row) for row in (2, 3) for column in (2, 3)}
    assert set(left_out.values()) == {tiling.FOLD}
    assert len(tiles) == 21


def test_a_slide_of_glass_has_no_tile() -> None:
    picture = np.random.default_rng(1).normal(242, 2, (600, 600, 3)).clip(0, 255).astype(np.uint8)
    cv2.circle(picture, (300, 300), 150, (225, 225, 225), 3)  # the rim of a bubble
    scanned = Pixels(picture)
    grid = tiling.grid(scanned, 1.0, BUNDLE, 100.0)
    assert tiling.choose(grid, tissue.find(scanned)) == ([], {})


def test_a_real_looking_slide_is_divided_at_its_tissue(svs: Path) -> None:
    with slide.open(svs) as scanned:
        grid = tiling.grid(scanned, 1.0, BUNDLE)
        tiles, left_out = tiling.choose(grid, tissue.find(scanned))
    assert (grid.columns, grid.rows, grid.pixels, grid.level) == (16, 11, 200, 0)
    assert tiles == [Tile(column, row) for row in range(11) for column in range(6)]
    assert left_out == {}
