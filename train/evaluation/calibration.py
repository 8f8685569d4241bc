"""From raw logits to a probability that means something and a threshold that was chosen, both on validation patients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_expit, rel_entr
from scipy.stats import binom

from bcd_edge.decision import DecisionRule

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

WANTED_SENSITIVITY = 0.95
MISSED = 0.02  # of a patient's malignant images, on average over patients, that may be called benign without review
CONFIDENCE = 0.9  # in that bound
REVIEW_SPECIFICITY = 0.9


def temperature(logits: npt.NDArray[np.float32], malignant: Bools, weights: npt.NDArray[np.float32]) -> float:
    """The temperature that minimises weighted log loss (Guo et al., ICML 2017), within 0.05..20."""
    signed = np.where(malignant, 1, -1) * (logits[:, 1].astype(np.float64) - logits[:, 0])
    optimum = minimize_scalar(
        lambda log_t: -np.average(log_expit(signed / np.exp(log_t)), weights=weights), bounds=np.log([0.05, 20]), method="bounded"
    )
    return float(np.exp(optimum.x))


def platt(difference: Floats, malignant: Bools, groups: npt.NDArray[np.str_]) -> tuple[float, float]:
    """Scale and bias of the difference of two logits that minimise log loss (Platt 1999), both classes and each of their patients alike.

    So a probability does not carry the share of cancer in the collection, which is nobody's clinic.

    Args:
        difference: malignant minus benign, float64 N, of one collection.
        malignant: N labels.
        groups: N patient names.
    """
    weights, sign = patient_weights(malignant, groups), np.where(malignant, 1, -1)

    def loss(parameters: Floats) -> float:
        return -float(np.average(log_expit(sign * (parameters[0] * difference + parameters[1])), weights=weights))

    scale, bias = minimize(loss, np.array([1.0, 0.0])).x
    return float(scale), float(bias)


def decision(malignant: Bools, p: Floats, groups: npt.NDArray[np.str_]) -> DecisionRule:
    """Operating threshold and review band from images of people that the network has not seen; patients weigh alike.

    By patient, over all sets together: one person with many images, or a set with a handful of people, must neither
    set the threshold alone nor be outvoted by image counts.

    Below `review_low` an image is called benign without review. It is the largest threshold for which Learn-then-Test
    (Angelopoulos et al., arXiv:2110.01052) rejects, with `CONFIDENCE`, that on average over exchangeable patients more than
    `MISSED` of a patient's malignant images lie below it; 0 if none does, so that nothing is benign without review.

    Args:
        malignant: N labels.
        p: N calibrated probabilities, 0..1.
        groups: N patient names.
    """
    share = patient_weights(malignant, groups)
    threshold = _largest_with(p[malignant], share[malignant], WANTED_SENSITIVITY)
    low = min(threshold, largest_safe(p[malignant], groups[malignant]))
    high = max(threshold, -_largest_with(-p[~malignant], share[~malignant], REVIEW_SPECIFICITY))
    return DecisionRule(
        threshold=threshold,
        review_low=low,
        review_high=float(np.nextafter(high, 1)),
        chosen=(
            "on patients that the network had not seen, of all sets, each weighing the same: "
            f"threshold for sensitivity {WANTED_SENSITIVITY}; review from the largest probability below which, with {CONFIDENCE:.0%} confidence "
            f"for exchangeable patients, at most {MISSED:.0%} of malignant images lie (Learn-then-Test), "
            f"to the probability with specificity {REVIEW_SPECIFICITY}"
        ),
    )


def patient_weights(malignant: Bools, groups: npt.NDArray[np.str_]) -> Floats:
    """Weights with which both classes weigh 1, and within one each patient the same, float64 N."""
    _, person = np.unique(groups, return_inverse=True)
    weights = np.empty(len(malignant))
    for side in (False, True):
        own = malignant == side
        weights[own] = 1 / np.bincount(person[own])[person[own]]
        weights[own] /= weights[own].sum()
    return weights


def largest_safe(p: Floats, groups: npt.NDArray[np.str_]) -> float:
    """The largest threshold below which provably few of a patient's malignant images lie, see `decision`; 0 if there is none.

    Thresholds are tested from the safest up, and the first that cannot be shown safe ends it (fixed sequence testing).

    Args:
        p: probabilities of malignant images, float64 N.
        groups: N patient names.
    """
    _, person, count = np.unique(groups, return_inverse=True, return_counts=True)
    safe = 0.0
    for threshold in np.unique(p):
        missed = np.bincount(person, p < threshold) / count
        if hoeffding_bentkus(float(missed.mean()), len(count), MISSED) > 1 - CONFIDENCE:
            break
        safe = float(threshold)
    return safe


def hoeffding_bentkus(mean: float, count: int, bound: float) -> float:
    """p-value of the hypothesis that the mean of losses in 0..1 is above a bound (Bates et al., J. ACM 2021, proposition 6).

    Args:
        mean: of the losses that were seen.
        count: how many, independent.
        bound: 0..1.
    """
    below = min(mean, bound)
    divergence = rel_entr(below, bound) + rel_entr(1 - below, 1 - bound)
    return float(min(np.exp(-count * divergence), np.e * binom.cdf(np.ceil(count * mean), count, bound), 1.0))


def _largest_with(scores: Floats, weights: Floats, wanted: float) -> float:
    """The largest threshold that scores of at least the wanted share of the weight reach."""
    order = np.argsort(-scores)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(scores[order][np.searchsorted(reached, wanted - 1e-12)])
