"""Several things measured in turns, A B C A B C, so that drift of the machine's speed affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import numpy as np

Key = TypeVar("Key")
Result = TypeVar("Result")

ROUNDS: Final = 10
WARM_UP: Final = 5


def in_turns(measures: Mapping[Key, Callable[[], Result]], rounds: int) -> dict[Key, list[Result]]:
    """Calls each measure once per round, one after the other; the results of each, in order."""
    results: dict[Key, list[Result]] = {key: [] for key in measures}
    for _ in range(rounds):
        for key, measure in measures.items():
            results[key].append(measure())
    return results


def call_times(calls: Mapping[Key, Callable[[], object]], seconds: float, rounds: int = ROUNDS) -> dict[Key, list[float]]:
    """Milliseconds of single calls of each, in turns after a warm-up.

    Args:
        calls: what is called.
        seconds: per call, over all turns. A turn times at least one call.
        rounds: how many turns each has.
    """
    for call in calls.values():
        for _ in range(min(WARM_UP, rounds)):
            call()
    turns = in_turns({key: _turn(call, seconds / rounds) for key, call in calls.items()}, rounds)
    return {key: [milliseconds for turn in results for milliseconds in turn] for key, results in turns.items()}


def medians(calls: Mapping[Key, Callable[[], object]], seconds: float) -> dict[Key, float]:
    """Median milliseconds of a call of each; arguments as for `call_times`."""
    return {key: float(np.median(times)) for key, times in call_times(calls, seconds).items()}


def _turn(call: Callable[[], object], seconds: float) -> Callable[[], list[float]]:
    def turn() -> list[float]:
        call()  # not timed: caches are full of the previous one's data, and its threads may still spin
        times: list[float] = []
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            started = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - started))
        return times

    return turn
