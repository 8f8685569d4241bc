"""Generates the load of a scenario on a system under test, and records every response."""

from __future__ import annotations

import itertools
import math
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Final

import numpy as np

from bcd_edge.benchmark.scenarios import SCENARIOS, Floats, Measurement, Rule, ServerLoad, SystemUnderTest, within_bound

# Server: a probe lasts this share of the run; the search bisects its range this many times.
PROBE_SHARE: Final = 0.25
PROBES: Final = 6
PROBE_BOUNDS: Final = 20
BACK_OFFS: Final = 5
BACK_OFF: Final = 0.9
# A run ends early once the oldest query has waited this many bounds: the backlog will not recover.
GIVE_UP_BOUNDS: Final = 10
# At higher rates a load generator in Python measures itself.
MAX_QPS: Final = 20_000.0
SHUTDOWN_TIMEOUT_S: Final = 5.0


def measure(key: str, sut: SystemUnderTest, rule: Rule) -> Measurement:
    """Runs one scenario on a SUT that is warm.

    Args:
        key: of `SCENARIOS`.
        sut: what is measured.
        rule: when to stop.
    """
    if key == "offline":
        return _offline(sut, rule)
    if key == "server":
        return _server(sut, rule, rule.qps) if rule.qps else _search(sut, rule)
    return _closed(sut, SCENARIOS[key].images, rule, rule.min_queries(key))


def _order(sut: SystemUnderTest, seed: int) -> Iterator[int]:
    """Endless random samples, with replacement."""
    return itertools.cycle(np.random.default_rng(seed).integers(0, sut.samples, 4096).tolist())


def _closed(sut: SystemUnderTest, images: int, rule: Rule, min_queries: int) -> Measurement:
    """One query after another."""
    order = _order(sut, rule.seed)
    ends: list[float] = []
    latencies: list[float] = []
    started = now = time.perf_counter()
    while _continues(now - started, len(ends), min_queries, rule):
        samples = [next(order) for _ in range(images)]
        issued = time.perf_counter()
        sut.query(samples)
        now = time.perf_counter()
        latencies.append(now - issued)
        ends.append(now - started)
    return Measurement(np.array(latencies), np.array(ends), images, started)


def _continues(elapsed_s: float, queries: int, min_queries: int, rule: Rule) -> bool:
    return queries == 0 or (elapsed_s < rule.limit_s and (elapsed_s < rule.duration_s or queries < min_queries))


def _offline(sut: SystemUnderTest, rule: Rule) -> Measurement:
    """All images are available from the start: the queue is never empty before the time is over."""
    ends, latencies = [], []
    images = 1
    started = time.perf_counter()
    with closing(sut.stream(_order(sut, rule.seed))) as responses:  # type: ignore[type-var]
        for images, latency in responses:
            now = time.perf_counter() - started
            ends.append(now)
            latencies.append(latency)
            if not _continues(now, images * len(ends), rule.min_queries("offline"), rule):
                break
    return Measurement(np.array(latencies), np.array(ends), images, started)


def _server(sut: SystemUnderTest, rule: Rule, qps: float) -> Measurement:
    """Poisson arrivals. Latency counts from the scheduled arrival, so that a late load generator hides nothing (no coordinated omission)."""
    due, samples = _arrivals(sut, rule, qps)
    pool = _WorkerPool(sut, due, samples)
    try:
        for index, arrival in enumerate(due):
            while (left := arrival - pool.now()) > 0:
                time.sleep(left)
            if pool.failure or pool.now() - due[len(pool.responses)] > GIVE_UP_BOUNDS * rule.bound_s:
                break
            pool.todo.put(index)
        else:
            pool.finish()
    finally:
        pool.stop()
    if pool.failure:
        raise pool.failure
    responses = sorted(pool.responses) or [(pool.now(), pool.now(), pool.now())]
    ends, latencies, service = (np.array(column) for column in zip(*responses, strict=True))
    return Measurement(latencies, ends, 1, pool.started, ServerLoad(qps, service, overrun=len(pool.responses) < len(due)))


def _arrivals(sut: SystemUnderTest, rule: Rule, qps: float) -> tuple[Floats, list[int]]:
    """Arrival times of queries in seconds from the start, and their samples."""
    random = np.random.default_rng(rule.seed)
    due = np.cumsum(random.exponential(1 / qps, math.ceil(1.5 * qps * rule.limit_s) + 50))
    count = max(int(np.searchsorted(due, rule.duration_s)) + 1, rule.min_queries("server"))
    due = due[: min(count, int(np.searchsorted(due, rule.limit_s)) + 1)]
    return due, random.integers(0, sut.samples, len(due)).tolist()


class _WorkerPool:
    """Threads that process queries as they arrive; `responses` are (end, latency, service time) in seconds."""

    def __init__(self, sut: SystemUnderTest, due: Floats, samples: list[int]) -> None:
        self.todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.responses: list[tuple[float, float, float]] = []
        self.failure: Exception | None = None
        self._stopped = False
        self.started = time.perf_counter()
        self._threads = [threading.Thread(target=self._work, args=(sut, due, samples), daemon=True) for _ in range(sut.streams)]
        for thread in self._threads:
            thread.start()

    def now(self) -> float:
        return time.perf_counter() - self.started

    def _work(self, sut: SystemUnderTest, due: Floats, samples: list[int]) -> None:
        while (index := self.todo.get()) is not None and not self._stopped:
            begun = self.now()
            try:
                sut.query([samples[index]])
            except Exception as error:
                self.failure = error
                return
            ended = self.now()
            self.responses.append((ended, ended - float(due[index]), ended - begun))

    def finish(self) -> None:
        """Waits until all queries that have arrived are processed."""
        for _ in self._threads:
            self.todo.put(None)
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        self._stopped = True
        for _ in self._threads:
            self.todo.put(None)
        for thread in self._threads:
            thread.join(SHUTDOWN_TIMEOUT_S)


def probe_s(rule: Rule) -> float:
    """Duration of a probe: in less time a backlog does not grow enough to be seen."""
    return max(PROBE_SHARE * rule.duration_s, PROBE_BOUNDS * rule.bound_s)


def _search(sut: SystemUnderTest, rule: Rule) -> Measurement:
    """The highest rate within the bound, by bisection with short probes, then a run of the full duration.

    If the full run exceeds the bound that its probe kept, the rate is reduced by the factor `BACK_OFF`, at most `BACK_OFFS` times.
    """
    seconds = probe_s(rule)
    probe = replace(rule, duration_s=seconds, queries=1, limit_s=seconds)
    started = time.perf_counter()
    sut.query([0])
    good, bad = 0.0, min(MAX_QPS, 1.25 * sut.streams / (time.perf_counter() - started))
    while bad < MAX_QPS and within_bound(_server(sut, probe, bad), rule):
        good, bad = bad, min(MAX_QPS, 2 * bad)
    for _ in range(PROBES):
        rate = (good + bad) / 2
        good, bad = (rate, bad) if within_bound(_server(sut, probe, rate), rule) else (good, rate)
    rate = good or bad / 2
    for _ in range(BACK_OFFS):
        run = _server(sut, rule, rate)
        if within_bound(run, rule):
            return _bracketed(run, rate, bad)
        bad, rate = rate, rate * BACK_OFF
    return _bracketed(run, 0.0, bad)


def _bracketed(run: Measurement, within: float, outside: float) -> Measurement:
    assert run.server
    return replace(run, server=replace(run.server, bracket=(within, outside)))
