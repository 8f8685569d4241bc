"""What a reviewer asks for, computed by scikit-learn, each with a 95 % interval from resampling patients."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import sklearn.metrics
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    precision_score,
    recall_score,
    roc_auc_score,
)

from bcd_edge.estimates import bins, expected_calibration_error, resample_groups
from train.networks import CLASSES

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Names = npt.NDArray[np.str_]


class Metric(TypedDict):
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class Scores(TypedDict):
    """Metrics of one set of images."""

    images: int
    patients: int
    malignant: int
    confusion: dict[str, int]
    metrics: dict[str, Metric]


def score(malignant: Bools, p_malignant: Floats, groups: Names, threshold: float | Floats, *, seed: int = 0) -> Scores:
    """Scores one set of images.

    The interval is the 2.5th to 97.5th percentile over resamples of whole patients with replacement (cluster
    bootstrap; Field & Welsh, JRSS B 2007): images of one patient are alike, so images drawn one by one would
    give an interval that is far too narrow. Resamples without one of the classes are drawn again.

    Precision, F1 and average precision are those of malignant; a ratio without a denominator (nothing was called
    malignant) is 0.

    Args:
        malignant: N labels.
        p_malignant: N calibrated probabilities, 0..1.
        groups: N patient names.
        threshold: an image at or above it counts as called malignant; one for all, or N, as when folds chose their own.
        seed: of the resampling.

    Raises:
        ValueError: there is only one class.
    """
    draws = measure_resamples(malignant, p_malignant, threshold, resample_groups(malignant, groups, seed))
    called = p_malignant >= threshold
    tn, fp, fn, tp = (int(count) for count in confusion_matrix(malignant, called, labels=[False, True]).ravel())
    return Scores(
        images=len(malignant),
        patients=len(np.unique(groups)),
        malignant=int(malignant.sum()),
        confusion={"tp": tp, "tn": tn, "fp": fp, "fn": fn},
        metrics={name: interval(value, [draw[name] for draw in draws]) for name, value in measure(malignant, p_malignant, threshold).items()},
    )


def measure(malignant: Bools, p_malignant: Floats, threshold: float | Floats) -> dict[str, float]:
    """Every metric of N images, by scikit-learn; the expected calibration error is ours, since it has none."""
    called = p_malignant >= threshold
    values = {
        "auroc": roc_auc_score(malignant, p_malignant),
        "average_precision": average_precision_score(malignant, p_malignant),
        "sensitivity": recall_score(malignant, called),
        "specificity": recall_score(malignant, called, pos_label=False),
        "precision": precision_score(malignant, called, zero_division=0),
        "f1": f1_score(malignant, called, zero_division=0),
        "accuracy": accuracy_score(malignant, called),
        "balanced_accuracy": balanced_accuracy_score(malignant, called),
        "mcc": matthews_corrcoef(malignant, called),
        "brier": brier_score_loss(malignant, p_malignant),
        "ece": expected_calibration_error(malignant, p_malignant),
    }
    return {name: float(value) for name, value in values.items()}


def measure_resamples(malignant: Bools, p_malignant: Floats, threshold: float | Floats, drawn: list[npt.NDArray[np.intp]]) -> list[dict[str, float]]:
    """What `measure` gives for each resample, given as image indices.

    A resample only changes how often an image counts, so one sort serves all of them; scikit-learn's functions would
    sort and check their input a thousand times. A test holds the two equal.
    """
    order = np.argsort(-p_malignant, kind="stable")
    p, label = p_malignant[order], malignant[order].astype(np.float64)
    ends = np.append(np.flatnonzero(np.diff(p)), len(p) - 1)  # images of equal p are one point of a curve
    called = (p_malignant >= threshold)[order]
    bin_of, squares = bins(p), (p - label) ** 2
    draws = []
    for chosen in drawn:
        times = np.bincount(chosen, minlength=len(p))[order].astype(np.float64)
        true, false = np.cumsum(times * label), np.cumsum(times * (1 - label))
        positives, negatives = true[-1], false[-1]
        tp, fp = float(times @ (label * called)), float(times @ ((1 - label) * called))
        draws.append(
            {
                **_curves(true[ends], false[ends]),
                **_ratios(tp, negatives - fp, fp, positives - tp),
                "brier": float(times @ squares / len(chosen)),
                "ece": float(np.abs(np.bincount(bin_of, times * (p - label))).sum() / len(chosen)),
            }
        )
    return draws


def _curves(true: Floats, false: Floats) -> dict[str, float]:
    """Areas under both curves from cumulative counts, highest probability first: trapezia for ROC, steps for precision-recall."""
    gained, lost = np.diff(true, prepend=0), np.diff(false, prepend=0)
    return {
        "auroc": float(lost @ (true - gained / 2) / (true[-1] * false[-1])),
        "average_precision": float(gained @ (true / np.maximum(true + false, 1)) / true[-1]),
    }


def _ratios(tp: float, tn: float, fp: float, fn: float) -> dict[str, float]:
    """What follows from the four counts, both classes being there; 0 where nothing was called the one or the other."""
    sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
    margins = (tp + fp) * (tn + fn) * (tp + fn) * (tn + fp)
    values = {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": tp / (tp + fp) if tp + fp else 0,
        "f1": 2 * tp / (2 * tp + fp + fn),
        "accuracy": (tp + tn) / (tp + tn + fp + fn),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "mcc": (tp * tn - fp * fn) / margins**0.5 if margins else 0,
    }
    return {name: float(value) for name, value in values.items()}


def classification_report(malignant: Bools, called: Bools) -> dict[str, Any]:
    """scikit-learn's: `benign`, `malignant`, `macro avg`, `weighted avg`, each with precision, recall, F1 and support; `accuracy`."""
    report = sklearn.metrics.classification_report(malignant, called, labels=[False, True], target_names=CLASSES, output_dict=True, zero_division=0)
    return {
        name: {key: int(value) if key == "support" else float(value) for key, value in row.items()} if isinstance(row, dict) else float(row)
        for name, row in report.items()
    }


