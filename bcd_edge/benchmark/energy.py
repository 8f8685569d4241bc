"""Energy where the machine meters it: Intel's and AMD's RAPL, the power monitors of a Jetson, NVML. Never an estimate.

| source | counts | where |
|---|---|---|
| RAPL | the processor packages, every process on them | `/sys/class/powercap/intel-rapl:N`, microjoules that wrap round |
| INA3221, INA238 | the board's input, or else every rail it has, volts times amperes integrated over time | `/sys/class/hwmon/hwmonN` |
| NVML | the card | nvmlDeviceGetTotalEnergyConsumption |

Formats: Linux, Documentation/power/powercap/powercap.rst and Documentation/hwmon/ina3221.rst.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from bcd_edge.benchmark.nvml import Card
from bcd_edge.benchmark.sensors import ROOT, number, text

MONITORS: Final = ("ina3221", "ina238", "ina226")
# The input of a whole module or board: VDD_IN of Orin Nano, Orin NX and Xavier NX, VIN of the newer kits.
INPUTS: Final = ("VDD_IN", "VIN")
# VIN_SYS_5V0 feeds it on Jetson AGX Orin, so it would be counted twice.
FED_BY_OTHERS: Final = ("VDDQ_VDD2_1V8AO",)


class Meter(Protocol):
    """Counts joules.

    Attributes:
        name: of what is metered.
    """

    name: str

    def joules(self, at_s: float) -> float:
        """Since the first call; must be called regularly: RAPL's counter wraps, power is integrated."""


class Rapl:
    """One package's counter."""

    def __init__(self, zone: Path) -> None:
        self.name = f"RAPL {text(zone / 'name')}"
        self._counter, self._range = zone / "energy_uj", number(zone / "max_energy_range_uj") or 0.0
        self._last: float | None = None
        self._total = 0.0

    def joules(self, at_s: float) -> float:
        now = number(self._counter)
        if now is not None:
            if self._last is not None:
                self._total += now - self._last + (self._range if now < self._last else 0.0)
            self._last = now
        return self._total / 1e6


class Rails:
    """Power of one or several rails of a monitor chip, integrated by trapezia."""

    def __init__(self, rails: dict[str, tuple[Path, Path]]) -> None:
        self.name = f"INA {' + '.join(rails)}"
        self._rails = list(rails.values())
        self._last: tuple[float, float] | None = None
        self._total = 0.0

    def _watts(self) -> float | None:
        """Millivolts times milliamperes are microwatts."""
        readings = [(number(volts), number(amperes)) for volts, amperes in self._rails]
        known = [millivolts * milliamperes / 1e6 for millivolts, milliamperes in readings if millivolts is not None and milliamperes is not None]
        return sum(known) if len(known) == len(readings) else None

    def joules(self, at_s: float) -> float:
        watts = self._watts()
        if watts is not None:
            if self._last is not None:
                self._total += (at_s - self._last[0]) * (watts + self._last[1]) / 2
            self._last = at_s, watts
        return self._total


class Gpu:
    """A card's own counter."""

    name = "NVML card"

    def __init__(self, card: Card) -> None:
        self._card = card
        self._first = card.energy_j() or 0.0

    def joules(self, at_s: float) -> float:
        return (self._card.energy_j() or self._first) - self._first


def meters(root: Path = ROOT, card: Card | None = None) -> list[Meter]:
    """Every meter that this user may read."""
    readable: list[Meter] = []
    for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        if (text(zone / "name") or "").startswith("package") and number(zone / "energy_uj") is not None:
            readable.append(Rapl(zone))
    if rails := _rails(root):
        readable.append(Rails(rails))
    if card and card.energy_j() is not None:
        readable.append(Gpu(card))
    return readable


def _rails(root: Path) -> dict[str, tuple[Path, Path]]:
    """Label to the files of its millivolts and milliamperes: only the board's input if there is one."""
    rails: dict[str, tuple[Path, Path]] = {}
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if text(chip / "name") not in MONITORS:
            continue
        for current in sorted(chip.glob("curr*_input")):
            index = current.name.removeprefix("curr").removesuffix("_input")
            label = text(chip / f"in{index}_label") or ""
            # unconnected channels of an INA3221 are labelled NC or not at all; 7 and 4 are its sums
            if (
                label
                and label != "NC"
                and not label.startswith("sum")
                and number(chip / f"in{index}_input") is not None
                and number(current) is not None
            ):
                rails[label] = chip / f"in{index}_input", current
    inputs = [label for label in INPUTS if label in rails]
    return {label: rails[label] for label in inputs[:1] or rails if label not in FED_BY_OTHERS}
