"""MLPerf Inference's scenarios: who asks, how often, and for how long.

| scenario | a query | the next one comes | what counts |
|---|---|---|---|
| SingleStream | 1 image | when the last was answered | 90th percentile of latency |
| MultiStream | 8 images | when the last was answered | 99th percentile of latency |
| Offline | every image at once | - | images a second |
| Server | 1 image | at random, a Poisson process with a seed | most queries a second with the 99th percentile of latency within a bound |

MLPerf asks for 600 s and for a number of queries: with fewer than 64 (90th percentile) or 662 (99th) its early stopping
cannot hold a percentile with 99 % confidence; Offline takes 24,576 images (loadgen/mlperf.conf and the rules of v5.0).
"""

from __future__ import annotations

import itertools
import math
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from bcd_edge.benchmark.statistics import percentile

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What MLPerf says of one.

    Attributes:
        name: as MLPerf writes it.
        images: of a query.
        metric: the percentile that counts, of `bcd_edge.benchmark.statistics.PERCENTILES`, or `images_per_s`.
        queries: fewest that MLPerf takes; images, for Offline.
    """

    name: str
    images: int
    metric: str
    queries: int


SCENARIOS: Final = {
    "singlestream": Scenario("SingleStream", 1, "p90", 64),
    "multistream": Scenario("MultiStream", 8, "p99", 662),
    "offline": Scenario("Offline", 1, "images_per_s", 24_576),
    "server": Scenario("Server", 1, "p99", 662),
}
MLPERF_SECONDS: Final = 600.0
MLPERF_BOUND_S: Final = 0.015  # resnet50.Server.target_latency

# Server: a probe of the search lasts this share of the run, and the search halves its range so often.
PROBE_SHARE: Final = 0.25
PROBES: Final = 6
PROBE_BOUNDS: Final = 20
BACKS_OFF: Final = 5
BACK_OFF: Final = 0.9
# A rate at which the oldest query waits so many bounds will not be held any more: the probe ends there.
HOPELESS: Final = 10
# Beyond this a generator in Python measures itself.
MOST_QPS: Final = 20_000.0
FAREWELL_S: Final = 5.0


class Subject(Protocol):
    """What is measured; samples are numbers of images in its library.

    Attributes:
        library: how many images there are.
        inferences: how many callers `ask` takes at the same time.
    """

    library: int
    inferences: int

    def ask(self, samples: Sequence[int]) -> None:
        """Answers these; returns when all are answered."""

    def stream(self, samples: Iterator[int]) -> Iterator[tuple[int, float]]:
        """Answers as fast as it can; yields for each answer how many images it had and how many seconds they were under way."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a run is long enough.

    Attributes:
        duration_s: at least so long.
        queries: at least so many; 0 for as many as MLPerf takes (none for Offline).
        limit_s: never longer than this; a run that has too few queries by then is not valid.
        bound_s: Server: the latency that the 99th percentile must keep.
        qps: Server: queries a second; 0 to search the most that hold the bound.
        seed: of arrivals and of the order of images.
    """

    duration_s: float = 10.0
    queries: int = 0
    limit_s: float = 60.0
    bound_s: float = 0.1
    qps: float = 0.0
    seed: int = 0

    def wanted(self, key: str) -> int:
        return self.queries or (1 if key == "offline" else SCENARIOS[key].queries)


@dataclass(frozen=True, slots=True)
class Measured:
    """One run.

    Attributes:
        latencies_s: float64 Q, in the order of `ends_s`; of a batch, or of an image on its way, for Offline.
        ends_s: float64 Q, ascending: when each was answered, from the start.
        images: of each query.
        elapsed_s: until the last was answered.
        started_s: when it began, by `time.perf_counter`.
        qps: Server: the rate that was scheduled; 0 elsewhere.
        service_s: Server: float64 Q, what of `latencies_s` was not waiting for others; None elsewhere.
        bracket: Server, where the rate was searched: a rate that held the bound, and the lowest that did not.
        overrun: Server: queries piled up, and the run was given up.
    """

    latencies_s: Floats
    ends_s: Floats
    images: int
    elapsed_s: float
    started_s: float = 0.0
    qps: float = 0.0
    service_s: Floats | None = None
    bracket: tuple[float, float] | None = None
    overrun: bool = False

    @property
    def answered(self) -> int:
        return self.images * len(self.ends_s)


def measure(key: str, subject: Subject, rule: Rule) -> Measured:
    """Runs one scenario; the subject is warm.

    Args:
        key: of `SCENARIOS`.
        subject: what is asked.
        rule: when to stop.
    """
    if key == "offline":
        return _offline(subject, rule)
    if key == "server":
        return _server(subject, rule, rule.qps) if rule.qps else _search(subject, rule)
    return _closed(subject, SCENARIOS[key].images, rule, rule.wanted(key))


def _order(subject: Subject, seed: int) -> Iterator[int]:
    """Images at random, with replacement, for ever."""
    return itertools.cycle(np.random.default_rng(seed).integers(0, subject.library, 4096).tolist())


def _closed(subject: Subject, images: int, rule: Rule, wanted: int) -> Measured:
    """One query after another."""
    order = _order(subject, rule.seed)
    ends: list[float] = []
    latencies: list[float] = []
    started = now = time.perf_counter()
    while _goes_on(now - started, len(ends), wanted, rule):
        samples = [next(order) for _ in range(images)]
        begun = time.perf_counter()
        subject.ask(samples)
        now = time.perf_counter()
        latencies.append(now - begun)
        ends.append(now - started)
    return Measured(np.array(latencies), np.array(ends), images, ends[-1], started)


def _goes_on(elapsed_s: float, queries: int, wanted: int, rule: Rule) -> bool:
    return queries == 0 or (elapsed_s < rule.limit_s and (elapsed_s < rule.duration_s or queries < wanted))


def _offline(subject: Subject, rule: Rule) -> Measured:
    """All images are there from the start: the queue is never empty until the time is over."""
    ends, latencies = [], []
    images = 1
    started = time.perf_counter()
    with closing(subject.stream(_order(subject, rule.seed))) as answers:  # type: ignore[type-var]
        for images, latency in answers:
            now = time.perf_counter() - started
            ends.append(now)
            latencies.append(latency)
            if not _goes_on(now, images * len(ends), rule.wanted("offline"), rule):
                break
    return Measured(np.array(latencies), np.array(ends), images, ends[-1], started)


def _server(subject: Subject, rule: Rule, qps: float) -> Measured:
    """Poisson arrivals; latency counts from when a query was due, so that a late generator hides nothing."""
    due, samples = _arrivals(subject, rule, qps)
    crew = _Crew(subject, due, samples)
    try:
        for index, at in enumerate(due):
            while (left := at - crew.now()) > 0:
                time.sleep(left)
            if crew.failure or crew.now() - due[len(crew.answers)] > HOPELESS * rule.bound_s:
                break
            crew.todo.put(index)
        else:
            crew.finish()
    finally:
        crew.stop()
    if crew.failure:
        raise crew.failure
    answers = sorted(crew.answers) or [(crew.now(), crew.now(), crew.now())]
    ends, latencies, service = (np.array(column) for column in zip(*answers, strict=True))
    return Measured(latencies, ends, 1, float(ends[-1]), crew.started, qps, service, overrun=len(crew.answers) < len(due))


def _arrivals(subject: Subject, rule: Rule, qps: float) -> tuple[Floats, list[int]]:
    """When queries are due, seconds from the start, and for which images."""
    random = np.random.default_rng(rule.seed)
    due = np.cumsum(random.exponential(1 / qps, math.ceil(1.5 * qps * rule.limit_s) + 50))
    count = max(int(np.searchsorted(due, rule.duration_s)) + 1, rule.wanted("server"))
    due = due[: min(count, int(np.searchsorted(due, rule.limit_s)) + 1)]
    return due, random.integers(0, subject.library, len(due)).tolist()


class _Crew:
    """Threads that answer what has arrived; `answers` are when, after how long, and how much of that was no waiting, in seconds."""

    def __init__(self, subject: Subject, due: Floats, samples: list[int]) -> None:
        self.todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.answers: list[tuple[float, float, float]] = []
        self.failure: Exception | None = None
        self._stopped = False
        self.started = time.perf_counter()
        self._threads = [threading.Thread(target=self._work, args=(subject, due, samples), daemon=True) for _ in range(subject.inferences)]
        for thread in self._threads:
            thread.start()

    def now(self) -> float:
        return time.perf_counter() - self.started

    def _work(self, subject: Subject, due: Floats, samples: list[int]) -> None:
        while (index := self.todo.get()) is not None and not self._stopped:
            begun = self.now()
            try:
                subject.ask([samples[index]])
            except Exception as error:
                self.failure = error
                return
            ended = self.now()
            self.answers.append((ended, ended - float(due[index]), ended - begun))

    def finish(self) -> None:
        """Waits until everything that has arrived is answered."""
        for _ in self._threads:
            self.todo.put(None)
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        self._stopped = True
        for _ in self._threads:
            self.todo.put(None)
        for thread in self._threads:
            thread.join(FAREWELL_S)


def probe_s(rule: Rule) -> float:
    """How long a probe lasts: in less, queries do not pile up enough to be seen."""
    return max(PROBE_SHARE * rule.duration_s, PROBE_BOUNDS * rule.bound_s)


def _search(subject: Subject, rule: Rule) -> Measured:
    """The highest rate that holds the bound: halves the range between one that does and one that does not, then runs the full time.

    Where the whole run does not hold what its short probe did, the rate goes down by `BACK_OFF`, `BACKS_OFF` times at most.
    """
    seconds = probe_s(rule)
    probe = replace(rule, duration_s=seconds, queries=1, limit_s=seconds)
    alone = time.perf_counter()
    subject.ask([0])
    good, bad = 0.0, min(MOST_QPS, 1.25 * subject.inferences / (time.perf_counter() - alone))
    while bad < MOST_QPS and holds(_server(subject, probe, bad), rule):
        good, bad = bad, min(MOST_QPS, 2 * bad)
    for _ in range(PROBES):
        rate = (good + bad) / 2
        good, bad = (rate, bad) if holds(_server(subject, probe, rate), rule) else (good, rate)
    rate = good or bad / 2
    for _ in range(BACKS_OFF):
        found = _server(subject, rule, rate)
        if holds(found, rule):
            return replace(found, bracket=(rate, bad))
        bad, rate = rate, rate * BACK_OFF
    return replace(found, bracket=(0.0, bad))


def described(key: str, rule: Rule) -> str:
    """By what a row is valid, in words."""
    count, bound = rule.wanted(key), f", p99 within {1000 * rule.bound_s:g} ms" if key == "server" else ""
    return f"{rule.duration_s:g} s" + (f" and {count} {'images' if key == 'offline' else 'queries'}" if count > 1 else "") + bound


def holds(found: Measured, rule: Rule) -> bool:
    """Whether a Server run kept its bound."""
    return not found.overrun and percentile(found.latencies_s, 0.99).value <= rule.bound_s


def faults(key: str, found: Measured, rule: Rule) -> list[str]:
    """Why a run is not valid by the rule it was measured with; empty if it is."""
    said, wanted = [], rule.wanted(key)
    count, what = (found.answered, "images") if key == "offline" else (len(found.ends_s), "queries")
    if found.elapsed_s < rule.duration_s:
        said.append(f"{found.elapsed_s:.1f} of {rule.duration_s:g} s")
    if count < wanted:
        said.append(f"{count} of {wanted} {what}")
    if key == "server" and not holds(found, rule):
        said.append("queries piled up" if found.overrun else f"99th percentile above {1000 * rule.bound_s:g} ms")
    return said


def mlperf_faults(key: str, found: Measured, rule: Rule) -> list[str]:
    """Which of MLPerf's own conditions a run does not meet; its accuracy is judged by the bundle's gate and not here."""
    strict = replace(rule, duration_s=MLPERF_SECONDS, queries=SCENARIOS[key].queries, bound_s=min(rule.bound_s, MLPERF_BOUND_S))
    return faults(key, found, strict)
