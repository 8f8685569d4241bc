"""Whether bcd-edge can run here: the machine, every provider with reason and cure, packages in each other's way, the bundle."""

from __future__ import annotations

import platform
import shutil
import tempfile
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from bcd_edge import __version__, backends, bundle, plan
from bcd_edge.errors import BcdEdgeError
from bcd_edge.system import caches, jetson, machine

# Distributions that install the same module: whichever came last has overwritten the other's files.
RIVALS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
}
LIBRARIES = ("numpy", "opencv-python-headless", "pillow", "scikit-image", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt")
NEEDED_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        fine: whether it is as it should be; None where it is not needed.
        says: what was found.
        cure: what to do if it is not fine.
    """

    name: str
    fine: bool | None
    says: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What `examine` found; `chosen` is the provider that a command would use, empty if none can."""

    machine: dict[str, Any]
    libraries: dict[str, str]
    providers: list[Check]
    checks: list[Check]
    chosen: str

    @property
    def fine(self) -> bool:
        return bool(self.chosen) and all(check.fine is not False for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"fine": self.fine}


def examine(path: str | Path | None = None, *, provider: str = "auto", device: str = "", precision: str | None = None) -> Report:
    """Looks at everything; starts the chosen provider once with the bundle.

    Args:
        path: of the bundle; the embedded one if not given.
        provider: the one that must run; `auto` is content with any.
        device: of the provider.
        precision: of the bundle; its first for the provider if not given.
    """
    checks = [*_conflicts(), _memory(), _disk()]
    chosen = ""
    try:
        opened = bundle.open(path)
        problems, _ = bundle.verify(opened)
        checks.append(Check("bundle", not problems, problems[0] if problems else f"{opened.name}, every file is what its manifest says"))
        chosen, started = _start(opened, provider, device, precision)
        checks.append(started)
    except BcdEdgeError as error:
        checks.append(Check("bundle", False, str(error)))
    return Report(hardware(), libraries(), _providers(), checks, chosen)


def _start(opened: bundle.Bundle, provider: str, device: str, precision: str | None) -> tuple[str, Check]:
    from bcd_edge.classifier import Classifier

    try:
        with Classifier.load(opened.path, provider=provider, device=device, precision=precision) as classifier:
            ran = classifier.execution
    except BcdEdgeError as error:
        return "", Check(f"provider {provider}", False, str(error))
    tuned = "tuned here" if plan.recall(opened) else "not tuned here; bcd-edge tune finds the fastest"
    return ran.provider, Check(f"provider {provider}", True, f"{ran.provider} {ran.precision} runs on {ran.device}; {tuned}")


def _providers() -> list[Check]:
    found = []
    for name in backends.engines():
        answer = backends.availability(name)
        found.append(Check(name, answer.available or None, "runs here" if answer.available else answer.reason, answer.cure))
    return found


def _conflicts() -> list[Check]:
    checks = []
    for module, names in RIVALS.items():
        there = [f"{name} {version}" for name in names if (version := _version(name))]
        cure = f"pip uninstall -y {' '.join(name for name in names if _version(name))}, then install the one you want"
        if len(there) > 1:
            checks.append(Check(f"one {module}", False, f"{' and '.join(there)} overwrite each other's files", cure))
        else:
            checks.append(Check(f"one {module}", True, there[0] if there else "none is installed"))
    return checks


def _memory() -> Check:
    free = int(psutil.virtual_memory().available)
    return Check("memory", free >= NEEDED_BYTES, f"{free / 2**30:.1f} GiB free", "close other programs; 0.5 GiB should be free")


def _disk() -> Check:
    """Where compiled models are kept; the first parent that exists stands for a folder that is not made yet."""
    where = next((one for one in (caches.root(), *caches.root().parents) if one.exists()), Path(tempfile.gettempdir()))
    free = shutil.disk_usage(where).free
    return Check("disk", free >= NEEDED_BYTES, f"{free / 2**30:.1f} GiB free at {where}", "make room, or set BCD_EDGE_CACHE to another folder")


def hardware() -> dict[str, Any]:
    """The machine and its system, as plain values."""
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
    """What is installed of the packages that an answer, or its speed, depends on, with versions."""
    return {"bcd-edge": __version__} | {name: version for name in LIBRARIES if (version := _version(name))}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
