"""Every row of a benchmark: providers x variants x batches x threads x inferences, each in every scenario, model alone and end to end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from bcd_edge import __version__, backends, classifier, plan
from bcd_edge.benchmark import accuracy, energy, environment, loadgen, memory, results, scenarios, statistics, sut
from bcd_edge.benchmark._nvml import Card
from bcd_edge.benchmark.accuracy import Labelled
from bcd_edge.benchmark.scenarios import SCENARIOS, Measured, Rule, Subject
from bcd_edge.benchmark.sensors import Reading, Recorder, unsteady
from bcd_edge.benchmark.sut import EndToEnd, Library, ModelAlone
from bcd_edge.bundle import Bundle, files
from bcd_edge.classifier import Classifier, Started
from bcd_edge.errors import BcdEdgeError, BundleError, ProviderError
from bcd_edge.plan import Plan

SCOPES: Final = ("model", "end-to-end")
# Not counted: as many calls, and as long, whichever is more. Caches fill and clocks rise in that time.
WARM_CALLS: Final = 10
WARM_S: Final = 0.5
# Points of a row's curve over time.
WINDOWS: Final = 60


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured.

    Attributes:
        scenarios: keys of `SCENARIOS`.
        scopes: of `SCOPES`.
        rule: when a row is long enough.
        images: labelled, for accuracy; none measures none.
        logs: folder for LoadGen's logs, or None to go without it.
        cache: whether compiled models may come from the user's cache, and be kept there.
    """

    scenarios: Sequence[str]
    scopes: Sequence[str]
    rule: Rule
    images: Sequence[Labelled] = ()
    logs: Path | None = None
    cache: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person named; `all` providers are those that run here, `all` precisions those that the bundle has for one."""

    providers: Sequence[str] = ("auto",)
    precisions: Sequence[str] = ()
    device: str = ""
    batches: Sequence[int] = (1,)
    threads: Sequence[int] = (0,)
    inferences: Sequence[int] = (1,)


@dataclass(frozen=True, slots=True)
class Failure:
    """A plan that did not run, and why."""

    plan: Plan
    error: BcdEdgeError


def plans(opened: Bundle, asked: Asked) -> list[Plan]:
    """The combinations, in their order.

    Raises:
        BundleError: the bundle has no such variant for a provider that was named.
        ProviderError: a provider that was named, or every one, cannot run here.
        UsageError: there is no such provider.
    """
    found = []
    for provider, precision in _variants(opened, asked):
        combined = itertools.product(asked.batches, asked.threads, asked.inferences)
        found += [Plan(provider, asked.device, precision, batch, threads, inferences) for batch, threads, inferences in combined]
    return list(dict.fromkeys(found))


def _variants(opened: Bundle, asked: Asked) -> Iterator[tuple[str, str]]:
    for name in asked.providers:
        if name == "auto":
            chosen = plan.choose(opened, "latency", device=asked.device, precision=(*asked.precisions, "")[0].replace("all", ""))
            backends.require(chosen.provider, backends.availability(chosen.provider))  # imported here, not while compiling is timed
            yield chosen.provider, opened.variant(chosen.precision or None, chosen.provider)["precision"]
            continue
        for provider in _running(opened) if name == "all" else [name]:
            backends.require(provider, backends.availability(provider))
            own = None if provider == "null" else provider
            there = list(dict.fromkeys(variant["precision"] for variant in opened.variants(own)))
            for precision in there if "all" in asked.precisions else asked.precisions or there[:1]:
                yield provider, opened.variant(precision, own)["precision"]


def _running(opened: Bundle) -> list[str]:
    found = [name for name in backends.engines() if opened.variants(name) and backends.availability(name).available]
    if not found:
        raise ProviderError("No provider runs here; see: bcd-edge doctor")
    return found


def tasks(wanted: Sequence[Plan], settings: Settings) -> dict[Plan, list[tuple[str, str]]]:
    """For each plan that must be opened the scenarios and scopes that run on it.

    A query of SingleStream and Server is one image, one of MultiStream eight: a larger batch changes nothing there, nor do
    inferences at the same time where queries come one after the other.
    """
    found: dict[Plan, list[tuple[str, str]]] = {}
    for one, key, scope in itertools.product(wanted, settings.scenarios, settings.scopes):
        images = SCENARIOS[key].images
        own = one if key == "offline" else replace(one, batch=min(one.batch, images), inferences=one.inferences if key == "server" else 1)
        if (key, scope) not in found.setdefault(own, []):
            found[own].append((key, scope))
    return found


def document(opened: Bundle, settings: Settings, card: Card | None) -> dict[str, Any]:
    """A run without rows, see benchmark.schema.json."""
    rule = settings.rule
    return {
        "schema": results.SCHEMA,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": __version__,
        "finished": False,
        "bundle": {"name": opened.name, "sha256": opened.sha256},
        "input": {"what": sut.described(settings.images), "height": opened.input.height, "width": opened.input.width},
        "rule": {
            "duration_s": rule.duration_s,
            "queries": rule.queries,
            "limit_s": rule.limit_s,
            "bound_ms": 1000 * rule.bound_s,
            "qps": rule.qps,
            "seed": rule.seed,
        },
        "environment": environment.fingerprint(card=card),
        "rows": [],
        "failures": [],
    }


def minutes(wanted: dict[Plan, list[tuple[str, str]]], settings: Settings) -> float:
    """At most about how long the rows take: one ends sooner that has its queries sooner, a Server's rate is searched first."""
    rule, keys = settings.rule, [key for own in wanted.values() for key, _ in own]
    search = 0.0 if rule.qps else (scenarios.PROBES + 2) * scenarios.probe_s(rule)
    each = {"multistream": rule.limit_s, "server": rule.limit_s + search}
    return (2 if settings.logs else 1) * sum(each.get(key, rule.duration_s) for key in keys) / 60


