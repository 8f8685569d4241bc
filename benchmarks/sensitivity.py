"""How often `bcd-edge benchmark compare` raises a false alarm, and how often it finds a true slowdown."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bcd_edge import bundle, loading
from bcd_edge.benchmark import rows, sensors, sweep
from bcd_edge.benchmark.compare import Comparison, compare
from bcd_edge.benchmark.scenarios import Rule, SystemUnderTest
from bcd_edge.benchmark.sut import ModelOnly, build_library
from bcd_edge.bundle import Bundle
from bcd_edge.options import Plan
from benchmarks.tables import Row, markdown, put, shown

SLOWDOWN: Final = 1.1
MAX_REGRESS: Final = 0.05
TASKS: Final = (("singlestream", "model"), ("offline", "model"))
# A program that computes and rests in random stretches, as other people's programs do.
_BUSY: Final = """
import random, time
while True:
    end = time.perf_counter() + random.uniform(0.2, 3)
    while time.perf_counter() < end:
        pass
    time.sleep(random.uniform(0.2, 3))
"""


def measure(provider: str, delay: str, seconds: float, pairs: tuple[int, int], busy: int, out: Path | None) -> None:
    """Prints both kinds of comparison, and puts them between the marks `sensitivity-busy` or `sensitivity-idle` of `out`.

    Args:
        provider: what is measured.
        delay: of null, such as 5ms.
        seconds: per row.
        pairs: number of pairs of runs of the same engine, and of pairs whose second run is slowed by 10 %.
        busy: programs to start that use the processor in random stretches.
        out: a Markdown file.
    """
    opened = bundle.open()
    began, before = time.perf_counter(), sensors.read()
    with ExitStack() as stack:
        for _ in range(busy):
            stack.enter_context(_busy_program())
        engine = stack.enter_context(_engine(opened, Plan(provider, provider_options=(("delay", delay),) if provider == "null" else ())))
        table_rows = shown(_rows(opened, engine, seconds, pairs))
    other = sensors.contention([[before, sensors.read(at_s=time.perf_counter() - began)]]).other_cores
    load = "CPU time of other processes not reported" if other is None else f"other processes used {other:.2f} cores in the mean"
    put(
        markdown(f"{provider}, {seconds:g} s per row, {load}", table_rows),
        out,
        f"sensitivity-{'busy' if other is None or other > sensors.OTHERS_BOUND else 'idle'}",
    )


@contextmanager
def _busy_program() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", _BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _engine(opened: Bundle, plan: Plan) -> Iterator[rows.Engine]:
    """Opened once: both runs of a pair measure the same engine."""
    model = loading.load_model(opened, plan)
    try:
        yield rows.Engine(rows.about(model, cached=True), {"model": ModelOnly(model, build_library(opened, plan.batch))})
    finally:
        for backend in model.backends:
            backend.close()


def _rows(opened: Bundle, engine: rows.Engine, seconds: float, pairs: tuple[int, int]) -> Iterator[Row]:
    slowed = replace(engine, suts={"model": Slowed(engine.suts["model"], SLOWDOWN)})
    for count, second, work, alarms in (
        (pairs[0], engine, "the same engine twice: comparisons with a regression", "at most 2 of 40"),
        (pairs[1], slowed, "the second run 10 % slower: comparisons with a regression", "at least 18 of 20 on an idle machine"),
    ):
        comparisons = [compare(_run(opened, engine, seconds), _run(opened, second, seconds), max_regress=MAX_REGRESS) for _ in range(count)]
        yield _row(work, alarms, comparisons)


def _row(work: str, wanted: str, comparisons: Sequence[Comparison]) -> Row:
    verdicts = Counter(pair.verdict for comparison in comparisons for pair in comparison.pairs)
    regressed = sum(comparison.count("regression") > 0 for comparison in comparisons)
    detail = ", ".join(f"{verdict} {count}" for verdict, count in sorted(verdicts.items()))
    unsteady = sum(bool(pair.doubts) for comparison in comparisons for pair in comparison.pairs)
    return Row(work, wanted, f"{regressed} of {len(comparisons)}", f"pairs of rows: {detail}; {unsteady} with an unsteady row")


def _run(opened: Bundle, engine: rows.Engine, seconds: float) -> dict[str, Any]:
    settings = rows.Settings(("singlestream", "offline"), ("model",), Rule(seconds, limit_s=10 * seconds))
    return sweep.document(opened, settings, None) | {"rows": list(rows.measure(engine, TASKS, settings))}


class Slowed:
    """A system under test whose every call takes longer by a factor; the processor is busy meanwhile."""

    def __init__(self, sut: SystemUnderTest, factor: float) -> None:
        self.samples, self.streams = sut.samples, sut.streams
        self._sut, self._more = sut, factor - 1

    def query(self, samples: Sequence[int]) -> None:
        begun = time.perf_counter()
        self._sut.query(samples)
        _compute(self._more * (time.perf_counter() - begun))

    def stream(self, samples: Iterator[int]) -> Iterator[tuple[int, float]]:
        for images, latency_s in self._sut.stream(samples):
            _compute(self._more * latency_s)
            yield images, (1 + self._more) * latency_s


def _compute(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
