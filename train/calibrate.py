"""From raw logits to a probability that means something and a threshold that was chosen, both on validation patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

WANTED_SENSITIVITY = 0.95
REVIEW_SENSITIVITY = 0.98
REVIEW_SPECIFICITY = 0.95


class Decision(TypedDict):
    """The decision rule of the manifest: benign below `review_low`, malignant from `review_high`, review between."""

    threshold: float
    review_low: float
    review_high: float
    chosen: str


def p_malignant(logits: npt.NDArray[np.float32], temperature: float) -> Floats:
    """Calibrated probability, float64 N, of float32 logits N x 2."""
    difference = logits[:, 1].astype(np.float64) - logits[:, 0]
    return np.asarray(expit(difference / temperature), np.float64)


def temperature(logits: npt.NDArray[np.float32], malignant: Bools, weights: npt.NDArray[np.float32]) -> float:
    """The temperature that minimises weighted log loss (Guo et al., ICML 2017), within 0.05..20."""
    signed = np.where(malignant, 1, -1) * (logits[:, 1].astype(np.float64) - logits[:, 0])
    found = minimize_scalar(
        lambda log_t: -np.average(log_expit(signed / np.exp(log_t)), weights=weights), bounds=np.log([0.05, 20]), method="bounded"
    )
    return float(np.exp(found.x))


def decision(sets: Sequence[tuple[Bools, Floats]]) -> Decision:
    """Operating threshold and review band from validation sets, each `(malignant N, p_malignant N)`.

    Every set must be served, so the threshold that is lowest over the sets is taken, and the band spans all of them.
    """

    def at_sensitivity(wanted: float) -> float:
        return min(_largest_with(p[malignant], wanted) for malignant, p in sets)

    threshold = at_sensitivity(WANTED_SENSITIVITY)
    low = min(at_sensitivity(REVIEW_SENSITIVITY), threshold)
    high = max(threshold, *(1 - _largest_with(1 - p[~malignant], REVIEW_SPECIFICITY) for malignant, p in sets))
    return Decision(
        threshold=threshold,
        review_low=low,
        review_high=float(np.nextafter(high, 1)),
        chosen=(
            f"on validation patients of every set: threshold for sensitivity {WANTED_SENSITIVITY}; review between the "
            f"probability with sensitivity {REVIEW_SENSITIVITY} and the one with specificity {REVIEW_SPECIFICITY}"
        ),
    )


def _largest_with(scores: Floats, share: float) -> float:
    """The largest threshold that at least `share` of the scores reach."""
    ordered = np.sort(scores)[::-1]
    return float(ordered[int(np.ceil(share * len(ordered))) - 1])
