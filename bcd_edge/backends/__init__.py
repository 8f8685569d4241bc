"""Inference engines, one file a provider. A provider's module has three names:

REQUIRES = ("onnxruntime>=1.20",)
def is_available() -> Availability: ...
def open(model: bytes, options: Options) -> Backend: ...
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a provider can run here; if not, `reason` says why and `cure` which line to type."""

    available: bool
    reason: str = ""
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """How to run: `threads` of the CPU for one inference, 0 for the engine's own choice."""

    threads: int = 0


class Backend(Protocol):
    """One opened model. `provider` and `device` are what really runs, as the engine reports it."""

    provider: str
    device: str

    def infer(self, batch_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 RGB, N x H x W x 3, to float32 logits, N x 2."""

    def close(self) -> None:
        """Releases the engine; the backend is not used afterwards."""


def installed(requirement: str, cure: str) -> Availability:
    """Whether the module of a requirement such as `openvino>=2025.4` imports and is new enough."""
    name, _, oldest = requirement.partition(">=")
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a broken installation raises whatever its libraries lack
        return Availability(False, f"{name} does not import ({error})", cure)
    found = str(getattr(module, "__version__", "0"))
    if _release(found) < _release(oldest):
        return Availability(False, f"{name} {found} is older than {oldest}", cure)
    return Availability(True)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
