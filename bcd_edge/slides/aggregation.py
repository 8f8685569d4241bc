"""From the answers of a slide's tiles to one answer for the slide."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bcd_edge.decision import DECISIONS
from bcd_edge.records import Verdict
from bcd_edge.slides.tiling import Tile

# mm² over which the most suspicious tiles are averaged: a focus of 1.1 mm, just more than what TNM calls microinvasion (up to 1 mm).
AREA_MM2: Final = 1.0
REVIEW: Final = "a whole slide: no answer for a slide was validated, only answers for single fields, needs pathologist review"


@dataclass(frozen=True, slots=True)
class TileAnswer:
    """A tile's answer; without a decision where it was left out, and `left_out` says why."""

    tile: Tile
    decision: Verdict | None
    p_malignant: float | None
    novelty: float | None
    left_out: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What the tiles say together.

    Attributes:
        p_malignant: see `method`.
        method: a sentence.
        counts: tiles by decision.
    """

    p_malignant: float
    method: str
    counts: dict[str, int]


def aggregate(answers: Sequence[TileAnswer], tile_mm2: float) -> Aggregate | None:
    """The mean probability of the most suspicious tiles that cover `AREA_MM2` together; None where no tile has an answer.

    A mean over the whole slide would hide a small tumour in a large slide, and the single highest probability would be noise.

    Args:
        answers: of all tiles.
        tile_mm2: area that a tile adds, without its overlap.
    """
    p = np.array([answer.p_malignant for answer in answers if answer.p_malignant is not None], np.float64)
    if not len(p):
        return None
    count = min(len(p), max(1, math.ceil(AREA_MM2 / tile_mm2)))
    highest = np.sort(p)[-count:]
    method = f"mean probability of the {count} most suspicious of {len(p)} tiles, which cover {count * tile_mm2:.2g} mm²"
    counts: dict[str, int] = {decision: sum(answer.decision == decision for answer in answers) for decision in DECISIONS}
    return Aggregate(float(highest.mean()), method, counts)


def left_out(answers: Sequence[TileAnswer]) -> list[tuple[str, int]]:
    """How many tiles were left out, by what stands before the colon of the reason, the most frequent first."""
    return Counter(answer.left_out.partition(":")[0] for answer in answers if answer.left_out).most_common()


def suspicious(answers: Sequence[TileAnswer], count: int) -> list[TileAnswer]:
    """The tiles with the highest probabilities, the highest first."""
    answered = [answer for answer in answers if answer.p_malignant is not None]
    return sorted(answered, key=lambda answer: (-(answer.p_malignant or 0), answer.tile))[:count]
