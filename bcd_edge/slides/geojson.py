"""Regions of neighbouring tiles with the same decision, as GeoJSON in the form that QuPath (0.4 and later) writes and opens.

A feature is an annotation with `classification` and `measurements`; coordinates are pixels of level 0, as QuPath has them
(QuPath, "Exporting annotations", and its class PathObjectTypeAdapters).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

import cv2
import numpy as np

from bcd_edge.slides.aggregation import TileAnswer
from bcd_edge.slides.tiling import Grid, Tile
from bcd_edge.slides.tissue import Bools

LEFT_OUT: Final = "left out"
# Of Okabe & Ito, as in the overlays of explanations; grey for what has no decision.
COLOURS: Final = {"benign": (0, 114, 178), "review": (240, 228, 66), "malignant": (213, 94, 0), LEFT_OUT: (128, 128, 128)}
NAMESPACE: Final = uuid.UUID("b6cfa1a4-6e0e-4ef2-9f05-3f6a4f1f2b58")
Vertex = tuple[int, int]


def document(answers: Sequence[TileAnswer], grid: Grid, size: tuple[int, int], tile_mm2: float, name: str) -> bytes:
    """A feature collection with a region for each group of neighbouring tiles.

    Args:
        answers: of all tiles.
        grid: where they lie.
        size: width and height of level 0, which no region passes.
        tile_mm2: area that a tile adds, without its overlap.
        name: of the slide; the same slide gets the same identifiers.
    """
    features = []
    for decision in COLOURS:
        chosen = {answer.tile: answer for answer in answers if (answer.decision or LEFT_OUT) == decision}
        for tiles, polygon in regions(chosen, grid):
            rings = [[_place(vertex, grid, size) for vertex in ring] for ring in polygon]
            region = [chosen[tile] for tile in tiles]
            features.append(_feature(decision, rings, region, tile_mm2, f"{name} {decision} {tiles[0].column} {tiles[0].row}"))
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def _feature(decision: str, rings: list[list[list[float]]], region: Sequence[TileAnswer], tile_mm2: float, name: str) -> dict[str, Any]:
    p = [answer.p_malignant for answer in region if answer.p_malignant is not None]
    measurements = {"tiles": len(region), "area mm^2": round(len(region) * tile_mm2, 4)}
    if p:
        measurements |= {"p_malignant mean": round(float(np.mean(p)), 6), "p_malignant max": max(p)}
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(NAMESPACE, name)),
        "geometry": {"type": "Polygon", "coordinates": rings},
        "properties": {
            "objectType": "annotation",
            "name": f"bcd-edge: {decision}",
            "classification": {"name": decision, "color": list(COLOURS[decision])},
            "isLocked": True,
            "measurements": measurements,
        },
    }


def _place(vertex: Vertex, grid: Grid, size: tuple[int, int]) -> list[float]:
    return [round(min(vertex[axis] * grid.step, size[axis]), 2) for axis in (0, 1)]


def regions(tiles: dict[Tile, Any], grid: Grid) -> Iterator[tuple[list[Tile], list[list[Vertex]]]]:
    """Groups of tiles that share edges, each with its outline: the outer ring and one for each hole, closed, in tiles from the upper left."""
    mask = np.zeros((grid.rows, grid.columns), np.uint8)
    for tile in tiles:
        mask[tile.row, tile.column] = 1
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    for label in range(1, count):
        left, top, width, height = (int(value) for value in boxes[label, :4])
        part = np.asarray(labels[top : top + height, left : left + width] == label)
        yield (
            [Tile(left + int(column), top + int(row)) for row, column in np.argwhere(part)],
            [[(left + x, top + y) for x, y in ring] for ring in _rings(part)],
        )


def _rings(mask: Bools) -> list[list[Vertex]]:
    """The closed outlines of tiles that share edges, the outer one first; inside lies to the right."""
    ends = _edges(mask)
    rings = []
    while ends:
        start = min(ends)  # of the outer ring first; never a vertex where two tiles touch at a corner
        ring, heading = [start], (1, 0)
        while True:
            x, y = ring[-1]
            # where two tiles touch at a corner the outline turns left, so that a hole becomes a ring of its own
            left = (x + heading[1], y - heading[0])
            following = left if left in ends[x, y] else ends[x, y][0]
            ends[x, y].remove(following)
            if not ends[x, y]:
                del ends[x, y]
            heading = (following[0] - x, following[1] - y)
            ring.append(following)
            if following == start:
                break
        rings.append(_corners(ring))
    return rings


def _edges(mask: Bools) -> dict[Vertex, list[Vertex]]:
    """Edges between inside and outside, from vertex to vertex, with the inside on the right."""
    padded = np.pad(mask, 1)
    ends: dict[Vertex, list[Vertex]] = {}
    for row, column in np.argwhere(padded):
        x, y = int(column) - 1, int(row) - 1
        for (dx, dy), edge in {
            (0, -1): ((x, y), (x + 1, y)),
            (1, 0): ((x + 1, y), (x + 1, y + 1)),
            (0, 1): ((x + 1, y + 1), (x, y + 1)),
            (-1, 0): ((x, y + 1), (x, y)),
        }.items():
            if not padded[row + dy, column + dx]:
                ends.setdefault(edge[0], []).append(edge[1])
    return ends


def _corners(ring: list[Vertex]) -> list[Vertex]:
    """A closed ring without the vertices on straight lines."""
    around = [ring[-2], *ring]
    corners = [
        here
        for before, here, after in zip(around, ring, ring[1:], strict=False)
        if (here[0] - before[0]) * (after[1] - here[1]) != (here[1] - before[1]) * (after[0] - here[0])
    ]
    return [*corners, corners[0]]
