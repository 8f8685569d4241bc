"""What a reviewer asks for, computed by scikit-learn, each with a 95 % interval from resampling patients."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import numpy.typing as npt
from sklearn.metrics import brier_score_loss, confusion_matrix, roc_auc_score

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

RESAMPLES = 1000


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


def score(malignant: Bools, p_malignant: Floats, groups: npt.NDArray[np.str_], threshold: float, *, seed: int = 0) -> Scores:
    """Scores one set of images.

    The interval is the 2.5th to 97.5th percentile over resamples of whole patients with replacement (cluster
    bootstrap; Field & Welsh, JRSS B 2007): images of one patient are alike, so images drawn one by one would
    give an interval that is far too narrow. Resamples without one of the classes are drawn again.

    Args:
        malignant: N labels.
        p_malignant: N calibrated probabilities, 0..1.
        groups: N patient names.
        threshold: an image at or above it counts as called malignant.
        seed: of the resampling.
    """
    draws = [_measure(malignant[chosen], p_malignant[chosen], threshold)[0] for chosen in resamples(malignant, groups, seed)]
    values, (tn, fp, fn, tp) = _measure(malignant, p_malignant, threshold)
    return Scores(
        images=len(malignant),
        patients=len(np.unique(groups)),
        malignant=int(malignant.sum()),
        confusion={"tp": tp, "tn": tn, "fp": fp, "fn": fn},
        metrics={name: interval(value, [draw[name] for draw in draws]) for name, value in values.items()},
    )


def _measure(malignant: Bools, p_malignant: Floats, threshold: float) -> tuple[dict[str, float], list[int]]:
    """Every metric, and TN, FP, FN, TP; scikit-learn counts once and the ratios follow, since this runs a thousand times."""
    tn, fp, fn, tp = counts = [int(count) for count in confusion_matrix(malignant, p_malignant >= threshold, labels=[False, True]).ravel()]
    sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
    values = {
        "auroc": float(roc_auc_score(malignant, p_malignant)),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "accuracy": (tp + tn) / len(malignant),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "brier": float(brier_score_loss(malignant, p_malignant)),
    }
    return values, counts


def interval(value: float, draws: list[float]) -> Metric:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Metric(value=value, low=float(low), high=float(high))


def resamples(malignant: Bools, groups: npt.NDArray[np.str_], seed: int) -> list[npt.NDArray[np.intp]]:
    """Image indices of `RESAMPLES` draws of whole patients, each with both classes in it.

    Raises:
        ValueError: there is only one class, so no resample could hold both.
    """
    if malignant.all() or not malignant.any():
        raise ValueError("all images are of one class; sensitivity, specificity and AUROC need both")
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    drawn: list[npt.NDArray[np.intp]] = []
    while len(drawn) < RESAMPLES:
        chosen = np.concatenate([members[index] for index in random.integers(len(members), size=len(members))])
        if 0 < malignant[chosen].sum() < len(chosen):
            drawn.append(chosen)
    return drawn
