"""The state of the machine during a measurement: clocks, temperatures, throttling, CPU time of other processes, joules, GPU memory.

A sensor that does not exist reads None.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from bcd_edge.benchmark.nvml import Card
from bcd_edge.system import jetson

if TYPE_CHECKING:
    from bcd_edge.benchmark.energy import Meter

ROOT: Final = Path("/")
PERIOD_S: Final = 0.5
# Linux counts CPU time in ticks; a process that ran for less than one may be counted as one.
TICK_S: Final = 0.01
# A run is unsteady if its mean clock, or its hottest sensor, moves by more than this,
MHZ_BOUND: Final = 0.1
CELSIUS_BOUND: Final = 10.0
# or if others use more than this of one core (a desktop at rest uses 0.01 to 0.05), or of its time is stolen by the hypervisor.
OTHERS_BOUND: Final = 0.1
STEAL_BOUND: Final = 0.02


@dataclass(frozen=True, slots=True)
class Sensors:
    """Clocks and heat.

    Attributes:
        mhz: mean clock of the cores this process may use.
        gpu_mhz: of a card or a Jetson's GPU.
        celsius: the hottest sensor.
        throttled: how often cores were throttled for heat or power since boot.
    """

    mhz: float | None = None
    gpu_mhz: float | None = None
    celsius: float | None = None
    throttled: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return {name: None if value is None else round(value, 1) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU seconds on the cores this process may use, and the load average.

    Attributes:
        busy_s: of all processes since boot.
        own_s: of this process.
        stolen_s: time that the hypervisor gave to others.
        load: processes that run or wait, mean of the last minute; of the whole machine.
    """

    busy_s: float | None = None
    own_s: float = 0.0
    stolen_s: float | None = None
    load: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the machine.

    Attributes:
        at_s: by `time.perf_counter`, or from the start of a run.
        sensors: clocks and heat.
        cpu: CPU time so far.
        joules: of each meter since the recorder was started.
        gpu_mib: used memory of the card.
    """

    at_s: float
    sensors: Sensors = Sensors()
    cpu: CpuTimes = CpuTimes()
    joules: tuple[float, ...] = ()
    gpu_mib: float | None = None


@dataclass(frozen=True, slots=True)
class Contention:
    """What else used the processor during a run.

    Attributes:
        other_cores: CPU time of other processes divided by the run's time: 0.5 is half a core; None if the system does not report it.
        stolen_cores: the same for time stolen by the hypervisor.
        load: highest load average.
    """

    other_cores: float | None
    stolen_cores: float | None
    load: float | None


def text(path: Path) -> str | None:
    """A small file's content without line ends and NULs, or None."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except (OSError, ValueError):
        return None


def number(path: Path, *, first_word: bool = False) -> float | None:
    """A small file's content, or its first word, as a number, or None."""
    content = text(path) or ""
    try:
        return float(content.split(" ")[0] if first_word else content)
    except ValueError:
        return None


def read(root: Path = ROOT, card: Card | None = None, meters: Sequence[Meter] = (), at_s: float = 0.0) -> Reading:
    """Reads every sensor there is."""
    return Reading(
        at_s,
        read_sensors(root, card),
        read_cpu_times(root),
        tuple(meter.joules(at_s) for meter in meters),
        card.used_mib() if card else None,
    )


def read_sensors(root: Path = ROOT, card: Card | None = None) -> Sensors:
    """Clocks, temperatures and throttling, without CPU times."""
    temperatures = [value for value in (*_celsius(root), card.celsius() if card else None) if value is not None]
    return Sensors(_mean(core_mhz(root)), card.mhz() if card else _jetson_gpu_mhz(root), max(temperatures, default=None), _throttled(root))


def read_cpu_times(root: Path = ROOT) -> CpuTimes:
    """From /proc/stat (Linux, filesystems/proc.rst), elsewhere from psutil, for all cores."""
    own_s, load = time.process_time(), number(root / "proc/loadavg", first_word=True)
    lines = re.findall(r"^cpu(\d+) (.+)$", text(root / "proc/stat") or "", re.MULTILINE)
    cores = _own_cores(root)
    # user, nice, system, idle, iowait, irq, softirq, steal
    ticks = [[int(count) for count in counts.split()] for core, counts in lines if cores is None or int(core) in cores]
    if any(map(any, ticks)):
        busy = sum(sum(counts[:3]) + sum(counts[5:7]) for counts in ticks)
        return CpuTimes(busy * TICK_S, own_s, sum(counts[7] for counts in ticks) * TICK_S, load)
    if root == ROOT and not psutil.LINUX:
        times = psutil.cpu_times()
        return CpuTimes(sum(times) - times.idle, own_s, None, load)
    return CpuTimes(None, own_s, None, load)


def _own_cores(root: Path) -> set[int] | None:
    """The cores this process may use; None where that is not known, and for recorded trees."""
    return os.sched_getaffinity(0) if root == ROOT and hasattr(os, "sched_getaffinity") else None


def core_mhz(root: Path = ROOT) -> list[float]:
    """Clock of each core that this process may use; from cpufreq, else from /proc/cpuinfo on x86."""
    cores = _own_cores(root)
    folders = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
    used = [folder for folder in folders if cores is None or int(folder.parent.name[3:]) in cores]
    if used:
        return [value / 1000 for folder in used if (value := number(folder / "scaling_cur_freq")) is not None]
    listed = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return [float(value) for index, value in enumerate(listed) if cores is None or index in cores]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _celsius(root: Path) -> list[float]:
    """Of thermal zones and monitor chips, both in thousandths; a sensor that is switched off cannot be read."""
    files = [*(root / "sys/class/thermal").glob("thermal_zone*/temp"), *(root / "sys/class/hwmon").glob("hwmon*/temp*_input")]
    celsius = [value / 1000 for file in files if (value := number(file)) is not None]
    return [value for value in celsius if 0 < value < 150]  # broken or absent sensors report other values


