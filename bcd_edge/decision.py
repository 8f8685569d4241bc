"""The decision rule: logits to calibrated probability to benign, malignant or review; used by runtime, training and export."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from bcd_edge.errors import ProviderError, UsageError
from bcd_edge.records import Label, Prediction, Verdict

Floats = npt.NDArray[np.float64]

LABELS: Final[Sequence[Label]] = ("benign", "malignant")
DECISIONS: Final[Sequence[Verdict]] = ("benign", "review", "malignant")


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """Operating threshold and review band.

    Attributes:
        threshold: the label is malignant at or above this probability, 0..1.
        review_low: the decision is benign below this probability, 0..1.
        review_high: the decision is malignant at or above this probability, 0..1, and review between the two.
        chosen: how the three values were chosen.
    """

    threshold: float
    review_low: float
    review_high: float
    chosen: str = ""

    def with_threshold(self, threshold: float | None) -> DecisionRule:
        """The same rule with another operating threshold, if one is given.

        The review band never shrinks; it is extended to include the threshold: raising the threshold must not turn an
        image that needs review into a benign one.

        Raises:
            UsageError: the threshold is not within 0..1.
        """
        if threshold is None:
            return self
        if not 0 <= threshold <= 1:
            raise UsageError(f"The threshold {threshold} is not a probability; give a number from 0 to 1.")
        return replace(self, threshold=threshold, review_low=min(self.review_low, threshold), review_high=max(self.review_high, threshold))

    def malignant(self, p_malignant: Floats) -> npt.NDArray[np.bool_]:
        """Whether each label is malignant, bool N."""
        return p_malignant >= self.threshold

    def decide(self, p_malignant: Floats) -> npt.NDArray[np.intp]:
        """Indices into `DECISIONS`, N. NaN is review, because it must not pass as benign."""
        return np.select([p_malignant < self.review_low, p_malignant >= self.review_high], [0, 2], 1)

    def predict(self, p_malignant: float) -> Prediction:
        """Label, decision and reason for one image."""
        p = np.array([p_malignant])
        decision = DECISIONS[self.decide(p)[0]]
        band = f"{self.review_low:.3f} to {self.review_high:.3f} (label malignant from {self.threshold:.3f})"
        reason = {
            "benign": f"is below {self.review_low:.3f}, where the review band begins",
            "review": f"lies in the review band, {band}: needs pathologist review",
            "malignant": f"is at or above {self.review_high:.3f}, where the review band ends",
        }[decision]
        return Prediction(LABELS[int(self.malignant(p)[0])], p_malignant, decision, (f"p_malignant {p_malignant:.3f} {reason}",))


def ensemble(members: Sequence[Floats]) -> Floats:
    """p_malignant of an ensemble, float64 N: the mean of its members' probabilities, each N."""
    mean: Floats = np.sum(members, axis=0) / len(members)
    return mean


def probabilities(logits: npt.NDArray[np.float32], temperature: float) -> Floats:
    """Calibrated p_malignant, float64 N, of one network.

    Args:
        logits: float32, N x 2: benign and malignant.
        temperature: divides the difference of the logits (Guo et al., ICML 2017).

    Raises:
        ProviderError: the engine returned something other than two finite numbers per image.
    """
    if logits.ndim != 2 or logits.shape[1] != 2 or not np.isfinite(logits).all():
        raise ProviderError(f"The engine returned {logits.ravel()[:8].tolist()} where two numbers per image were expected; try another --provider.")
    x = (logits[:, 1].astype(np.float64) - logits[:, 0]) / temperature
    # exp of the C library: NumPy's differs between processors in the last bit, which would change records
    e = np.fromiter(map(math.exp, -np.abs(x)), np.float64, len(x))
    return np.where(x >= 0, 1, e) / (1 + e)
