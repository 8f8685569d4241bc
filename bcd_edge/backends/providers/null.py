"""No engine: answers at once, the same for every image, to measure everything around the model.

Its device is how long a call takes, `--device 5ms`: what a slower engine would change can be tried without one.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from bcd_edge.backends import Availability, Options
from bcd_edge.system.durations import seconds

REQUIRES = ("numpy>=1.24",)


def is_available() -> Availability:
    return Availability(True)


def open(model: bytes, options: Options) -> NullBackend:
    """Takes any bytes for a model.

    Raises:
        UsageError: the device is not a duration.
    """
    return NullBackend(seconds(options.device or "0"))


class NullBackend:
    """See `bcd_edge.backends.Backend`. Logits of zero are p = 0.5 at any temperature."""

    provider = "null"
    batch = 0

    def __init__(self, delay_s: float = 0.0) -> None:
        self._delay_s = delay_s
        self.device = "nothing: no image is looked at" + (f", {1000 * delay_s:g} ms a call" if delay_s else "")

    def infer(self, batch_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if self._delay_s:
            time.sleep(self._delay_s)
        return np.zeros((len(batch_nhwc_u8), 2), np.float32)

    def close(self) -> None:
        pass
