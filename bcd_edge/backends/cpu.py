"""ONNX Runtime on the CPU."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bcd_edge.backends import Availability, Options, installed
from bcd_edge.errors import BundleError, ProviderError

REQUIRES = ("onnxruntime>=1.20",)
CURE = 'pip install "bcd-edge[cpu]"'
PROVIDER = "CPUExecutionProvider"


def is_available() -> Availability:
    """Whether onnxruntime (or onnxruntime-gpu, which holds the CPU provider too) imports and is new enough."""
    return installed(REQUIRES[0], CURE)


def open(model: bytes, options: Options) -> CpuBackend:
    """Opens an ONNX model.

    Raises:
        ProviderError: onnxruntime is missing, too old, or runs on something else than was asked for.
        BundleError: the model is no graph that ONNX Runtime can load.
    """
    availability = is_available()
    if not availability.available:
        raise ProviderError(f"The provider cpu was asked for and {availability.reason}; type: {availability.cure}")
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    # Weights outside the verified file would be unverified weights: point their folder at nowhere.
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", "/nowhere/no-external-data")
    try:
        session = onnxruntime.InferenceSession(model, settings, providers=[PROVIDER])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise BundleError(
            f"The model does not load in ONNX Runtime {onnxruntime.__version__} ({_first_line(error)}); export the bundle again."
        ) from None
    if session.get_providers() != [PROVIDER]:
        raise ProviderError(f"The provider cpu was asked for and {session.get_providers()} ran; reinstall: {CURE}")
    return CpuBackend(session)


class CpuBackend:
    """See `bcd_edge.backends.Backend`."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        self.provider = "cpu"
        self.device = _cpu_name()

    def infer(self, batch_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        try:
            (logits,) = self._session.run(None, {self._input: batch_nhwc_u8})
        except Exception as error:
            raise ProviderError(f"Inference on the cpu failed ({_first_line(error)}); check free memory and the bundle.") from None
        return np.asarray(logits, np.float32)

    def close(self) -> None:
        self._session = None


def _cpu_name() -> str:
    """The processor's model name where the system tells (Linux), its architecture elsewhere."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
