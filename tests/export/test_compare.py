"""The gate on logits made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bcd_edge.errors import BundleError
from export.compare import compare
from train.calibrate import Decision
from train.data import Images

RULE = Decision(threshold=0.5, review_low=0.4, review_high=0.6, chosen="by hand")


def images(malignant: np.ndarray) -> Images:
    count = len(malignant)
    source, group = np.full(count, "breakhis"), np.array([f"breakhis/{index}" for index in range(count)])
    return Images(np.zeros((count, 1, 1, 3), np.uint8), malignant, source, group, source, group)


@pytest.fixture
def held_out() -> tuple[Images, np.ndarray]:
    malignant = np.arange(40) % 2 == 0
    return images(malignant), np.stack([np.zeros(40), np.where(malignant, 3.0, -3.0) + np.linspace(0, 1, 40)], axis=1).astype(np.float32)


def test_the_same_logits_pass(held_out: tuple[Images, np.ndarray]) -> None:
    test, logits = held_out
    measured, refused = compare("fp32", logits, logits, test, 1.0, RULE)
    assert refused == []
    assert measured["difference"]["max_delta_p"] == 0
    assert measured["difference"]["flipped"] == 0


def test_fp32_may_differ_by_a_ten_thousandth(held_out: tuple[Images, np.ndarray]) -> None:
    test, logits = held_out
    near, far = logits.copy(), logits.copy()
    near[0, 1] += 5e-4
    far[0, 1] += 1e-1
    assert compare("fp32", near, logits, test, 1.0, RULE)[1] == []
    assert "fp32 differs" in compare("fp32", far, logits, test, 1.0, RULE)[1][0]
    assert compare("int8", far, logits, test, 1.0, RULE)[1] == []


def test_flips_are_counted_and_lost_auroc_is_refused(held_out: tuple[Images, np.ndarray]) -> None:
    test, logits = held_out
    worse = logits.copy()
    worse[:4, 1] *= -1
    measured, refused = compare("int8", worse, logits, test, 1.0, RULE)
    assert measured["difference"]["flipped"] == 4
    assert "lost" in refused[0]


def test_what_cannot_be_judged_does_not_pass(held_out: tuple[Images, np.ndarray]) -> None:
    _, logits = held_out
    assert "cannot be judged" in compare("int8", logits, logits, images(np.ones(40, bool)), 1.0, RULE)[1][0]
    broken = logits.copy()
    broken[3] = np.nan
    with pytest.raises(BundleError, match="other than numbers"):
        compare("int8", broken, logits, images(np.arange(40) % 2 == 0), 1.0, RULE)
