"""Measures which provider, variant, batch size, threads and streams are fastest here, for `bcd_edge.plan`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from typing import Final

import numpy as np

from bcd_edge import backends, loading, plugins
from bcd_edge.bundle import Bundle
from bcd_edge.errors import ProviderError
from bcd_edge.interleaved import in_turns
from bcd_edge.options import Plan, RunOptions
from bcd_edge.plan import TuningResult
from bcd_edge.system import machine

CPU_BATCHES: Final = (1, 2, 4, 16)
GPU_BATCHES: Final = (1, 8, 32, 64)
WARM_UP: Final = 3
# The best are measured again, in turns, because measurements minutes apart are not comparable if the machine's speed drifts.
FINALISTS: Final = 3
TURNS: Final = 3


def candidates(opened: Bundle, options: RunOptions) -> list[Plan]:
    """Every plan to measure here: available providers x variants x batch sizes x threads per stream.

    A variant that the accuracy gate refused is only included if its precision is requested, so that it is never chosen for
    its speed.

    Raises:
        ProviderError: no provider, or not the requested one, runs here.
    """
    plans: list[Plan] = []
    reasons = []
    for name in [options.provider] if options.provider else backends.engines():
        wanted = [precision for precision in dict.fromkeys(opened.precisions) if _may_tune(opened, name, precision, options.precision)]
        answers = {precision: backends.availability(name, opened.variant(precision, name), options.device) for precision in wanted}
        precisions = [precision for precision in wanted if answers[precision].available]
        if not precisions:
            reasons += [f"{name}: {answer.reason}; fix: {answer.fix}" for answer in list(answers.values())[:1]] or [
                f"{name}: {opened.name} has no such variant for this provider"
            ]
            continue
        on_cpu = plugins.load(backends.PROVIDERS, name).runs_on_cpu(options.device)
        splits = list(dict.fromkeys(_splits(machine.cores()))) if on_cpu else [(None, 1), (None, 2)]
        for precision, batch in product(precisions, CPU_BATCHES if on_cpu else GPU_BATCHES):
            for threads, streams in splits:
                plan = Plan(**asdict(options) | {"provider": name, "batch": batch, "streams": streams})
                plans.append(replace(plan, precision=precision, threads=threads))
    if not plans:
        raise ProviderError(f"No requested provider can be tuned here. {'. '.join(reasons)}.")
    return plans


def _may_tune(opened: Bundle, provider: str, precision: str, requested: str | None) -> bool:
    """Whether the variant that would run at a precision is a candidate."""
    if requested not in (None, precision) or not any(variant["precision"] == precision for variant in opened.variants(provider)):
        return False
    return requested is not None or not opened.variant(precision, provider).get("gate", {}).get("refused")


def _splits(cores: int) -> Iterator[tuple[int | None, int]]:
    """Threads per stream, and streams: one stream with all cores or one core, and powers of two up to one stream per core."""
    yield None, 1
    yield 1, 1
    streams = 2
    while streams <= cores:
        yield cores // streams, streams
        streams *= 2
    yield 1, cores


def estimated_s(candidate_count: int, seconds: float) -> float:
    """About how many seconds measuring takes, without loading and compiling each model."""
    return seconds * (candidate_count + TURNS * min(2 * FINALISTS, candidate_count))


def measure(opened: Bundle, plan: Plan, seconds: float) -> TuningResult:
    """Measures one plan with black images, because the time of a convolution does not depend on the pixels.

    Args:
        opened: the bundle.
        plan: the plan.
        seconds: duration of the measurement without warm-up.

    Raises:
        BundleError, ProviderError: it does not run.
    """
    engines = loading.load_model(opened, plan).backends
    batches = [np.zeros((plan.batch, member.input.height, member.input.width, 3), np.uint8) for member in opened.members]

    def call() -> None:
        for backend, batch in zip(engines, batches, strict=True):
            backend.infer(batch)

    times: list[list[float]] = [[] for _ in range(plan.streams)]
    failures: list[BaseException] = []

    def work(call_times: list[float]) -> None:
        try:
            while not call_times or time.perf_counter() < ends:  # a busy machine may let the time pass before the first call
                started = time.perf_counter()
                call()
                call_times.append(time.perf_counter() - started)
        except BaseException as error:
            failures.append(error)

    try:
        for _ in range(WARM_UP):
            call()
        begun = time.perf_counter()
        ends = begun + seconds
        threads = [threading.Thread(target=work, args=(call_times,), daemon=True) for call_times in times]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - begun
    finally:
        for backend in engines:
            backend.close()
    if failures:
        raise failures[0]
    every = [call_s for call_times in times for call_s in call_times]
    return TuningResult(plan, 1000 * float(np.median(every)), plan.batch * len(every) / took)


def finals(opened: Bundle, rows: Sequence[TuningResult], seconds: float) -> list[TuningResult]:
    """Measures the best for each purpose again, in turns: medians of `TURNS` measurements each."""
    single = [row for row in rows if row.plan.batch == 1 and row.plan.streams == 1]
    best = sorted(single, key=lambda row: row.call_ms)[:FINALISTS] + sorted(rows, key=lambda row: -row.images_per_s)[:FINALISTS]
    plans = list(dict.fromkeys(row.plan for row in best))
    turns = in_turns({plan: partial(measure, opened, plan, seconds) for plan in plans}, TURNS)
    return [
        TuningResult(plan, float(np.median([row.call_ms for row in results])), float(np.median([row.images_per_s for row in results])))
        for plan, results in turns.items()
    ]
