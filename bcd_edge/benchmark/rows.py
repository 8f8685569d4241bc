"""Measures the rows of one engine: its scenarios in turns, with sensors, cost and figures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from bcd_edge.benchmark import energy, load_generator, loadgen, memory, scenarios, sensors, statistics
from bcd_edge.benchmark.accuracy import LabelledImage
from bcd_edge.benchmark.nvml import Card
from bcd_edge.benchmark.scenarios import SCENARIOS, Measurement, Rule, SystemUnderTest
from bcd_edge.benchmark.sensors import Reading, Recorder
from bcd_edge.bundle import files
from bcd_edge.estimates import Floats
from bcd_edge.interleaved import in_turns
from bcd_edge.loading import LoadedModel

SCOPES: Final = ("model", "end-to-end")
# A row is measured in so many parts, in turns with the others of its plan: how much they differ tells what the machine's drift is.
TURNS: Final = 5
# A row this long is measured in one piece, as MLPerf requires, and shows drift itself.
CONTIGUOUS_S: Final = 60.0
# Warm-up of a row, not measured: this many calls, and at least this long. Caches fill and clocks rise in that time.
WARM_CALLS: Final = 10
WARM_S: Final = 0.5
# Points of a row's curve over time.
WINDOWS: Final = 60

Task = tuple[str, str]  # scenario and scope


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured.

    Attributes:
        scenarios: keys of `SCENARIOS`.
        scopes: of `SCOPES`.
        rule: when a row is complete.
        images: labelled, for accuracy; none measures none.
        logs: folder for LoadGen's logs, or None to run without it.
        cache: whether compiled models may be read from and written to the user's cache.
    """

    scenarios: Sequence[str]
    scopes: Sequence[str]
    rule: Rule
    images: Sequence[LabelledImage] = ()
    logs: Path | None = None
    cache: bool = False


@dataclass(frozen=True, slots=True)
class Engine:
    """Something that is open and can be measured.

    Attributes:
        about: what its rows have in common.
        suts: scope to the system under test.
    """

    about: dict[str, Any]
    suts: dict[str, SystemUnderTest]


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA card, if there is one, and its used memory before the engine was opened."""

    card: Card | None = None
    idle_mib: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One part of a row.

    Attributes:
        run: its samples.
        readings: of the sensors, times from its start.
        meters: names of the energy meters.
        peak_mib: of resident memory.
        gpu_mib: of the card's memory, more than before the engine was opened.
    """

    run: Measurement
    readings: list[Reading]
    meters: list[str]
    peak_mib: float | None
    gpu_mib: float | None


def baseline_tasks(settings: Settings) -> list[Task]:
    """What is measured of each baseline; it processes one image at a time."""
    return list(itertools.product(settings.scenarios, settings.scopes))


def about(model: LoadedModel, *, cached: bool) -> dict[str, Any]:
    """What all rows of a plan have in common, without accuracy."""
    backend = model.backends[0]
    return {
        "provider": backend.provider,
        "device": backend.device,
        "precision": model.variant["precision"],
        "batch": model.plan.batch,
        "threads": model.plan.threads or 0,
        "streams": model.plan.streams,
        "files": [{"file": entry["file"], "sha256": entry["sha256"]} for entry in files(model.variant)],
        "start_ms": {
            "load": round(1000 * model.load_s, 3),
            "compile": round(1000 * model.compile_s, 3),
            "first_inference": round(1000 * model.first_s, 3),
            "compiled": "from the cache if present" if cached else "anew",
        },
        "accuracy": None,
    }


