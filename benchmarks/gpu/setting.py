"""What every part of the measurement is told, and what it measures with."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bcd_edge import Classifier, backends, bundle, plugins
from bcd_edge.backends import Backend
from bcd_edge.bundle import Bundle
from bcd_edge.options import RunOptions
from bcd_edge.synthetic import tissue

Figures = dict[str, Any]
Steps = Mapping[str, Callable[[], Figures]]

HEIGHT, WIDTH = 460, 700  # the field of view of BreaKHis


@dataclass(frozen=True, slots=True)
class Setting:
    """How the card is measured.

    Attributes:
        bundle: folder or .zip; the embedded one if empty.
        dry_run: everything on the CPU with the smallest counts, to find mistakes where no card is.
        seconds: for each side of a comparison.
    """

    bundle: str = ""
    dry_run: bool = False
    seconds: float = 1.0

    @property
    def provider(self) -> str:
        return "cpu" if self.dry_run else "cuda"

    @property
    def device(self) -> str:
        """As PyTorch names it."""
        return "cpu" if self.dry_run else "cuda"

    @property
    def batches(self) -> tuple[int, ...]:
        return (1, 3) if self.dry_run else (1, 2, 4, 8, 16, 32, 64, 128, 256)

    @property
    def rounds(self) -> int:
        """How many turns each side of a comparison has."""
        return 1 if self.dry_run else 10

    @property
    def pictures(self) -> int:
        """How many are drawn."""
        return 2 if self.dry_run else 60

    def open_bundle(self) -> Bundle:
        return bundle.open(self.bundle or None)

    def precisions(self) -> list[str]:
        """Those that the bundle has a file of for the provider, the default first."""
        return list(dict.fromkeys(variant["precision"] for variant in self.open_bundle().variants(self.provider)))

    def open_backend(self, precision: str, *, provider: str = "", batch: int | None = None, **options: str) -> Backend:
        """A provider's engine on one variant, without a cache; `options` are the provider's own, left out in a dry run."""
        name = provider or self.provider
        _, contents = self.open_bundle().model(precision, name)
        given = () if self.dry_run else tuple(options.items())
        backend: Backend = plugins.load(backends.PROVIDERS, name).open(
            contents[0], RunOptions(provider=name, precision=precision, batch=batch, provider_options=given)
        )
        return backend

    def classifier(self, precision: str, provider: str = "", *, batch: int | None = None, streams: int | None = None) -> Classifier:
        options = RunOptions(provider=provider or self.provider, precision=precision, batch=batch, streams=streams, cache=False)
        return Classifier.load(self.bundle or None, options, purpose="throughput" if streams else "latency")

    def inputs(self, count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
        """Random network inputs, uint8 count x H x W x 3."""
        size = self.open_bundle().input
        return np.random.default_rng(seed).integers(0, 256, (count, size.height, size.width, 3), np.uint8)

    def drawn(self) -> list[npt.NDArray[np.uint8]]:
        """Drawn tissue, none like another, 700 x 460."""
        return [tissue(seed, height=HEIGHT, width=WIDTH, irregular=seed % 5 / 5) for seed in range(self.pictures)]


REASON: Final = 1500  # characters of a traceback that are kept: its end


def failure(error: BaseException) -> Figures:
    """What is kept of an exception."""
    text = "".join(traceback.format_exception(error))
    return {"error": f"{type(error).__name__}: {str(error).strip()[:500]}", "traceback": text[-REASON:]}
