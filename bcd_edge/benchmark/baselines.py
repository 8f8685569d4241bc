"""What a user would run instead, measured beside a bundle: PyTorch, ONNX Runtime or OpenVINO without bcd-edge, or another ONNX file.

Each decodes and resizes as its documentation shows, and processes one image at a time. Nothing of it is imported unless it is requested.
"""

from __future__ import annotations

import hashlib
import importlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import cv2
import numpy as np

from bcd_edge.benchmark.scenarios import SystemUnderTest
from bcd_edge.benchmark.sut import QuerySampleLibrary
from bcd_edge.bundle import Bundle, Input
from bcd_edge.errors import BundleError, ProviderError, UsageError

FIXES: Final = {"torch": "pytorch", "torchvision": "pytorch", "onnxruntime": "cpu", "openvino": "openvino"}


@dataclass(frozen=True, slots=True)
class Baseline:
    """One alternative.

    Attributes:
        name: in place of a provider.
        precision: `fp32`, `fp16`, `int8`, or `unknown` of a file.
        files: name and SHA-256 of each model file.
        prepare: from the bytes of an image file to the network's input.
        infer: from this input to logits.
        threads: of the processor; 0 for the engine's default.
        start_s: seconds to load, to compile, and of the first inference.
    """

    name: str
    precision: str
    files: list[dict[str, str]]
    prepare: Callable[[bytes], Any]
    infer: Callable[[Any], Any]
    threads: int
    start_s: tuple[float, float, float]

    def about(self) -> dict[str, Any]:
        """What its rows have in common, see benchmark.schema.json."""
        load, compiling, first = (round(1000 * seconds, 3) for seconds in self.start_s)
        return {
            "provider": self.name,
            "device": "CPU",
            "precision": self.precision,
            "batch": 1,
            "threads": self.threads,
            "streams": 1,
            "files": self.files,
            "start_ms": {"load": load, "compile": compiling, "first_inference": first, "compiled": "anew"},
            "accuracy": None,
        }

    def suts(self, library: QuerySampleLibrary) -> dict[str, SystemUnderTest]:
        """The system under test for each scope."""
        inputs = [self.prepare(data) for data in library.files]
        return {"model": _OneByOne(self.infer, inputs), "end-to-end": _OneByOne(lambda data: self.infer(self.prepare(data)), library.files)}


class _OneByOne:
    """See `bcd_edge.benchmark.scenarios.SystemUnderTest`."""

    streams = 1

    def __init__(self, call: Callable[[Any], Any], inputs: Sequence[Any]) -> None:
        self.samples = len(inputs)
        self._call, self._inputs = call, inputs

    def query(self, samples: Sequence[int]) -> None:
        for sample in samples:
            self._call(self._inputs[sample])

    def stream(self, samples: Iterator[int]) -> Iterator[tuple[int, float]]:
        for sample in samples:
            begun = perf_counter()
            self._call(self._inputs[sample])
            yield 1, perf_counter() - begun


def open(name: str, opened: Bundle, threads: int = 0) -> Baseline:
    """A baseline by its name on the command line.

    Args:
        name: `pytorch`, `onnxruntime`, `openvino`, or the path of an ONNX file.
        opened: the bundle it is measured beside.
        threads: of the processor; 0 for the engine's default. PyTorch's are those of the whole process.

    Raises:
        ProviderError: its library is not installed.
        UsageError: there is no such baseline, or the file is no model that takes one image.
        BundleError: the bundle has no single file for the engine.
    """
    if name == "pytorch":
        return _pytorch(opened.input, threads)
    if name in ("onnxruntime", "openvino"):
        load = _onnxruntime if name == "onnxruntime" else _openvino
        variant, contents = opened.model(None, {"onnxruntime": "cpu"}.get(name, name))
        if len(contents) > 1:
            raise BundleError(f"--beside {name} cannot run {opened.name}, which is an ensemble of {len(contents)} files; use --beside pytorch.")
        return load(f"plain-{name}", variant["precision"], Path(variant["file"]).name, contents[0], opened.input, threads)
    path = Path(name)
    if path.suffix != ".onnx":
        raise UsageError(f"--beside {name} is unknown; choose pytorch, onnxruntime, openvino or an ONNX file.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--beside {name} cannot be read ({error.strerror}); give an ONNX file.") from None
    return _onnxruntime(path.name, "unknown", path.name, content, opened.input, threads)


