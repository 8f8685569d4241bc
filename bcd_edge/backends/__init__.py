"""Inference engines, one file a provider. A provider's module has three names:

REQUIRES = ("onnxruntime>=1.20",)
def is_available() -> Availability: ...
def open(model: bytes, options: Options) -> Backend: ...
"""

from __future__ import annotations

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
