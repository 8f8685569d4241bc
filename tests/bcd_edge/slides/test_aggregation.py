"""The slide's probability is that of its most suspicious square millimetre."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcd_edge.slides.aggregation import TileAnswer, aggregate, left_out, suspicious
from bcd_edge.slides.tiling import Tile


def answers(*p: float | None) -> list[TileAnswer]:
    return [
        TileAnswer(Tile(i, 0), None if value is None else "review", value, None, "" if value is not None else "a fold") for i, value in enumerate(p)
    ]


def test_the_mean_of_the_most_suspicious_square_millimetre() -> None:
    total = aggregate(answers(0.1, 0.9, 0.8, 0.2, None), 0.5)
    assert total
    assert total.p_malignant == pytest.approx(0.85)
    assert total.method == "mean probability of the 2 most suspicious of 4 tiles, which cover 1 mm²"
    assert total.counts == {"benign": 0, "review": 4, "malignant": 0}


def test_fewer_tiles_than_a_square_millimetre_count_all() -> None:
    total = aggregate(answers(0.2, 0.4), 0.04)
    assert total
    assert total.p_malignant == pytest.approx(0.3)


def test_nothing_comes_of_nothing() -> None:
    assert aggregate([], 0.04) is None
    assert aggregate(answers(None, None), 0.04) is None


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=60), area=st.floats(0.01, 2), more=st.floats(0, 1))
def test_a_further_tile_never_makes_a_full_millimetre_less_suspicious(p: list[float], area: float, more: float) -> None:
    before, after = aggregate(answers(*p), area), aggregate(answers(*p, more), area)
    assert before
    assert after
    assert min(p) - 1e-9 <= before.p_malignant <= max(p) + 1e-9
    if len(p) * area >= 1:
        assert after.p_malignant >= before.p_malignant - 1e-9


def test_the_most_suspicious_come_first() -> None:
    assert [answer.tile.column for answer in suspicious(answers(0.1, 0.9, None, 0.9, 0.5), 3)] == [1, 3, 4]


def test_reasons_are_counted_by_their_kind() -> None:
    blurred = [TileAnswer(Tile(i, 1), None, None, None, f"out of focus: 0.0{i} of fine detail") for i in range(3)]
    assert left_out([*answers(None, 0.5), *blurred]) == [("out of focus", 3), ("a fold", 1)]
