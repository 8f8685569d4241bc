"""A folder of results, and records to commit to it."""

from __future__ import annotations

import csv
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bcd_edge.classifier import Classifier
from bcd_edge.options import RunOptions
from bcd_edge.records import Record
from bcd_edge.results.folder import Results
from bcd_edge.results.journal import connect
from bcd_edge.results.verify import Verification, verify


@pytest.fixture(scope="session")
def classifier() -> Any:
    with Classifier.load(options=RunOptions(provider="null")) as loaded:
        yield loaded


@pytest.fixture
def record(classifier: Classifier) -> Any:
    """Makes the record of a small picture, the same content for the same seed."""
    import cv2
    import numpy as np

    def make(key: str, seed: int = 0) -> Record:
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
        return classifier.classify(cv2.imencode(".png", pixels)[1].tobytes(), name=key)

    return make


@pytest.fixture
def results(tmp_path: Path, classifier: Classifier) -> Any:
    with Results.open(tmp_path / "results") as opened:
        opened.use(classifier.bundle, classifier.rule)
        yield opened


def rows(root: Path) -> list[dict[str, str]]:
    """Of all days' CSVs."""
    texts = [path.read_text(encoding="utf-8-sig") for path in sorted((root / "daily").iterdir())]
    return [row for text in texts for row in csv.DictReader(text.splitlines())]


def checked(root: Path) -> Verification:
    with closing(connect(root / "journal.sqlite3")) as db:
        return verify(db, root, running=False)


def answers(root: Path) -> Counter[str]:
    """Rows of the CSVs that are answers and not further names, by content."""
    return Counter(row["sha256"] for row in rows(root) if not row["intake.same_as"])
