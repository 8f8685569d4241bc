"""Which options reach ONNX Runtime for an NVIDIA card, and what it may come back with: a session that writes down how it was opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcd_edge import bundle, plugins
from bcd_edge.backends import Availability, nvidia
from bcd_edge.backends.providers import cuda, tensorrt
from bcd_edge.errors import BundleError, ProviderError, UsageError
from bcd_edge.options import RunOptions
from bcd_edge.system import jetson

onnxruntime = pytest.importorskip("onnxruntime")

# before a fixture puts `Session` in its place
INFERENCE_SESSION = onnxruntime.InferenceSession
TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"


class Session:
    """Stands where ONNX Runtime's InferenceSession stands; takes what that takes, and answers as that does where a card is."""

    opened: list[Session]
    answers: list[str] | None
    refuses: str
    writes: bytes

    def __init__(self, model: bytes, sess_options: Any = None, providers: Any = None, **more: Any) -> None:
        cls = type(self)
        if cls.refuses and providers != [CPU]:
            raise RuntimeError(cls.refuses)
        self.model, self.options, self.asked, self.more = model, sess_options, providers, more
        if cls.writes:
            (Path(providers[0][1]["trt_engine_cache_path"]) / "engine").write_bytes(cls.writes)
        cls.opened.append(self)

    def get_providers(self) -> list[str]:
        answers = type(self).answers
        return [*dict(self.asked), CPU] if answers is None else answers

    def get_inputs(self) -> list[Any]:
        return [type("Input", (), {"name": "image", "shape": ["N", 150, 150, 3]})]

    def get_outputs(self) -> list[Any]:
        return [type("Output", (), {"name": "logits", "shape": ["N", 2]})]

    def io_binding(self) -> Any:
        return type("Binding", (), {"bind_ortvalue_input": lambda *_: None, "bind_ortvalue_output": lambda *_: None})()


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch) -> type[Session]:
    fresh = type("Fresh", (Session,), {"opened": [], "answers": None, "refuses": "", "writes": b""})
    monkeypatch.setattr(onnxruntime, "InferenceSession", fresh)
    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_shape_and_type", lambda *_: None)
    monkeypatch.setattr(nvidia, "cuda_devices", lambda: (2, ""))
    monkeypatch.setattr(nvidia, "card_name", lambda index: f"card {index}")
    for module in (cuda, tensorrt):
        monkeypatch.setattr(module, "is_available", lambda: Availability(True))
    return fresh


def asked(card: type[Session], name: str, options: RunOptions, cache: Path | None = None) -> list[tuple[str, dict[str, str]]]:
    plugins.load("bcd_edge.backends.providers", name).open(b"model", options, cache)
    (session,) = card.opened
    assert session.model == b"model"
    assert session.more == {"enable_fallback": 0}
    # nothing may run on the processor: the one setting that ONNX Runtime heeds on every provider
    assert session.options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
    return session.asked


@pytest.mark.parametrize(("precision", "fp16", "int8"), [("fp32", "0", "0"), ("fp16", "1", "0"), ("int8", "1", "1")])
def test_tensorrt_is_asked_for_with_the_precision_of_the_model_and_cuda_for_the_rest(
    card: type[Session], precision: str, fp16: str, int8: str
) -> None:
    assert asked(card, "tensorrt", RunOptions(precision=precision)) == [
        (TENSORRT, {"device_id": "0", "trt_fp16_enable": fp16, "trt_int8_enable": int8, "trt_cuda_graph_enable": "0"}),
        (CUDA, {"device_id": "0"}),
    ]


def test_engines_and_timings_are_kept_in_the_cache_and_sealed(card: type[Session], tmp_path: Path) -> None:
    card.writes = b"an engine"
    (name, settings), rest = asked(card, "tensorrt", RunOptions(device="1", precision="fp16", batch=16), tmp_path / "entry")
    where = str(tmp_path / "entry")
    assert name == TENSORRT
    assert rest == (CUDA, {"device_id": "1"})
    assert settings == {
        "device_id": "1",
        "trt_fp16_enable": "1",
        "trt_int8_enable": "0",
        "trt_cuda_graph_enable": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": where,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": where,
    }
    assert list(json.loads((tmp_path / "entry" / "sha256.json").read_text())) == ["engine"]