def _imported(module: str, beside: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ProviderError(
            f'{beside} was requested, but {module} cannot be imported ({error}); fix: pip install "bcd-edge[{FIXES[module]}]"'
        ) from None


def _opened(
    name: str, precision: str, files: list[dict[str, str]], prepare: Callable[[bytes], Any], start: Callable[[], Any], threads: int
) -> Baseline:
    """Times the start, and the first inference with a black image."""
    begun = perf_counter()
    infer = start()
    compiled = perf_counter()
    black = cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    inputs = prepare(black)
    ready = perf_counter()
    infer(inputs)
    return Baseline(name, precision, files, prepare, infer, threads, (0.0, compiled - begun, perf_counter() - ready))


def pytorch_pair(network: Any, height: int, width: int) -> tuple[Callable[[bytes], Any], Callable[[Any], Any]]:
    """Preparation with Pillow and torchvision, and inference of a PyTorch network in evaluation mode."""
    torch, v2, image = (importlib.import_module(module) for module in ("torch", "torchvision.transforms.v2", "PIL.Image"))
    transform = v2.Compose([v2.Resize((height, width)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    def infer(batch: Any) -> Any:
        with torch.inference_mode():
            return network(batch)

    return lambda data: transform(image.open(io.BytesIO(data)).convert("RGB"))[None], infer


def _pytorch(size: Input, threads: int) -> Baseline:
    """A ResNet-50 of torchvision in FP32, eager, untrained: its speed does not depend on the weights."""
    for module in ("torch", "torchvision"):
        _imported(module, "--beside pytorch")
    if threads:
        importlib.import_module("torch").set_num_threads(threads)
    network = importlib.import_module("torchvision.models").resnet50(num_classes=2).eval()
    prepare, infer = pytorch_pair(network, size.height, size.width)
    return _opened("pytorch", "fp32", [{"file": "torchvision resnet50, untrained", "sha256": "0" * 64}], prepare, lambda: infer, threads)


def _onnxruntime(name: str, precision: str, file: str, content: bytes, size: Input, threads: int) -> Baseline:
    onnxruntime = _imported("onnxruntime", f"--beside {file}" if precision == "unknown" else "--beside onnxruntime")
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        (source,) = session.get_inputs()
        dtype = next(kind for kind in (np.uint8, np.float16, np.float32) if kind.__name__.removesuffix("32") in source.type)
        prepare = _preparation(source.shape, dtype, size)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:150]
        raise UsageError(f"--beside {file} does not run in ONNX Runtime ({reason}); give a model with one image input.") from None

    def start() -> Callable[[Any], Any]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        fresh = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return lambda batch: fresh.run(None, {source.name: batch})

    return _opened(name, precision, [_entry(file, content)], prepare, start, threads)


def _openvino(name: str, precision: str, file: str, content: bytes, size: Input, threads: int) -> Baseline:
    openvino = _imported("openvino", "--beside openvino")
    # it would multiply FP32 in bfloat16 where the processor can, and the row would be called FP32
    properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"} | ({"INFERENCE_NUM_THREADS": threads} if threads else {})

    def start() -> Callable[[Any], Any]:
        core = openvino.Core()
        request = core.compile_model(core.read_model(content), "CPU", properties).create_infer_request()
        return lambda batch: request.infer([batch])

    return _opened(name, precision, [_entry(file, content)], _preparation(["N", size.height, size.width, 3], np.uint8, size), start, threads)


def _entry(file: str, content: bytes) -> dict[str, str]:
    return {"file": file, "sha256": hashlib.sha256(content).hexdigest()}


def _preparation(shape: Sequence[Any], dtype: Any, size: Input) -> Callable[[bytes], Any]:
    """OpenCV's decoding and area resizing to an input of N x H x W x 3 or N x 3 x H x W; floats are 0..1."""
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise ValueError(f"its input has the shape {shape}")
    channels_first = shape[1] == 3
    height, width = shape[2:] if channels_first else shape[1:3]
    target = (width if isinstance(width, int) else size.width, height if isinstance(height, int) else size.height)

    def prepare(data: bytes) -> Any:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None  # the library holds only readable images
        image = cv2.resize(image[..., ::-1], target, interpolation=cv2.INTER_AREA)
        batch = image[None] if dtype == np.uint8 else (image[None] / 255).astype(dtype)
        return np.ascontiguousarray(batch.transpose(0, 3, 1, 2) if channels_first else batch)

    return prepare
