"""Every row of a benchmark: providers x variants x batches x threads x streams, each in every scenario, model only and end to end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Final

from bcd_edge import __version__, backends, loading, plan, plugins
from bcd_edge.benchmark import accuracy, environment, load_generator, results
from bcd_edge.benchmark.baselines import Baseline
from bcd_edge.benchmark.nvml import Card
from bcd_edge.benchmark.rows import WARM_S, Engine, Gpu, Settings, Task, about, baseline_tasks, measure
from bcd_edge.benchmark.scenarios import SCENARIOS
from bcd_edge.benchmark.sut import EndToEnd, ModelOnly, QuerySampleLibrary, build_library, describe_input
from bcd_edge.bundle import Bundle
from bcd_edge.classifier import Classifier
from bcd_edge.errors import BcdEdgeError, BundleError, ProviderError
from bcd_edge.loading import LoadedModel
from bcd_edge.options import Plan, RunOptions

# Opening, compiling and first inference of a plan take about this long, for the estimate of the whole duration.
OPEN_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class SweepSpec:
    """The requested combinations.

    Attributes:
        providers: names; `all` are those that run here.
        precisions: `all` are those that the bundle has for a provider.
        batches: images per inference.
        threads: CPU threads per inference.
        streams: concurrent inferences.
        common: device and provider options of all combinations.
    """

    providers: Sequence[str] = ("auto",)
    precisions: Sequence[str] = ()
    batches: Sequence[int] = (1,)
    threads: Sequence[int | None] = (None,)
    streams: Sequence[int] = (1,)
    common: RunOptions = field(default_factory=RunOptions)


@dataclass(frozen=True, slots=True)
class Failure:
    """A plan that did not run, and why."""

    plan: Plan
    error: BcdEdgeError


def plans(opened: Bundle, spec: SweepSpec) -> list[Plan]:
    """The combinations, in their order.

    Raises:
        BundleError: the bundle has no such variant for a requested provider.
        ProviderError: a requested provider, or every one, cannot run here.
        UsageError: there is no such provider.
    """
    combinations = [
        Plan(provider, spec.common.device, precision, batch, threads, streams, provider_options=spec.common.provider_options)
        for provider, precision in _variants(opened, spec)
        for batch, threads, streams in itertools.product(spec.batches, spec.threads, spec.streams)
    ]
    return list(dict.fromkeys(combinations))


def _variants(opened: Bundle, spec: SweepSpec) -> Iterator[tuple[str, str]]:
    for name in spec.providers:
        default = None
        names = _available(opened, spec.common.device) if name == "all" else [name]
        if name == "auto":
            precision = next((name for name in spec.precisions if name != "all"), None)
            chosen = plan.choose(opened, "latency", replace(spec.common, precision=precision))
            names, default = [chosen.provider], chosen.precision
        for provider in names:
            backends.require(provider, backends.availability(provider))  # imports the engine here, not while compiling is timed
            own = provider if plugins.load(backends.PROVIDERS, provider).RUNS_MODEL else None
            existing = list(dict.fromkeys(variant["precision"] for variant in opened.variants(own)))
            if name == "all" or "all" in spec.precisions:
                existing = [precision for precision in existing if _is_exact(opened, provider, precision, spec.common.device)] or existing
            for precision in existing if "all" in spec.precisions else spec.precisions or [default or existing[0]]:
                yield provider, opened.variant(precision, own)["precision"]


def _is_exact(opened: Bundle, provider: str, precision: str, device: str | None) -> bool:
    """Whether a provider that runs here computes the variant as the exporter did."""
    if not plugins.load(backends.PROVIDERS, provider).RUNS_MODEL:
        return True
    return backends.computes(provider, opened.variant(precision, provider), device).available


def _available(opened: Bundle, device: str | None) -> list[str]:
    """Those that run here and compute some variant as the exporter did."""
    names = [name for name in backends.engines() if any(backends.availability(name, variant, device).available for variant in opened.variants(name))]
    if not names:
        raise ProviderError("No provider runs here; see: bcd-edge doctor")
    return names


def tasks(wanted: Sequence[Plan], settings: Settings) -> dict[Plan, list[Task]]:
    """The scenarios and scopes to measure for each plan that must be opened.

    A query of SingleStream and Server is one image, one of MultiStream eight: a larger batch changes nothing there, nor do
    concurrent streams if queries come one after the other.
    """
    by_plan: dict[Plan, list[Task]] = {}
    for requested, key, scope in itertools.product(wanted, settings.scenarios, settings.scopes):
        batch = min(requested.batch, SCENARIOS[key].images)
        streams = requested.streams if key == "server" else 1
        own = requested if key == "offline" else replace(requested, batch=batch, streams=streams)
        if (key, scope) not in by_plan.setdefault(own, []):
            by_plan[own].append((key, scope))
    return by_plan


def document(opened: Bundle, settings: Settings, card: Card | None) -> dict[str, Any]:
    """A run without rows, see benchmark.schema.json."""
    rule = settings.rule
    return {
        "schema": results.SCHEMA,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": __version__,
        "finished": False,
        "bundle": {"name": opened.name, "sha256": opened.sha256},
        "input": {"what": describe_input(settings.images), "height": opened.input.height, "width": opened.input.width},
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


def minutes(wanted: dict[Plan, list[Task]], settings: Settings, baselines: int = 0) -> tuple[float, float]:
    """The shortest and the longest duration of a sweep.

    A row lasts from its duration to its limit, by when it has its queries; a Server's rate is searched first, and reduced if
    a run exceeds the bound.
    """
    rule = settings.rule
    keys = [key for own in wanted.values() for key, _ in own] + baselines * [key for key, _ in baseline_tasks(settings)]
    search_s = 0.0 if rule.qps else load_generator.PROBES * load_generator.probe_s(rule)
    longest_s = {key: rule.limit_s if rule.min_queries(key) > 1 else rule.duration_s for key in keys}
    if not rule.qps and "server" in longest_s:
        longest_s["server"] = (1 + load_generator.BACK_OFFS) * rule.limit_s + 2 * search_s
    pieces = 2 if settings.logs else 1
    least_s = pieces * sum(rule.duration_s + (search_s if key == "server" else 0) for key in keys)
    most_s = pieces * sum(longest_s[key] for key in keys) + len(keys) * 2 * WARM_S + OPEN_S * (len(wanted) + baselines)
    return least_s / 60, most_s / 60


def rows(
    opened: Bundle, wanted: dict[Plan, list[Task]], settings: Settings, card: Card | None = None, baselines: Sequence[Baseline] = ()
) -> Iterator[dict[str, Any] | Failure]:
    """Measures everything; yields each row, see benchmark.schema.json, when it is finished.

    A plan that does not run is yielded as a `Failure`, and the others go on. Baselines are measured in turns with the first
    plan that runs.

    Raises:
        UsageError: too few of the labelled images can be read.
    """
    library = build_library(opened, max(own.batch for own in wanted), settings.images)
    scores: dict[tuple[str, str], dict[str, Any]] = {}
    beside = [Engine(baseline.about(), baseline.suts(library)) for baseline in baselines]
    for own, own_tasks in wanted.items():
        idle_mib = card.used_mib() if card else None
        try:
            model = loading.load_model(opened, replace(own, cache=settings.cache))
        except (BundleError, ProviderError) as error:
            yield Failure(own, error)
            continue
        with Classifier(model, requested=own.provider) as running:
            try:
                engine = _engine(model, running, settings, library, scores)
                yield from measure(engine, own_tasks, settings, beside, Gpu(card, idle_mib))
                beside = []
            except (BundleError, ProviderError) as error:
                yield Failure(own, error)


def _engine(
    model: LoadedModel,
    running: Classifier,
    settings: Settings,
    library: QuerySampleLibrary,
    scores: dict[tuple[str, str], dict[str, Any]],
) -> Engine:
    """What a plan's rows share; `scores` keeps the accuracy of each provider and variant, which batch and threads do not change."""
    variant = running.execution.provider, running.execution.precision
    if settings.images and variant not in scores:
        scores[variant] = accuracy.measure(running, settings.images)
    shared = about(model, cached=settings.cache) | {"accuracy": scores.get(variant)}
    return Engine(shared, {"model": ModelOnly(model, library), "end-to-end": EndToEnd(running, library)})
