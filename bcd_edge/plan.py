"""Execution plan: the requested options, completed by the results of `bcd-edge tune` on this machine, else by defaults."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from bcd_edge import backends, plugins
from bcd_edge.bundle import Bundle
from bcd_edge.errors import ProviderError
from bcd_edge.options import Plan, RunOptions
from bcd_edge.system import caches, machine
from bcd_edge.system.atomic import atomic_write

Purpose = Literal["latency", "throughput"]

# Defaults without a tuning result: the best for the embedded bundle on the machines in docs/performance.md.
CPU_BATCH: Final = 2
GPU_BATCH: Final = 16
GPU_STREAMS: Final = 2


@dataclass(frozen=True, slots=True)
class TuningResult:
    """The measurement of a plan: median milliseconds per call, and images per second with all its streams busy."""

    plan: Plan
    call_ms: float
    images_per_s: float


def choose(opened: Bundle, purpose: Purpose, options: RunOptions) -> Plan:
    """Completes the requested options: by the results of `bcd-edge tune` on this machine, else by defaults.

    Args:
        opened: the bundle to run.
        purpose: `latency` for one image at a time, `throughput` for many.
        options: the requested options.

    Raises:
        BundleError: no provider was requested, and the bundle has no variant of the requested precision.
        ProviderError: no provider was requested, and none that the bundle has a variant for runs here.
        UsageError: there is no such provider.
    """
    if options.provider is not None:
        plugins.load(backends.PROVIDERS, options.provider)
    rows = [row for row in recall(opened) if _fits(row.plan, options) and _is_exact(opened, row.plan)]
    if purpose == "latency":
        rows = [row for row in rows if row.plan.streams == 1 and row.plan.batch == (options.batch or 1)]
    if rows:
        best = min(rows, key=lambda row: row.call_ms) if purpose == "latency" else max(rows, key=lambda row: row.images_per_s)
        return replace(best.plan, cache=options.cache)
    return _default(purpose, options, options.provider or first_available(opened, options.precision, options.device))


def _fits(tuned: Plan, options: RunOptions) -> bool:
    """Whether a plan has every requested option."""
    requested = {field.name: getattr(options, field.name) for field in fields(RunOptions) if field.name != "cache"}
    return all(value is None or value == getattr(tuned, name) for name, value in requested.items())


def _is_exact(opened: Bundle, tuned: Plan) -> bool:
    """Whether its provider still counts as one that computes the variant as the exporter did."""
    fitting = [variant for variant in opened.variants(tuned.provider) if variant["precision"] == tuned.precision]
    return all(backends.computes(tuned.provider, variant, tuned.device).available for variant in fitting)


def _default(purpose: Purpose, options: RunOptions, provider: str) -> Plan:
    batch, streams = 1, 1
    if purpose == "throughput":
        on_cpu = plugins.load(backends.PROVIDERS, provider).runs_on_cpu(options.device)
        batch = CPU_BATCH if on_cpu else GPU_BATCH
        streams = (1 if options.threads else machine.cores()) if on_cpu else GPU_STREAMS
    given = {field.name: value for field in fields(options) if (value := getattr(options, field.name)) is not None}
    return Plan(**{"batch": batch, "streams": streams} | given | {"provider": provider})


def first_available(opened: Bundle, precision: str | None = None, device: str | None = None) -> str:
    """The first of `backends.engines()` that runs here and computes the variant that the bundle has for it.

    Raises:
        BundleError: the bundle has no variant of that precision.
        ProviderError: there is none; with the reason for each.
    """
    if precision is not None:
        opened.variant(precision)
    reasons = []
    for name in backends.engines():
        if not [variant for variant in opened.variants(name) if precision in (None, variant["precision"])]:
            reasons.append(f"{name}: {opened.name} has no {precision or ''} variant for it".replace("  ", " "))
            continue
        answer = backends.availability(name, opened.variant(precision, name), device)
        if answer.available:
            return name
        reasons.append(f"{name}: {answer.reason}; fix: {answer.fix}")
    raise ProviderError(f"No provider runs {opened.name} here. " + ". ".join(reasons) + ".")


def remember(opened: Bundle, rows: Sequence[TuningResult]) -> Path:
    """Stores measurements for this machine and bundle; new ones replace those of the same plan.

    Raises:
        OSError: the cache folder cannot be written.
    """
    new = {row.plan: row for row in [*recall(opened), *rows]}
    path = _path(opened)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps({"machine": _machine(), "rows": [asdict(row) for row in new.values()]}, indent=1).encode())
    return path


def recall(opened: Bundle) -> list[TuningResult]:
    """The measurements for this machine, these library versions and this bundle; empty if there are none or the file is damaged."""
    try:
        kept = json.loads(_path(opened).read_text(encoding="utf-8"))
        if kept["machine"] != _machine():
            return []
        return [TuningResult(_plan(row["plan"]), float(row["call_ms"]), float(row["images_per_s"])) for row in kept["rows"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _plan(plain: dict[str, Any]) -> Plan:
    return Plan(**plain | {"provider_options": tuple((name, value) for name, value in plain["provider_options"])})


def _path(opened: Bundle) -> Path:
    return caches.root() / "tune" / f"{opened.sha256[:16]}.json"


def _machine() -> dict[str, Any]:
    """What a measurement depends on: processor, usable cores, NVIDIA driver and engine versions."""
    return {"cpu": machine.cpu_name(), "cores": machine.cores(), "driver": machine.nvidia_driver(), "engines": backends.versions()}
