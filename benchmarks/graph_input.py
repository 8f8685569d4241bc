"""The same INT8 network with uint8 pixels and with a float image that the caller converts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

from bcd_edge import bundle as reading
from bcd_edge.backends.providers import cpu, openvino
from bcd_edge.errors import BundleError
from bcd_edge.interleaved import medians
from bcd_edge.options import RunOptions

BATCHES = (1, 16)
Pixels = npt.NDArray[np.uint8]


def compare(bundle: Path | None, seconds: float) -> None:
    """Prints medians for both inputs on each engine, at batch 1 and 16, the caller's conversion included and apart.

    Raises:
        BundleError: the bundle has no INT8 variant whose pixels are its first quantised activation.
    """
    opened = reading.open(bundle)
    _, (model,) = opened.model("int8")
    other = float_input(model)
    table = Table("engine", "batch", "input", "ms", "ratio", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for engine, start in (("cpu", _onnxruntime), ("openvino", _openvino)):
        if not {"cpu": cpu, "openvino": openvino}[engine].is_available().available:
            continue
        ours, theirs = start(model), start(other)
        for batch in BATCHES:
            pixels = np.random.default_rng(0).integers(0, 256, (batch, opened.input.height, opened.input.width, 3), np.uint8)
            ready = converted(pixels)
            if not np.allclose(ours(pixels), theirs(ready), atol=0.05):
                raise BundleError(f"The two graphs do not agree on {engine}, so their times mean nothing.")
            times = medians(
                {
                    "uint8 NHWC": lambda run=ours, given=pixels: run(given),
                    "float32 NCHW": lambda run=theirs, given=ready: run(given),
                    "float32 NCHW + conversion": lambda run=theirs, given=pixels: run(converted(given)),
                },
                seconds,
            )
            for name, value in times.items():
                table.add_row(engine, str(batch), name, f"{value:.2f}", f"{value / times['uint8 NHWC']:.2f}")
    Console().print(table)


def converted(pixels_nhwc: Pixels) -> npt.NDArray[np.float32]:
    """What a caller of the usual graph does: scale to 0..1 and put channels first."""
    return np.ascontiguousarray((pixels_nhwc.astype(np.float32) / 255).transpose(0, 3, 1, 2))


def float_input(model: bytes) -> bytes:
    """The same INT8 graph with a float32 N x 3 x H x W input in 0..1, quantised inside as tools leave it.

    Raises:
        BundleError: the graph does not begin with uint8 pixels, a transposition and their dequantisation.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    first = next((node for node in graph.node if node.op_type == "DequantizeLinear" and "pixel_scale" in node.input), None)
    transposed = next((node for node in graph.node if first and node.output[0] == first.input[0] and node.op_type == "Transpose"), None)
    if not first or not transposed:
        raise BundleError("The INT8 graph does not take its pixels as the first quantised activation; export the bundle again.")
    _, height, width, _ = (dimension.dim_value for dimension in graph.input[0].type.tensor_type.shape.dim)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, height, width]))
    graph.node.remove(transposed)
    graph.node.insert(0, helper.make_node("QuantizeLinear", ["image", "pixel_scale", "pixel_zero_point"], [first.input[0]]))
    scale = next(initializer for initializer in graph.initializer if initializer.name == "pixel_scale")
    assert numpy_helper.to_array(scale) == np.float32(1 / 255)
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def _onnxruntime(model: bytes) -> Callable[[Any], Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"image": batch})[0]


def _openvino(model: bytes) -> Callable[[Any], Any]:
    import openvino as engine

    core = engine.Core()
    request = core.compile_model(core.read_model(model), "CPU", openvino.settings(openvino.DEVICE, RunOptions())).create_infer_request()
    return lambda batch: request.infer([batch])[0]
