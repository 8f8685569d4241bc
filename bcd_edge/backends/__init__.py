"""Inference engines, one file of `providers` each. A provider's module has three names:

REQUIRES = ("onnxruntime>=1.20",)
def is_available() -> Availability: ...
def open(model: bytes, options: Options) -> Backend: ...
"""

from __future__ import annotations

import contextlib
import importlib
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from bcd_edge import plugins
from bcd_edge.errors import ProviderError

# The package whose modules are providers, see `bcd_edge.plugins`.
PROVIDERS: Final = f"{__name__}.providers"
# The order of `--provider auto` where nothing was tuned: what is fastest wherever it runs at all.
PREFERENCE: Final = ("tensorrt", "cuda", "openvino", "cpu")


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a provider can run here; if not, `reason` says why and `fix` which line to type."""

    available: bool
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """How to run.

    Attributes:
        device: the engine's name of it, such as `GPU` of OpenVINO or `1` for the second CUDA card; its first if empty.
        precision: of the model: `fp32`, `fp16`, `int8`, or empty where it is not known.
        batch: images that every call brings, 0 for any number.
        threads: of the CPU for one inference, 0 for the engine's own choice.
        inferences: calls of `infer` at the same time, each in its own thread.
        cache: folder for compiled models, or None.
    """

    device: str = ""
    precision: str = ""
    batch: int = 0
    threads: int = 0
    inferences: int = 1
    cache: Path | None = None


class Backend(Protocol):
    """One opened model.

    Attributes:
        provider: what really runs.
        device: on which, as the engine reports it.
        batch: images that every call must bring, 0 for any number.
    """

    provider: str
    device: str
    batch: int

    def infer(self, batch_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 RGB, N x H x W x 3, to float32 logits, N x 2. May be called by `Options.inferences` threads at once."""

    def close(self) -> None:
        """Releases the engine; the backend is not used afterwards."""


def engines() -> list[str]:
    """Every provider that looks at the image, the preferred first; `null` does not."""
    found = set(plugins.names(PROVIDERS)) - {"null"}
    return [name for name in PREFERENCE if name in found] + sorted(found - set(PREFERENCE))


def availability(name: str) -> Availability:
    """Whether a provider can run here, see `Availability`."""
    answer: Availability = plugins.load(PROVIDERS, name).is_available()
    return answer


def require(provider: str, answer: Availability) -> None:
    """Goes on only where a provider can run.

    Raises:
        ProviderError: it cannot; why, and the fix.
    """
    if not answer.available:
        raise ProviderError(f"The provider {provider} was asked for and {answer.reason}; fix: {answer.fix}")


def installed(requirement: str, fix: str) -> Availability:
    """Whether the module of a requirement such as `openvino>=2025.4` imports and is new enough."""
    name, _, oldest = requirement.partition(">=")
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a broken installation raises whatever its libraries lack
        return Availability(False, f"{name} does not import ({error})", fix)
    found = str(getattr(module, "__version__", "0"))
    if _release(found) < _release(oldest):
        return Availability(False, f"{name} {found} is older than {oldest}", fix)
    return Availability(True)


def versions() -> dict[str, str]:
    """The installed engines' distributions and their versions, without importing one."""
    found = {}
    for name in ("onnxruntime", "onnxruntime-gpu", "openvino"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
