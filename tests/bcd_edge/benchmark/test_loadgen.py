"""LoadGen drives a sut of the tests: what it is queries, and what happens when that fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlperf_loadgen", reason='pip install "bcd-edge[loadgen]"')

from bcd_edge.benchmark import loadgen
from bcd_edge.benchmark.scenarios import Rule
from bcd_edge.errors import ProviderError

RULE = Rule(duration_s=0.1, queries=20, limit_s=5.0, qps=200.0)


class Counting:
    samples = 7
    streams = 2

    def __init__(self, fails_after: int = 10**9) -> None:
        self.queries: list[list[int]] = []
        self._fails_after = fails_after

    def query(self, samples: Sequence[int]) -> None:
        self.queries.append(list(samples))
        if len(self.queries) > self._fails_after:
            raise ProviderError("it broke")

    def stream(self, samples: Iterator[int]) -> Iterator[tuple[int, float]]:
        for sample in samples:
            self.query([sample])
            yield 1, 0.0


def row(scenario: str) -> dict[str, Any]:
    names = {"provider": "null", "precision": "int8", "batch": 1, "threads": 0, "streams": 2, "scenario": scenario, "scope": "model"}
    figure = {"value": 1.0, "low": None, "high": None}
    metric = figure | {"name": "images_per_s" if scenario == "Offline" else "p90_ms"}
    server = {"qps": 200.0, "bracket": None, "bound_ms": 100.0} if scenario == "Server" else None
    return names | {"metric": metric, "images_per_s": figure | {"value": 500.0}, "latency_ms": {"mean": figure}, "server": server}


@pytest.mark.parametrize(
    ("key", "scenario", "images"), [("singlestream", "SingleStream", 1), ("multistream", "MultiStream", 8), ("server", "Server", 1)]
)
def test_queries_have_the_scenarios_size(tmp_path: Path, key: str, scenario: str, images: int) -> None:
    sut = Counting()
    result = loadgen.check(key, sut, RULE, row(scenario), tmp_path)
    assert len(sut.queries) >= 20
    assert {len(samples) for samples in sut.queries} == {images}
    assert all(0 <= sample < 7 for samples in sut.queries for sample in samples)
    assert result["value"] > 0
    assert result["verdict"] in ("VALID", "INVALID")


def test_offline_is_one_stream(tmp_path: Path) -> None:
    sut = Counting()
    result = loadgen.check("offline", sut, RULE, row("Offline"), tmp_path)
    assert len(sut.queries) >= 50  # the expected rate times the duration
    assert result["metric"] == "images_per_s"


@pytest.mark.parametrize(("key", "scenario"), [("singlestream", "SingleStream"), ("offline", "Offline"), ("server", "Server")])
def test_an_engine_that_fails_is_said_and_loadgen_ends(tmp_path: Path, key: str, scenario: str) -> None:
    with pytest.raises(ProviderError, match="it broke"):
        loadgen.check(key, Counting(fails_after=3), RULE, row(scenario), tmp_path)
