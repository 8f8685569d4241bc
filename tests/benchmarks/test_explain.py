"""The explanations' table: what is compared is the same network, and the counts are what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tests.networks  # noqa: F401
from bcd_edge import Classifier
from bcd_edge.errors import UsageError
from bcd_edge.explain import Explanation
from bcd_edge.explain.segments import baseline, segment
from bcd_edge.options import RunOptions
from bcd_edge.readers import raster
from bcd_edge.synthetic import tissue
from benchmarks import explain
from train import networks

IMAGE = tissue(3, height=150, width=150)


def known(images: np.ndarray) -> np.ndarray:
    """A model that is linear in the superpixels: LIME's weights of it have one right order."""
    segments = segment(IMAGE, "slic", 40, 0)
    hidden = baseline(IMAGE, segments)
    count = int(segments.max()) + 1
    masks = np.array([[(image[segments == at] != hidden[segments == at]).any() for at in range(count)] for image in images], float)
    return 0.5 + masks @ np.linspace(0, 1, count) ** 3 / count


def test_a_picture_is_asked_about_once() -> None:
    asked: list[int] = []

    def predict(images: np.ndarray) -> np.ndarray:
        asked.append(len(images))
        return images.mean(axis=(1, 2, 3)) / 255

    remembered = explain._Remembered(predict)
    pictures = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3), np.uint8)
    first = remembered(pictures[:3])
    assert np.array_equal(remembered(pictures), [*first, predict(pictures[3:])[0]])
    assert asked == [3, 1, 1]


def test_the_fewest_calls_that_are_as_stable_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "SEEDS", 2)
    monkeypatch.setattr(explain, "COUNTS", (64, 128))
    (row,) = explain._stability(known, [IMAGE])
    assert row.ratio in ("64", "128")
    assert "package 1.00 [1.00, 1.00]" in row.detail


def test_superpixels_at_the_border_are_counted() -> None:
    segments = np.kron(np.arange(9).reshape(3, 3), np.ones((4, 4), int))  # eight touch the border, number 4 does not
    weights = np.array([0.1, 0, 0, 0, -5.0, 0.2, 0.3, 0.4, 0.05])
    explanation = Explanation("hadamard", "malignant", 0.9, segments, weights, np.zeros(9), 9, True, "")
    assert explain._at_border(explanation) == pytest.approx((4 / 5, 8 / 9))


def test_both_precisions_are_asked_about_the_same_masks() -> None:
    (same,) = explain._precisions(known, known, [IMAGE])
    assert same.ratio == "1.000 [1.000, 1.000]"
    (turned,) = explain._precisions(lambda images: 1 - known(images), known, [IMAGE])
    assert turned.ratio == "-1.000 [-1.000, -1.000]"


def test_another_network_is_no_partner(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save({"meta": {"settings": {"network": "tiny"}}, "model": networks.build(name="tiny").state_dict()}, tmp_path / "best.pt")
    with (
        Classifier.load(options=RunOptions(provider="cpu")) as classifier,
        pytest.raises(UsageError, match="answers otherwise than the bundle"),
    ):
        explain._network(tmp_path / "best.pt", classifier, [raster.resize(IMAGE, classifier.bundle.input)])


def test_the_documents_table_is_there() -> None:
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text(encoding="utf-8")
    assert text.partition("<!-- explain -->")[2].partition("<!-- /explain -->")[0].count("\n|") == 6
