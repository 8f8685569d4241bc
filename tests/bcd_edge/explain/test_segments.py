"""Superpixels that are fine enough to say something."""

from __future__ import annotations

import numpy as np
import pytest

from bcd_edge.explain.segments import segment
from bcd_edge.synthetic import tissue


@pytest.mark.parametrize("seed", range(3))
def test_no_superpixel_swallows_the_picture(seed: int) -> None:
    """With scikit-image's own compactness and no smoothing the noise below is one superpixel, and real tissue was three."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(60, 255, (150, 150, 3), np.uint8)
    for image in (noise, tissue(seed, height=150, width=150)):
        sizes = np.bincount(segment(image, "slic", 40, 0).ravel())
        assert len(sizes) >= 20
        assert sizes.max() / sizes.sum() < 0.15
