"""What the loader costs, and what may be said of it."""

from __future__ import annotations

import numpy as np
import pytest

from bcd_edge.estimates import Estimate
from train.bench import added, verdict


def test_what_the_loader_adds_is_the_median_of_turns_that_were_side_by_side() -> None:
    drifting = np.linspace(10, 20, 12)  # a machine that becomes faster
    cost = added({"step alone": drifting, "loader alone": drifting, "both": drifting / 1.1})
    assert cost.value == pytest.approx(0.1)
    assert cost.low == pytest.approx(0.1)
    assert cost.high == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (0.01, 0.04, "[+1.0%, +4.0%] to the step on cpu, within the 5% it may."),
        (0.06, 0.10, "[+6.0%, +10.0%] to the step on cpu, more than the 5% it may. Give --workers"),
        (0.01, 0.10, "too noisy to tell"),
        (None, None, "too noisy to tell"),
    ],
)
def test_nothing_is_said_where_the_interval_holds_the_limit(low: float | None, high: float | None, sentence: str) -> None:
    assert sentence in verdict(Estimate(0.03, low, high), "cpu")
