"""ONNX Runtime on an NVIDIA card through CUDA and cuDNN."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bcd_edge.backends import Availability, nvidia, require
from bcd_edge.backends import onnxruntime as shared
from bcd_edge.options import RunOptions

REQUIRES = (shared.REQUIRES,)
RANK = 20
OPTIONS: Final[dict[str, str]] = {}
RUNS_MODEL = True
PROVIDER = "CUDAExecutionProvider"


def is_available() -> Availability:
    """Whether onnxruntime-gpu is installed, there is a card, and CUDA and cuDNN can be loaded."""
    return nvidia.availability(PROVIDER)


def runs_on_cpu(device: str | None) -> bool:
    return False


def open(model: bytes, options: RunOptions, cache: Path | None = None) -> nvidia.CardBackend:
    """Opens an ONNX model; every node must run on the card.

    Raises:
        ProviderError: the engine cannot start here, or would run nodes on the CPU.
        BundleError: ONNX Runtime cannot load the model.
    """
    require("cuda", is_available())
    index = nvidia.card(options, "cuda")
    settings = {
        "device_id": str(index),
        "use_tf32": "0",  # fp32 in the bundle was measured as float32
        "enable_cuda_graph": str(int(options.batch is not None)),
    }
    session = shared.session(model, options, "cuda", [(PROVIDER, settings)], refuse_cpu=True)
    return nvidia.CardBackend(session, "cuda", index, options.batch)
