"""What could have been seen: the least effect that is found in `POWER` of cohorts of this size."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

ALPHA: Final = 0.05
POWER: Final = 0.8


def least_auroc(positive: int, negative: int, alpha: float = ALPHA) -> float:
    """AUROC above 0.5 (or as far below) that the Mann-Whitney test finds; Noether, JASA 1987."""
    return min(1.0, 0.5 + _deviations(alpha) * math.sqrt((positive + negative + 1) / (12 * positive * negative)))


def least_correlation(count: int, alpha: float = ALPHA) -> float:
    """Spearman's correlation that is found; Fisher's transformation with the variance of Fieller et al., Biometrika 1957."""
    return math.tanh(_deviations(alpha) * math.sqrt(1.06 / (count - 3)))


def least_hazard_ratio(events: int, alpha: float = ALPHA) -> float:
    """Hazard ratio per standard deviation, above 1, that Cox's model finds; Hsieh & Lavori, Control Clin Trials 2000."""
    return math.exp(_deviations(alpha) / math.sqrt(events))


def _deviations(alpha: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(POWER)
