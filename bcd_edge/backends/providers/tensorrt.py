"""TensorRT through ONNX Runtime; what it cannot take runs on the same card through CUDA."""

from __future__ import annotations

from bcd_edge.backends import Availability, Options, nvidia, require
from bcd_edge.backends import onnxruntime as shared
from bcd_edge.system import caches

REQUIRES = (shared.REQUIRES,)
PROVIDER = "TensorrtExecutionProvider"
CUDA = "CUDAExecutionProvider"


def is_available() -> Availability:
    """Whether onnxruntime-gpu is installed, there is a card, and TensorRT, CUDA and cuDNN load."""
    answer = nvidia.availability(PROVIDER)
    return answer if not answer.available else nvidia.availability(CUDA)


def open(model: bytes, options: Options) -> nvidia.CardBackend:
    """Opens an ONNX model: builds an engine, which takes minutes, or finds it in `options.cache`.

    Raises:
        ProviderError: it cannot start here, or would leave nodes to the CPU.
        BundleError: the model is no graph that ONNX Runtime can load.
    """
    require("tensorrt", is_available())
    index = nvidia.card(options, "tensorrt")
    settings = {
        "device_id": str(index),
        "trt_fp16_enable": str(int(options.precision in ("fp16", "int8"))),
        "trt_int8_enable": str(int(options.precision == "int8")),
        "trt_cuda_graph_enable": str(int(options.batch > 0)),
    }
    with caches.entry(options.cache) as cache:
        if cache:
            settings |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache)}
            settings |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(cache)}
        session = shared.session(model, options, "tensorrt", [(PROVIDER, settings), (CUDA, {"device_id": str(index)})], refuse_cpu=True)
    return nvidia.CardBackend(session, "tensorrt", index, options.batch)
