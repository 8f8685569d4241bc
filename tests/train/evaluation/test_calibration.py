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
    missed = 1 - share(True, p >= rule.review_low)
    count = len(np.unique(groups[malignant]))
    assert rule.review_low == 0 or calibration.hoeffding_bentkus(missed, count, calibration.MISSED) <= 1 - calibration.CONFIDENCE + 1e-9
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
    assert rule.review_low == 0  # 20 patients prove nothing about 2 %
    assert rule.review_high == pytest.approx(0.85, abs=1e-9)  # 18 of 20 benign are below


def test_scale_and_bias_that_made_the_labels_are_found_whatever_the_share_of_cancer() -> None:
    random = np.random.default_rng(0)
    difference = np.concatenate([random.normal(3, 3, 20000), random.normal(-3, 3, 2000)])  # a log odds of 2/3 of it, at equal shares
    malignant = np.arange(22000) < 20000
    scale, bias = calibration.platt(difference, malignant, np.arange(22000).astype(str))
    assert scale == pytest.approx(2 / 3, rel=0.05) and bias == pytest.approx(0, abs=0.1)


def test_the_guarantee_holds_in_simulated_studies() -> None:
    """Of patients who miss a share of images at random, the true mean is above the bound in at most a tenth of the studies."""
    random = np.random.default_rng(0)
    broken = 0
    for _ in range(200):
        p = np.sort(random.random(200))  # one image a patient: the true miss below t is t itself
        broken += calibration.largest_safe(p, np.arange(200).astype(str)) > calibration.MISSED
    assert broken <= 0.1 * 200 + 2 * np.sqrt(200 * 0.1 * 0.9)
