"""OpenVINO on the CPU, through its own interface and not as an execution provider of ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bcd_edge.backends import Availability, Options, installed
from bcd_edge.errors import BundleError, ProviderError

REQUIRES = ("openvino>=2025.4",)
CURE = 'pip install "bcd-edge[openvino]"'
DEVICE = "CPU"
# On a processor with AMX or AVX-512 BF16 the engine would compute a float32 model in bfloat16; what the bundle calls
# fp32 was measured as float32. Quantised layers stay in int8 either way.
SETTINGS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


def is_available() -> Availability:
    """Whether openvino imports and is new enough."""
    return installed(REQUIRES[0], CURE)


def open(model: bytes, options: Options) -> OpenvinoBackend:
    """Opens an ONNX model.

    Raises:
        ProviderError: openvino is missing, too old, does not start, or runs on something else than was asked for.
        BundleError: the model is no graph that OpenVINO can load, or its weights lie outside of it.
    """
    availability = is_available()
    if not availability.available:
        raise ProviderError(f"The provider openvino was asked for and {availability.reason}; type: {availability.cure}")
    import openvino

    # Weights outside the verified file would be unverified weights. OpenVINO reads them from the current folder, or from
    # any absolute path, and has no setting against it; ONNX names their file under this key and no other (TensorProto).
    if b"location" in model:
        raise BundleError("The model refers to weights outside its file, which nobody verified; export the bundle again, weights inside.")
    try:
        core = openvino.Core()
        device = str(core.get_property(DEVICE, "FULL_DEVICE_NAME")).strip()
    except Exception as error:  # OpenVINO raises bare RuntimeErrors
        raise ProviderError(f"The provider openvino was asked for and does not start ({_last_line(error)}); reinstall: {CURE}") from None
    threads = {"INFERENCE_NUM_THREADS": options.threads} if options.threads else {}
    try:
        compiled = core.compile_model(core.read_model(model), DEVICE, SETTINGS | threads)
    except Exception as error:
        raise BundleError(
            f"The model does not load in OpenVINO {openvino.__version__.partition('-')[0]} ({_last_line(error)}); export the bundle again."
        ) from None
    ran = compiled.get_property("EXECUTION_DEVICES")
    if list(ran) != [DEVICE]:
        raise ProviderError(f"The provider openvino was asked for on {DEVICE} and {', '.join(ran)} ran; reinstall: {CURE}")
    return OpenvinoBackend(compiled, device)


class OpenvinoBackend:
    """See `bcd_edge.backends.Backend`."""

    def __init__(self, compiled: Any, device: str) -> None:
        self._request = compiled.create_infer_request()
        self._shape = compiled.input(0).partial_shape
        self.provider = "openvino"
        self.device = device

    def infer(self, batch_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        # OpenVINO casts another type, and answers another size with what it said before
        if batch_nhwc_u8.dtype != np.uint8 or not self._shape.compatible(type(self._shape)(list(batch_nhwc_u8.shape))):
            given = f"{batch_nhwc_u8.dtype} of shape {batch_nhwc_u8.shape}"
            raise ProviderError(f"Inference with openvino failed: the model takes uint8 of shape {self._shape} and got {given}; check the bundle.")
        try:
            logits = self._request.infer([batch_nhwc_u8])[0]
        except Exception as error:
            raise ProviderError(f"Inference with openvino failed ({_last_line(error)}); check free memory and the bundle.") from None
        return np.asarray(logits, np.float32)

    def close(self) -> None:
        self._request = None


def _last_line(error: Exception) -> str:
    """The lines before it name places in OpenVINO's own source."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200].rstrip(".")