def rows(opened: Bundle, wanted: dict[Plan, list[tuple[str, str]]], settings: Settings, card: Card | None) -> Iterator[dict[str, Any] | Failure]:
    """Measures everything; yields each row, see benchmark.schema.json, when it is finished.

    A plan that does not run is yielded as a `Failure`, and the others go on.

    Raises:
        UsageError: of the labelled images, too few can be read.
    """
    held = sut.library(opened, max(one.batch for one in wanted), settings.images)
    measured: dict[tuple[str, str], dict[str, Any]] = {}
    for one, own in wanted.items():
        try:
            yield from _of_plan(opened, one, own, held, measured, settings, card)
        except (BundleError, ProviderError) as error:
            yield Failure(one, error)


def _of_plan(
    opened: Bundle,
    one: Plan,
    own: Sequence[tuple[str, str]],
    held: Library,
    measured: dict[tuple[str, str], dict[str, Any]],
    settings: Settings,
    card: Card | None,
) -> Iterator[dict[str, Any]]:
    """The rows of one plan; `measured` keeps each provider's and variant's accuracy, which batch and threads do not change."""
    free_mib = card.used_mib() if card else None
    started = classifier.start(opened, one, cache=settings.cache)
    with Classifier(opened, one, started.backends, started.variant, opened.decision, one.provider) as running:
        answers = running.execution.provider, running.execution.precision
        if settings.images and answers not in measured:
            measured[answers] = accuracy.measure(running, settings.images)
        about = _about(one, started, running, settings) | {"accuracy": measured.get(answers)}
        for key, scope in own:
            asked = ModelAlone(started, one, held) if scope == "model" else EndToEnd(running, held)
            row = about | _measure(key, scope, asked, settings.rule, card, free_mib)
            row["loadgen"] = loadgen.check(key, asked, settings.rule, row, settings.logs) if settings.logs else None
            yield row


def _about(one: Plan, started: Started, running: Classifier, settings: Settings) -> dict[str, Any]:
    """What all rows of a plan share."""
    return {
        "provider": running.execution.provider,
        "device": running.execution.device,
        "precision": running.execution.precision,
        "batch": one.batch,
        "threads": one.threads,
        "inferences": one.inferences,
        "files": [{"file": entry["file"], "sha256": entry["sha256"]} for entry in files(started.variant)],
        "start_ms": {
            "load": round(1000 * started.load_s, 3),
            "compile": round(1000 * started.compile_s, 3),
            "first_inference": round(1000 * started.first_s, 3),
            "compiled": "in the cache, if it was there" if settings.cache else "anew",
        },
    }


def _measure(key: str, scope: str, asked: Subject, rule: Rule, card: Card | None, free_mib: float | None) -> dict[str, Any]:
    """One scenario, warm."""
    _warm_up(asked, SCENARIOS[key].images)
    own_peak = memory.reset_peak()
    meters = energy.meters(card=card)
    with Recorder(card=card, meters=meters) as recorder:
        found = scenarios.measure(key, asked, rule)
    peak = memory.peak_mib()
    readings = recorder.between(found.started_s, found.elapsed_s)
    used = [one.gpu_mib for one in readings if one.gpu_mib is not None]
    cost = {
        "peak_rss_mib": None if peak is None else round(peak, 1),
        "peak_rss_of": "row" if own_peak else "process",
        "gpu_memory_mib": round(max(used) - free_mib, 1) if used and free_mib is not None else None,
        "energy": _energy([meter.name for meter in meters], readings, found),
    }
    return _figures(key, scope, found, rule) | {
        "unsteady": unsteady(readings, _drift(key, found)),
        "sensors": {"before": readings[0].as_dict(), "after": readings[-1].as_dict()},
        "cost": cost,
        "series": _series(found, readings),
        "raw": {"latency_ns": _nanoseconds(found.latencies_s), "end_ns": _nanoseconds(found.ends_s)},
    }