def measure(
    engine: Engine, own_tasks: Sequence[Task], settings: Settings, beside: Sequence[Engine] = (), gpu: Gpu | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of an engine and of the baselines beside it, in turns. A Server's rate is searched, so it is measured in one piece."""
    rule, gpu = settings.rule, gpu or Gpu()
    jobs = [(engine, task) for task in own_tasks] + [(baseline, task) for baseline in beside for task in baseline_tasks(settings)]
    turns = 1 if rule.duration_s >= CONTIGUOUS_S else TURNS
    part = replace(rule, duration_s=rule.duration_s / turns, limit_s=rule.limit_s / turns)
    measures = {}
    for index, (measured, (key, scope)) in enumerate(jobs):
        sut = measured.suts[scope]
        _warm_up(sut, SCENARIOS[key].images, WARM_S)
        if key != "server":
            measures[index] = partial(_turn, key, sut, replace(part, queries=math.ceil(rule.min_queries(key) / turns)), gpu)
    measurements = in_turns(measures, turns)
    for index, (measured, (key, scope)) in enumerate(jobs):
        sut = measured.suts[scope]
        row = measured.about | _row(key, scope, measurements.get(index) or [_turn(key, sut, rule, gpu)], rule)
        yield row | {"loadgen": loadgen.check(key, sut, rule, row, settings.logs) if settings.logs else None}


def _warm_up(sut: SystemUnderTest, images: int, seconds: float = 0.0) -> None:
    end = perf_counter() + seconds
    for call in itertools.count():
        if call >= WARM_CALLS and perf_counter() >= end:
            return
        sut.query([(call * images + index) % sut.samples for index in range(images)])


def _turn(key: str, sut: SystemUnderTest, rule: Rule, gpu: Gpu) -> Turn:
    """One part of a row, after a few calls that fill the caches with this engine's data again."""
    _warm_up(sut, SCENARIOS[key].images)
    memory.reset_peak()
    meters = energy.meters(card=gpu.card)
    with Recorder(card=gpu.card, meters=meters) as recorder:
        run = load_generator.measure(key, sut, rule)
    readings = recorder.between(run.started_s, run.elapsed_s)
    used = [reading.gpu_mib - gpu.idle_mib for reading in readings if reading.gpu_mib is not None and gpu.idle_mib is not None]
    return Turn(run, readings, [meter.name for meter in meters], memory.peak_mib(), max(used, default=None))


def _row(key: str, scope: str, turns: list[Turn], rule: Rule) -> dict[str, Any]:
    run = scenarios.joined([turn.run for turn in turns])
    by_turn = [turn.readings for turn in turns]
    readings = _consecutive(turns)
    peaks = [turn.peak_mib for turn in turns if turn.peak_mib is not None]
    used = [turn.gpu_mib for turn in turns if turn.gpu_mib is not None]
    cost = {
        "peak_rss_mib": round(max(peaks), 1) if peaks else None,
        "peak_rss_of": "row" if memory.reset_peak() else "process",
        "gpu_memory_mib": round(max(used), 1) if used else None,
        "energy": _energy(turns[0].meters, readings, run),
    }
    beside = {name: None if value is None else round(value, 3) for name, value in asdict(sensors.contention(by_turn)).items()}
    turn_ends = np.cumsum([turn.run.elapsed_s for turn in turns])
    return _figures(key, scope, run, rule) | {
        "unsteady": sensors.unsteady(by_turn, _drift(key, run)),
        "contention": beside,
        "sensors": {"before": readings[0].sensors.as_dict(), "after": readings[-1].sensors.as_dict()},
        "cost": cost,
        "series": _series(run, readings),
        "raw": {"latency_ns": _nanoseconds(run.latencies_s), "end_ns": _nanoseconds(run.ends_s), "turn_end_ns": _nanoseconds(turn_ends)},
    }


def _consecutive(turns: list[Turn]) -> list[Reading]:
    """Readings of all turns as if there were no time between these; joules go on from those of the turn before."""
    readings: list[Reading] = []
    offset, joules = 0.0, (0.0,) * len(turns[0].meters)
    for turn in turns:
        for reading in turn.readings:
            at_s = offset + min(max(reading.at_s, 0.0), turn.run.elapsed_s)
            readings.append(replace(reading, at_s=at_s, joules=tuple(map(sum, zip(joules, reading.joules, strict=True)))))
        offset, joules = offset + turn.run.elapsed_s, readings[-1].joules
    return readings


def _figures(key: str, scope: str, run: Measurement, rule: Rule) -> dict[str, Any]:
    """What was measured, with its intervals and its verdict."""
    scenario = SCENARIOS[key]
    latency = {name: statistics.percentile(run.latencies_s, p).scaled(1000).as_dict() for name, p in statistics.PERCENTILES.items()}
    images_per_s = statistics.rate(run.ends_s, run.images, run.elapsed_s).as_dict()
    reasons, mlperf_reasons = scenarios.violations(key, run, rule), scenarios.mlperf_violations(key, run, rule)
    return {
        "scenario": scenario.name,
        "scope": scope,
        "queries": len(run.ends_s),
        "images": run.answered,
        "elapsed_s": round(run.elapsed_s, 3),
        "metric": {"name": "images_per_s"} | images_per_s if key == "offline" else {"name": f"{scenario.metric}_ms"} | latency[scenario.metric],
        "latency_of": "query" if key != "offline" else "batch" if scope == "model" else "image in the stream",
        "latency_ms": latency
        | {
            "mean": statistics.mean(run.latencies_s).scaled(1000).as_dict(),
            "min": round(1000 * float(run.latencies_s.min()), 6),
            "max": round(1000 * float(run.latencies_s.max()), 6),
        },
        "images_per_s": images_per_s,
        "server": run.server
        and {
            "qps": run.server.qps,
            "bracket": None if run.server.bracket is None else list(run.server.bracket),
            "bound_ms": 1000 * rule.bound_s,
        },
        "verdict": {
            "valid": not reasons,
            "rule": scenarios.describe(key, rule),
            "reasons": reasons,
            "mlperf_valid": not mlperf_reasons,
            "mlperf_reasons": mlperf_reasons,
        },
    }


def _drift(key: str, run: Measurement) -> float:
    """Between the halves: medians of latency (for Server without the random time in the queue), or images of each half for Offline."""
    if key != "offline":
        return statistics.drift(run.server.service_s if run.server else run.latencies_s)
    first = float(np.interp(run.elapsed_s / 2, [0.0, *run.ends_s], np.arange(len(run.ends_s) + 1.0)))
    return abs((len(run.ends_s) - first) / first - 1) if len(run.ends_s) > 1 else 0.0


def _energy(names: list[str], readings: Sequence[Reading], run: Measurement) -> dict[str, Any] | None:
    """Joules per image of each meter and of all together; None where the machine has no meter."""
    if not names:
        return None
    at = np.array([reading.at_s for reading in readings])
    by_meter = np.array([reading.joules for reading in readings]).T

    def per_image(joules: Floats) -> dict[str, float | None]:
        return statistics.cost(at, joules, run.ends_s, run.images, run.elapsed_s).as_dict()

    meters = {name: per_image(joules) for name, joules in zip(names, by_meter, strict=True)}
    return {"joules_per_image": per_image(by_meter.sum(axis=0)), "meters": meters}


def _series(run: Measurement, readings: Sequence[Reading]) -> list[dict[str, float | None]]:
    """The run in up to `WINDOWS` equal stretches of at least a second."""
    borders = np.linspace(0, run.elapsed_s, min(WINDOWS, max(1, int(run.elapsed_s))) + 1)
    points = []
    for begin, end in itertools.pairwise(borders):
        latencies = run.latencies_s[(run.ends_s > begin) & (run.ends_s <= end)]
        inside = [reading.sensors for reading in readings if begin <= reading.at_s <= end]
        points.append(
            {
                "end_s": round(float(end), 2),
                "p50_ms": round(1000 * statistics.percentile(latencies, 0.5).value, 4) if len(latencies) else None,
                "p90_ms": round(1000 * statistics.percentile(latencies, 0.9).value, 4) if len(latencies) else None,
                "images_per_s": round(len(latencies) * run.images / float(end - begin), 3),
                "mhz": _median([reading.mhz for reading in inside]),
                "celsius": _median([reading.celsius for reading in inside]),
            }
        )
    return points


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.median(known)), 1) if known else None


def _nanoseconds(seconds: Floats) -> list[int]:
    return [int(value) for value in np.rint(1e9 * seconds)]
