"""TensorRT through ONNX Runtime; operators that it does not support run on the same card through CUDA."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bcd_edge.backends import Availability, nvidia, require
from bcd_edge.backends import onnxruntime as shared
from bcd_edge.options import RunOptions
from bcd_edge.system import caches

REQUIRES = (shared.REQUIRES,)
RANK = 10
OPTIONS: Final[dict[str, str]] = {}
RUNS_MODEL = True
PROVIDER = "TensorrtExecutionProvider"
CUDA = "CUDAExecutionProvider"


def is_available() -> Availability:
    """Whether onnxruntime-gpu is installed, there is a card, and TensorRT, CUDA and cuDNN can be loaded."""
    answer = nvidia.availability(PROVIDER)
    return answer if not answer.available else nvidia.availability(CUDA)


def runs_on_cpu(device: str | None) -> bool:
    return False


def open(model: bytes, options: RunOptions, cache: Path | None = None) -> nvidia.CardBackend:
    """Opens an ONNX model: builds an engine, which takes minutes, or loads it from `cache`.

    Raises:
        ProviderError: the engine cannot start here, or would run nodes on the CPU.
        BundleError: ONNX Runtime cannot load the model.
    """
    require("tensorrt", is_available())
    index = nvidia.card(options, "tensorrt")
    settings = {
        "device_id": str(index),
        "trt_fp16_enable": str(int(options.precision in ("fp16", "int8"))),
        "trt_int8_enable": str(int(options.precision == "int8")),
        "trt_cuda_graph_enable": str(int(options.batch is not None)),
    }
    with caches.entry(cache) as entry:
        if entry:
            settings |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(entry)}
            settings |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(entry)}
        session = shared.session(model, options, "tensorrt", [(PROVIDER, settings), (CUDA, {"device_id": str(index)})], refuse_cpu=True)
    return nvidia.CardBackend(session, "tensorrt", index, options.batch)
