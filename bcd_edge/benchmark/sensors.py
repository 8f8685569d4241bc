"""What moves while something is measured: clocks, temperatures, throttling, joules, memory. A sensor that is not there is None."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bcd_edge.benchmark._nvml import Card
from bcd_edge.system import jetson

if TYPE_CHECKING:
    from bcd_edge.benchmark.energy import Meter

ROOT: Final = Path("/")
PERIOD_S: Final = 0.5
# A run whose mean clock, or hottest sensor, moves by more than this is not the measurement of one machine.
MHZ_BOUND: Final = 0.1
CELSIUS_BOUND: Final = 10.0


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the machine.

    Attributes:
        at_s: of `time.perf_counter`, or from the start of a run.
        mhz: mean clock of the cores this process may use.
        gpu_mhz: of a card or a Jetson's GPU.
        celsius: the hottest sensor.
        throttled: how often cores were slowed for heat or power, since boot.
        joules: of each meter, since the recorder was started.
        gpu_mib: memory of the card in use.
    """

    at_s: float
    mhz: float | None = None
    gpu_mhz: float | None = None
    celsius: float | None = None
    throttled: int | None = None
    joules: tuple[float, ...] = ()
    gpu_mib: float | None = None

    def as_dict(self) -> dict[str, Any]:
        figures = {"mhz": self.mhz, "gpu_mhz": self.gpu_mhz, "celsius": self.celsius, "throttled": self.throttled}
        return {name: None if value is None else round(value, 1) for name, value in figures.items()}


def text(path: Path) -> str | None:
    """A small file's content without line ends and NULs, or None."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except (OSError, ValueError):
        return None


def number(path: Path) -> float | None:
    """A small file's content as a number, or None."""
    try:
        return float(text(path) or "")
    except ValueError:
        return None


def look(root: Path = ROOT, card: Card | None = None, meters: Sequence[Meter] = (), at_s: float = 0.0) -> Reading:
    """Reads every sensor there is."""
    temperatures = [value for value in (*_celsius(root), card.celsius() if card else None) if value is not None]
    return Reading(
        at_s,
        _mean(core_mhz(root)),
        card.mhz() if card else _jetson_gpu_mhz(root),
        max(temperatures, default=None),
        _throttled(root),
        tuple(meter.joules(at_s) for meter in meters),
        card.used_mib() if card else None,
    )


def core_mhz(root: Path = ROOT) -> list[float]:
    """Clock of each core that this process may use; from cpufreq, else from /proc/cpuinfo, where x86 has it."""
    cores = os.sched_getaffinity(0) if root == ROOT and hasattr(os, "sched_getaffinity") else None
    folders = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
    used = [folder for folder in folders if cores is None or int(folder.parent.name[3:]) in cores]
    if used:
        return [value / 1000 for folder in used if (value := number(folder / "scaling_cur_freq")) is not None]
    listed = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return [float(value) for index, value in enumerate(listed) if cores is None or index in cores]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _celsius(root: Path) -> list[float]:
    """Of thermal zones and monitor chips, which both count in thousandths; a sensor that is switched off fails to be read."""
    files = [*(root / "sys/class/thermal").glob("thermal_zone*/temp"), *(root / "sys/class/hwmon").glob("hwmon*/temp*_input")]
    found = [value / 1000 for file in files if (value := number(file)) is not None]
    return [value for value in found if 0 < value < 150]  # others are what broken or absent sensors say


def _throttled(root: Path) -> int | None:
    """Intel's counters; a package's is in the folder of each of its cores, so the highest is taken of those."""
    folder = root / "sys/devices/system/cpu"
    cores = [value for file in folder.glob("cpu[0-9]*/thermal_throttle/core_throttle_count") if (value := number(file)) is not None]
    packages = [value for file in folder.glob("cpu[0-9]*/thermal_throttle/package_throttle_count") if (value := number(file)) is not None]
    return int(sum(cores) + max(packages, default=0)) if cores or packages else None


def _jetson_gpu_mhz(root: Path) -> float | None:
    clocks = (number(device / "cur_freq") for device in jetson.gpu_devices(root))
    return next((hertz / 1e6 for hertz in clocks if hertz is not None), None)


@dataclass
class Recorder:
    """Looks at the machine when it starts, every `PERIOD_S`, and when it ends; a context manager."""

    root: Path = ROOT
    card: Card | None = None
    meters: Sequence[Meter] = ()
    readings: list[Reading] = field(default_factory=list)

    def __enter__(self) -> Recorder:
        self._ended = threading.Event()
        self._look()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        self.readings.append(look(self.root, self.card, self.meters, time.perf_counter()))

    def _run(self) -> None:
        while not self._ended.wait(PERIOD_S):
            self._look()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def between(self, started_s: float, elapsed_s: float) -> list[Reading]:
        """Readings of a run, with one before and one after it if there are, their times counted from its start."""
        at = [one.at_s - started_s for one in self.readings]
        first = max((index for index, value in enumerate(at) if value <= 0), default=0)
        last = min((index for index, value in enumerate(at) if value >= elapsed_s), default=len(at) - 1)
        return [replace(one, at_s=value) for one, value in zip(self.readings[first : last + 1], at[first : last + 1], strict=True)]


def unsteady(readings: Sequence[Reading], drift: float, bound: float = 0.1) -> list[str]:
    """Why a run is not the measurement of one state of the machine; empty if it is.

    Args:
        readings: while it ran.
        drift: between the medians of its halves, see `bcd_edge.benchmark.statistics.drift`.
        bound: what that may be at most.
    """
    said = [f"its halves differ by {drift:.0%}"] if drift > bound else []
    for name, key in (("clock", "mhz"), ("GPU clock", "gpu_mhz")):
        halves = _halves([getattr(one, key) for one in readings])
        if halves and abs(halves[1] / halves[0] - 1) > MHZ_BOUND:
            said.append(f"the {name} went from {halves[0]:.0f} to {halves[1]:.0f} MHz")
    hot = [one.celsius for one in readings if one.celsius is not None]
    if hot and max(hot) - min(hot) > CELSIUS_BOUND:
        said.append(f"the temperature moved from {min(hot):.0f} to {max(hot):.0f} °C")
    counts = [one.throttled for one in readings if one.throttled is not None]
    if counts and counts[-1] > counts[0]:
        said.append(f"cores were throttled {counts[-1] - counts[0]} times")
    return said


def _halves(values: list[float | None]) -> tuple[float, float] | None:
    """Means of the first and the second half; None where too little is known."""
    known = [value for value in values if value]
    half = len(known) // 2
    return (sum(known[:half]) / half, sum(known[half:]) / (len(known) - half)) if half else None
