"""OpenVINO by its own API, not as an execution provider of ONNX Runtime: Intel CPUs, GPUs and NPUs, and Arm CPUs."""

from __future__ import annotations

import queue
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bcd_edge.backends import Availability, check_self_contained, closed, installed, joined, require
from bcd_edge.errors import BundleError, ProviderError
from bcd_edge.options import RunOptions
from bcd_edge.system import caches, machine

REQUIRES = ("openvino>=2025.4",)
RANK = 30
OPTIONS: Final[dict[str, str]] = {}
RUNS_MODEL = True
FIX = 'pip install "bcd-edge[openvino]"'
DEVICE: Final = "CPU"


def is_available() -> Availability:
    """Whether openvino can be imported and is recent enough."""
    return installed(REQUIRES[0], FIX)


def runs_on_cpu(device: str | None) -> bool:
    return device is None or device.upper() == DEVICE


def computes(variant: Mapping[str, Any], device: str | None) -> Availability:
    """Whether INT8 is exact: on an x86 processor without VNNI only if the weights have 7 bits, see `export/quantise.py`."""
    scheme = (variant.get("quantisation") or {}).get("scheme")
    if variant["precision"] != "int8" or scheme == "u8s7" or not runs_on_cpu(device) or machine.adds_bytes_exactly():
        return Availability(True)
    reason = "this processor is not known to have VNNI, without which OpenVINO's 16-bit sums of an INT8 model saturate and its answers are wrong"
    return Availability(False, reason, "--provider cpu, which computes it exactly, or another precision")


def open(model: bytes, options: RunOptions, cache: Path | None = None) -> OpenvinoBackend:
    """Opens an ONNX model.

    Raises:
        ProviderError: openvino is missing or too old, does not start, has no such device, or runs on another one.
        BundleError: OpenVINO cannot load the model, or its weights are outside the file.
    """
    require("openvino", is_available())
    import openvino

    check_self_contained(model)
    requested = options.device.upper() if options.device else DEVICE
    try:
        core = openvino.Core()
        devices = list(core.available_devices)
        device = str(core.get_property(requested, "FULL_DEVICE_NAME")).strip() if requested in devices else ""
    except Exception as error:  # OpenVINO raises bare RuntimeErrors
        raise ProviderError(f"The provider openvino was requested, but does not start ({_last_line(error)}); reinstall: {FIX}") from None
    if not device:
        raise ProviderError(
            f"The provider openvino has no device {requested} here, only {', '.join(devices) or 'none'}; "
            "install the driver of that device, or give another one with --device."
        )
    try:
        graph = core.read_model(model)
        shape = graph.input(0).partial_shape
        first = _channels_first(graph)
        if options.batch:
            graph.reshape([options.batch, *list(graph.input(0).partial_shape)[1:]])
        compiled = _compile(core, graph, requested, settings(requested, options), cache)
    except Exception as error:
        raise BundleError(
            f"The model does not load in OpenVINO {openvino.__version__.partition('-')[0]} ({_last_line(error)}); export the bundle again."
        ) from None
    ran = [name.partition(".")[0] for name in compiled.get_property("EXECUTION_DEVICES")]
    if set(ran) != {requested.partition(".")[0]}:
        raise ProviderError(f"The provider openvino was requested on {requested}, but {', '.join(ran)} ran; reinstall: {FIX}")
    return OpenvinoBackend(compiled, device, options, shape, first)


