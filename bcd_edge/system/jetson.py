"""Board, JetPack, power mode and clocks of a Jetson, read from files: needs neither root nor NVIDIA's tools."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Major version of L4T to that of JetPack (NVIDIA, JetPack archive), for a system without the package nvidia-jetpack.
JETPACKS: Final = {"35": "5", "36": "6", "38": "7"}
# the metapackage nvidia-jetpack is often not installed
PACKAGES: Final = ("nvidia-jetpack", "nvidia-jetpack-runtime", "nvidia-jetpack-dev")


@dataclass(frozen=True, slots=True)
class Clock:
    """One clock that the power mode limits.

    Attributes:
        name: the device's name in Linux: `policy0` of a cluster of cores, `17000000.gpu` (Orin), `gpu-gpc-0` (Thor).
        mhz: current frequency.
        lowest_mhz: the governor's lower limit; `jetson_clocks` raises it to the upper one.
        highest_mhz: the governor's upper limit; the power mode lowers it.
        governor: the frequency governor.
    """

    name: str
    mhz: int
    lowest_mhz: int
    highest_mhz: int
    governor: str


@dataclass(frozen=True, slots=True)
class Jetson:
    """Strings and lists are empty where the system does not report them.

    Attributes:
        board: `NVIDIA Jetson AGX Thor Developer Kit`.
        l4t: release of Jetson Linux, `36.4.3`.
        jetpack: `6.2`; only `6` where it is derived from `l4t`.
        power_mode: the current one, `25W`.
        power_modes: all that the board has.
        clocks: of processors and GPU.
    """

    board: str
    l4t: str
    jetpack: str
    power_mode: str
    power_modes: list[str]
    clocks: list[Clock]


def board(root: Path = Path("/")) -> str:
    """The name of an Arm board, empty elsewhere; sources as in `read`."""
    # the container runtime hides the device tree but not sysfs
    return _text(root / "proc/device-tree/model") or _text(root / "sys/devices/soc0/machine")


def read(root: Path = Path("/")) -> Jetson | None:
    """The Jetson whose files are under `root`, or None on any other machine; never raises.

    Sources of the formats: /etc/nv_tegra_release, /etc/nvpmodel.conf and /var/lib/nvpmodel/status: NVIDIA Jetson Linux
    Developer Guide; /proc/device-tree/model: Devicetree Specification; /sys/devices/soc0, cpufreq and devfreq: Linux,
    Documentation/ABI/testing/sysfs-devices-soc, sysfs-devices-system-cpu and sysfs-class-devfreq; /var/lib/dpkg/status: deb-control(5).
    """
    name = board(root)
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
    if "jetson" not in name.lower() and not release:
        return None
    mode, modes = _power(root)
    return Jetson(
        board=name,
        l4t=f"{release[1]}.{release[2]}" if release else "",
        jetpack=_jetpack(root) or (JETPACKS.get(release[1], "") if release else ""),
        power_mode=mode,
        power_modes=modes,
        clocks=_clocks(root),
    )


def _jetpack(root: Path) -> str:
    """The installed package's version, without its build: `6.2` of `6.2+b77`."""
    for entry in _text(root / "var/lib/dpkg/status").split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): *(.+)$", entry, re.MULTILINE))
        if fields.get("Package") in PACKAGES and fields.get("Status", "").endswith(" installed"):
            return re.split(r"[-+]", fields.get("Version", ""))[0]
    return ""


def _power(root: Path) -> tuple[str, list[str]]:
    """The current power mode (the default if none was ever set) and all modes."""
    table = _text(root / "etc/nvpmodel.conf")
    names = {int(number): name for number, name in re.findall(r"^< POWER_MODEL ID=(\d+) NAME=(\S+) >", table, re.MULTILINE)}
    chosen = re.search(r"^pmode:(\d+)", _text(root / "var/lib/nvpmodel/status"), re.MULTILINE)
    chosen = chosen or re.search(r"^< PM_CONFIG DEFAULT=(\d+) >", table, re.MULTILINE)
    return names.get(int(chosen[1]), f"mode {int(chosen[1])}") if chosen else "", list(names.values())


def _clocks(root: Path) -> list[Clock]:
    processors = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    clocks = [_clock(folder, "scaling_", 1_000) for folder in processors] + [_clock(folder, "", 1_000_000) for folder in gpu_devices(root)]
    return [clock for clock in clocks if clock]


def gpu_devices(root: Path = Path("/")) -> list[Path]:
    """The devfreq folders of the GPU: `17000000.gpu` (Orin), `gpu-gpc-0` (Thor), `17000000.gv11b`, `ga10b` on older releases."""
    return [folder for folder in sorted((root / "sys/class/devfreq").glob("*")) if re.search(r"gpu|gpc|gv11b|ga10b", folder.name)]


def _clock(folder: Path, prefix: str, per_mhz: int) -> Clock | None:
    frequencies = [_text(folder / f"{prefix}{name}_freq") for name in ("cur", "min", "max")]
    if not all(text.isdecimal() for text in frequencies):
        return None
    now, lowest, highest = (round(int(text) / per_mhz) for text in frequencies)
    return Clock(folder.name, now, lowest, highest, _text(folder / f"{prefix}governor"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""
