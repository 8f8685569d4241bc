"""One image at a time: the provider's ways of running, ONNX Runtime without it, and PyTorch, in turns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from bcd_edge.benchmark.statistics import percentile, ratio
from bcd_edge.interleaved import call_times
from benchmarks.gpu import engines
from benchmarks.gpu.setting import Figures, Setting, Steps, failure

PROVIDER = "provider"
BOUND = "onnxruntime, bound buffers and graph"


def steps(setting: Setting) -> Steps:
    """One for each precision; PyTorch beside the one that is as exact as it."""
    order = sorted(setting.precisions(), key=lambda name: name != "fp16")
    made: dict[str, Callable[[], Figures]] = {precision: partial(_precision, setting, precision) for precision in order}
    return made | {"pytorch": partial(beside_pytorch, setting, order[0], "reduce-overhead")}


def _precision(setting: Setting, precision: str) -> Figures:
    image = setting.inputs(1)
    fixed = partial(setting.open_backend, precision, batch=1)
    makers: dict[str, Callable[[], engines.Call]] = {
        PROVIDER: lambda: partial(fixed().infer, image),
        "provider, no graph": lambda: partial(fixed(graph="0").infer, image),
        "provider, channels last": lambda: partial(fixed(nhwc="1").infer, image),
        "provider, any batch": lambda: partial(setting.open_backend(precision).infer, image),
        BOUND: lambda: engines.bound_session(setting, precision, image),
        "onnxruntime, bound buffers": lambda: engines.bound_session(setting, precision, image, graph=False),
        "onnxruntime, plain": lambda: engines.plain_session(setting, precision, image),
    }
    return _in_turns(setting, makers)


def beside_pytorch(setting: Setting, precision: str, mode: str) -> Figures:
    """The provider in turns with PyTorch, eager and compiled in a mode of `torch.compile`."""
    image = setting.inputs(1)
    pixels = image[:, :32, :32].copy() if setting.dry_run else image
    makers: dict[str, Callable[[], engines.Call]] = {
        PROVIDER: lambda: partial(setting.open_backend(precision, batch=1).infer, image),
        "provider, channels last": lambda: partial(setting.open_backend(precision, batch=1, nhwc="1").infer, image),
        "PyTorch eager": lambda: engines.torch_call(setting, pixels),
        f"PyTorch compiled, {mode}": lambda: engines.torch_call(setting, pixels, mode),
    }
    return {"precision": precision} | _in_turns(setting, makers)


def _in_turns(setting: Setting, makers: dict[str, Callable[[], engines.Call]]) -> Figures:
    """Percentiles in ms, and the median of each over the provider's; what does not start has its error."""
    calls, figures = {}, {}
    for name, make in makers.items():
        try:
            calls[name] = make()
            calls[name]()
        except Exception as error:
            calls.pop(name, None)
            figures[name] = failure(error)
    times = {name: np.array(values) for name, values in call_times(calls, setting.seconds, setting.rounds).items()}
    for name, values in times.items():
        figures[name] = {"calls": len(values), "p50_ms": percentile(values, 0.5).as_dict(), "p99_ms": percentile(values, 0.99).as_dict()}
        if PROVIDER in times:
            figures[name]["over_provider"] = ratio(times[PROVIDER], values, 0.5).as_dict()
    return {"rows": figures}