def per_class(confusion: dict[str, int]) -> dict[str, dict[str, int]]:
    """TP, TN, FP and FN with each class as the one looked for; the table has them of malignant."""
    tp, tn, fp, fn = (confusion[name] for name in ("tp", "tn", "fp", "fn"))
    return {"benign": {"tp": tn, "tn": tp, "fp": fn, "fn": fp}, "malignant": {"tp": tp, "tn": tn, "fp": fp, "fn": fn}}


def patient_level(malignant: Bools, p_malignant: Floats, groups: Names) -> tuple[Bools, Floats, Names] | None:
    """Label, mean probability and name of every patient, or None if somebody has images of both classes.

    Where the label is that of a piece of tissue (IDC patches: everybody has cancer), a patient has no label to be right about.
    """
    names, person = np.unique(groups, return_inverse=True)
    count = np.bincount(person)
    ill = np.bincount(person, malignant)
    if ((ill > 0) & (ill < count)).any():
        return None
    return ill > 0, np.bincount(person, p_malignant) / count, names


def score_patients(malignant: Bools, p_malignant: Floats, groups: Names, threshold: float, *, seed: int = 0) -> Scores | None:
    """`score` with patients in the place of images (`images` counts patients too), each by the mean probability of their images.

    None if patients have no label of their own, or a class has fewer than two: resampling one person gives an
    interval of width zero, which would look like certainty.
    """
    patients = patient_level(malignant, p_malignant, groups)
    if patients is None:
        return None
    labels, p, names = patients
    if min(labels.sum(), (~labels).sum()) < 2:
        return None
    return score(labels, p, names, threshold, seed=seed)


def interval(value: float, draws: list[float]) -> Metric:
    """A value with its 95 % percentile interval from bootstrap draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return Metric(value=value, low=float(low), high=float(high))