def _warm_up(asked: Subject, images: int) -> None:
    ends = perf_counter() + WARM_S
    for call in itertools.count():
        if call >= WARM_CALLS and perf_counter() >= ends:
            return
        asked.ask([(call * images + index) % asked.library for index in range(images)])


def _figures(key: str, scope: str, found: Measured, rule: Rule) -> dict[str, Any]:
    """What was measured, with its intervals and its verdict."""
    scenario = SCENARIOS[key]
    latency = {name: statistics.percentile(found.latencies_s, p).scaled(1000).as_dict() for name, p in statistics.PERCENTILES.items()}
    images_per_s = statistics.rate(found.ends_s, found.images, found.elapsed_s).as_dict()
    said, said_by_mlperf = scenarios.faults(key, found, rule), scenarios.mlperf_faults(key, found, rule)
    return {
        "scenario": scenario.name,
        "scope": scope,
        "queries": len(found.ends_s),
        "images": found.answered,
        "elapsed_s": round(found.elapsed_s, 3),
        "metric": {"name": "images_per_s"} | images_per_s if key == "offline" else {"name": f"{scenario.metric}_ms"} | latency[scenario.metric],
        "latency_of": "query" if key != "offline" else "batch" if scope == "model" else "image in the stream",
        "latency_ms": latency
        | {
            "mean": statistics.mean(found.latencies_s).scaled(1000).as_dict(),
            "min": round(1000 * float(found.latencies_s.min()), 6),
            "max": round(1000 * float(found.latencies_s.max()), 6),
        },
        "images_per_s": images_per_s,
        "server": {
            "qps": found.qps,
            "bracket": None if found.bracket is None else list(found.bracket),
            "bound_ms": 1000 * rule.bound_s,
        }
        if key == "server"
        else None,
        "verdict": {
            "valid": not said,
            "rule": scenarios.described(key, rule),
            "reasons": said,
            "mlperf_valid": not said_by_mlperf,
            "mlperf_reasons": said_by_mlperf,
        },
    }


def _drift(key: str, found: Measured) -> float:
    """Between the halves: medians of latency (for Server without the wait, which is chance), or images of each half for Offline."""
    if key != "offline":
        return statistics.drift(found.latencies_s if found.service_s is None else found.service_s)
    first = float(np.interp(found.elapsed_s / 2, [0.0, *found.ends_s], np.arange(len(found.ends_s) + 1.0)))
    return abs((len(found.ends_s) - first) / first - 1) if len(found.ends_s) > 1 else 0.0


def _energy(names: list[str], readings: Sequence[Reading], found: Measured) -> dict[str, Any] | None:
    """Joules an image of each meter and of all together; None where the machine has no meter."""
    if not names:
        return None
    at = np.array([one.at_s for one in readings])
    each = np.array([one.joules for one in readings]).T

    def per_image(joules: statistics.Floats) -> dict[str, float | None]:
        return statistics.cost(at, joules, found.ends_s, found.images, found.elapsed_s).as_dict()

    return {"joules_per_image": per_image(each.sum(axis=0)), "meters": {name: per_image(joules) for name, joules in zip(names, each, strict=True)}}


def _series(found: Measured, readings: Sequence[Reading]) -> list[dict[str, float | None]]:
    """The run in up to `WINDOWS` equal stretches of at least a second."""
    borders = np.linspace(0, found.elapsed_s, min(WINDOWS, max(1, int(found.elapsed_s))) + 1)
    points = []
    for begin, end in itertools.pairwise(borders):
        latencies = found.latencies_s[(found.ends_s > begin) & (found.ends_s <= end)]
        inside = [one for one in readings if begin <= one.at_s <= end]
        points.append(
            {
                "end_s": round(float(end), 2),
                "p50_ms": round(1000 * statistics.percentile(latencies, 0.5).value, 4) if len(latencies) else None,
                "p90_ms": round(1000 * statistics.percentile(latencies, 0.9).value, 4) if len(latencies) else None,
                "images_per_s": round(len(latencies) * found.images / float(end - begin), 3),
                "mhz": _middle([one.mhz for one in inside]),
                "celsius": _middle([one.celsius for one in inside]),
            }
        )
    return points


def _middle(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.median(known)), 1) if known else None


def _nanoseconds(seconds: statistics.Floats) -> list[int]:
    return [int(value) for value in np.rint(1e9 * seconds)]
