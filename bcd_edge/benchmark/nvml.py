"""An NVIDIA card through NVML, the library that comes with the driver and that nvidia-smi uses; nothing to install."""

from __future__ import annotations

import ctypes
from typing import Any, Final

SM_CLOCK: Final = 1  # NVML_CLOCK_SM
GPU_SENSOR: Final = 0  # NVML_TEMPERATURE_GPU


class _Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Card:
    """One card; a figure is None if the driver does not report it."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle

    def _query(self, function: str, answer: Any, *arguments: int) -> Any | None:
        try:
            code = getattr(self._library, function)(self._handle, *arguments, ctypes.byref(answer))
        except AttributeError:  # a driver older than the function
            return None
        return None if code else answer

    def energy_j(self) -> float | None:
        """Joules since the driver was loaded; cards since Volta count them."""
        answer = self._query("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong())
        return None if answer is None else answer.value / 1000

    def used_mib(self) -> float | None:
        """Memory in use, whoever uses it."""
        answer = self._query("nvmlDeviceGetMemoryInfo", _Memory())
        return None if answer is None else answer.used / 2**20

    def mhz(self) -> float | None:
        answer = self._query("nvmlDeviceGetClockInfo", ctypes.c_uint(), SM_CLOCK)
        return None if answer is None else float(answer.value)

    def celsius(self) -> float | None:
        answer = self._query("nvmlDeviceGetTemperature", ctypes.c_uint(), GPU_SENSOR)
        return None if answer is None else float(answer.value)


def card(index: int = 0, library: Any = None) -> Card | None:
    """The card of an index, or None without a driver, NVML or card."""
    if library is None:
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return None
    handle = ctypes.c_void_p()
    try:
        failed = library.nvmlInit_v2() or library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
    except AttributeError:
        return None
    return None if failed else Card(library, handle)
