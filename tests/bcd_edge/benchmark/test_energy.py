"""Meters on recorded trees."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bcd_edge.benchmark import energy, nvml

Tree = Callable[..., Path]
COUNTER = "sys/class/powercap/intel-rapl:0/energy_uj"


def test_rapl_counts_packages_alone_and_survives_the_wrap(tree: Tree) -> None:
    root = tree("pc")
    (meter,) = energy.meters(root)
    assert meter.name == "RAPL package-0"
    assert meter.joules(0) == 0
    (root / COUNTER).write_text("262143328850\n")
    assert meter.joules(1) == pytest.approx(0.32885)
    (root / COUNTER).write_text("1000000\n")  # wrapped: the range, and a joule
    assert meter.joules(2) == pytest.approx(1.32885)
    (root / COUNTER).unlink()
    assert meter.joules(3) == pytest.approx(1.32885)


def test_a_boards_input_is_integrated_over_time(tree: Tree) -> None:
    root = tree("orin-nano")
    (meter,) = energy.meters(root)
    assert meter.name == "INA VDD_IN"
    assert meter.joules(10.0) == 0
    assert meter.joules(12.0) == pytest.approx(12)  # 5 V x 1.2 A for 2 s
    (root / "sys/class/hwmon/hwmon1/curr1_input").write_text("2400\n")
    assert meter.joules(14.0) == pytest.approx(12 + 18)  # from 6 to 12 W


def test_without_an_input_every_rail_counts_once(tree: Tree) -> None:
    """19 V x 0.3 A + 5 V x 0.8 A; what VIN_SYS_5V0 feeds, and what is not connected, are not added."""
    (meter,) = energy.meters(tree("agx-orin"))
    assert meter.name == "INA VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"
    meter.joules(0)
    assert meter.joules(1) == pytest.approx(5.7 + 4)


def test_a_machine_without_meters_has_none(tree: Tree) -> None:
    assert energy.meters(tree()) == []
    assert energy.meters(tree("pc", **{"sys/class/powercap/intel-rapl:0/energy_uj": ""})) == []


class Library:
    """Answers as NVML does: a code, and a figure where a pointer leads."""

    def __init__(self, cards: int = 1) -> None:
        self.millijoules, self.cards = 5000, cards

    def nvmlInit_v2(self) -> int:  # noqa: N802 - NVML's name
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:  # noqa: N802
        return 0 if index < self.cards else 2

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, answer: Any) -> int:  # noqa: N802
        ctypes.cast(answer, ctypes.POINTER(ctypes.c_ulonglong))[0] = self.millijoules
        return 0

    def nvmlDeviceGetClockInfo(self, handle: Any, kind: int, answer: Any) -> int:  # noqa: N802
        ctypes.cast(answer, ctypes.POINTER(ctypes.c_uint))[0] = 1980
        return 0

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int, answer: Any) -> int:  # noqa: N802
        return 3  # not supported


def test_a_card_tells_what_its_driver_knows(tree: Tree) -> None:
    library = Library()
    card = nvml.card(0, library)
    assert card is not None
    (meter,) = energy.meters(tree(), card)
    library.millijoules = 7500
    assert meter.joules(1) == pytest.approx(2.5)
    assert (card.mhz(), card.celsius(), card.used_mib()) == (1980, None, None)
    assert nvml.card(1, library) is None
    assert nvml.card(0, object()) is None
