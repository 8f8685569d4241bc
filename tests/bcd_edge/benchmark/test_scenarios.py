"""Who asks, how often, for how long: by counting what a subject is asked, never by a clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from bcd_edge.benchmark import scenarios
from bcd_edge.benchmark.scenarios import Measured, Rule
from bcd_edge.errors import ProviderError


class Counting:
    """Remembers what it was asked, and how many asked at once."""

    library = 5

    def __init__(self, takes_s: float = 0.0, inferences: int = 1, fails_after: int = 10**9) -> None:
        self.inferences, self._takes_s, self._fails_after = inferences, takes_s, fails_after
        self.asked: list[list[int]] = []
        self.at_once = self.most = 0
        self._lock = threading.Lock()

    def ask(self, samples: Sequence[int]) -> None:
        with self._lock:
            self.asked.append(list(samples))
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        if len(self.asked) > self._fails_after:
            raise ProviderError("it broke")
        time.sleep(self._takes_s)
        with self._lock:
            self.at_once -= 1

    def stream(self, samples: Iterator[int]) -> Iterator[tuple[int, float]]:
        while True:
            self.ask([next(samples) for _ in range(4)])
            yield 4, self._takes_s


def short(**how: float) -> Rule:
    return Rule(**({"duration_s": 1e-9, "queries": 30, "limit_s": 60.0} | how))


@pytest.mark.parametrize(("key", "images"), [("singlestream", 1), ("multistream", 8)])
def test_one_query_after_another(key: str, images: int) -> None:
    subject = Counting(inferences=4)
    found = scenarios.measure(key, subject, short())
    assert len(found.ends_s) == len(found.latencies_s) == len(subject.asked) == 30
    assert {len(samples) for samples in subject.asked} == {images}
    assert subject.most == 1
    assert {sample for samples in subject.asked for sample in samples} == set(range(5))
    assert found.answered == 30 * images
    assert (np.diff(found.ends_s) > 0).all()
    assert found.ends_s[-1] == found.elapsed_s >= found.latencies_s.sum()


def test_both_the_time_and_the_queries_must_be_reached() -> None:
    long = scenarios.measure("singlestream", Counting(0.001), short(duration_s=0.1, queries=3))
    assert long.elapsed_s >= 0.1
    assert len(long.ends_s) > 3
    many = scenarios.measure("singlestream", Counting(), short(duration_s=1e-9, queries=500))
    assert len(many.ends_s) == 500


def test_the_limit_ends_a_run_and_it_is_not_valid() -> None:
    rule = short(queries=10_000, limit_s=0.05)
    found = scenarios.measure("singlestream", Counting(0.005), rule)
    assert 1 <= len(found.ends_s) < 10_000
    assert scenarios.faults("singlestream", found, rule) == [f"{len(found.ends_s)} of 10000 queries"]


def test_the_same_seed_asks_for_the_same_images() -> None:
    first, second, other = Counting(), Counting(), Counting()
    for subject, seed in ((first, 1), (second, 1), (other, 2)):
        scenarios.measure("singlestream", subject, short(seed=seed))
    assert first.asked == second.asked != other.asked


def test_offline_counts_images_and_stops_the_stream() -> None:
    subject = Counting()
    found = scenarios.measure("offline", subject, short(queries=10))
    assert found.answered == 12
    assert len(subject.asked) == 3


def test_server_arrivals_are_a_poisson_process_with_a_seed() -> None:
    rule = Rule(duration_s=20.0, queries=1, limit_s=60.0, seed=3)
    due, samples = scenarios._arrivals(Counting(), rule, 100.0)
    again, _ = scenarios._arrivals(Counting(), rule, 100.0)
    assert np.array_equal(due, again)
    assert due[-2] < 20 <= due[-1]
    assert len(samples) == len(due)
    gaps = np.diff(due)
    assert gaps.mean() == pytest.approx(0.01, rel=0.1)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)  # exponential
    more, _ = scenarios._arrivals(Counting(), Rule(duration_s=1.0, queries=500, limit_s=60.0), 100.0)
    assert len(more) == 500
    cut, _ = scenarios._arrivals(Counting(), Rule(duration_s=1.0, queries=500, limit_s=2.0), 100.0)
    assert cut[-2] < 2


def test_server_answers_all_and_uses_every_inference() -> None:
    subject = Counting(0.01, inferences=3)
    found = scenarios.measure("server", subject, short(qps=1000.0, queries=60, bound_s=1.0))
    assert len(found.ends_s) == 60
    assert subject.most == 3
    assert not found.overrun
    assert (found.latencies_s >= found.service_s - 1e-9).all()
    assert (np.diff(found.ends_s) >= 0).all()


def test_a_rate_beyond_reach_is_given_up_and_does_not_hold() -> None:
    rule = short(qps=2000.0, queries=10_000, bound_s=0.01)
    found = scenarios.measure("server", Counting(0.02), rule)
    assert found.overrun
    assert len(found.ends_s) < 10_000
    assert not scenarios.holds(found, rule)
    assert "queries piled up" in scenarios.faults("server", found, rule)


def test_the_search_finds_a_rate_between_one_that_holds_and_one_that_does_not() -> None:
    rule = Rule(duration_s=0.3, queries=20, limit_s=1.0, bound_s=0.05)
    found = scenarios.measure("server", Counting(0.005), rule)
    low, high = found.bracket
    assert low == found.qps > 0
    assert low < high
    assert low < 200  # one at a time, 5 ms each
    assert scenarios.holds(found, rule)


def test_a_bound_that_nothing_keeps_is_not_valid() -> None:
    rule = Rule(duration_s=0.05, queries=5, limit_s=0.2, bound_s=0.001)
    found = scenarios.measure("server", Counting(0.005), rule)
    assert scenarios.faults("server", found, rule)
    assert found.bracket[0] == 0


@pytest.mark.parametrize("key", list(scenarios.SCENARIOS))
def test_an_engine_that_fails_ends_the_run(key: str) -> None:
    with pytest.raises(ProviderError, match="it broke"):
        scenarios.measure(key, Counting(fails_after=3), short(qps=500.0))


def measured(queries: int, elapsed_s: float, images: int = 1, latency_s: float = 0.01) -> Measured:
    return Measured(np.full(queries, latency_s), np.linspace(elapsed_s / queries, elapsed_s, queries), images, elapsed_s)


@pytest.mark.parametrize(
    ("key", "found", "said"),
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
def test_mlperfs_conditions(key: str, found: Measured, said: list[str]) -> None:
    assert scenarios.mlperf_faults(key, found, Rule()) == said


def test_a_short_run_is_valid_by_its_own_rule_and_not_by_mlperfs() -> None:
    rule, found = Rule(duration_s=2.0, queries=64), measured(70, 2.0)
    assert scenarios.faults("singlestream", found, rule) == []
    assert scenarios.mlperf_faults("singlestream", found, rule) == ["2.0 of 600 s"]
