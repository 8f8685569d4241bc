"""That what is compared is the same network twice, and that turns are turns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import tests.networks  # noqa: F401
from bcd_edge.errors import BundleError
from bcd_edge.interleaved import ROUNDS, WARM_UP, medians
from benchmarks.graph_input import converted, float_input
from export import graph, quantise
from train import networks
from train.data.images import Images


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder: Path = tmp_path_factory.mktemp("graph")
    graph.write(networks.build(name="tiny").eval(), 32, folder / "fp32.onnx")
    names = np.array([str(index) for index in range(16)])
    pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    images = Images(pixels, np.arange(16) % 2 == 1, np.full(16, "x"), names, names, names)
    quantise.write(quantise.prepare(folder / "fp32.onnx", folder), images, folder / "int8.onnx")
    return (folder / "int8.onnx").read_bytes()


def test_both_graphs_say_the_same(int8: bytes) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    ours, theirs = (onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]) for model in (int8, float_input(int8)))
    assert np.allclose(ours.run(None, {"image": pixels})[0], theirs.run(None, {"image": converted(pixels)})[0], atol=1e-5)
    assert theirs.get_inputs()[0].type == "tensor(float)"


def test_a_graph_that_begins_otherwise_is_refused(int8: bytes) -> None:
    model = onnx.load_from_string(int8)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "pixel_scale":
                node.input[index] = "another"
    with pytest.raises(BundleError, match="first quantised activation"):
        float_input(model.SerializeToString())


def test_turns_alternate_and_leave_the_warm_up_out() -> None:
    order: list[str] = []
    times = medians({name: lambda name=name: order.append(name) for name in ("a", "b")}, 0.05)
    assert set(times) == {"a", "b"}
    assert all(value >= 0 for value in times.values())
    assert order[: 2 * WARM_UP] == ["a"] * WARM_UP + ["b"] * WARM_UP
    turns = [name for index, name in enumerate(order) if index >= 2 * WARM_UP and (index == 2 * WARM_UP or order[index - 1] != name)]
    assert turns == ["a", "b"] * ROUNDS
