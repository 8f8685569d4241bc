"""Figures with intervals that treat patients as the independent units: the bootstrap by patient of every figure of accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

LEVELS: Final = (0.025, 0.975)
RESAMPLES: Final = 1000
# With fewer there is no interval: there are too few distinct resamples.
FEWEST_GROUPS: Final = 5
BINS: Final = 10


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with the ends of its 95 % interval; an end is None if there are too few samples."""

    value: float
    low: float | None
    high: float | None

    def scaled(self, factor: float) -> Estimate:
        return Estimate(self.value * factor, None if self.low is None else self.low * factor, None if self.high is None else self.high * factor)

    def as_dict(self) -> dict[str, float | None]:
        return {"value": rounded(self.value), "low": rounded(self.low), "high": rounded(self.high)}


def rounded(value: Any) -> float | None:
    """Six rounded digits; what has no number has None, because NaN is no JSON."""
    return None if value is None or math.isnan(value) else float(f"{value:.6g}")


def of_resamples(value: float, drawn: Floats) -> Estimate:
    """A figure with its percentile interval from resamples."""
    low, high = np.quantile(drawn, LEVELS)
    return Estimate(value, float(low), float(high))


def draw_groups(count: int, seed: int) -> Iterator[Indices]:
    """Endless resamples of whole groups: `count` indices each, with replacement (cluster bootstrap; Field & Welsh, JRSS B 2007)."""
    random = np.random.default_rng(seed)
    while True:
        yield random.integers(count, size=count)


def resample_groups(malignant: Bools, groups: npt.NDArray[np.str_], seed: int) -> list[Indices]:
    """Image indices of `RESAMPLES` draws of whole groups (patients) with replacement.

    A draw without one of the classes is drawn again: it has no AUROC, and every figure is of the same draws.

    Args:
        malignant: N labels.
        groups: N names.
        seed: for resampling.

    Raises:
        ValueError: there is only one class, so no draw could have both.
    """
    if malignant.all() or not malignant.any():
        raise ValueError("all images are of one class; sensitivity, specificity and AUROC need both")
    _, group = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(group == index) for index in range(int(group.max()) + 1)]
    drawn: list[Indices] = []
    for these in draw_groups(len(members), seed):
        chosen = np.concatenate([members[index] for index in these])
        if 0 < malignant[chosen].sum() < len(chosen):
            drawn.append(chosen)
        if len(drawn) == RESAMPLES:
            break
    return drawn


def bins(p_malignant: Floats) -> Indices:
    """0..9; a bin holds its upper edge, as in Guo et al. and in scikit-learn's `calibration_curve`."""
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], p_malignant)


def expected_calibration_error(malignant: Bools, p_malignant: Floats, weights: Floats | None = None) -> float:
    """Mean over 10 equal-width bins of |mean probability - share of malignant|, weighted by images; 0..1, 0 is best.

    Naeini et al., AAAI 2015; Guo et al., ICML 2017. The binary variant: bins are over p of malignant and not over the
    confidence in whichever class was called, so that errors at both ends do not hide each other.

    Args:
        malignant: N labels.
        p_malignant: N calibrated probabilities, 0..1.
        weights: how many images each stands for, N; 1 if not given.
    """
    counts = np.ones(len(malignant)) if weights is None else weights
    # count x |mean p - mean label| is |sum of p - label|, and empty bins need no care
    return float(np.abs(np.bincount(bins(p_malignant), counts * (p_malignant - malignant))).sum() / counts.sum())
