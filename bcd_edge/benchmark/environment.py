"""The fingerprint of a machine, which makes figures comparable. A value that the machine does not report is None."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bcd_edge.benchmark.nvml import Card
from bcd_edge.benchmark.sensors import ROOT, number, read_sensors, text
from bcd_edge.system import doctor, jetson


def fingerprint(root: Path = ROOT, card: Card | None = None) -> dict[str, Any]:
    """What is the same for all rows of a run, as plain values.

    Args:
        root: parent of `/proc`, `/sys` and `/etc`.
        card: the NVIDIA card, for its clocks.
    """
    board = jetson.read(root)
    return {
        "machine": doctor.hardware() | {"jetson": None if board is None else asdict(board)},
        "libraries": doctor.libraries(),
        "kernel": text(root / "proc/sys/kernel/osrelease"),
        "os": _os_name(root),
        "container": container(root),
        "limits": limits(root),
        "power": power(root),
        "idle": read_sensors(root, card).as_dict(),
    }


def _os_name(root: Path) -> str | None:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', text(root / "etc/os-release") or "", re.MULTILINE)
    return match[1] if match else None


def container(root: Path = ROOT) -> str | None:
    """`docker`, `podman` or another kind of container; None outside of one."""
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    match = re.search(r"docker|kubepods|containerd|lxc", text(root / "proc/1/cgroup") or "")
    return match[0] if match else None


def limits(root: Path = ROOT) -> dict[str, float | None]:
    """Limits of the control group: CPU time in cores, and memory; None without a limit."""
    quota, _, period = (text(root / "sys/fs/cgroup/cpu.max") or "").partition(" ")
    quota_us, period_us = (float(quota), float(period)) if quota.isdigit() else _quota_of_version_1(root)
    memory = number(root / "sys/fs/cgroup/memory.max") or number(root / "sys/fs/cgroup/memory/memory.limit_in_bytes")
    return {
        "processors": round(quota_us / period_us, 3) if quota_us and period_us and quota_us > 0 else None,
        "memory_gib": round(memory / 2**30, 2) if memory and memory < 2**60 else None,
    }


def _quota_of_version_1(root: Path) -> tuple[float | None, float | None]:
    folder = root / "sys/fs/cgroup/cpu"
    return number(folder / "cpu.cfs_quota_us"), number(folder / "cpu.cfs_period_us")


def power(root: Path = ROOT) -> dict[str, Any]:
    """Power settings: governor, its preference and range of clocks, turbo, the firmware's profile."""
    cpu = root / "sys/devices/system/cpu"
    boost, no_turbo = number(cpu / "cpufreq/boost"), number(cpu / "intel_pstate/no_turbo")
    turbo = boost if boost is not None else None if no_turbo is None else 1 - no_turbo
    return {
        "governor": _agreed(sorted(cpu.glob("cpu[0-9]*/cpufreq/scaling_governor"))),
        "preference": _agreed(sorted(cpu.glob("cpu[0-9]*/cpufreq/energy_performance_preference"))),
        "min_mhz": _mhz(cpu / "cpu0/cpufreq/scaling_min_freq"),
        "max_mhz": _mhz(cpu / "cpu0/cpufreq/scaling_max_freq"),
        "turbo": None if turbo is None else bool(turbo),
        "profile": text(root / "sys/firmware/acpi/platform_profile"),
    }


def _agreed(files: Sequence[Path]) -> str | None:
    """The value of all cores, or every distinct value."""
    return ", ".join(sorted({value for file in files if (value := text(file))})) or None


def _mhz(file: Path) -> float | None:
    khz = number(file)
    return None if khz is None else khz / 1000


def power_mode(environment: dict[str, Any]) -> str:
    """The part of a fingerprint that must be equal in runs that are compared, in words."""
    settings = environment["power"] | {"nvpmodel": (environment["machine"]["jetson"] or {}).get("power_mode") or None}
    return ", ".join(
        f"{name} {settings[name]}" for name in ("nvpmodel", "governor", "preference", "turbo", "profile") if settings.get(name) is not None
    )
