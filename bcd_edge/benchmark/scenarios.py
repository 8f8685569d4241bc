"""MLPerf Inference's scenarios: the load that each one generates, and for how long.

| scenario | query | next query | metric |
|---|---|---|---|
| SingleStream | 1 image | after the previous response | 90th percentile of latency |
| MultiStream | 8 images | after the previous response | 99th percentile of latency |
| Offline | all images at once | - | images per second |
| Server | 1 image | Poisson process with a seed | highest rate of queries whose 99th percentile of latency is within a bound |

MLPerf requires 600 s and a minimum of queries: with fewer than 64 (90th percentile) or 662 (99th) its early stopping
cannot state a percentile with 99 % confidence; Offline requires 24,576 images (loadgen/mlperf.conf and the rules of v5.0).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from bcd_edge.benchmark.statistics import percentile

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scenario:
    """MLPerf's definition of a scenario.

    Attributes:
        name: as MLPerf spells it.
        images: per query.
        metric: the percentile that is reported, of `bcd_edge.benchmark.statistics.PERCENTILES`, or `images_per_s`.
        queries: minimum of MLPerf; images, for Offline.
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


class SystemUnderTest(Protocol):
    """A system under test (SUT). Samples are indices into its query sample library.

    Attributes:
        samples: number of images in the library.
        streams: how many threads may call `query` at the same time.
    """

    samples: int
    streams: int

    def query(self, samples: Sequence[int]) -> None:
        """Processes these samples; returns when all are done."""

    def stream(self, samples: Iterator[int]) -> Iterator[tuple[int, float]]:
        """Processes samples as fast as it can; yields the number of images and the latency in seconds of each response."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a run is complete.

    Attributes:
        duration_s: minimum duration.
        queries: minimum of queries; 0 for that of MLPerf (none for Offline).
        limit_s: maximum duration; a run with too few queries by then is invalid.
        bound_s: Server: the limit for the 99th percentile of latency.
        qps: Server: queries per second; 0 to search for the highest rate within the bound.
        seed: of arrival times and of the order of images.
    """

    duration_s: float = 10.0
    queries: int = 0
    limit_s: float = 60.0
    bound_s: float = 0.1
    qps: float = 0.0
    seed: int = 0

    def min_queries(self, key: str) -> int:
        return self.queries or (1 if key == "offline" else SCENARIOS[key].queries)


@dataclass(frozen=True, slots=True)
class ServerLoad:
    """What a Server run was given.

    Attributes:
        qps: the scheduled rate.
        service_s: float64 Q, latencies without the time in the queue.
        overrun: the backlog grew, and the run was ended early.
        bracket: if the rate was searched: a rate within the bound, and the lowest one outside.
    """

    qps: float
    service_s: Floats
    overrun: bool = False
    bracket: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """The samples of one run.

    Attributes:
        latencies_s: float64 Q, in the order of `ends_s`; for Offline of a batch, or of an image in the stream.
        ends_s: float64 Q, ascending: time of each response, from the start.
        images: per query.
        started_s: start of the run by `time.perf_counter`.
        server: of the scenario Server.
    """

    latencies_s: Floats
    ends_s: Floats
    images: int
    started_s: float = 0.0
    server: ServerLoad | None = None

    @property
    def elapsed_s(self) -> float:
        """Until the last response."""
        return float(self.ends_s[-1])

    @property
    def answered(self) -> int:
        return self.images * len(self.ends_s)


def joined(runs: Sequence[Measurement]) -> Measurement:
    """Consecutive runs of one scenario as one; the time between them is left out."""
    offsets = np.cumsum([0.0, *(run.elapsed_s for run in runs[:-1])])
    ends_s = np.concatenate([run.ends_s + offset for run, offset in zip(runs, offsets, strict=True)])
    return replace(runs[0], latencies_s=np.concatenate([run.latencies_s for run in runs]), ends_s=ends_s)


def describe(key: str, rule: Rule) -> str:
    """The rule by which a row is valid, in words."""
    count, bound = rule.min_queries(key), f", p99 within {1000 * rule.bound_s:g} ms" if key == "server" else ""
    return f"{rule.duration_s:g} s" + (f" and {count} {'images' if key == 'offline' else 'queries'}" if count > 1 else "") + bound


def within_bound(run: Measurement, rule: Rule) -> bool:
    """Whether a Server run kept its latency bound."""
    return not (run.server and run.server.overrun) and percentile(run.latencies_s, 0.99).value <= rule.bound_s


def violations(key: str, run: Measurement, rule: Rule) -> list[str]:
    """Why a run is invalid by the rule it was measured with; empty if it is valid."""
    reasons, minimum = [], rule.min_queries(key)
    count, unit = (run.answered, "images") if key == "offline" else (len(run.ends_s), "queries")
    if run.elapsed_s < rule.duration_s:
        reasons.append(f"{run.elapsed_s:.1f} of {rule.duration_s:g} s")
    if count < minimum:
        reasons.append(f"{count} of {minimum} {unit}")
    if key == "server" and not within_bound(run, rule):
        reasons.append("the backlog grew" if run.server and run.server.overrun else f"99th percentile above {1000 * rule.bound_s:g} ms")
    return reasons


def mlperf_violations(key: str, run: Measurement, rule: Rule) -> list[str]:
    """MLPerf's own conditions that a run does not meet; accuracy is checked by the gate at export, not here."""
    strict = replace(rule, duration_s=MLPERF_SECONDS, queries=SCENARIOS[key].queries, bound_s=min(rule.bound_s, MLPERF_BOUND_S))
    return violations(key, run, strict)
