from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from bcd_edge.cohort import figures
from bcd_edge.cohort.associations import Association
from bcd_edge.estimates import Estimate


def ratio(value: float, low: float | None, high: float | None) -> Association:
    return Association("death", "novelty", "hazard ratio", Estimate(value, low, high), 20, 10, 2.0, 3.0, 0.9, 0.9)


def test_an_effect_without_bounds_stays_within_the_figure() -> None:
    svg = figures.forest([ratio(70, 0.0, np.inf), ratio(0.9, 0.5, 1.6), ratio(1e-6, None, None)], "death")
    places = [float(place) for place in re.findall(r'(?:x1|x2|cx)="([^"]*)"', svg)]
    assert len(places) > 8
    assert all(figures.LABELS < place <= 720 for place in places)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.9), (0, 294.8), (1e-4, 3e-4), (5, 5)])
def test_ticks_are_few_round_and_within(low: float, high: float) -> None:
    ticks = figures.ticks(low, high)
    assert len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)


def test_curves_fall_from_one_and_names_are_text() -> None:
    pytest.importorskip("lifelines")
    times, events = np.arange(1.0, 21), np.arange(20) % 3 > 0
    svg = figures.standalone(figures.survival("novelty", np.arange(20.0), times, events, "died by months", "log-rank p < 0.001"))
    root = ElementTree.fromstring(svg)
    curves = [path.attrib["d"] for path in root.iter("{http://www.w3.org/2000/svg}path") if "L" in path.attrib["d"] and path.attrib["fill"] == "none"]
    assert len(curves) == 2
    for curve in curves:
        heights = [float(corner.split()[1]) for corner in curve[1:].split("L")]
        assert heights[0] == 20
        assert heights == sorted(heights)
    assert "log-rank p < 0.001" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_long_names_are_cut() -> None:
    groups = [("a name that no figure has a place for <b>", np.arange(4) < 2), ("short", np.arange(4) >= 2)]
    svg = figures.distributions("novelty", np.arange(4.0), groups)
    assert "a name that no figure has a… (2)" in svg.replace("&lt;", "<")
    assert figures.short("short", 20) == "short"
