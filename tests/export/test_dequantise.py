"""An FP32 bundle from an INT8 one: the same weights, activations that are not quantised, and what it says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from bcd_edge import bundle, selftest
from export import dequantise
from export.__main__ import main


def quantised(zero_point: int) -> bytes:
    """Pixels, a convolution in QDQ form with weights per channel, and an output that is quantised from `-zero_point / 10` on."""
    weights = np.array([-3, 7], np.int8).reshape(2, 1, 1, 1).repeat(3, 1)
    constants = {
        "pixel_scale": np.array(1 / 255, np.float32),
        "zero": np.array(0, np.uint8),
        "weights_int8": weights,
        "weights_scale": np.array([0.5, 0.25], np.float32),
        "weights_zero": np.zeros(2, np.int8),
        "scale": np.array(0.1, np.float32),
        "zero_point": np.array(zero_point, np.uint8),
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("DequantizeLinear", ["nchw", "pixel_scale", "zero"], ["pixels"]),
        helper.make_node("DequantizeLinear", ["weights_int8", "weights_scale", "weights_zero"], ["weights"], axis=0),
        helper.make_node("Conv", ["pixels", "weights"], ["sums"]),
        helper.make_node("QuantizeLinear", ["sums", "scale", "zero_point"], ["sums_uint8"]),
        helper.make_node("DequantizeLinear", ["sums_uint8", "scale", "zero_point"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4, 4, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2, 1, 1])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString())


@pytest.mark.parametrize("zero_point", [0, 128])
def test_a_graph_computes_with_the_rounded_weights_and_a_relu_that_quantising_removed(zero_point: int) -> None:
    content = dequantise.float_graph(quantised(zero_point))
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    sums = (image / 255).sum(axis=3)[:, None] * np.array([-3 * 0.5, 7 * 0.25]).reshape(1, 2, 1, 1)
    expected = (np.maximum(sums, 0) if zero_point == 0 else sums).mean(axis=(2, 3), keepdims=True)
    (logits,) = InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"image": image})
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    assert not {node.op_type for node in onnx.load_from_string(content).graph.node} & {"QuantizeLinear", "DequantizeLinear"}


def test_the_embedded_bundle_in_fp32_says_what_it_is_and_answers_nearly_as_int8_does(tmp_path: Path) -> None:
    out = tmp_path / "fp32"
    done = CliRunner().invoke(main, ["dequantise", "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "golden images p differs by" in " ".join(done.output.split())
    opened, int8 = bundle.open(out), bundle.open()
    assert opened.manifest["name"] == f"{int8.manifest['name']}-fp32-from-int8"
    assert opened.precisions == ["fp32"]
    assert opened.manifest["derived_from"]["manifest_sha256"] == int8.sha256
    for text in (opened.manifest["description"], opened.manifest["limits"][0], (out / "MODEL_CARD.md").read_text()):
        assert "not the FP32 network that was trained" in text
    assert not {"test", "gate"} & set(opened.variants()[0])  # INT8's figures are not this one's
    assert str(tmp_path) not in (out / "manifest.json").read_text()
    assert bundle.verify(opened) == ([], [])
    assert {outcome.verdict for outcome in selftest.run(out, provider="cpu")} == {"fine"}
    for (entry, _), (before, _) in zip(opened.golden(), int8.golden(), strict=True):
        assert entry["variants"]["model.fp32.onnx"] == pytest.approx(before["variants"]["model.int8.onnx"], abs=0.05)


def test_it_is_never_written_over_a_folder_nor_made_from_a_bundle_with_its_own_fp32(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["dequantise", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "exists" in done.output
    manifest = json.loads((bundle.embedded() / "manifest.json").read_text())
    (tmp_path / "bundle").mkdir()
    manifest["variants"].append(manifest["variants"][0] | {"precision": "fp32"})
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    done = CliRunner().invoke(main, ["dequantise", "--bundle", str(tmp_path / "bundle"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "--precision fp32" in done.output


@pytest.mark.parametrize(
    ("module", "command"),
    [("onnx", ["export", "dequantise", "--out", "fp32"]), ("torch", ["train", "bench"]), ("onnx", ["benchmarks", "graph-input"])],
)
def test_a_package_that_is_missing_is_one_sentence(module: str, command: list[str]) -> None:
    script = f"import runpy, sys; sys.modules[{module!r}] = None; sys.argv = {command!r}; runpy.run_module({command[0]!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f'Error: {module} is not installed; type, in the source tree: pip install -e ".[export]"\n'
