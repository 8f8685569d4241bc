"""What the provider is measured beside: ONNX Runtime's own session on the same model, and PyTorch. Each is a call from pixels to logits."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bcd_edge.backends.providers import cuda
from bcd_edge.options import RunOptions
from benchmarks.gpu.setting import Setting

Pixels = npt.NDArray[np.uint8]
Call = Callable[[], object]

COMPILE_S: Final = 90  # what PyTorch may take to compile


def plain_session(setting: Setting, precision: str, image: Pixels) -> Call:
    """ONNX Runtime as its first example has it: the default options, and `run`."""
    session = _session(setting, precision, {})
    return lambda: session.run(None, {"image": image})


def bound_session(setting: Setting, precision: str, image: Pixels, *, graph: bool = True) -> Call:
    """ONNX Runtime with the provider's options, input and output bound to buffers on the card."""
    import onnxruntime

    options = RunOptions(precision=precision, batch=len(image), provider_options=(("graph", str(int(graph))),))
    session = _session(setting, precision, cuda.settings(options, 0))
    source = onnxruntime.OrtValue.ortvalue_from_numpy(image, setting.device, 0)
    shapes = [(len(image), *output.shape[1:]) for output in session.get_outputs()]
    outputs = [onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, setting.device, 0) for shape in shapes]
    binding = session.io_binding()
    binding.bind_ortvalue_input("image", source)
    for output, value in zip(session.get_outputs(), outputs, strict=True):
        binding.bind_ortvalue_output(output.name, value)

    def call() -> list[npt.NDArray[np.float32]]:
        source.update_inplace(image)
        session.run_with_iobinding(binding)
        return [value.numpy() for value in outputs]

    return call


def _session(setting: Setting, precision: str, settings: dict[str, str]) -> Any:
    """With no settings an InferenceSession as it is; else opened as the provider does."""
    import onnxruntime

    _, contents = setting.open_bundle().model(precision, setting.provider)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for name, value in cuda.CONFIG.items() if settings else ():
        options.add_session_config_entry(name, value)
    if setting.dry_run:
        return onnxruntime.InferenceSession(contents[0], options, providers=["CPUExecutionProvider"])
    cuda.is_available()  # loads the libraries
    return onnxruntime.InferenceSession(contents[0], options, providers=[(cuda.PROVIDER, settings)], enable_fallback=0)


def torch_call(setting: Setting, image: Pixels, mode: str | None = None) -> Call:
    """The bundle's network, untrained, in PyTorch: float16, channels last, from uint8 in pinned memory to logits in the CPU's.

    Args:
        setting: see `Setting`.
        image: uint8 N x H x W x 3.
        mode: of `torch.compile`; eager if not given.
    """
    import torch

    pixels = torch.from_numpy(image)
    pixels = pixels if setting.dry_run else pixels.pin_memory()
    forward = network(setting)
    compiled = torch.compile(forward, mode=mode) if mode else forward

    def call() -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = compiled(pixels.to(setting.device, non_blocking=True)).cpu().numpy()
        return logits

    with at_most(COMPILE_S):
        for _ in range(3):  # compiles, and then records what it replays
            call()
    return call


def network(setting: Setting) -> Callable[[Any], Any]:
    """uint8 N x H x W x 3 on the card to float32 logits; as float32 on a CPU, where float16 would be slow."""
    import torch

    from train import networks

    dtype = torch.float32 if setting.dry_run else torch.float16
    torch.backends.cudnn.benchmark = not setting.dry_run
    model = networks.build(name="resnet50v2").eval().to(setting.device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda pixels: model(pixels.permute(0, 3, 1, 2).to(dtype) / 255).float()


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raises a TimeoutError after so many seconds; in the main thread."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