def _throttled(root: Path) -> int | None:
    """Intel's counters; that of a package is repeated in the folder of each core, so only the highest of those counts."""
    folder = root / "sys/devices/system/cpu"
    cores = [value for file in folder.glob("cpu[0-9]*/thermal_throttle/core_throttle_count") if (value := number(file)) is not None]
    packages = [value for file in folder.glob("cpu[0-9]*/thermal_throttle/package_throttle_count") if (value := number(file)) is not None]
    return int(sum(cores) + max(packages, default=0)) if cores or packages else None


def _jetson_gpu_mhz(root: Path) -> float | None:
    clocks = [value / 1e6 for folder in jetson.gpu_devices(root) if (value := number(folder / "cur_freq")) is not None]
    return clocks[0] if clocks else None


@dataclass
class Recorder:
    """Reads the sensors at the start, every `PERIOD_S`, and at the end; a context manager."""

    root: Path = ROOT
    card: Card | None = None
    meters: Sequence[Meter] = ()
    readings: list[Reading] = field(default_factory=list)

    def __enter__(self) -> Recorder:
        self._ended = threading.Event()
        self._read()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def _read(self) -> None:
        self.readings.append(read(self.root, self.card, self.meters, time.perf_counter()))

    def _run(self) -> None:
        while not self._ended.wait(PERIOD_S):
            self._read()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._read()

    def between(self, started_s: float, elapsed_s: float) -> list[Reading]:
        """Readings of a run, with one before and one after it if there are; times from its start."""
        at = [reading.at_s - started_s for reading in self.readings]
        first = max((index for index, value in enumerate(at) if value <= 0), default=0)
        last = min((index for index, value in enumerate(at) if value >= elapsed_s), default=len(at) - 1)
        return [replace(reading, at_s=value) for reading, value in zip(self.readings[first : last + 1], at[first : last + 1], strict=True)]


def contention(turns: Sequence[Sequence[Reading]]) -> Contention:
    """What else used the processor during the turns of a run; the readings of each turn ascend."""
    elapsed = sum(turn[-1].at_s - turn[0].at_s for turn in turns) or 1.0
    ends = [(turn[0].cpu, turn[-1].cpu) for turn in turns]
    own = sum(after.own_s - before.own_s for before, after in ends)
    busy = _increase([(before.busy_s, after.busy_s) for before, after in ends])
    stolen = _increase([(before.stolen_s, after.stolen_s) for before, after in ends])
    loads = [reading.cpu.load for turn in turns for reading in turn if reading.cpu.load is not None]
    return Contention(
        None if busy is None else max(0.0, busy - own) / elapsed,
        None if stolen is None else stolen / elapsed,
        max(loads, default=None),
    )


def _increase(ends: list[tuple[float | None, float | None]]) -> float | None:
    """Sum of the differences; None if an end is not known."""
    differences = [after - before for before, after in ends if before is not None and after is not None]
    return sum(differences) if len(differences) == len(ends) else None


def unsteady(turns: Sequence[Sequence[Reading]], drift: float, bound: float = 0.1) -> list[str]:
    """Why a run does not represent one state of an idle machine; empty if it does.

    Args:
        turns: readings of each turn of the run.
        drift: between the medians of its halves, see `bcd_edge.benchmark.statistics.drift`.
        bound: the limit for `drift`.
    """
    sensors = [reading.sensors for turn in turns for reading in turn]
    reasons = [f"its halves differ by {drift:.0%}"] if drift > bound else []
    reasons += _contended(contention(turns), ticks_s=TICK_S * 2 * len(turns) / sum(turn[-1].at_s - turn[0].at_s for turn in turns))
    for name, values in (("clock", [reading.mhz for reading in sensors]), ("GPU clock", [reading.gpu_mhz for reading in sensors])):
        halves = _halves(values)
        if halves and abs(halves[1] / halves[0] - 1) > MHZ_BOUND:
            reasons.append(f"the {name} changed from {halves[0]:.0f} to {halves[1]:.0f} MHz")
    celsius = [reading.celsius for reading in sensors if reading.celsius is not None]
    if celsius and max(celsius) - min(celsius) > CELSIUS_BOUND:
        reasons.append(f"the temperature changed from {min(celsius):.0f} to {max(celsius):.0f} °C")
    counts = [reading.throttled for reading in sensors if reading.throttled is not None]
    if counts and counts[-1] > counts[0]:
        reasons.append(f"cores were throttled {counts[-1] - counts[0]} times")
    return reasons


def _contended(beside: Contention, ticks_s: float) -> list[str]:
    """`ticks_s` is what the granularity of CPU time can be wrong by, in cores."""
    reasons = []
    if beside.other_cores is not None and beside.other_cores - ticks_s > OTHERS_BOUND:
        reasons.append(f"other processes used {beside.other_cores:.2f} cores")
    if beside.stolen_cores is not None and beside.stolen_cores - ticks_s > STEAL_BOUND:
        reasons.append(f"the hypervisor took {beside.stolen_cores:.2f} cores")
    return reasons


def _halves(values: list[float | None]) -> tuple[float, float] | None:
    """Means of the first and the second half; None if too few values are known."""
    known = [value for value in values if value]
    half = len(known) // 2
    return (sum(known[:half]) / half, sum(known[half:]) / (len(known) - half)) if half else None
