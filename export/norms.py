"""Batch norms that no convolution could take up, in INT8 as depthwise convolutions of 1 x 1.

In a pre-activation network (He et al., ECCV 2016) each unit begins with a norm of what two branches share. As a float operator it makes
an engine leave INT8 for every unit, and ONNX Runtime the channels-last layout, too. A number for each channel is a convolution with one
weight a channel; with a scale a channel that weight is exact, all steps that there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

# A bias has 32 bits at the scale of input and weight; half of them leave room for the product.
LARGEST_BIAS = 2**30


def as_convolutions(model: onnx.ModelProto, steps: int = 127) -> int:
    """Replaces each norm between a DequantizeLinear and a QuantizeLinear, ReLU or not; returns how many.

    Args:
        model: a QDQ graph whose norms are in float32; it is changed.
        steps: largest quantised weight.
    """
    graph = model.graph
    values = {entry.name: entry for entry in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    norms = [node for node in graph.node if node.op_type == "BatchNormalization" and _is_between(graph, node, producers)]
    for norm in norms:
        constants = [numpy_helper.to_array(values[name]).astype(np.float64) for name in norm.input[1:5]]
        input_scale = float(numpy_helper.to_array(values[producers[norm.input[0]].input[1]]))
        epsilon = next((attribute.f for attribute in norm.attribute if attribute.name == "epsilon"), 1e-5)
        place = list(graph.node).index(norm)
        graph.node.remove(norm)
        initializers, nodes = _convolution(norm, _affine(*constants, epsilon), input_scale, steps)
        graph.initializer.extend(initializers)
        for node in reversed(nodes):
            graph.node.insert(place, node)
    needed = {name for node in graph.node for name in node.input}
    for entry in [entry for entry in graph.initializer if entry.name not in needed]:
        graph.initializer.remove(entry)
    return len(norms)


def _is_between(graph: onnx.GraphProto, norm: onnx.NodeProto, producers: dict[str, onnx.NodeProto]) -> bool:
    """Whether a norm takes a dequantised tensor and gives one that is quantised again and used by nothing else."""
    before = producers.get(norm.input[0])
    after = [node for node in graph.node if norm.output[0] in node.input]
    if len(after) == 1 and after[0].op_type == "Relu":
        after = [node for node in graph.node if after[0].output[0] in node.input]
    return before is not None and before.op_type == "DequantizeLinear" and len(after) == 1 and after[0].op_type == "QuantizeLinear"


def _affine(gamma: Any, beta: Any, mean: Any, variance: Any, epsilon: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Weight and bias of each channel."""
    weights = gamma / np.sqrt(variance + epsilon)
    return weights, beta - mean * weights


def _convolution(
    norm: onnx.NodeProto, affine: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]], input_scale: float, steps: int
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Initializers and nodes in the place of a norm."""
    weights, biases = affine
    # where the weight is nearly nothing, the scale is as large as the bias needs
    scales = np.maximum(np.abs(weights) / steps, np.maximum(np.abs(biases) / (input_scale * LARGEST_BIAS), 1e-12)).astype(np.float32)
    bias_scales = (input_scale * scales.astype(np.float64)).astype(np.float32)
    quantised = {
        "weight": (np.rint(weights / scales).astype(np.int8).reshape(-1, 1, 1, 1), scales, np.zeros(len(scales), np.int8)),
        "bias": (np.rint(biases / bias_scales).astype(np.int32), bias_scales, np.zeros(len(scales), np.int32)),
    }
    initializers, nodes = [], []
    for name, tensors in quantised.items():
        names = [f"{norm.name}.{name}{suffix}" for suffix in ("_quantized", "_scale", "_zero_point")]
        initializers += [numpy_helper.from_array(tensor, own) for tensor, own in zip(tensors, names, strict=True)]
        nodes.append(helper.make_node("DequantizeLinear", names, [f"{norm.name}.{name}"], f"{norm.name}.{name}_DequantizeLinear", axis=0))
    inputs = [norm.input[0], f"{norm.name}.weight", f"{norm.name}.bias"]
    nodes.append(helper.make_node("Conv", inputs, list(norm.output), norm.name, kernel_shape=[1, 1], group=len(scales)))
    return initializers, nodes
