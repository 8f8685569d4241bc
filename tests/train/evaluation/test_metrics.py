"""Metrics by hand, and intervals that know what a patient is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from bcd_edge.estimates import expected_calibration_error, resample_groups
from train.evaluation.metrics import (
    classification_report,
    measure,
    measure_resamples,
    patient_level,
    per_class,
    score,
    score_patients,
)

# Few distinct probabilities, so that ties, bin edges and the threshold itself come up.
ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 20).map(lambda step: step / 20)), min_size=2, max_size=40).filter(
    lambda rows: 0 < sum(malignant for malignant, _ in rows) < len(rows)
)


def columns(rows: list[tuple[bool, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([malignant for malignant, _ in rows]), np.array([p for _, p in rows])


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
    assert values["precision"] == pytest.approx(79 / 82)
    assert values["f1"] == pytest.approx(2 * 79 / (2 * 79 + 3 + 1))
    assert values["mcc"] == pytest.approx((79 * 57 - 3 * 1) / math.sqrt(82 * 80 * 60 * 58))
    assert values["average_precision"] == pytest.approx(79 / 80 * 79 / 82 + 1 / 80 * 80 / 140)
    # in the bin of 0.1 one of 58 is malignant, in that of 0.9 79 of 82
    assert values["ece"] == pytest.approx((58 * abs(0.1 - 1 / 58) + 82 * abs(0.9 - 79 / 82)) / 140)
    assert per_class(scores["confusion"]) == {
        "benign": {"tp": 57, "tn": 79, "fp": 1, "fn": 3},
        "malignant": {"tp": 79, "tn": 57, "fp": 3, "fn": 1},
    }
    report = classification_report(malignant, p >= 0.5)
    rounded = {side: [round(report[side][key], 2) for key in ("precision", "recall")] for side in ("benign", "malignant")}
    assert rounded == {"benign": [0.98, 0.95], "malignant": [0.96, 0.99]}
    assert round(report["accuracy"], 2) == 0.97
    assert [report[side]["support"] for side in ("benign", "malignant", "macro avg", "weighted avg")] == [60, 80, 140, 140]


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
    for chosen in resample_groups(np.array([True, False, False, True, True, True]), groups, 0)[:50]:
        for name, count in (("b", 2), ("c", 3)):
            assert (groups[chosen] == name).sum() % count == 0


def test_one_class_alone_has_no_interval() -> None:
    with pytest.raises(ValueError, match="one class"):
        score(np.array([True, True]), np.array([0.1, 0.2]), np.array(["a", "b"]), 0.5)


@given(ROWS, st.integers(0, 20), st.data())
@settings(deadline=None)
def test_a_resample_is_measured_as_scikit_learn_does(rows: list[tuple[bool, float]], step: int, data: st.DataObject) -> None:
    """The quick formulas of the bootstrap against scikit-learn's functions on the images drawn."""
    malignant, p = columns(rows)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(p) - 1), min_size=len(p), max_size=len(p))))
    drawn = [part for part in (chosen, np.arange(len(p))) if 0 < malignant[part].sum() < len(part)]
    for part, measured in zip(drawn, measure_resamples(malignant, p, step / 20, drawn), strict=True):
        assert measured == pytest.approx(measure(malignant[part], p[part], step / 20), abs=1e-12)


@given(ROWS)
@settings(deadline=None)
def test_the_calibration_error_is_the_area_beside_the_calibration_curve(rows: list[tuple[bool, float]]) -> None:
    malignant, p = columns(rows)
    share, mean = calibration_curve(malignant, p, n_bins=10, strategy="uniform")
    bins = np.searchsorted(np.linspace(0, 1, 11)[1:-1], p)
    count = np.unique(bins, return_counts=True)[1]
    assert expected_calibration_error(malignant, p) == pytest.approx(np.average(np.abs(share - mean), weights=count), abs=1e-12)


def test_a_calibration_error_by_hand() -> None:
    malignant = np.array([False, True, True, True])
    # bin (0.2, 0.3]: mean 0.25, half malignant; bin (0.9, 1]: mean 0.95, all malignant
    assert expected_calibration_error(malignant, np.array([0.2 + 1e-9, 0.3 - 1e-9, 0.92, 0.98])) == pytest.approx(0.5 * 0.25 + 0.5 * 0.05)


@pytest.mark.parametrize(("threshold", "tn"), [(1.1, 2), (0.0, 0)])
def test_calling_everything_the_same_is_zero_and_no_warning(threshold: float, tn: int) -> None:
    malignant, p = np.array([False, True, False, True]), np.array([0.1, 0.2, 0.3, 0.4])
    scores = score(malignant, p, np.array(list("abcd")), threshold)
    assert scores["confusion"]["tn"] == tn
    assert scores["metrics"]["mcc"] == {"value": 0, "low": 0, "high": 0}
    assert scores["metrics"]["balanced_accuracy"]["value"] == 0.5
    assert classification_report(malignant, p >= threshold)["malignant" if tn else "benign"]["precision"] == 0
    if tn:
        assert scores["metrics"]["precision"] == scores["metrics"]["f1"] == {"value": 0, "low": 0, "high": 0}


def test_a_patient_has_the_mean_of_their_images() -> None:
    patients = patient_level(np.array([True, False, True]), np.array([0.2, 0.3, 0.6]), np.array(["b", "a", "b"]))
    assert patients is not None
    labels, p, names = patients
    assert names.tolist() == ["a", "b"]
    assert labels.tolist() == [False, True]
    assert p == pytest.approx([0.3, 0.4])


def test_a_patient_with_both_classes_has_no_label() -> None:
    malignant, p, groups = np.array([True, False] * 4), np.full(8, 0.5), np.array(list("aabbccdd"))
    assert patient_level(malignant, p, groups) is None
    assert score_patients(malignant, p, groups, 0.5) is None


def test_patients_are_scored_as_images_are() -> None:
    groups = np.repeat(list("abcd"), [9, 1, 2, 3])
    malignant = np.isin(groups, ["c", "d"])
    p = np.array([0.125] * 9 + [0.875] + [0.5, 0.75] + [0.875] * 3)  # exact in binary
    scores = score_patients(malignant, p, groups, 0.5)
    assert scores == score(np.array([False, False, True, True]), np.array([0.125, 0.875, 0.625, 0.875]), np.array(list("abcd")), 0.5)
    assert scores["images"] == scores["patients"] == 4
    assert scores["confusion"] == {"tp": 2, "tn": 1, "fp": 1, "fn": 0}


def test_one_patient_of_a_class_is_no_score() -> None:
    assert score_patients(np.array([True, False, False]), np.array([0.9, 0.1, 0.2]), np.array(list("abc")), 0.5) is None
