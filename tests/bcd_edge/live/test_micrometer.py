"""The scale from drawn stage micrometers: right, or refused with advice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcd_edge.errors import InputError
from bcd_edge.live import micrometer
from benchmarks.rulers import Drawing, draw, outcome

from .conftest import field

LENGTHS = [(0.5, 0.5, 0.5), (0.25, 0.35, 0.5), (0.5, 0.65, 0.8), (0.12, 0.18, 0.25), (0.3, 0.3, 0.7), (0.3, 0.45, 0.6)]
# Whatever a picture of a ruler may have; the thickness of the lines goes with their distance.
drawings = st.builds(
    lambda pixels, share, **rest: Drawing(pixels=pixels, thickness=max(1.2, share * pixels), **rest),
    pixels=st.floats(6, 75),
    share=st.sampled_from([0.06, 0.12, 0.25]),
    lengths=st.sampled_from(LENGTHS),
    position=st.floats(0.3, 0.7),
    degrees=st.floats(-1, 1),
    contrast=st.floats(50, 150),
    faintness=st.floats(0.5, 1),
    uneven=st.floats(0, 0.6),
    noise=st.floats(0.5, 5),
    blur=st.floats(0.7, 1.2),
    is_bright=st.booleans(),
    has_common_foot=st.booleans(),
    phase=st.floats(-5, 5),
)


@settings(max_examples=40)
@given(drawings, st.booleans(), st.integers(0, 9))
def test_a_ruler_is_measured_to_half_a_percent_or_refused(drawing: Drawing, is_upright: bool, seed: int) -> None:
    picture = draw(drawing, seed)
    assert outcome(np.ascontiguousarray(picture if is_upright else picture.swapaxes(0, 1)), drawing.pixels) != "wrong"


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("pixels", [6.0, 15.38, 40.0])
@pytest.mark.parametrize("has_common_foot", [False, True])
def test_short_lines_are_counted_between_longer_ones(lengths: tuple[float, float, float], pixels: float, has_common_foot: bool) -> None:
    drawing = Drawing(pixels=pixels, lengths=lengths, thickness=max(1.2, pixels / 8), has_common_foot=has_common_foot)
    assert outcome(draw(drawing), pixels) == "right"


def test_lines_of_which_the_finest_are_not_seen_are_refused_with_advice() -> None:
    faint = Drawing(pixels=15.0, lengths=(0.4, 0.6, 0.8), faintness=0.08)
    for drawing in (faint, replace(faint, pixels=6.0, faintness=1.0, blur=3.0)):
        with pytest.raises(InputError, match=r"not told for certain: lines .* pixels apart.*; focus on its shortest lines"):
            micrometer.measure(draw(drawing))


def test_tissue_and_noise_are_no_ruler() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    for picture in (field(), noise, np.full((50, 50, 3), 200, np.uint8)):
        with pytest.raises(InputError, match="shows no ruler"):
            micrometer.measure(picture)
