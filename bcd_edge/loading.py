"""A variant of a bundle on its provider: verified, compiled or taken from the cache, and run once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bcd_edge import backends, bundle, plugins
from bcd_edge.backends import Backend
from bcd_edge.bundle import Bundle
from bcd_edge.errors import BundleError
from bcd_edge.options import Plan
from bcd_edge.system import caches, machine


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A variant of a bundle, opened on a provider.

    Attributes:
        bundle: the bundle.
        plan: how it runs.
        variant: the variant's entry in the manifest.
        backends: a backend for each member of the bundle.
        load_s: seconds of reading the files and checking their hashes.
        compile_s: seconds of opening the engine, including compilation.
        first_s: seconds of the first inference.
        runs_model: see `RUNS_MODEL` in `bcd_edge.backends`.
    """

    bundle: Bundle
    plan: Plan
    variant: dict[str, Any]
    backends: Sequence[Backend]
    load_s: float = 0.0
    compile_s: float = 0.0
    first_s: float = 0.0
    runs_model: bool = True


def load_model(opened: Bundle, chosen: Plan) -> LoadedModel:
    """Opens the variant of a plan on its provider, with a backend for each member, and runs each once.

    Raises:
        BundleError: no such variant, damaged files, or a model whose output has another shape.
        ProviderError: the provider cannot run here.
    """
    module = plugins.load(backends.PROVIDERS, chosen.provider)
    if module.RUNS_MODEL:
        backends.require(chosen.provider, backends.availability(chosen.provider, opened.variant(chosen.precision, chosen.provider), chosen.device))
    started = time.perf_counter()
    variant, contents = opened.model(chosen.precision, chosen.provider if module.RUNS_MODEL else None)
    load_s, compile_s, first_s = time.perf_counter() - started, 0.0, 0.0
    options = replace(chosen, precision=variant["precision"])
    running: list[Backend] = []
    for content, entry, member in zip(contents, bundle.files(variant), opened.members, strict=True):
        cache = None if chosen.cache is False else caches.folder(chosen.provider, *_cache_key(options, entry))
        started = time.perf_counter()
        backend: Backend = module.open(content, options, cache)
        opened_at = time.perf_counter()
        shape = (backend.batch or 1, member.input.height, member.input.width, 3)
        outputs = backend.infer(np.zeros(shape, np.uint8))
        compile_s, first_s = compile_s + opened_at - started, first_s + time.perf_counter() - opened_at
        width = 2 + (opened.embedding_size if module.RUNS_MODEL else 0)
        if outputs.shape != (shape[0], width):
            raise BundleError(
                f"{opened.path}: the {variant['precision']} model returns shape {outputs.shape}, not {(shape[0], width)}; export the bundle again."
            )
        running.append(backend)
    return LoadedModel(opened, chosen, variant, running, load_s, compile_s, first_s, module.RUNS_MODEL)


def _cache_key(options: Plan, entry: dict[str, Any]) -> list[str]:
    """Everything that the compiled model depends on."""
    versions = [f"{name} {version}" for name, version in backends.versions().items()]
    compilation = f"{options.precision} batch {options.batch} streams {options.streams} threads {options.threads} {options.provider_options}"
    return [entry["sha256"][:16], machine.cpu_name(), machine.nvidia_driver(), *versions, options.device or "first", compilation]
