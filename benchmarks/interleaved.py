"""Several things measured in turns, A B C A B C, so that a machine's drift falls on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

ROUNDS = 10
WARM_UP = 5


def medians(things: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median milliseconds of a call of each.

    Args:
        things: name to what is called.
        seconds: for each, over all turns; warm-up is not counted, nor the first call of a turn, which finds cold caches.
    """
    times: dict[str, list[float]] = {name: [] for name in things}
    for one in things.values():
        for _ in range(WARM_UP):
            one()
    for _ in range(ROUNDS):
        for name, one in things.items():
            one()
            ends = time.perf_counter() + seconds / ROUNDS
            while time.perf_counter() < ends:
                started = time.perf_counter()
                one()
                times[name].append(1000 * (time.perf_counter() - started))
    return {name: float(np.median(values)) for name, values in times.items()}
