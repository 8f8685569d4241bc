"""One image at a time beside PyTorch's longest compilation; last, because it may take all the time that is left."""

from __future__ import annotations

from functools import partial

from benchmarks.gpu.latency import beside_pytorch
from benchmarks.gpu.setting import Setting, Steps


def steps(setting: Setting) -> Steps:
    """One."""
    precision = "fp16" if "fp16" in setting.precisions() else setting.precisions()[0]
    return {"max-autotune": partial(beside_pytorch, setting, precision, "max-autotune")}
