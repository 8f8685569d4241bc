"""Answers over time: an exponentially weighted mean of the logit, the spread of the frames around it, and a decision that does not flicker.

The mean and variance are updated as West ("Updating mean and variance estimates", CACM 1979) has it for weighted values, with weights that
halve every `half_life_s`. The interval is where 95 % of single frames' answers lie if they are normal in the logit. It is no confidence interval of
the mean, which would shrink with every frame of the same field, although all of them show the same tissue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from bcd_edge.decision import DECISIONS, DecisionRule
from bcd_edge.records import Record, Verdict

HALF_LIFE_S: Final = 1.0
# Standard deviations on either side.
SPREAD: Final = 1.96
# In the logit: how far beyond the review band the mean must be before the decision leaves review (a Schmitt trigger). Entering it needs nothing.
MARGIN: Final = 0.2
# Weighted share of frames with something against them (novel, dark, not H&E ...) that brings review, and below which it goes again.
FLAGGED, UNFLAGGED = 0.5, 0.25
# Of probabilities, whose logit would be infinite at 0 and 1.
LEAST_P: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Smoothed:
    """The answer of the frames since the picture last moved.

    Attributes:
        p_malignant: of the weighted mean logit.
        low: lower end of the interval in which frames lie.
        high: upper end.
        decision: with hysteresis.
        frames: how many frames.
    """

    p_malignant: float
    low: float
    high: float
    decision: Verdict
    frames: int


class Smoother:
    """Takes the records of frames; `reset` when another field is looked at."""

    def __init__(self, rule: DecisionRule, half_life_s: float = HALF_LIFE_S) -> None:
        self._rule, self._half_life_s = rule, half_life_s
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self._weight = self._mean = self._squares = self._flagged = self._last_s = 0.0
        self._frames = 0
        self._is_flagged = False
        self._decision: Verdict | None = None

    def add(self, record: Record, at_s: float) -> Smoothed:
        """Takes the record of a frame, with status `ok`, that was captured at this time."""
        assert record.p_malignant is not None
        fading = 0.5 ** (max(0.0, at_s - self._last_s) / self._half_life_s) if self._frames else 0.0
        self._last_s, self._frames = at_s, self._frames + 1
        self._weight = self._weight * fading + 1
        logit, before = _logit(record.p_malignant), self._mean
        self._mean += (logit - before) / self._weight
        self._squares = self._squares * fading + (logit - before) * (logit - self._mean)
        is_flagged = record.decision == "review" and self._by_rule(logit) != "review"
        self._flagged = self._flagged * fading + is_flagged
        return self._smoothed()

    def _smoothed(self) -> Smoothed:
        deviation = math.sqrt(max(0.0, self._squares / self._weight))
        share = self._flagged / self._weight
        self._is_flagged = share > (UNFLAGGED if self._is_flagged else FLAGGED)
        self._decision = "review" if self._is_flagged else self._decide()
        ends = (self._mean, self._mean - SPREAD * deviation, self._mean + SPREAD * deviation)
        p, low, high = (_p(logit) for logit in ends)
        return Smoothed(p, low, high, self._decision, self._frames)

    def _decide(self) -> Verdict:
        decision = self._by_rule(self._mean)
        if decision == "review" or self._decision in (decision, None):
            return decision
        # it comes from review, or from the other side
        return decision if self._by_rule(self._mean + (MARGIN if decision == "benign" else -MARGIN)) == decision else "review"

    def _by_rule(self, logit: float) -> Verdict:
        return DECISIONS[int(self._rule.decide(np.array([_p(logit)]))[0])]


def _logit(p: float) -> float:
    p = min(max(p, LEAST_P), 1 - LEAST_P)
    return math.log(p / (1 - p))


def _p(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
