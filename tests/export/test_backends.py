"""What only a graph made on purpose shows of a provider: where weights come from, and in which precision they are multiplied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bcd_edge import backends, plugins
from bcd_edge.errors import BundleError
from bcd_edge.options import RunOptions

SIDE = 8
PIXELS = SIDE * SIDE * 3
WEIGHTS = np.random.default_rng(0).normal(size=(PIXELS, 2)).astype(np.float32)


def linear() -> onnx.ModelProto:
    """Pixels times weights, in the form of a bundle's graph."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "linear", [image], [logits], [numpy_helper.from_array(WEIGHTS, "weights")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(params=backends.engines())
def provider(request: pytest.FixtureRequest) -> str:
    answer = plugins.load("bcd_edge.backends.providers", request.param).is_available()
    if not answer.available:
        pytest.skip(f"{answer.reason}; fix: {answer.fix}")
    return str(request.param)


@pytest.mark.parametrize("absolute", [False, True])
def test_weights_outside_the_file_are_not_loaded(provider: str, absolute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(linear(), tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    if absolute:
        model.graph.initializer[0].external_data[0].value = str(tmp_path / "weights.bin")
    assert (tmp_path / "weights.bin").stat().st_size == WEIGHTS.nbytes
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError):
        plugins.load("bcd_edge.backends.providers", provider).open(model.SerializeToString(), RunOptions())


def test_float32_is_multiplied_as_float32(provider: str) -> None:
    backend = plugins.load("bcd_edge.backends.providers", provider).open(linear().SerializeToString(), RunOptions(threads=1))
    batch = np.random.default_rng(1).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    assert np.allclose(backend.infer(batch), batch.reshape(4, PIXELS) @ WEIGHTS, rtol=0, atol=0.02)
