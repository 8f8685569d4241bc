"""MLPerf's own harness drives our provider: the same calls, its clock, its verdict, its logs."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from bcd_edge.benchmark.scenarios import SCENARIOS, Rule, Subject
from bcd_edge.errors import OutputError, ProviderError

FIX: Final = 'pip install "bcd-edge[loadgen]"'
SUMMARY: Final = "mlperf_log_summary.txt"
# LoadGen waits for every answer. Once a run is thrown away it gets empty ones, not so quickly that its log fills the disk.
PAUSE_S: Final = 0.01
# The line of its summary that holds the scenario's figure, and what turns it into ours: milliseconds, or images a second.
# The latency of a Server near the highest rate is chance, so there the rates are compared, and its verdict tells of the bound.
FIGURES: Final = {
    "singlestream": (r"90\.?0*th percentile latency \(ns\)\s*:\s*(\d+)", 1e-6),
    "multistream": (r"99\.?0*th percentile latency \(ns\)\s*:\s*(\d+)", 1e-6),
    "server": (r"Completed samples per second\s*:\s*([\d.]+)", 1.0),
    "offline": (r"^Samples per second\s*:\s*([\d.]+)", 1.0),
}


def require() -> None:
    """Goes on only where LoadGen imports.

    Raises:
        ProviderError: it does not; why, and the fix.
    """
    try:
        import mlperf_loadgen  # noqa: F401
    except ImportError as error:
        raise ProviderError(f"--loadgen was asked for and MLPerf's LoadGen does not import ({error}); fix: {FIX}") from None


def check(key: str, subject: Subject, rule: Rule, row: dict[str, Any], logs: Path) -> dict[str, Any]:
    """Runs a scenario once more under LoadGen, with the rule and the figure of our own run.

    Args:
        key: of `SCENARIOS`.
        subject: what was measured.
        rule: how long.
        row: what we measured; says LoadGen how many images to expect.
        logs: LoadGen's files go into a folder of the row's name in it.

    Returns:
        Its figure, ours over its, its verdict, where its logs are.

    Raises:
        ProviderError: the engine failed.
        OutputError: LoadGen left no summary.
    """
    import mlperf_loadgen as library

    folder = logs / "-".join(str(row[name]) for name in ("provider", "precision", "batch", "threads", "inferences", "scenario", "scope"))
    folder.mkdir(parents=True, exist_ok=True)
    output = library.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = str(folder), False
    log = library.LogSettings()
    log.log_output, log.enable_trace = output, False
    closed = key in ("singlestream", "multistream")
    workers = _Workers(library, subject, 0 if closed else subject.inferences)
    system = library.ConstructSUT(workers.stream if key == "offline" else workers.issue, lambda: None)
    samples = library.ConstructQSL(subject.library, subject.library, lambda _: None, lambda _: None)
    # apart, because an interruption must not fly through LoadGen's own frames: it ends its run first, with answers that are none
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
    """LoadGen's rule, made from ours; the order of arrivals and samples is seeded by it alone."""
    own = library.TestSettings()
    own.scenario = getattr(library.TestScenario, SCENARIOS[key].name)
    own.mode = library.TestMode.PerformanceOnly
    own.min_duration_ms, own.max_duration_ms = round(1000 * rule.duration_s), round(1000 * rule.limit_s)
    own.min_query_count = rule.wanted(key)
    own.multi_stream_samples_per_query = SCENARIOS["multistream"].images
    own.qsl_rng_seed = own.sample_index_rng_seed = own.schedule_rng_seed = rule.seed
    expected_ns = round(1e6 * row["latency_ms"]["mean"]["value"])
    own.single_stream_expected_latency_ns = own.multi_stream_expected_latency_ns = expected_ns
    own.offline_expected_qps = row["images_per_s"]["value"]
    if row["server"]:
        own.server_target_qps = row["server"]["qps"]
        own.server_target_latency_ns = round(1e9 * rule.bound_s)
    return own


class _Workers:
    """What LoadGen issues goes to the subject: at once, or by `count` threads, or all of it as a stream."""

    def __init__(self, library: Any, subject: Subject, count: int) -> None:
        self.failure: Exception | None = None
        self.stopped = False
        self._library, self._subject = library, subject
        self._todo: queue.SimpleQueue[list[tuple[int, int]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def issue(self, samples: Sequence[Any]) -> None:
        """Called by LoadGen with samples that have an `id` and an `index` into the library."""
        pairs = [(sample.id, sample.index) for sample in samples]
        if self._threads:
            self._todo.put(pairs)
        else:
            self._answer(pairs)

    def stream(self, samples: Sequence[Any]) -> None:
        """The one query of Offline: answered in its order, as our own run is."""
        numbers = [sample.id for sample in samples]
        done = 0
        try:
            with closing(self._subject.stream(sample.index for sample in samples)) as answers:  # type: ignore[type-var]
                for count, _ in answers:
                    self._complete(numbers[done : done + count])
                    done += count
                    if self.stopped:
                        break
        except Exception as error:
            self.failure = error
        self._complete(numbers[done:])

    def _work(self) -> None:
        while (pairs := self._todo.get()) is not None:
            self._answer(pairs)

    def _answer(self, pairs: list[tuple[int, int]]) -> None:
        try:
            if self.failure or self.stopped:
                time.sleep(PAUSE_S)
            else:
                self._subject.ask([index for _, index in pairs])
        except Exception as error:
            self.failure = error
        self._complete([number for number, _ in pairs])

    def _complete(self, numbers: list[int]) -> None:
        self._library.QuerySamplesComplete([self._library.QuerySampleResponse(number, 0, 0) for number in numbers])

    def close(self) -> None:
        for _ in self._threads:
            self._todo.put(None)
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
