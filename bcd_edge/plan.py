"""Who runs and how: what a person asked for, completed by what `bcd-edge tune` measured here, else by a written order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from bcd_edge import backends, plugins
from bcd_edge.bundle import Bundle
from bcd_edge.errors import ProviderError
from bcd_edge.system import caches, machine
from bcd_edge.system.atomic import atomic_write

Purpose = Literal["latency", "throughput"]

# Without a tune: what was best for ResNet-50 at 150 pixels where we measured (docs/performance.md).
CPU_BATCH: Final = 4
GPU_BATCH: Final = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """How a bundle runs. `precision` and `device` may be empty for the provider's first; see `bcd_edge.backends.Options`."""

    provider: str
    device: str = ""
    precision: str = ""
    batch: int = 1
    threads: int = 0
    inferences: int = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """One plan's median milliseconds for a call at batch 1 and alone, or images a second with all its inferences at work."""

    plan: Plan
    call_ms: float
    images_per_s: float


def choose(
    opened: Bundle,
    purpose: Purpose,
    *,
    provider: str = "auto",
    device: str = "",
    precision: str = "",
    batch: int = 0,
    threads: int = 0,
    inferences: int = 0,
) -> Plan:
    """Completes what was asked for; what is empty or 0 is chosen.

    Args:
        opened: the bundle that will run.
        purpose: `latency` for one image at a time, `throughput` for many.
        provider: a name, or `auto`.
        device: as `bcd_edge.backends.Options`; the same holds for what follows.
        precision: of the bundle's variants.
        batch: images an inference.
        threads: CPU threads an inference.
        inferences: at the same time.

    Raises:
        ProviderError: `auto` finds no provider that runs here and has a variant in the bundle.
        UsageError: there is no such provider.
    """
    if provider != "auto":
        plugins.load(backends.PROVIDERS, provider)
    asked = {"device": device, "precision": precision, "batch": batch, "threads": threads, "inferences": inferences}
    if provider != "auto":
        asked["provider"] = provider
    wanted = {name: value for name, value in asked.items() if value}
    fitting = [row for row in recall(opened) if all(getattr(row.plan, name) == value for name, value in wanted.items())]
    if purpose == "latency":
        fitting = [row for row in fitting if row.plan.inferences == 1 and row.plan.batch == (batch or 1)]
    if fitting:
        return (min(fitting, key=lambda row: row.call_ms) if purpose == "latency" else max(fitting, key=lambda row: row.images_per_s)).plan
    name = provider if provider != "auto" else first_available(opened, precision)
    on_cpu = name in ("cpu", "null") or (name == "openvino" and device.upper() in ("", "CPU"))
    if purpose == "latency":
        return Plan(name, device, precision, batch or 1, threads, inferences or 1)
    if on_cpu:
        return Plan(name, device, precision, batch or CPU_BATCH, threads, inferences or (1 if threads else machine.cores()))
    return Plan(name, device, precision, batch or GPU_BATCH, threads, inferences or 2)


def first_available(opened: Bundle, precision: str = "") -> str:
    """The first provider, in the order of `backends.PREFERENCE`, that runs here and that the bundle has a variant for.

    Raises:
        ProviderError: none does; why, for each.
    """
    reasons = []
    for name in backends.engines():
        if not [variant for variant in opened.variants(name) if precision in ("", variant["precision"])]:
            reasons.append(f"{name}: {opened.name} has no {precision} variant for it".replace("  ", " "))
            continue
        answer = backends.availability(name)
        if answer.available:
            return name
        reasons.append(f"{name}: {answer.reason}; fix: {answer.fix}")
    raise ProviderError(f"No provider runs {opened.name} here. " + ". ".join(reasons) + ".")


def remember(opened: Bundle, rows: Sequence[Measured]) -> Path:
    """Keeps measurements for this machine and bundle; later ones replace those of the same plan.

    Raises:
        OSError: the cache folder cannot be written.
    """
    new = {row.plan: row for row in [*recall(opened), *rows]}
    path = _path(opened)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps({"machine": _machine(), "rows": [asdict(row) for row in new.values()]}, indent=1).encode())
    return path


def recall(opened: Bundle) -> list[Measured]:
    """What was measured for this machine, these library versions and this bundle; empty if nothing was, or it is damaged."""
    try:
        kept = json.loads(_path(opened).read_text(encoding="utf-8"))
        if kept["machine"] != _machine():
            return []
        return [Measured(Plan(**row["plan"]), float(row["call_ms"]), float(row["images_per_s"])) for row in kept["rows"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _path(opened: Bundle) -> Path:
    return caches.root() / "tune" / f"{opened.sha256[:16]}.json"


def _machine() -> dict[str, Any]:
    """What measurements hold for: the processor, the cores it may use here, NVIDIA's driver, and the engines' versions."""
    return {"cpu": machine.cpu_name(), "cores": machine.cores(), "driver": machine.nvidia_driver(), "engines": backends.versions()}