def test_an_engine_that_was_changed_is_never_handed_over(card: type[Session], tmp_path: Path) -> None:
    card.writes = b"an engine"
    tensorrt.open(b"model", RunOptions(), tmp_path / "entry")
    (tmp_path / "entry" / "engine").write_bytes(b"another")
    card.writes = b""
    tensorrt.open(b"model", RunOptions(), tmp_path / "entry")
    assert not (tmp_path / "entry" / "engine").exists()


@pytest.mark.parametrize(("batch", "graph"), [(None, "0"), (4, "1")])
def test_cuda_is_asked_for_alone_in_full_float32(card: type[Session], batch: int | None, graph: str) -> None:
    expected = {"device_id": "1", "use_tf32": "0", "enable_cuda_graph": graph, "prefer_nhwc": "0"}
    assert asked(card, "cuda", RunOptions(device="1", batch=batch)) == [(CUDA, expected)]


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_cuda_takes_tensor_cores_below_float32_and_its_options_as_given(card: type[Session], precision: str) -> None:
    options = RunOptions(precision=precision, batch=4, provider_options=(("graph", "0"), ("nhwc", "1")))
    assert asked(card, "cuda", options) == [(CUDA, {"device_id": "0", "use_tf32": "1", "enable_cuda_graph": "0", "prefer_nhwc": "1"})]
    assert card.opened[0].options.get_session_config_entry("session.disable_quant_qdq") == "1"
    with pytest.raises(UsageError, match="option graph of the provider cuda is 'no'; give 0 or 1"):
        cuda.open(b"model", RunOptions(provider_options=(("graph", "no"),)))


def test_weights_that_cuda_has_no_kernel_for_are_float_when_the_session_is_open(tmp_path: Path) -> None:
    """Its DequantizeLinear takes 8 bits, and the embedded bundle's biases have 32."""
    onnx = pytest.importorskip("onnx")
    options = onnxruntime.SessionOptions()
    for name, value in cuda.CONFIG.items():
        options.add_session_config_entry(name, value)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    model = bundle.open().model("int8")[1][0]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 192, 192, 3), np.uint8)
    logits = [INFERENCE_SESSION(model, chosen, providers=[CPU]).run(None, {"image": pixels})[0] for chosen in (options, onnxruntime.SessionOptions())]
    assert np.allclose(*logits, atol=0.2)
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    constants = {constant.name for constant in graph.initializer}
    assert not [node.name for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants]


@pytest.mark.parametrize(("name", "answers"), [("tensorrt", [CUDA, CPU]), ("tensorrt", [CPU]), ("tensorrt", []), ("cuda", [CPU]), ("cuda", [])])
def test_a_session_with_other_providers_is_an_error(card: type[Session], name: str, answers: list[str]) -> None:
    card.answers = answers
    with pytest.raises(ProviderError, match=f"The provider {name} was requested, but {', '.join(answers)} ran"):
        plugins.load("bcd_edge.backends.providers", name).open(b"model", RunOptions())


@pytest.mark.parametrize("name", ["tensorrt", "cuda"])
def test_what_onnxruntime_says_becomes_a_sentence(card: type[Session], name: str) -> None:
    card.refuses = "This session contains graph nodes that are assigned to the default CPU EP, but fallback to CPU EP has been explicitly disabled"
    with pytest.raises(ProviderError, match="would run parts of the model on the CPU"):
        plugins.load("bcd_edge.backends.providers", name).open(b"model", RunOptions())
    card.refuses = "CUDA failure 100: no CUDA-capable device is detected\n and more"
    with pytest.raises(ProviderError, match=r"did not start \(CUDA failure 100: no CUDA-capable device is detected\)"):
        plugins.load("bcd_edge.backends.providers", name).open(b"model", RunOptions())


def test_a_model_that_no_provider_loads_is_a_bundle_error(card: type[Session], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise RuntimeError("Protobuf parsing failed.")

    monkeypatch.setattr(onnxruntime, "InferenceSession", never)
    with pytest.raises(BundleError, match="does not load"):
        tensorrt.open(b"model", RunOptions())


def test_on_a_jetson_the_fix_is_no_package_of_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Path(__file__).parents[1] / "system" / "jetson" / "orin"
    state = jetson.read(tree)
    monkeypatch.setattr(jetson, "read", lambda: state)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    assert "docs/jetson.md" in nvidia.availability(TENSORRT).fix
    monkeypatch.setattr(jetson, "read", lambda: None)
    assert "pip install" in nvidia.availability(TENSORRT).fix
