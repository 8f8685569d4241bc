"""Temperatures and thresholds on samples whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.evaluation import calibration


def test_the_temperature_that_made_the_labels_is_found() -> None:
    random = np.random.default_rng(0)
    difference = random.normal(0, 6, 20000)
    malignant = random.random(20000) < 1 / (1 + np.exp(-difference / 3))
    logits = np.stack([np.zeros(20000), difference], axis=1).astype(np.float32)
    assert calibration.temperature(logits, malignant, np.ones(20000, np.float32)) == pytest.approx(3, rel=0.05)


VALIDATION = st.lists(st.tuples(st.booleans(), st.floats(0, 0.999)), min_size=4, max_size=60)


@given(VALIDATION, st.integers(1, 7))
def test_the_wanted_shares_of_patients_are_reached(images: list[tuple[bool, float]], patients: int) -> None:
    malignant = np.array([True, False, *(label for label, _ in images)])
    p = np.array([0.7, 0.3, *(value for _, value in images)])
    groups = np.array([str(index % patients) for index in range(len(p))])
    rule = calibration.decision(malignant, p, groups)
    assert rule.review_low <= rule.threshold <= rule.review_high

    def share(side: bool, called: np.ndarray) -> float:
        return float(np.mean([called[(malignant == side) & (groups == group)].mean() for group in np.unique(groups[malignant == side])]))

    assert share(True, p >= rule.threshold) >= calibration.WANTED_SENSITIVITY - 1e-9
    assert share(True, p >= rule.review_low) >= calibration.REVIEW_SENSITIVITY - 1e-9
    assert share(False, p < rule.review_high) >= calibration.REVIEW_SPECIFICITY - 1e-9


def test_a_patient_with_many_images_counts_as_one() -> None:
    malignant = np.array([True] * 119 + [False])
    p = np.array([0.2] * 100 + [0.9] * 19 + [0.1])  # one patient with 100 images at 0.2, nineteen with one at 0.9
    groups = np.array(["a"] * 100 + [f"b{index}" for index in range(19)] + ["c"])
    assert calibration.decision(malignant, p, groups).threshold == 0.9
    assert calibration.decision(malignant, p, np.arange(120).astype(str)).threshold == 0.2


def test_by_hand() -> None:
    malignant = np.array([True] * 20 + [False] * 20)
    p = np.concatenate([np.linspace(0.05, 1, 20), np.linspace(0, 0.95, 20)])
    rule = calibration.decision(malignant, p, np.arange(40).astype(str))
    assert rule.threshold == pytest.approx(0.10)  # 19 of 20 are at or above
    assert rule.review_low == pytest.approx(0.05)  # all 20
    assert rule.review_high == pytest.approx(0.90, abs=1e-9)  # 19 of 20 benign are below
