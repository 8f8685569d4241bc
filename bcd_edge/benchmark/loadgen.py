"""MLPerf's LoadGen drives the same SUT: the same calls, with its clock, its verdict and its logs."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from bcd_edge.benchmark.scenarios import SCENARIOS, Rule, SystemUnderTest
from bcd_edge.errors import OutputError, ProviderError

FIX: Final = 'pip install "bcd-edge[loadgen]"'
SUMMARY: Final = "mlperf_log_summary.txt"
# LoadGen waits for every response. An aborted run gets empty ones, slowly enough that its log does not fill the disk.
PAUSE_S: Final = 0.01
# The line of its summary with the scenario's figure, and the factor to our unit: milliseconds, or images per second.
# Latency of a Server near its highest rate is random, so its rates are compared; LoadGen's verdict is about the bound.
FIGURES: Final = {
    "singlestream": (r"90\.?0*th percentile latency \(ns\)\s*:\s*(\d+)", 1e-6),
    "multistream": (r"99\.?0*th percentile latency \(ns\)\s*:\s*(\d+)", 1e-6),
    "server": (r"Completed samples per second\s*:\s*([\d.]+)", 1.0),
    "offline": (r"^Samples per second\s*:\s*([\d.]+)", 1.0),
}


def require() -> None:
    """Checks that LoadGen can be imported.

    Raises:
        ProviderError: it cannot; why, and the fix.
    """
    try:
        import mlperf_loadgen  # noqa: F401
    except ImportError as error:
        raise ProviderError(f"--loadgen was requested, but MLPerf's LoadGen cannot be imported ({error}); fix: {FIX}") from None


def check(key: str, sut: SystemUnderTest, rule: Rule, row: dict[str, Any], logs: Path) -> dict[str, Any]:
    """Repeats a scenario under LoadGen, with the rule and the expected figures of our own run.

    Args:
        key: of `SCENARIOS`.
        sut: what was measured.
        rule: when to stop.
        row: our row; tells LoadGen the rate to expect.
        logs: folder; LoadGen's files go into a subfolder named after the row.

    Returns:
        LoadGen's figure, ours divided by it, its verdict, and the folder of its logs.

    Raises:
        ProviderError: the engine failed.
        OutputError: LoadGen left no summary.
    """
    import mlperf_loadgen as library

    folder = logs / "-".join(str(row[name]) for name in ("provider", "precision", "batch", "threads", "streams", "scenario", "scope"))
    folder.mkdir(parents=True, exist_ok=True)
    output = library.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = str(folder), False
    log = library.LogSettings()
    log.log_output, log.enable_trace = output, False
    closed = key in ("singlestream", "multistream")
    workers = _Workers(library, sut, 0 if closed else sut.streams)
    system = library.ConstructSUT(workers.stream if key == "offline" else workers.issue, lambda: None)
    samples = library.ConstructQSL(sut.samples, sut.samples, lambda _: None, lambda _: None)
    # in its own thread: an interruption must not unwind through LoadGen's frames; it ends its run first, with empty responses
    run = threading.Thread(target=library.StartTestWithLogSettings, args=(system, samples, _settings(library, key, rule, row), log, ""))
    run.start()
    try:
        run.join()
    finally:
        workers.stopped = True
        run.join()
        library.DestroyQSL(samples)
        library.DestroySUT(system)
        workers.close()
    if workers.failure:
        raise workers.failure
    return _summary(key, folder, row)


def _settings(library: Any, key: str, rule: Rule, row: dict[str, Any]) -> Any:
    """LoadGen's settings from our rule; it draws arrivals and samples itself."""
    settings = library.TestSettings()
    settings.scenario = getattr(library.TestScenario, SCENARIOS[key].name)
    settings.mode = library.TestMode.PerformanceOnly
    settings.min_duration_ms, settings.max_duration_ms = round(1000 * rule.duration_s), round(1000 * rule.limit_s)
    settings.min_query_count = rule.min_queries(key)
    settings.multi_stream_samples_per_query = SCENARIOS["multistream"].images
    settings.qsl_rng_seed = settings.sample_index_rng_seed = settings.schedule_rng_seed = rule.seed
    expected_ns = round(1e6 * row["latency_ms"]["mean"]["value"])
    settings.single_stream_expected_latency_ns = settings.multi_stream_expected_latency_ns = expected_ns
    settings.offline_expected_qps = row["images_per_s"]["value"]
    if row["server"]:
        settings.server_target_qps = row["server"]["qps"]
        settings.server_target_latency_ns = round(1e9 * rule.bound_s)
    return settings


class _Workers:
    """Passes LoadGen's queries to the SUT: directly, by `count` threads, or all of them as a stream."""

    def __init__(self, library: Any, sut: SystemUnderTest, count: int) -> None:
        self.failure: Exception | None = None
        self.stopped = False
        self._library, self._sut = library, sut
        self._queue: queue.SimpleQueue[list[tuple[int, int]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def issue(self, samples: Sequence[Any]) -> None:
        """Called by LoadGen; each sample has an `id` and an `index` into the library."""
        pairs = [(sample.id, sample.index) for sample in samples]
        if self._threads:
            self._queue.put(pairs)
        else:
            self._process(pairs)

    def stream(self, samples: Sequence[Any]) -> None:
        """The single query of Offline, processed in order."""
        numbers = [sample.id for sample in samples]
        done = 0
        try:
            with closing(self._sut.stream(sample.index for sample in samples)) as responses:  # type: ignore[type-var]
                for count, _ in responses:
                    self._complete(numbers[done : done + count])
                    done += count
                    if self.stopped:
                        break
        except Exception as error:
            self.failure = error
        self._complete(numbers[done:])

    def _work(self) -> None:
        while (pairs := self._queue.get()) is not None:
            self._process(pairs)

    def _process(self, pairs: list[tuple[int, int]]) -> None:
        try:
            if self.failure or self.stopped:
                time.sleep(PAUSE_S)
            else:
                self._sut.query([index for _, index in pairs])
        except Exception as error:
            self.failure = error
        self._complete([number for number, _ in pairs])

    def _complete(self, numbers: list[int]) -> None:
        self._library.QuerySamplesComplete([self._library.QuerySampleResponse(number, 0, 0) for number in numbers])

    def close(self) -> None:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()


def _summary(key: str, folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    try:
        content = (folder / SUMMARY).read_text(encoding="utf-8")
    except OSError:
        raise OutputError(f"LoadGen left no {SUMMARY} in {folder}; make room, or name another folder with --out.") from None
    pattern, factor = FIGURES[key]
    figure, verdict = re.search(pattern, content, re.MULTILINE), re.search(r"Result is : (\w+)", content)
    value = float(figure[1]) * factor if figure else None
    metric = {"name": "images_per_s"} | row["images_per_s"] if key == "server" else row["metric"]
    return {
        "metric": metric["name"],
        "value": value,
        "ours_over_theirs": round(metric["value"] / value, 4) if value else None,
        "verdict": verdict[1] if verdict else None,
        "logs": str(Path(folder.parent.name) / folder.name),
    }
