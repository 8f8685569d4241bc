"""From raw logits to a probability that means something and a threshold that was chosen, both on validation patients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_expit

from bcd_edge.decision import DecisionRule

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

WANTED_SENSITIVITY = 0.95
REVIEW_SENSITIVITY = 0.98
REVIEW_SPECIFICITY = 0.95


def temperature(logits: npt.NDArray[np.float32], malignant: Bools, weights: npt.NDArray[np.float32]) -> float:
    """The temperature that minimises weighted log loss (Guo et al., ICML 2017), within 0.05..20."""
    signed = np.where(malignant, 1, -1) * (logits[:, 1].astype(np.float64) - logits[:, 0])
    optimum = minimize_scalar(
        lambda log_t: -np.average(log_expit(signed / np.exp(log_t)), weights=weights), bounds=np.log([0.05, 20]), method="bounded"
    )
    return float(np.exp(optimum.x))


def decision(malignant: Bools, p: Floats, groups: npt.NDArray[np.str_]) -> DecisionRule:
    """Operating threshold and review band from validation images; sensitivity and specificity weigh patients alike.

    By patient, over all sets together: one person with many images, or a set with a handful of people, must neither
    set the threshold alone nor be outvoted by image counts.

    Args:
        malignant: N labels.
        p: N calibrated probabilities, 0..1.
        groups: N patient names.
    """
    _, person = np.unique(groups, return_inverse=True)
    share = np.empty(len(p))
    for side in (False, True):
        own = malignant == side
        share[own] = 1 / np.bincount(person[own])[person[own]]
    threshold = _largest_with(p[malignant], share[malignant], WANTED_SENSITIVITY)
    low = _largest_with(p[malignant], share[malignant], REVIEW_SENSITIVITY)
    high = max(threshold, -_largest_with(-p[~malignant], share[~malignant], REVIEW_SPECIFICITY))
    return DecisionRule(
        threshold=threshold,
        review_low=low,
        review_high=float(np.nextafter(high, 1)),
        chosen=(
            f"on the validation patients of all sets, each weighing the same: threshold for sensitivity {WANTED_SENSITIVITY}; review between "
            f"the probability with sensitivity {REVIEW_SENSITIVITY} and the one with specificity {REVIEW_SPECIFICITY}"
        ),
    )


def _largest_with(scores: Floats, weights: Floats, wanted: float) -> float:
    """The largest threshold that scores of at least the wanted share of the weight reach."""
    order = np.argsort(-scores)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(scores[order][np.searchsorted(reached, wanted - 1e-12)])
