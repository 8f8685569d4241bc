"""How often and for how long each scenario queries: by counting the queries a SUT gets, never by a clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from bcd_edge.benchmark import load_generator, scenarios
from bcd_edge.benchmark.scenarios import Measurement, Rule
from bcd_edge.errors import ProviderError


class Counting:
    """Records its queries, and how many ran at once."""

    samples = 5

    def __init__(self, takes_s: float = 0.0, streams: int = 1, fails_after: int = 10**9) -> None:
        self.streams, self._takes_s, self._fails_after = streams, takes_s, fails_after
        self.queries: list[list[int]] = []
        self.at_once = self.most = 0
        self._lock = threading.Lock()

    def query(self, samples: Sequence[int]) -> None:
        with self._lock:
            self.queries.append(list(samples))
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        if len(self.queries) > self._fails_after:
            raise ProviderError("it broke")
        time.sleep(self._takes_s)
        with self._lock:
            self.at_once -= 1

    def stream(self, samples: Iterator[int]) -> Iterator[tuple[int, float]]:
        while True:
            self.query([next(samples) for _ in range(4)])
            yield 4, self._takes_s


def short(**how: float) -> Rule:
    return Rule(**({"duration_s": 1e-9, "queries": 30, "limit_s": 60.0} | how))


@pytest.mark.parametrize(("key", "images"), [("singlestream", 1), ("multistream", 8)])
def test_one_query_after_another(key: str, images: int) -> None:
    sut = Counting(streams=4)
    run = load_generator.measure(key, sut, short())
    assert len(run.ends_s) == len(run.latencies_s) == len(sut.queries) == 30
    assert {len(samples) for samples in sut.queries} == {images}
    assert sut.most == 1
    assert {sample for samples in sut.queries for sample in samples} == set(range(5))
    assert run.answered == 30 * images
    assert (np.diff(run.ends_s) > 0).all()
    assert run.ends_s[-1] == run.elapsed_s >= run.latencies_s.sum()


def test_both_the_time_and_the_queries_must_be_reached() -> None:
    long = load_generator.measure("singlestream", Counting(0.001), short(duration_s=0.1, queries=3))
    assert long.elapsed_s >= 0.1
    assert len(long.ends_s) > 3
    many = load_generator.measure("singlestream", Counting(), short(duration_s=1e-9, queries=500))
    assert len(many.ends_s) == 500


def test_the_limit_ends_a_run_and_it_is_not_valid() -> None:
    rule = short(queries=10_000, limit_s=0.05)
    run = load_generator.measure("singlestream", Counting(0.005), rule)
    assert 1 <= len(run.ends_s) < 10_000
    assert scenarios.violations("singlestream", run, rule) == [f"{len(run.ends_s)} of 10000 queries"]


def test_the_same_seed_asks_for_the_same_images() -> None:
    first, second, other = Counting(), Counting(), Counting()
    for sut, seed in ((first, 1), (second, 1), (other, 2)):
        load_generator.measure("singlestream", sut, short(seed=seed))
    assert first.queries == second.queries != other.queries


def test_offline_counts_images_and_stops_the_stream() -> None:
    sut = Counting()
    run = load_generator.measure("offline", sut, short(queries=10))
    assert run.answered == 12
    assert len(sut.queries) == 3


def test_server_arrivals_are_a_poisson_process_with_a_seed() -> None:
    rule = Rule(duration_s=20.0, queries=1, limit_s=60.0, seed=3)
    due, samples = load_generator._arrivals(Counting(), rule, 100.0)
    again, _ = load_generator._arrivals(Counting(), rule, 100.0)
    assert np.array_equal(due, again)
    assert due[-2] < 20 <= due[-1]
    assert len(samples) == len(due)
    gaps = np.diff(due)
    assert gaps.mean() == pytest.approx(0.01, rel=0.1)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)  # exponential
    more, _ = load_generator._arrivals(Counting(), Rule(duration_s=1.0, queries=500, limit_s=60.0), 100.0)
    assert len(more) == 500
    cut, _ = load_generator._arrivals(Counting(), Rule(duration_s=1.0, queries=500, limit_s=2.0), 100.0)
    assert cut[-2] < 2


def test_server_answers_all_and_uses_every_inference() -> None:
    sut = Counting(0.01, streams=3)
    run = load_generator.measure("server", sut, short(qps=1000.0, queries=60, bound_s=1.0))
    assert len(run.ends_s) == 60
    assert sut.most == 3
    assert not run.server.overrun
    assert (run.latencies_s >= run.server.service_s - 1e-9).all()
    assert (np.diff(run.ends_s) >= 0).all()


def test_a_rate_beyond_reach_is_given_up_and_does_not_hold() -> None:
    rule = short(qps=2000.0, queries=10_000, bound_s=0.01)
    run = load_generator.measure("server", Counting(0.02), rule)
    assert run.server.overrun
    assert len(run.ends_s) < 10_000
    assert not scenarios.within_bound(run, rule)
    assert "the backlog grew" in scenarios.violations("server", run, rule)


def test_the_search_finds_a_rate_between_one_that_holds_and_one_that_does_not() -> None:
    rule = Rule(duration_s=0.3, queries=20, limit_s=1.0, bound_s=0.05)
    run = load_generator.measure("server", Counting(0.005), rule)
    low, high = run.server.bracket
    assert low == run.server.qps > 0
    assert low < high
    assert low < 200  # one at a time, 5 ms each
    assert scenarios.within_bound(run, rule)


def test_a_bound_that_nothing_keeps_is_not_valid() -> None:
    rule = Rule(duration_s=0.05, queries=5, limit_s=0.2, bound_s=0.001)
    run = load_generator.measure("server", Counting(0.005), rule)
    assert scenarios.violations("server", run, rule)
    assert run.server.bracket[0] == 0


@pytest.mark.parametrize("key", list(scenarios.SCENARIOS))
def test_an_engine_that_fails_ends_the_run(key: str) -> None:
    with pytest.raises(ProviderError, match="it broke"):
        load_generator.measure(key, Counting(fails_after=3), short(qps=500.0))


def measured(queries: int, elapsed_s: float, images: int = 1, latency_s: float = 0.01) -> Measurement:
    return Measurement(np.full(queries, latency_s), np.linspace(elapsed_s / queries, elapsed_s, queries), images)


@pytest.mark.parametrize(
    ("key", "run", "expected"),
    [
        ("singlestream", measured(64, 600.0), []),
        ("singlestream", measured(63, 600.0), ["63 of 64 queries"]),
        ("singlestream", measured(64, 599.0), ["599.0 of 600 s"]),
        ("multistream", measured(661, 600.0, 8), ["661 of 662 queries"]),
        ("multistream", measured(662, 600.0, 8), []),
        ("offline", measured(768, 600.0, 32), []),
        ("offline", measured(767, 600.0, 32), ["24544 of 24576 images"]),
        ("server", measured(662, 600.0), []),
        ("server", measured(662, 600.0, 1, 0.016), ["99th percentile above 15 ms"]),
    ],
)
def test_mlperfs_conditions(key: str, run: Measurement, expected: list[str]) -> None:
    assert scenarios.mlperf_violations(key, run, Rule()) == expected


def test_a_short_run_is_valid_by_its_own_rule_and_not_by_mlperfs() -> None:
    rule, run = Rule(duration_s=2.0, queries=64), measured(70, 2.0)
    assert scenarios.violations("singlestream", run, rule) == []
    assert scenarios.mlperf_violations("singlestream", run, rule) == ["2.0 of 600 s"]


def test_turns_are_joined_without_the_time_between_them() -> None:
    run = scenarios.joined([measured(2, 1.0), measured(4, 2.0, latency_s=0.5)])
    assert run.ends_s.tolist() == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert run.latencies_s.tolist() == [0.01, 0.01, 0.5, 0.5, 0.5, 0.5]
    assert (run.elapsed_s, run.answered) == (3.0, 6)
