"""Regions are the tiles, with their holes, in the form that QuPath writes."""

from __future__ import annotations

import itertools
import json
import uuid
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bcd_edge.slides import geojson
from bcd_edge.slides.aggregation import TileAnswer
from bcd_edge.slides.tiling import Grid, Tile

# What QuPath 0.4 and later write and read: its class PathObjectTypeAdapters, and RFC 7946 for the geometry.
RING = {"type": "array", "minItems": 4, "items": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}}}
QUPATH = {
    "type": "object",
    "required": ["type", "features"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "id", "geometry", "properties"],
                "additionalProperties": False,
                "properties": {
                    "type": {"const": "Feature"},
                    "id": {"type": "string", "format": "uuid"},
                    "geometry": {
                        "type": "object",
                        "required": ["type", "coordinates"],
                        "properties": {"type": {"const": "Polygon"}, "coordinates": {"type": "array", "minItems": 1, "items": RING}},
                    },
                    "properties": {
                        "type": "object",
                        "required": ["objectType", "classification"],
                        "additionalProperties": False,
                        "properties": {
                            "objectType": {"enum": ["annotation", "detection", "tile", "cell", "tmaCore", "root"]},
                            "name": {"type": "string"},
                            "isLocked": {"const": True},
                            "classification": {
                                "type": "object",
                                "required": ["name", "color"],
                                "properties": {
                                    "name": {"type": "string"},
                                    "color": {
                                        "type": "array",
                                        "minItems": 3,
                                        "maxItems": 3,
                                        "items": {"type": "integer", "minimum": 0, "maximum": 255},
                                    },
                                },
                            },
                            "measurements": {"type": "object", "additionalProperties": {"type": "number"}},
                        },
                    },
                },
            },
        },
    },
}


def grid(columns: int, rows: int, step: float = 100.0) -> Grid:
    return Grid(round(columns * step), round(rows * step), columns, rows, step, step, 0, 100, 1.0)


def area(ring: list[Any]) -> float:
    """Signed, by the shoelace formula; positive clockwise on a screen, whose y points down."""
    return sum(x * v - u * y for (x, y), (u, v) in itertools.pairwise(ring)) / 2


def inside(rings: list[Any], x: float, y: float) -> bool:
    """Even-odd rule."""
    crossings = 0
    for ring in rings:
        for (a, b), (c, d) in itertools.pairwise(ring):
            crossings += (b > y) != (d > y) and x < a + (y - b) * (c - a) / (d - b)
    return crossings % 2 == 1


@given(mask=arrays.arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8))))
def test_regions_cover_their_tiles_and_nothing_else(mask: Any) -> None:
    rows, columns = mask.shape
    tiles = {Tile(int(column), int(row)): None for row, column in np.argwhere(mask)}
    regions = list(geojson.regions(tiles, grid(columns, rows)))
    assert sorted(tile for members, _ in regions for tile in members) == sorted(tiles)
    for members, rings in regions:
        assert all(ring[0] == ring[-1] and len(set(ring)) == len(ring) - 1 for ring in rings), "closed, and nowhere touching itself"
        assert area(rings[0]) + sum(area(ring) for ring in rings[1:]) == len(members)
        assert area(rings[0]) > 0
        assert all(area(ring) < 0 for ring in rings[1:])
        for row in range(rows):
            for column in range(columns):
                assert inside(rings, column + 0.5, row + 0.5) == (Tile(column, row) in members)


def test_a_ring_of_tiles_has_a_hole() -> None:
    tiles = {Tile(column, row): None for column in range(3) for row in range(3) if (column, row) != (1, 1)}
    ((_, rings),) = geojson.regions(tiles, grid(3, 3))
    assert rings == [[(0, 0), (3, 0), (3, 3), (0, 3), (0, 0)], [(1, 1), (1, 2), (2, 2), (2, 1), (1, 1)]]


def test_the_document_is_what_qupath_writes() -> None:
    answers = [
        TileAnswer(Tile(0, 0), "malignant", 0.9, None, ""),
        TileAnswer(Tile(1, 0), "malignant", 0.7, None, ""),
        TileAnswer(Tile(2, 0), "benign", 0.01, None, ""),
        TileAnswer(Tile(2, 1), None, None, None, "a fold"),
    ]
    document = json.loads(geojson.document(answers, grid(3, 2), (250, 200), 0.04, "a.svs"))
    jsonschema.Draft202012Validator(QUPATH, format_checker=jsonschema.FormatChecker()).validate(document)
    by_class = {feature["properties"]["classification"]["name"]: feature for feature in document["features"]}
    assert list(by_class) == ["benign", "malignant", "left out"]
    assert by_class["malignant"]["properties"]["measurements"] == {
        **{"tiles": 2, "area mm^2": 0.08, "p_malignant max": 0.9},
        "p_malignant mean": pytest.approx(0.8),
    }
    (ring,) = by_class["left out"]["geometry"]["coordinates"]
    assert sorted(map(tuple, ring[:-1])) == [(200.0, 100.0), (200.0, 200.0), (250.0, 100.0), (250.0, 200.0)], "in pixels, none outside the slide"
    again = json.loads(geojson.document(answers, grid(3, 2), (250, 200), 0.04, "a.svs"))
    assert [uuid.UUID(feature["id"]) for feature in again["features"]] == [uuid.UUID(feature["id"]) for feature in document["features"]]
