"""ONNX Runtime on an NVIDIA card through CUDA and cuDNN."""

from __future__ import annotations

from bcd_edge.backends import Availability, Options, nvidia, require
from bcd_edge.backends import onnxruntime as shared

REQUIRES = (shared.REQUIRES,)
PROVIDER = "CUDAExecutionProvider"


def is_available() -> Availability:
    """Whether onnxruntime-gpu is installed, there is a card, and CUDA and cuDNN load."""
    return nvidia.availability(PROVIDER)


def open(model: bytes, options: Options) -> nvidia.CardBackend:
    """Opens an ONNX model; every node must run on the card.

    Raises:
        ProviderError: it cannot start here, or would leave nodes to the CPU.
        BundleError: the model is no graph that ONNX Runtime can load.
    """
    require("cuda", is_available())
    index = nvidia.card(options, "cuda")
    settings = {
        "device_id": str(index),
        "use_tf32": "0",  # what the bundle calls fp32 was measured as float32
        "enable_cuda_graph": str(int(options.batch > 0)),
    }
    session = shared.session(model, options, "cuda", [(PROVIDER, settings)], refuse_cpu=True)
    return nvidia.CardBackend(session, "cuda", index, options.batch)
