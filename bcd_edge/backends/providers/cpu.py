"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bcd_edge.backends import Availability, closed, installed, joined, require
from bcd_edge.backends import onnxruntime as shared
from bcd_edge.errors import ProviderError
from bcd_edge.options import RunOptions
from bcd_edge.system import machine

REQUIRES = (shared.REQUIRES,)
RANK = 40
OPTIONS: Final[dict[str, str]] = {}
RUNS_MODEL = True
FIX = 'pip install "bcd-edge[cpu]"'
PROVIDER = "CPUExecutionProvider"


def is_available() -> Availability:
    """Whether onnxruntime (or onnxruntime-gpu, which contains the CPU provider too) can be imported and is recent enough."""
    return installed(REQUIRES[0], FIX)


def runs_on_cpu(device: str | None) -> bool:
    return True


def open(model: bytes, options: RunOptions, cache: Path | None = None) -> CpuBackend:
    """Opens an ONNX model.

    Raises:
        ProviderError: onnxruntime is missing or too old, or a device other than CPU was requested.
        BundleError: ONNX Runtime cannot load the model.
    """
    require("cpu", is_available())
    if options.device and options.device.upper() != "CPU":
        raise ProviderError(f"The provider cpu has no device {options.device}; leave out --device, or give CPU.")
    return CpuBackend(shared.session(model, options, "cpu", [(PROVIDER, {})]))


class CpuBackend:
    """See `bcd_edge.backends.Backend`."""

    provider = "cpu"
    batch = None

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        self.device = machine.cpu_name()

    def infer(self, batch_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        session = self._session
        if session is None:
            raise closed("cpu")
        try:
            outputs = session.run(None, {self._input: batch_nhwc_u8})
        except Exception as error:
            raise ProviderError(f"Inference on the cpu failed ({shared.first_line(error)}); check free memory and the bundle.") from None
        return joined(outputs)

    def close(self) -> None:
        self._session = None
