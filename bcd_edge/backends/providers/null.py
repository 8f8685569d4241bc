"""No engine: returns the same result for every image at once, to measure everything around the model.

`--provider-option delay=5ms` makes each call take that long, to simulate an engine of that speed.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bcd_edge.backends import Availability, closed, provider_options
from bcd_edge.options import RunOptions
from bcd_edge.system.durations import seconds

REQUIRES = ("numpy>=1.24",)
RANK = None
OPTIONS: Final = {"delay": "time per call, such as 5ms"}
RUNS_MODEL = False


def is_available() -> Availability:
    return Availability(True)


def runs_on_cpu(device: str | None) -> bool:
    return True


def open(model: bytes, options: RunOptions, cache: Path | None = None) -> NullBackend:
    """Accepts any bytes as a model.

    Raises:
        UsageError: the delay is not a duration, or there is no such option.
    """
    return NullBackend(seconds(provider_options("null", options).get("delay", "0")))


class NullBackend:
    """See `bcd_edge.backends.Backend`. Logits of zero give p = 0.5 at any temperature."""

    provider = "null"
    batch = None

    def __init__(self, delay_s: float = 0.0) -> None:
        self._delay_s, self._closed = delay_s, False
        self.device = "none: no image is read" + (f", {1000 * delay_s:g} ms per call" if delay_s else "")

    def infer(self, batch_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if self._closed:
            raise closed("null")
        if self._delay_s:
            time.sleep(self._delay_s)
        return np.zeros((len(batch_nhwc_u8), 2), np.float32)

    def close(self) -> None:
        self._closed = True
