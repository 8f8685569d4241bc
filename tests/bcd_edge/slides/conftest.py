"""A slide that a scanner could have written, and the classifier, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bcd_edge.classifier import Classifier
from bcd_edge.options import RunOptions
from benchmarks.slide_files import Drawn, write_svs

# 1 µm per pixel: tiles of 200 µm are 200 pixels wide, 16 in a row and 11 in a column; tissue on the left third
DRAWN = Drawn(3072, 2048, ((0.0, 0.0, 0.34, 1.0),), downsamples=(1, 4))


@pytest.fixture(scope="session")
def svs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_svs(tmp_path_factory.mktemp("slides") / "biopsy.svs", DRAWN, 1.0, AppMag="10")


@pytest.fixture(scope="session")
def classifier() -> Iterator[Classifier]:
    with Classifier.load(None, RunOptions(provider="cpu", threads=1), purpose="throughput") as loaded:
        yield loaded
