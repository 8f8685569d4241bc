"""What ran where: the fingerprint that makes a figure comparable with another. What a machine does not tell is None."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bcd_edge.benchmark._nvml import Card
from bcd_edge.benchmark.sensors import ROOT, look, number, text
from bcd_edge.system import doctor, jetson


def fingerprint(root: Path = ROOT, card: Card | None = None) -> dict[str, Any]:
    """Everything that is the same for all rows of a run, as plain values.

    Args:
        root: where `/proc`, `/sys` and `/etc` begin.
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
        "idle": look(root, card).as_dict(),
    }


def _os_name(root: Path) -> str | None:
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', text(root / "etc/os-release") or "", re.MULTILINE)
    return found[1] if found else None


def container(root: Path = ROOT) -> str | None:
    """`docker`, `podman` or what else the system says, None outside of one."""
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    found = re.search(r"docker|kubepods|containerd|lxc", text(root / "proc/1/cgroup") or "")
    return found[0] if found else None


def limits(root: Path = ROOT) -> dict[str, float | None]:
    """What a control group allows: processors' worth of time, and memory; None where it sets no limit."""
    quota, _, period = (text(root / "sys/fs/cgroup/cpu.max") or "").partition(" ")
    first = root / "sys/fs/cgroup/cpu"  # version 1 of control groups
    whole, part = (float(quota), float(period)) if quota.isdigit() else (number(first / "cpu.cfs_quota_us"), number(first / "cpu.cfs_period_us"))
    memory = number(root / "sys/fs/cgroup/memory.max") or number(root / "sys/fs/cgroup/memory/memory.limit_in_bytes")
    return {
        "processors": round(whole / part, 3) if whole and part and whole > 0 else None,
        "memory_gib": round(memory / 2**30, 2) if memory and memory < 2**60 else None,
    }


def power(root: Path = ROOT) -> dict[str, Any]:
    """How the machine may use power: governor, its preference and range of clocks, turbo, the firmware's profile."""
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
    """The one value of all cores, or each value there is."""
    return ", ".join(sorted({value for file in files if (value := text(file))})) or None


def _mhz(file: Path) -> float | None:
    found = number(file)
    return None if found is None else found / 1000


def power_mode(environment: dict[str, Any]) -> str:
    """The part of a fingerprint that must be alike for two runs to be compared, in words."""
    settings = environment["power"] | {"nvpmodel": (environment["machine"]["jetson"] or {}).get("power_mode") or None}
    return ", ".join(
        f"{name} {settings[name]}" for name in ("nvpmodel", "governor", "preference", "turbo", "profile") if settings.get(name) is not None
    )
