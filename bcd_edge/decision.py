"""Logits to a calibrated probability to benign, malignant or review."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bcd_edge.bundle import Decision
from bcd_edge.errors import ProviderError, UsageError
from bcd_edge.records import Prediction


def with_threshold(rule: Decision, threshold: float | None) -> Decision:
    """The bundle's rule with the caller's operating threshold.

    The review band never shrinks, it stretches to hold the threshold: raising the threshold must not turn an image
    that a person should see into a benign one.

    Raises:
        UsageError: the threshold is not within 0..1.
    """
    if threshold is None:
        return rule
    if not 0 <= threshold <= 1:
        raise UsageError(f"The threshold {threshold} is no probability; give a number from 0 to 1.")
    return replace(rule, threshold=threshold, review_low=min(rule.review_low, threshold), review_high=max(rule.review_high, threshold))


def probability(logits: npt.NDArray[np.float32], temperature: float) -> float:
    """Calibrated p_malignant, 0..1, of one network for one image.

    Args:
        logits: float32, 2: benign and malignant.
        temperature: divides the difference of the logits (Guo et al., ICML 2017).

    Raises:
        ProviderError: the engine gave something other than numbers; it must not pass for benign.
    """
    if logits.shape != (2,) or not np.isfinite(logits).all():
        raise ProviderError(f"The engine answered {logits.tolist()} where two numbers were expected; try another --provider.")
    x = (float(logits[1]) - float(logits[0])) / temperature
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def decide(p: float, rule: Decision) -> Prediction:
    """Decides one image.

    Args:
        p: calibrated probability of malignant, 0..1.
        rule: operating threshold and review band.
    """
    label = "malignant" if p >= rule.threshold else "benign"
    if p < rule.review_low:
        return Prediction("benign", p, "benign", (f"p_malignant {p:.3f} is below {rule.review_low:.3f}, where the review band begins",))
    if p >= rule.review_high:
        return Prediction("malignant", p, "malignant", (f"p_malignant {p:.3f} is at or above {rule.review_high:.3f}, where the review band ends",))
    band = f"p_malignant {p:.3f} lies in the review band, {rule.review_low:.3f} to {rule.review_high:.3f}: a person should look"
    return Prediction(label, p, "review", (band,))  # type: ignore[arg-type]
