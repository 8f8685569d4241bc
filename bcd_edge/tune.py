"""Which provider, variant, batch and split of threads is fastest for a bundle on this machine; `bcd_edge.plan` uses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from typing import Final

import numpy as np

from bcd_edge import backends, classifier, plugins
from bcd_edge.bundle import Bundle
from bcd_edge.errors import ProviderError
from bcd_edge.interleaved import in_turns
from bcd_edge.options import Plan, RunOptions
from bcd_edge.plan import TuningResult
from bcd_edge.system import machine

CPU_BATCHES: Final = (1, 4, 16)
GPU_BATCHES: Final = (1, 8, 32, 64)
WARM_UP: Final = 3
# The best are measured once more, in turns: what was measured minutes apart is not comparable on a machine whose speed drifts.
FINALISTS: Final = 3
TURNS: Final = 3


def candidates(opened: Bundle, options: RunOptions) -> list[Plan]:
    """Every plan worth trying here: available providers x variants x batch x threads per stream.

    A variant that the gate refused is not among them unless its precision is asked for: speed must not choose it.

    Raises:
        ProviderError: no provider, or not the one asked for, runs here.
    """
    plans: list[Plan] = []
    reasons = []
    for name in [options.provider] if options.provider else backends.engines():
        precisions = [precision for precision in dict.fromkeys(opened.precisions) if _is_wanted(opened, name, precision, options.precision)]
        answer = backends.availability(name)
        if not precisions or not answer.available:
            reasons.append(f"{name}: {answer.reason}; fix: {answer.fix}" if precisions else f"{name}: {opened.name} has no such variant for it")
            continue
        on_cpu = plugins.load(backends.PROVIDERS, name).runs_on_cpu(options.device)
        splits = list(dict.fromkeys(_splits(machine.cores()))) if on_cpu else [(None, 1), (None, 2)]
        for precision, batch in product(precisions, CPU_BATCHES if on_cpu else GPU_BATCHES):
            for threads, streams in splits:
                given = Plan(**asdict(options) | {"provider": name, "batch": batch, "streams": streams})
                plans.append(replace(given, precision=precision, threads=threads))
    if not plans:
        raise ProviderError(f"No provider that was asked for can be tuned here. {'. '.join(reasons)}.")
    return plans


def _is_wanted(opened: Bundle, provider: str, precision: str, wanted: str | None) -> bool:
    """Whether the variant that would run at a precision may be tuned for."""
    if wanted not in (None, precision) or not any(variant["precision"] == precision for variant in opened.variants(provider)):
        return False
    return wanted is not None or not opened.variant(precision, provider).get("gate", {}).get("refused")


def _splits(cores: int) -> Iterator[tuple[int | None, int]]:
    """Threads per stream, and streams: one stream with all cores or with one, a stream per core, halves between."""
    yield None, 1
    yield 1, 1
    streams = 2
    while streams <= cores:
        yield cores // streams, streams
        streams *= 2
    yield 1, cores


def measure(opened: Bundle, tried: Plan, seconds: float) -> TuningResult:
    """One plan, with black images of the right size: what the pixels show does not change what a convolution costs.

    Args:
        opened: the bundle.
        tried: the plan.
        seconds: of measuring, warm-up not counted.

    Raises:
        BundleError, ProviderError: it does not run.
    """
    running = classifier.load_model(opened, tried).backends
    batches = [np.zeros((tried.batch, member.input.height, member.input.width, 3), np.uint8) for member in opened.members]

    def call() -> None:
        for backend, batch in zip(running, batches, strict=True):
            backend.infer(batch)

    times: list[list[float]] = [[] for _ in range(tried.streams)]
    failures: list[BaseException] = []

    def work(own: list[float]) -> None:
        try:
            while not own or time.perf_counter() < ends:  # a busy machine may let the time pass before the first call
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
    return TuningResult(tried, 1000 * float(np.median(every)), tried.batch * len(every) / took)


def finals(opened: Bundle, rows: Sequence[TuningResult], seconds: float) -> list[TuningResult]:
    """The best for either purpose once more, in turns: the medians of `TURNS` measurements each."""
    alone = [row for row in rows if row.plan.batch == 1 and row.plan.streams == 1]
    best = sorted(alone, key=lambda row: row.call_ms)[:FINALISTS] + sorted(rows, key=lambda row: -row.images_per_s)[:FINALISTS]
    plans = list(dict.fromkeys(row.plan for row in best))
    turns = in_turns({own: partial(measure, opened, own, seconds) for own in plans}, TURNS)
    return [
        TuningResult(own, float(np.median([row.call_ms for row in results])), float(np.median([row.images_per_s for row in results])))
        for own, results in turns.items()
    ]
