"""An arm64 Debian in a folder, and its Python run by QEMU's user mode emulation."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.environments import beside, pip, shell, with_extra

# glibc of Ubuntu 22.04 and 24.04 (JetPack 6 and 7) and of the emulated Debian
GLIBC: Final = {"3.10": 35, "3.12": 39, "3.11": 36}
SUITE, PYTHON = "bookworm", "3.11"
# It has Arm's dot product, which INT8 kernels use, like the Cortex-A78AE of an Orin.
PROCESSOR: Final = "cortex-a76"


class NoEmulationError(Exception):
    """An arm64 system cannot be made or run here, with the reason."""


@dataclass(frozen=True, slots=True)
class Machine:
    """An arm64 root file system and the emulator; packages are installed in `root`/opt."""

    root: Path
    emulator: Path

    def python(self, *arguments: str | Path, packages: Sequence[str] = ()) -> str:
        """Runs the emulated interpreter with these folders of /opt on its path and returns its output, both streams.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        own = {"PYTHONPATH": os.pathsep.join(str(self.root / "opt" / name) for name in packages), "BCD_EDGE_CACHE": str(self.root / "cache")}
        interpreter = self.root / f"usr/bin/python{PYTHON}"
        return shell(self.emulator, "-cpu", PROCESSOR, "-L", self.root, interpreter, "-W", "ignore", *arguments, env=own)


def download(wheel: Path, python: str, folder: Path, *requirements: str, extra: str = "cpu") -> None:
    """Fetches the wheel's dependencies for arm64 and a Python version; pip fails where one has no wheel for them."""
    shell(*pip("download", "--dest", folder, *_for_arm64(python), *beside(wheel), with_extra(wheel, extra), *requirements))


def unpack(wheel: Path, python: str, folder: Path, extra: str) -> None:
    """Installs the wheel for arm64 into a folder of this machine, to measure its size."""
    shell(*pip("install", "--target", folder, *_for_arm64(python), *beside(wheel), with_extra(wheel, extra)))


def _for_arm64(python: str) -> list[str]:
    tags = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, GLIBC[python] + 1))]
    return ["--only-binary=:all:", "--implementation", "cp", "--python-version", python, *(f"--platform={tag}" for tag in tags)]


def boot(work: Path) -> Machine:
    """Makes the root file system: debootstrap's first stage, then unpacks the packages left for the second.

    Raises:
        NoEmulationError: not root on a Debian-like Linux.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        raise NoEmulationError("debootstrap needs root on Linux")
    if not shutil.which("dpkg-deb") or not shutil.which("apt-get"):
        raise NoEmulationError("debootstrap and qemu-user-static come from apt, which is missing")
    emulator = _tool("qemu-user-static", "usr/bin/qemu-aarch64-static", work)
    debootstrap = _tool("debootstrap", "usr/sbin/debootstrap", work)
    scripts = debootstrap.parents[1] / "share" / "debootstrap"
    root = work / "root"
    options = ["--foreign", "--arch=arm64", "--variant=minbase", "--include=python3"]
    shell(debootstrap, *options, SUITE, root, env={"DEBOOTSTRAP_DIR": str(scripts)})
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        shell("dpkg-deb", "-x", package, root)
        package.unlink()
    return Machine(root, emulator)


def _tool(package: str, path: str, work: Path) -> Path:
    """A program of a Debian package: the installed one, else unpacked from the package."""
    if installed := shutil.which(Path(path).name):
        return Path(installed)
    folder = work / package
    folder.mkdir()
    shell("apt-get", "download", "--quiet", package, cwd=folder)
    (archive,) = folder.glob("*.deb")
    shell("dpkg-deb", "-x", archive, folder)
    archive.unlink()
    return folder / path


def install(machine: Machine, wheels: Path, into: str, *requirements: str | Path) -> None:
    """Installs with the emulated pip, which decides whether a wheel is for its platform.

    Args:
        machine: the emulated one.
        wheels: folder of the wheels, including pip's.
        into: a folder of /opt.
        requirements: wheels, requirements and options of pip.
    """
    (pip_wheel,) = wheels.glob("pip-*.whl")
    offline = ["--quiet", "--no-index", "--find-links", wheels, "--root-user-action=ignore"]
    machine.python(pip_wheel / "pip", "install", *offline, "--target", machine.root / "opt" / into, *requirements)


def probabilities(printed: str) -> dict[str, float]:
    """p_malignant by image of the records that `bcd-edge predict --format jsonl` printed, among other lines."""
    records = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return {Path(record["source"]).name: record["p_malignant"] for record in records}
