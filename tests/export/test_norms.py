"""A batch norm as a depthwise convolution: the same numbers in every engine, and only where it stands between quantised tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export import norms


def graph(gamma: Any, beta: Any, mean: Any, variance: Any, *, relu: bool = True, requantised: bool = True) -> onnx.ModelProto:
    """Uint8 -> DequantizeLinear -> BatchNormalization [-> Relu] [-> QuantizeLinear -> DequantizeLinear] -> float32."""
    channels = len(gamma)
    constants = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    initializers = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    initializers += [numpy_helper.from_array(np.array(scale, np.float32), name) for name, scale in (("in_scale", 0.02), ("out_scale", 0.05))]
    initializers += [numpy_helper.from_array(np.array(zero, np.uint8), name) for name, zero in (("in_zero", 100), ("out_zero", 0 if relu else 128))]
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "in_scale", "in_zero"], ["float"]),
        helper.make_node("BatchNormalization", ["float", "gamma", "beta", "mean", "variance"], ["normed"], "norm", epsilon=1e-3),
    ]
    last = "normed"
    if relu:
        nodes.append(helper.make_node("Relu", [last], ["rectified"]))
        last = "rectified"
    if requantised:
        nodes.append(helper.make_node("QuantizeLinear", [last, "out_scale", "out_zero"], ["quantised"]))
        nodes.append(helper.make_node("DequantizeLinear", ["quantised", "out_scale", "out_zero"], ["dequantised"]))
        last = "dequantised"
    ends = [("x", TensorProto.UINT8), (last, TensorProto.FLOAT)]
    given_x, output = (helper.make_tensor_value_info(name, kind, [1, channels, 4, 4]) for name, kind in ends)
    whole = helper.make_graph(nodes, "norm", [given_x], [output], initializers)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def computed(model: onnx.ModelProto, x: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


NUMBERS = st.floats(-4, 4, width=32) | st.sampled_from([0.0, 1e-6, -1e-6])
CHANNELS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, st.floats(0.0009765625, 8, width=32)), min_size=1, max_size=5)


@settings(max_examples=40)
@given(CHANNELS, st.booleans(), st.sampled_from([63, 127]))
def test_it_computes_what_the_norm_did_to_one_step(channels: list[tuple[float, ...]], relu: bool, steps: int) -> None:
    model = graph(*zip(*channels, strict=True), relu=relu)
    x = np.random.default_rng(3).integers(0, 256, (1, len(channels), 4, 4), np.uint8)
    expected = computed(model, x)
    assert norms.as_convolutions(model, steps) == 1
    onnx.checker.check_model(model, full_check=True)
    (convolution,) = [node for node in model.graph.node if node.op_type == "Conv"]
    assert {attribute.name: attribute.i for attribute in convolution.attribute}["group"] == len(channels)
    assert not {"gamma", "beta", "mean", "variance"} & {entry.name for entry in model.graph.initializer}
    assert np.abs(computed(model, x) - expected).max() <= 0.05 * 1.01


def test_a_norm_whose_result_stays_in_float_is_left_alone() -> None:
    model = graph([1, 2], [0, 1], [0, 0], [1, 1], requantised=False)
    assert norms.as_convolutions(model) == 0
    assert [node.op_type for node in model.graph.node] == ["DequantizeLinear", "BatchNormalization", "Relu"]


@pytest.mark.parametrize("steps", [63, 127])
def test_weights_are_all_steps_of_their_own_scale(steps: int) -> None:
    model = graph([0.01, -30, 2], [0.5, 0, 0], [0, 1, 2], [1, 2, 3])
    norms.as_convolutions(model, steps)
    values = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    assert values["norm.weight_quantized"].ravel().tolist() == [steps, -steps, steps]
    assert values["norm.weight_scale"] * values["norm.weight_quantized"].ravel() == pytest.approx([0.01, -30 / 2**0.5, 2 / 3**0.5], rel=1e-3)