def _channels_first(graph: Any) -> bool:
    """Removes the transposition of the pixels from a graph, so that the caller does it; returns whether there was one.

    OpenVINO transposes before the first convolution, which it computes channels-last all the same: this costs 9 % of the
    time at batch 1 and 16 % at 16, net of the transposition on the host (docs/export.md).
    """
    from openvino import PartialShape, opset13

    pixels = graph.get_parameters()[0]
    users = [target.get_node() for target in pixels.output(0).get_target_inputs()]
    if len(users) != 1 or users[0].get_type_name() != "Transpose":
        return False
    order = users[0].input_value(1).get_node()
    if order.get_type_name() != "Constant" or list(order.get_data()) != [0, 3, 1, 2]:
        return False
    count, height, width, channels = pixels.get_partial_shape()
    turned = opset13.parameter(PartialShape([count, channels, height, width]), pixels.get_element_type(), name="image")
    for target in list(users[0].output(0).get_target_inputs()):
        target.replace_source_output(turned.output(0))
    graph.add_parameters([turned])
    graph.remove_parameter(pixels)
    graph.validate_nodes_and_infer_types()
    return True


def settings(device: str, options: RunOptions) -> dict[str, Any]:
    """The properties with which `open` compiles a model for a device."""
    streams = options.streams or 1
    properties: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT"}
    # On a processor with AMX or AVX-512 BF16 the engine would compute a float32 model in bfloat16, but fp32 in the bundle
    # was measured as float32. Quantised layers stay in int8 either way.
    if device.startswith("CPU") or options.precision == "fp32":
        properties["INFERENCE_PRECISION_HINT"] = "f32"
    if streams > 1 and device.startswith(("CPU", "GPU")):
        properties["NUM_STREAMS"] = str(streams)
    if options.threads and device.startswith("CPU"):
        properties["INFERENCE_NUM_THREADS"] = options.threads * streams
    return properties


def _compile(core: Any, graph: Any, device: str, properties: dict[str, Any], entry: Path | None) -> Any:
    """Compiles, or loads from the cache; deletes a cache entry that OpenVINO cannot use."""
    with caches.entry(entry) as cache:
        if cache:
            try:
                return core.compile_model(graph, device, properties | {"CACHE_DIR": str(cache)})
            except Exception:
                shutil.rmtree(cache, ignore_errors=True)
    return core.compile_model(graph, device, properties)


class OpenvinoBackend:
    """See `bcd_edge.backends.Backend`. Has as many infer requests as streams; each call borrows one."""

    provider = "openvino"

    def __init__(self, compiled: Any, device: str, options: RunOptions, shape: Any, channels_first: bool) -> None:
        import openvino

        self._tensor = openvino.Tensor
        requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(options.streams or 1):
            requests.put(compiled.create_infer_request())
        self._requests: queue.SimpleQueue[Any] | None = requests
        self._shape = type(shape)([options.batch or shape[0], *list(shape)[1:]])
        self._channels_first, self._outputs = channels_first, len(compiled.outputs)
        self.device, self.batch = device, options.batch

    def infer(self, batch_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        # OpenVINO casts another type, and answers another size with what it said before
        if batch_nhwc_u8.dtype != np.uint8 or not self._shape.compatible(type(self._shape)(list(batch_nhwc_u8.shape))):
            given = f"{batch_nhwc_u8.dtype} of shape {batch_nhwc_u8.shape}"
            raise ProviderError(f"Inference with openvino failed: the model takes uint8 of shape {self._shape} and got {given}; check the bundle.")
        pixels = np.ascontiguousarray(batch_nhwc_u8.transpose(0, 3, 1, 2)) if self._channels_first else batch_nhwc_u8
        requests = self._requests
        if requests is None:
            raise closed("openvino")
        request = requests.get()
        try:
            # the pixels are read where they are; the answer is copied, since the request is used again
            request.set_input_tensor(self._tensor(pixels, shared_memory=True))
            request.infer()
            return joined([np.array(request.get_output_tensor(index).data, np.float32) for index in range(self._outputs)])
        except Exception as error:
            raise ProviderError(f"Inference with openvino failed ({_last_line(error)}); check free memory and the bundle.") from None
        finally:
            requests.put(request)

    def close(self) -> None:
        self._requests = None


def _last_line(error: Exception) -> str:
    """The last line of an OpenVINO error; those before it name locations in OpenVINO's source."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200].rstrip(".")
