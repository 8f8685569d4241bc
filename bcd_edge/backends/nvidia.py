"""NVIDIA cards, for the providers that run on them: whether they can start, and buffers that stay on the card."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bcd_edge.backends import Availability, closed, installed, joined
from bcd_edge.backends.onnxruntime import REQUIRES, first_line
from bcd_edge.errors import ProviderError
from bcd_edge.options import RunOptions
from bcd_edge.system import jetson

FIX = 'pip uninstall -y onnxruntime && pip install "bcd-edge[gpu]"'
JETSON_FIX = "install the onnxruntime-gpu that was built for this JetPack, with TensorRT, and JetPack's CUDA, cuDNN and TensorRT: docs/jetson.md"


def availability(execution_provider: str) -> Availability:
    """Whether an NVIDIA execution provider can start: needs a driver with a card, an onnxruntime built with it, and its libraries.

    The libraries are loaded as ONNX Runtime loads them, to report the name of a missing one; ONNX Runtime would only
    write it to stderr and run on the CPU.
    """
    cards, reason = cuda_devices()
    if not cards:
        return Availability(False, reason, "install NVIDIA's driver and check that `nvidia-smi` lists the card")
    on_jetson = jetson.read() is not None
    fix = JETSON_FIX if on_jetson else FIX
    answer = installed(REQUIRES, fix)
    if not answer.available:
        return answer
    import onnxruntime

    if execution_provider not in onnxruntime.get_available_providers():
        return Availability(False, f"onnxruntime {onnxruntime.__version__} is built without {execution_provider}", fix)
    short = "tensorrt" if "Tensorrt" in execution_provider else "cuda"
    with contextlib.redirect_stdout(io.StringIO()):  # standard output is for results; a missing library is reported below
        if hasattr(onnxruntime, "preload_dlls"):  # finds the CUDA and cuDNN packages from PyPI; since 1.21
            onnxruntime.preload_dlls()
        if short == "tensorrt":  # importing the package that pip installed loads its libraries
            with contextlib.suppress(Exception):
                importlib.import_module("tensorrt")
    built_for = str(getattr(onnxruntime, "cuda_version", "") or "").partition(".")[0] or "12"
    library = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{short}.so"
    try:
        if library.exists():  # elsewhere, such as on Windows, the session reports the error
            # the provider's library calls this one as it loads, and names it nowhere: ONNX Runtime has loaded it by then
            ctypes.CDLL(str(library.with_name("libonnxruntime_providers_shared.so")), ctypes.RTLD_GLOBAL)
            ctypes.CDLL(str(library))
    except OSError as error:
        missing = str(error).partition(":")[0]
        packages = f"tensorrt-cu{built_for}" if "nvinfer" in missing else f"'onnxruntime-gpu[cuda,cudnn]=={onnxruntime.__version__}'"
        reason = f"onnxruntime {onnxruntime.__version__} needs CUDA {built_for}, but {missing} is missing"
        return Availability(False, reason, fix if on_jetson else f"pip install {packages}")
    return Availability(True)


def cuda_devices() -> tuple[int, str]:
    """Number of cards by the CUDA driver API, and the reason if it is 0."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        count = ctypes.c_int(0)
        code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
        return count.value, "" if count.value else f"the NVIDIA driver finds no card (CUDA error {code})"
    return 0, "no NVIDIA driver (libcuda.so.1) is installed"


def card(options: RunOptions, provider: str) -> int:
    """The index of the card in `RunOptions.device`; the first card if it is not given.

    Raises:
        ProviderError: there is no such card.
    """
    cards, _ = cuda_devices()
    if options.device in (None, "GPU"):
        return 0
    if not options.device.isdigit() or int(options.device) >= cards:
        raise ProviderError(f"The provider {provider} has no device {options.device} here; give a number from 0 to {cards - 1}.")
    return int(options.device)


def card_name(index: int) -> str:
    """The card's name by the CUDA driver API."""
    driver = ctypes.CDLL("nvcuda.dll" if hasattr(ctypes, "windll") else "libcuda.so.1")
    name, device = ctypes.create_string_buffer(100), ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), index) or driver.cuDeviceGetName(name, len(name), device):
        return f"CUDA device {index}"
    return name.value.decode()


class CardBackend:
    """See `bcd_edge.backends.Backend`. With a fixed batch, input and output buffers stay on the card, so that a CUDA graph
    can be replayed; one call at a time uses them.
    """

    def __init__(self, session: Any, provider: str, index: int, batch: int | None) -> None:
        import onnxruntime

        self.provider, self.device, self.batch = provider, card_name(index), batch
        self._session, self._lock = session, threading.Lock()
        (given,) = session.get_inputs()
        self._input, self._outputs = given.name, session.get_outputs()
        self._index = index
        self._fixed: tuple[Any, Any, list[Any]] | None = None
        if batch:
            make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
            image = make([batch, *given.shape[1:]], np.uint8, "cuda", index)
            outputs = [make([batch, *output.shape[1:]], np.float32, "cuda", index) for output in self._outputs]
            binding = session.io_binding()
            binding.bind_ortvalue_input(given.name, image)
            for output, value in zip(self._outputs, outputs, strict=True):
                binding.bind_ortvalue_output(output.name, value)
            self._fixed = binding, image, outputs

    def infer(self, batch_nhwc_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        try:
            with self._lock:
                if self._session is None:
                    raise closed(self.provider)
                if self._fixed:
                    binding, image, outputs = self._fixed
                    if batch_nhwc_u8.dtype != np.uint8 or list(batch_nhwc_u8.shape) != list(image.shape()):
                        raise ValueError(f"it takes uint8 of shape {image.shape()} and got {batch_nhwc_u8.dtype} of shape {batch_nhwc_u8.shape}")
                    image.update_inplace(np.ascontiguousarray(batch_nhwc_u8))
                    self._session.run_with_iobinding(binding)
                    return joined([value.numpy() for value in outputs])
                binding = self._session.io_binding()
                binding.bind_cpu_input(self._input, batch_nhwc_u8)
                for output in self._outputs:
                    binding.bind_output(output.name)
                self._session.run_with_iobinding(binding)
                return joined(binding.copy_outputs_to_cpu())
        except ProviderError:
            raise
        except Exception as error:
            raise ProviderError(
                f"Inference with {self.provider} failed ({first_line(error)}); check the card's free memory with nvidia-smi."
            ) from None

    def close(self) -> None:
        with self._lock:
            self._session = self._fixed = None
