"""ONNX Runtime on an NVIDIA card through CUDA and cuDNN."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bcd_edge.backends import Availability, nvidia, provider_options, require
from bcd_edge.backends import onnxruntime as shared
from bcd_edge.errors import UsageError
from bcd_edge.options import RunOptions

REQUIRES = (shared.REQUIRES,)
RANK = 20
OPTIONS: Final = {
    "graph": "0 runs a fixed batch without a CUDA graph; 1, the default, replays one",
    "nhwc": "1 computes convolutions with channels last; 0, the default, leaves the layout as it is in the model",
}
RUNS_MODEL = True
PROVIDER = "CUDAExecutionProvider"
# There are no 8-bit convolutions: they are computed in float between the rounding of activations. Weights and biases become float once, when
# the session opens, and not in each inference; of 32-bit biases there is no kernel at all, so they would run on the CPU.
CONFIG: Final = {"session.disable_quant_qdq": "1"}


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
        UsageError: there is no such provider option, or it has another value than 0 and 1.
    """
    require("cuda", is_available())
    index = nvidia.card(options, "cuda")
    session = shared.session(model, options, "cuda", [(PROVIDER, settings(options, index))], refuse_cpu=True, config=CONFIG)
    return nvidia.CardBackend(session, "cuda", index, options.batch)


def settings(options: RunOptions, index: int) -> dict[str, str]:
    """What ONNX Runtime's provider is opened with.

    Raises:
        UsageError: there is no such provider option, or it has another value than 0 and 1.
    """
    given = {"graph": "1", "nhwc": "0"} | provider_options("cuda", options)
    wrong = [name for name, value in given.items() if value not in ("0", "1")]
    if wrong:
        raise UsageError(f"The option {wrong[0]} of the provider cuda is {given[wrong[0]]!r}; give 0 or 1.")
    return {
        "device_id": str(index),
        # fp32 in the bundle was measured as float32; what is rounded to 8 bits has no use for more than TF32's 11, and for float16 convolutions
        # ONNX Runtime reads 0 as a ban on tensor cores
        "use_tf32": str(int(options.precision in ("fp16", "int8"))),
        "enable_cuda_graph": str(int(options.batch is not None and given["graph"] == "1")),
        "prefer_nhwc": given["nhwc"],
    }
