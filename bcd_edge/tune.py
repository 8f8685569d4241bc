"""Which provider, variant, batch and split of threads is fastest for a bundle on this machine; `bcd_edge.plan` uses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from bcd_edge import backends, classifier
from bcd_edge.bundle import Bundle
from bcd_edge.errors import ProviderError
from bcd_edge.plan import Measured, Plan
from bcd_edge.system import machine

CPU_BATCHES: Final = (1, 4, 16)
GPU_BATCHES: Final = (1, 8, 32, 64)
WARM_UP: Final = 3
# The best are measured once more, in turns: what was measured minutes apart is not comparable on a machine whose speed drifts.
FINALISTS: Final = 3
TURNS: Final = 3


def candidates(opened: Bundle, *, provider: str = "", device: str = "", precision: str = "") -> list[Plan]:
    """Every plan worth trying here: available providers x variants x batch x split of threads.

    A variant that the gate refused is not among them unless its precision is asked for: speed must not choose it.

    Raises:
        ProviderError: no provider, or not the one asked for, runs here.
    """
    found: list[Plan] = []
    reasons = []
    for name in [provider] if provider else backends.engines():
        precisions = dict.fromkeys(one for one in opened.precisions if _is_wanted(opened, name, one, precision))
        answer = backends.availability(name)
        if not precisions or not answer.available:
            reasons.append(f"{name}: {answer.reason}; fix: {answer.fix}" if precisions else f"{name}: {opened.name} has no such variant for it")
            continue
        on_cpu = name == "cpu" or (name == "openvino" and device.upper() in ("", "CPU"))
        splits = list(dict.fromkeys(_splits(machine.cores()))) if on_cpu else [(0, 1), (0, 2)]
        for chosen in precisions:
            for batch in CPU_BATCHES if on_cpu else GPU_BATCHES:
                found += [Plan(name, device, chosen, batch, threads, inferences) for threads, inferences in splits]
    if not found:
        raise ProviderError(f"No provider that was asked for can be tuned here. {'. '.join(reasons)}.")
    return found


def _is_wanted(opened: Bundle, provider: str, found: str, asked: str) -> bool:
    """Whether the variant that would run at a precision may be tuned for."""
    if asked not in ("", found) or not any(variant["precision"] == found for variant in opened.variants(provider)):
        return False
    return bool(asked) or not opened.variant(found, provider).get("gate", {}).get("refused")


def _splits(cores: int) -> Iterator[tuple[int, int]]:
    """Threads of an inference, and inferences: all for one, one for each, halves between."""
    yield 0, 1
    inferences = 2
    while inferences <= cores:
        yield cores // inferences, inferences
        inferences *= 2
    yield 1, cores


def measure(opened: Bundle, tried: Plan, seconds: float) -> Measured:
    """One plan, with black images of the right size: what the pixels show does not change what a convolution costs.

    Args:
        opened: the bundle.
        tried: the plan.
        seconds: of measuring, warm-up not counted.

    Raises:
        BundleError, ProviderError: it does not run.
    """
    running = classifier.start(opened, tried).backends
    batches = [np.zeros((tried.batch, member.input.height, member.input.width, 3), np.uint8) for member in opened.members]

    def call() -> None:
        for backend, batch in zip(running, batches, strict=True):
            backend.infer(batch)

    times: list[list[float]] = [[] for _ in range(tried.inferences)]
    failures: list[BaseException] = []

    def work(own: list[float]) -> None:
        try:
            while time.perf_counter() < ends:
                started = time.perf_counter()
                call()
                own.append(time.perf_counter() - started)
        except BaseException as error:
            failures.append(error)

    try:
        for _ in range(WARM_UP):
            call()
        begun = time.perf_counter()
        ends = begun + seconds
        threads = [threading.Thread(target=work, args=(own,), daemon=True) for own in times]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - begun
    finally:
        for backend in running:
            backend.close()
    if failures:
        raise failures[0]
    every = [value for own in times for value in own]
    return Measured(tried, 1000 * float(np.median(every)), tried.batch * len(every) / took)


def finals(opened: Bundle, rows: Sequence[Measured], seconds: float) -> list[Measured]:
    """The best for either purpose once more, in turns: the medians of `TURNS` measurements each."""
    alone = [row for row in rows if row.plan.batch == 1 and row.plan.inferences == 1]
    best = sorted(alone, key=lambda row: row.call_ms)[:FINALISTS] + sorted(rows, key=lambda row: -row.images_per_s)[:FINALISTS]
    plans = list(dict.fromkeys(row.plan for row in best))
    turns = [[measure(opened, one, seconds) for one in plans] for _ in range(TURNS)]
    return [
        Measured(one, float(np.median([turn[index].call_ms for turn in turns])), float(np.median([turn[index].images_per_s for turn in turns])))
        for index, one in enumerate(plans)
    ]
