"""What the server is measured with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bcd_edge.readers import raster
from bcd_edge.results import worklist
from bcd_edge.results.journal import NAME, reading
from benchmarks.serve import _fill, _Pictures


def test_pictures_have_the_same_pixels_and_other_contents() -> None:
    images = _Pictures()
    first, second = images.next(), images.next()
    assert first != second
    assert np.array_equal(raster.decode(first), raster.decode(second))


def test_a_drawn_folder_has_a_worklist(tmp_path: Path) -> None:
    _fill(tmp_path / "results", 60)
    with reading(tmp_path / "results" / NAME) as db:
        assert worklist.counts(db)["all"] == 60
        assert worklist.count(db, worklist.Filter(decision="review")) == 20
