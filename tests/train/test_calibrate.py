"""Temperatures and thresholds on samples whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcd_edge.bundle import Decision
from bcd_edge.decide import decide as runtime_decide
from train import calibrate


def test_the_temperature_that_made_the_labels_is_found() -> None:
    random = np.random.default_rng(0)
    difference = random.normal(0, 6, 20000)
    malignant = random.random(20000) < 1 / (1 + np.exp(-difference / 3))
    logits = np.stack([np.zeros(20000), difference], axis=1).astype(np.float32)
    assert calibrate.temperature(logits, malignant, np.ones(20000, np.float32)) == pytest.approx(3, rel=0.05)


def test_training_and_runtime_compute_the_same_probability() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (50, 2)).astype(np.float32)
    rule = Decision(0.5, 0.4, 0.6)
    assert np.allclose(calibrate.p_malignant(logits, 1.7), [runtime_decide(row, 1.7, rule).p_malignant for row in logits], atol=1e-12)


VALIDATION = st.lists(st.tuples(st.booleans(), st.floats(0, 0.999)), min_size=4, max_size=60)


@given(VALIDATION, VALIDATION)
def test_every_set_reaches_the_wanted_sensitivity(first: list[tuple[bool, float]], second: list[tuple[bool, float]]) -> None:
    arrays = [(np.array([True, False, *(m for m, _ in one)]), np.array([0.7, 0.3, *(p for _, p in one)])) for one in (first, second)]
    rule = calibrate.decision(arrays)
    assert rule["review_low"] <= rule["threshold"] <= rule["review_high"]
    for malignant, p in arrays:
        assert (p[malignant] >= rule["threshold"]).mean() >= calibrate.WANTED_SENSITIVITY
        assert (p[malignant] >= rule["review_low"]).mean() >= calibrate.REVIEW_SENSITIVITY
        assert (p[~malignant] < rule["review_high"]).mean() >= calibrate.REVIEW_SPECIFICITY


def test_by_hand() -> None:
    malignant = np.array([True] * 20 + [False] * 20)
    p = np.concatenate([np.linspace(0.05, 1, 20), np.linspace(0, 0.95, 20)])
    rule = calibrate.decision([(malignant, p)])
    assert rule["threshold"] == pytest.approx(0.10)  # 19 of 20 are at or above
    assert rule["review_low"] == pytest.approx(0.05)  # all 20
    assert rule["review_high"] == pytest.approx(0.90, abs=1e-9)  # 19 of 20 benign are below
