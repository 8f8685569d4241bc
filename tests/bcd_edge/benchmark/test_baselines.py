"""Alternatives beside a bundle: what runs is the real engine, and what is missing is one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bcd_edge import bundle
from bcd_edge.benchmark import baselines, rows, sut
from bcd_edge.errors import UsageError
from bcd_edge.system import machine

OPENED = bundle.open()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_plain_engine_answers_as_the_bundle_does(name: str) -> None:
    pytest.importorskip(name)
    if not machine.adds_bytes_exactly():
        pytest.skip("without VNNI a plain engine's INT8 sums saturate, and bcd-edge's do not")
    library = sut.build_library(OPENED, 1)
    baseline = baselines.open(name, OPENED)
    answer = baseline.infer(baseline.prepare(library.files[0]))
    logits = np.asarray(answer[0])
    assert logits.shape == (1, 2)
    with_bcd_edge = bundle_logits(library.inputs[0][:1])
    assert np.allclose(logits, with_bcd_edge, atol=0.3)  # it resizes by the same method from the same pixels
    assert baseline.about()["provider"] == f"plain-{name}"
    assert set(baseline.about()) | {"scenario"} >= {"provider", "device", "precision", "batch", "threads", "streams", "files", "start_ms"}


THREADS = """
import sys
from pathlib import Path
from bcd_edge import bundle
from bcd_edge.benchmark import baselines
baseline = baselines.open("onnxruntime", bundle.open(), int(sys.argv[1]))
assert baseline.about()["threads"] == int(sys.argv[1])
print(len(list(Path("/proc/self/task").iterdir())))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_threads_limit_a_plain_engine() -> None:
    pytest.importorskip("onnxruntime")
    few, many = (int(subprocess.run([sys.executable, "-c", THREADS, count], check=True, capture_output=True).stdout) for count in "16")
    assert few < many


def bundle_logits(batch: np.ndarray) -> np.ndarray:
    from bcd_edge.backends.providers import cpu
    from bcd_edge.options import RunOptions

    _, (model,) = OPENED.model(None, "cpu")
    backend = cpu.open(model, RunOptions())
    try:
        return backend.infer(batch)[:, :2]
    finally:
        backend.close()


def test_an_onnx_file_with_channels_first_gets_floats(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["x"], ["y"])],
        "mean",
        [helper.make_tensor_value_info("x", kind, ["N", 3, 8, 16])],
        [helper.make_tensor_value_info("y", kind, ["N", 3, 1, 1])],
    )
    path = tmp_path / "mean.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    library = sut.build_library(OPENED, 1)
    baseline = baselines.open(str(path), OPENED)
    batch = baseline.prepare(library.files[0])
    assert (batch.shape, batch.dtype) == ((1, 3, 8, 16), np.float32)
    assert 0.2 < float(baseline.infer(batch)[0].mean()) < 1
    assert baseline.name == "mean.onnx"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tensorflow", "choose pytorch, onnxruntime, openvino or an ONNX file"),
        ("nowhere.onnx", "cannot be read"),
        ("broken.onnx", "does not run in ONNX Runtime"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.onnx").write_bytes(b"no model")
    with pytest.raises(UsageError, match=reason):
        baselines.open(name, OPENED)


def test_pytorch_that_is_missing_is_one_sentence(tmp_path: Path) -> None:
    script = "import sys; sys.modules['torch'] = None; from bcd_edge.cli import main; main()"
    command = [sys.executable, "-c", script, "benchmark", "--provider", "null", "--beside", "pytorch"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert 'fix: pip install "bcd-edge[pytorch]"' in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_baselines_are_rows_of_the_first_engines_turns() -> None:
    order: list[str] = []

    class Tracked:
        samples, streams = 1, 1

        def __init__(self, name: str) -> None:
            self.name = name

        def query(self, samples: object) -> None:
            if order[-1:] != [self.name]:
                order.append(self.name)

    from bcd_edge.benchmark.scenarios import Rule

    about = baselines.Baseline("x", "fp32", [{"file": "x", "sha256": "0"}], len, len, 0, (0.0, 0.0, 0.0)).about()
    ours, theirs = (rows.Engine(about | {"provider": name}, {"model": Tracked(name)}) for name in ("ours", "theirs"))  # type: ignore[dict-item]
    settings = rows.Settings(("singlestream",), ("model",), Rule(0.05, 5))
    measured = list(rows.measure(ours, [("singlestream", "model")], settings, [theirs]))
    assert [row["provider"] for row in measured] == ["ours", "theirs"]
    assert order == ["ours", "theirs"] * (rows.TURNS + 1)  # warm-up, then turns
    assert [len(row["raw"]["turn_end_ns"]) for row in measured] == [rows.TURNS] * 2
