"""A bundle's variants: size, speed on each provider, and loss of accuracy from the manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bcd_edge import backends, plugins
from bcd_edge import bundle as reading
from bcd_edge.backends import Backend
from bcd_edge.errors import BundleError
from bcd_edge.interleaved import medians
from bcd_edge.options import RunOptions

BATCHES = (1, 16)


def compare(bundle: Path, seconds: float) -> None:
    """Prints a row for each variant, provider and batch: milliseconds per image (median), and the speed relative to fp32.

    Raises:
        BundleError: the bundle is an ensemble of several files.
    """
    opened = reading.open(bundle)
    if len(opened.members) > 1:
        raise BundleError(f"{bundle} is an ensemble of several files, which this does not time; give a bundle of one graph.")
    table = Table("provider", "batch", "variant", "MB", "ms per image", "x fp32", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for provider in backends.engines():
        module = plugins.load("bcd_edge.backends.providers", provider)
        if not module.is_available().available:
            continue
        opened_on: dict[str, Backend] = {}
        sizes: dict[str, float] = {}
        for variant in opened.variants(provider):
            name = Path(variant["file"]).stem.removeprefix("model.")
            content = (opened.path / variant["file"]).read_bytes()
            opened_on[name], sizes[name] = module.open(content, RunOptions()), len(content) / 1e6
        for batch in BATCHES:
            pixels = np.random.default_rng(0).integers(0, 256, (batch, opened.input.height, opened.input.width, 3), np.uint8)

            def call(backend: Backend, given: np.ndarray = pixels) -> Callable[[], object]:
                return lambda: backend.infer(given)

            times = medians({name: call(backend) for name, backend in opened_on.items()}, seconds)
            for name, value in times.items():
                faster = f"{times['fp32'] / value:.2f}" if "fp32" in times else "-"
                table.add_row(provider, str(batch), name, f"{sizes[name]:.1f}", f"{value / batch:.2f}", faster)
    Console().print(table)
    lost = Table(
        "variant",
        "AUROC",
        "sensitivity",
        "specificity",
        "Brier score",
        "flips",
        box=None,
        pad_edge=False,
        title="difference from PyTorch, from the manifest",
    )
    for variant in opened.variants():
        judged = variant["gate"]
        differences = (judged["difference"][metric]["value"] for metric in ("auroc", "sensitivity", "specificity", "brier"))
        lost.add_row(Path(variant["file"]).stem.removeprefix("model."), *(f"{value:+.4f}" for value in differences), str(judged["flips"]))
    Console().print(lost)
