"""Can bcd-edge run here? The machine, every provider with reason and fix, conflicting packages, free memory and disk, the bundle."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from bcd_edge import __version__, backends, bundle, plan
from bcd_edge.errors import BcdEdgeError
from bcd_edge.options import RunOptions
from bcd_edge.system import caches, jetson, machine

# Distributions that install the same module: the last one installed has overwritten the files of the others.
CONFLICTING_PACKAGES = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
}
LIBRARIES = ("numpy", "opencv-python-headless", "pillow", "scikit-image", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt")
REQUIRED_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        name: what was checked.
        ok: whether it passed; None where it is not required.
        message: the finding.
        fix: what to do if it did not pass.
    """

    name: str
    ok: bool | None
    message: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The result of `examine`; `chosen` is the provider that a command would use, empty if none can run."""

    machine: dict[str, Any]
    libraries: dict[str, str]
    providers: list[Check]
    checks: list[Check]
    chosen: str

    @property
    def ok(self) -> bool:
        return bool(self.chosen) and all(check.ok is not False for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok}


def examine(path: str | Path | None = None, options: RunOptions | None = None) -> Report:
    """Runs every check; loads the bundle once on the chosen provider.

    Args:
        path: of the bundle; None is the embedded one.
        options: what must run; any provider where none is given.
    """
    checks = [*_conflicts(), _memory(), _disk(), _service()]
    chosen, opened = "", None
    try:
        opened = bundle.open(path)
        problems, _ = bundle.verify(opened)
        checks.append(Check("bundle", not problems, problems[0] if problems else f"{opened.name}, every file matches its manifest"))
        chosen, started = _start(opened, options or RunOptions())
        checks.append(started)
    except BcdEdgeError as error:
        checks.append(Check("bundle", False, str(error)))
    return Report(hardware(), libraries(), _providers(opened, options or RunOptions()), checks, chosen)


def _start(opened: bundle.Bundle, options: RunOptions) -> tuple[str, Check]:
    from bcd_edge.classifier import Classifier

    name = f"provider {options.provider or 'auto'}"
    try:
        with Classifier.load(opened.path, options) as classifier:
            ran = classifier.execution
    except BcdEdgeError as error:
        return "", Check(name, False, str(error))
    tuned = "tuned on this machine" if plan.recall(opened) else "not tuned on this machine; bcd-edge tune finds the fastest settings"
    return ran.provider, Check(name, True, f"{ran.provider} {ran.precision} runs on {ran.device}; {tuned}")


def _providers(opened: bundle.Bundle | None, options: RunOptions) -> list[Check]:
    """Whether each runs here, and the bundle's first variant for it, of the precision that is asked."""
    checks = []
    for name in backends.engines():
        variants = [variant for variant in opened.variants(name) if options.precision in (None, variant["precision"])] if opened else []
        answer = backends.availability(name, variants[0] if variants else None, options.device)
        checks.append(Check(name, answer.available or None, "available" if answer.available else answer.reason, answer.fix))
    return checks


def _conflicts() -> list[Check]:
    return [_conflict(module, packages) for module, packages in CONFLICTING_PACKAGES.items()]


def _conflict(module: str, packages: tuple[str, ...]) -> Check:
    versions = {name: version for name in packages if (version := _version(name))}
    listed = " and ".join(f"{name} {version}" for name, version in versions.items())
    if len(versions) < 2:
        return Check(f"one {module}", True, listed or "none is installed")
    fix = f"pip uninstall -y {' '.join(versions)}, then install the one you need"
    return Check(f"one {module}", False, f"{listed} overwrite each other's files", fix)


def _memory() -> Check:
    free = int(psutil.virtual_memory().available)
    return Check("memory", free >= REQUIRED_BYTES, f"{free / 2**30:.1f} GiB free", "close other programs; 0.5 GiB should be free")


def _disk() -> Check:
    """Space for compiled models; the nearest existing parent stands for a cache folder that does not exist yet."""
    nearest = next((path for path in (caches.root(), *caches.root().parents) if path.exists()), Path(tempfile.gettempdir()))
    free = shutil.disk_usage(nearest).free
    return Check("disk", free >= REQUIRED_BYTES, f"{free / 2**30:.1f} GiB free at {nearest}", "free some space, or point BCD_EDGE_CACHE elsewhere")


def _service() -> Check:
    """Whether a systemd unit with ProtectHome=yes, such as deploy/bcd-edge-watch.service, can read this Python and its packages."""
    homes = [Path("/home"), Path("/root"), Path("/run/user")]
    paths = [Path(sys.executable).resolve(), Path(sys.prefix), Path(__file__).resolve()]
    hidden = next((path for path in paths if any(path.is_relative_to(home) for home in homes)), None)
    if hidden is None:
        return Check("as a service", True, "Python and packages are outside home folders")
    fix = "for a service, install as docs/clinic.md does: with /usr/bin/python3, in /opt"
    return Check("as a service", None, f"{hidden} is in a home folder, which a service with ProtectHome=yes cannot read", fix)


def hardware() -> dict[str, Any]:
    """The machine and its operating system, as plain values."""
    return {
        "cpu": machine.cpu_name(),
        "architecture": platform.machine(),
        "features": machine.cpu_features(),
        "cores": machine.cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "jetson": jetson.read(),
        "nvidia": machine.nvidia(),
    }


def libraries() -> dict[str, str]:
    """Versions of the installed packages that decide the result or its speed."""
    return {"bcd-edge": __version__} | {name: version for name in LIBRARIES if (version := _version(name))}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
