"""Metrics by hand, and intervals that know what a patient is."""

from __future__ import annotations

import numpy as np
import pytest

from train.metrics import resamples, score


def test_the_published_table_of_140_images() -> None:
    """60 benign, 80 malignant: 57 and 79 right (the per-class table TP/TN/FP/FN 57/79/1/3 and 79/57/3/1)."""
    malignant = np.array([False] * 60 + [True] * 80)
    p = np.array([0.1] * 57 + [0.9] * 3 + [0.9] * 79 + [0.1])
    scores = score(malignant, p, np.arange(140).astype(str), 0.5)
    assert scores["confusion"] == {"tp": 79, "tn": 57, "fp": 3, "fn": 1}
    values = {name: metric["value"] for name, metric in scores["metrics"].items()}
    assert values["sensitivity"] == pytest.approx(79 / 80)
    assert values["specificity"] == pytest.approx(57 / 60)
    assert values["accuracy"] == pytest.approx(136 / 140)
    assert values["balanced_accuracy"] == pytest.approx((79 / 80 + 57 / 60) / 2)
    assert values["brier"] == pytest.approx((136 * 0.01 + 4 * 0.81) / 140)
    assert values["auroc"] == pytest.approx((57 * 79 + 0.5 * (57 * 1 + 3 * 79)) / (60 * 80))


def test_a_probability_at_the_threshold_is_called_malignant() -> None:
    scores = score(np.array([True, False]), np.array([0.5, 0.4]), np.array(["a", "b"]), 0.5)
    assert scores["confusion"] == {"tp": 1, "tn": 1, "fp": 0, "fn": 0}


def test_intervals_hold_the_value_and_repeat() -> None:
    random = np.random.default_rng(0)
    malignant = random.random(200) < 0.5
    p = np.clip(0.5 + 0.25 * (malignant - 0.5) + random.normal(0, 0.2, 200), 0, 1)
    groups = (np.arange(200) // 5).astype(str)
    first, second = (score(malignant, p, groups, 0.5)["metrics"] for _ in range(2))
    assert first == second
    assert all(metric["low"] <= metric["value"] <= metric["high"] for metric in first.values())


def test_images_of_few_patients_give_a_wider_interval_than_of_many() -> None:
    random = np.random.default_rng(1)
    patient = np.repeat(np.arange(20), 20)
    malignant = patient % 2 == 0
    p = np.clip(0.5 + 0.1 * (malignant - 0.5) + random.normal(0, 0.2, 20)[patient] + random.normal(0, 0.05, 400), 0, 1)
    by_patient, by_image = (score(malignant, p, groups.astype(str), 0.5)["metrics"]["auroc"] for groups in (patient, np.arange(400)))
    assert by_patient["high"] - by_patient["low"] > 2 * (by_image["high"] - by_image["low"])


def test_resamples_draw_whole_patients() -> None:
    groups = np.repeat(["a", "b", "c"], [1, 2, 3])
    for chosen in resamples(np.array([True, False, False, True, True, True]), groups, 0)[:50]:
        for name, count in (("b", 2), ("c", 3)):
            assert (groups[chosen] == name).sum() % count == 0


def test_one_class_alone_has_no_interval() -> None:
    with pytest.raises(ValueError, match="one class"):
        score(np.array([True, True]), np.array([0.1, 0.2]), np.array(["a", "b"]), 0.5)
