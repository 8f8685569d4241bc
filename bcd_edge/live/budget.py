"""Power within a budget: the machine's own meters are read, and answers come less often while it uses more.

The rate falls at once to what the budget allows and rises slowly (multiplicative decrease and increase), so that the mean stays inside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bcd_edge.benchmark import energy, nvml
from bcd_edge.benchmark.energy import Meter
from bcd_edge.benchmark.sensors import ROOT
from bcd_edge.errors import ProviderError, UsageError

# Between readings: the monitors of a Jetson average over a second or less.
PERIOD_S: Final = 1.0
# The rate is left alone between this share of the budget and all of it.
ENOUGH: Final = 0.95
RISE: Final = 0.9
# Answers are never further apart, nor the time between them held back below this.
LONGEST_S, SHORTEST_S = 10.0, 0.005


def parse_watts(text: str) -> float:
    """`10W` or `7.5`.

    Raises:
        UsageError: it is no power.
    """
    matched = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*[wW]?\s*", text)
    if not matched or not float(matched[1]):
        raise UsageError(f"{text!r} is no power; write for example 10W.")
    return float(matched[1])


class Governor:
    """Says how far apart answers are.

    Attributes:
        watts: at the last reading; None before it.
        interval_s: least time from one answer to the next; 0 as long as the budget is kept.
    """

    def __init__(self, budget_w: float, meters: Sequence[Meter]) -> None:
        """Takes what meters there are.

        Raises:
            ProviderError: there are none.
        """
        if not meters:
            raise ProviderError(
                f"A budget of {budget_w:g} W needs a power meter, and none can be read here (RAPL, INA3221, NVML; RAPL needs root); "
                "leave --budget out, or limit the rate with --fps."
            )
        self.budget_w, self.interval_s = budget_w, 0.0
        self.watts: float | None = None
        self._meters = meters
        self._answers = 0
        self._last: tuple[float, float] | None = None

    def answered(self) -> None:
        """Counts an answer."""
        self._answers += 1

    def observe(self, at_s: float) -> None:
        """Reads the meters if it is time to, and sets the interval."""
        if self._last and at_s - self._last[0] < PERIOD_S:
            return
        joules = sum(meter.joules(at_s) for meter in self._meters)
        if self._last:
            elapsed_s = at_s - self._last[0]
            self.watts = (joules - self._last[1]) / elapsed_s
            self._adapt(elapsed_s / max(1, self._answers))
        self._last, self._answers = (at_s, joules), 0

    def _adapt(self, actual_s: float) -> None:
        assert self.watts is not None
        share = self.watts / self.budget_w
        if share > 1:
            self.interval_s = min(LONGEST_S, max(self.interval_s, actual_s) * min(2.0, share))
        elif share < ENOUGH:
            self.interval_s = self.interval_s * RISE if self.interval_s > SHORTEST_S else 0.0


def governor(budget_w: float, root: Path = ROOT) -> Governor:
    """For this machine, or a recorded tree of sensors.

    Raises:
        ProviderError: it has no meters.
    """
    return Governor(budget_w, energy.meters(root, nvml.card() if root == ROOT else None))
