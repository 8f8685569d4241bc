"""Python environments made for one check: an interpreter of a version, the oldest packages allowed, what an installation weighs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT: Final = Path(__file__).parents[1]
# Extras that a device or a clinic's PC may want; the others train, export or test. `gpu` has packages for x86 alone.
RUNTIME_EXTRAS: Final = ("cpu", "openvino", "explain", "watch")


def shell(*command: str | Path, **options: Any) -> str:
    """Standard output of a command that succeeded; an interpreter that it starts sees none of this process's own paths.

    Raises:
        subprocess.CalledProcessError: it failed; `output` has both streams.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")} | options.pop("env", {})
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    output: str = subprocess.run([str(part) for part in command], env=environment, check=True, **streams, **options).stdout
    return output


def find_python(version: str) -> str | None:
    """A working interpreter of a version such as `3.10`: on PATH, or one of pyenv's; None if there is none."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in (sys.executable, f"python{version}", *sorted(map(str, kept.glob(f"{version}.*/bin/python3")))):
        if shutil.which(candidate):
            told = subprocess.run([candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True)
            if told.stdout.strip() == version:
                return candidate
    return None


def build(folder: Path) -> Path:
    """The wheel of this source, and beside it those of the extra `explain`, which PyPI has as source alone (lime, pure Python)."""
    shell(*pip("wheel", "--no-deps", "--wheel-dir", folder, ROOT, *project()["optional-dependencies"]["explain"]))
    (own,) = folder.glob("bcd_edge-*.whl")
    return own


def make(folder: Path, python: str, *requirements: str | Path) -> Path:
    """The interpreter of a new environment with these packages and options of pip; nothing is compiled here."""
    shell(python, "-m", "venv", folder)
    own = folder / "bin" / "python"
    if requirements:
        shell(own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", *requirements)
    return own


def oldest() -> list[str]:
    """The requirements of the runtime and of `cpu` in pyproject, each as its oldest series: `numpy>=1.24` as `numpy==1.24.*`."""
    wanted = project()["dependencies"] + project()["optional-dependencies"]["cpu"]
    pinned = []
    for requirement in map(Requirement, wanted):
        (least,) = [one.version for one in requirement.specifier if one.operator in (">=", "==")]
        series = least if "." in least else f"{least}.0"
        marker = f"; {requirement.marker}" if requirement.marker else ""
        pinned.append(f"{requirement.name}=={series}.*{marker}")
    return pinned


def extras() -> list[str]:
    """The extras of the runtime that pyproject has, after the runtime alone, which is empty."""
    return ["", *(extra for extra in RUNTIME_EXTRAS if extra in project()["optional-dependencies"])]


def with_extra(wheel: Path, extra: str) -> str:
    return f"{wheel}[{extra}]" if extra else str(wheel)


def beside(wheel: Path) -> tuple[str | Path, str | Path]:
    """Pip's option to look for wheels where `build` put them."""
    return "--find-links", wheel.parent


def packages_bytes(folder: Path) -> int:
    """What the files of a site-packages folder weigh, without pip's own and setuptools'."""
    own = ("pip", "setuptools", "_distutils_hack", "distutils-precedence")
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(file.stat().st_size for file in files if not file.relative_to(folder).parts[0].startswith(own))


def pass_runtime_tests(python: Path, folder: Path) -> str:
    """Copies the runtime's tests away from the source, passes them in an environment, and returns pytest's last line."""
    shell(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pytest", "hypothesis")
    shutil.copytree(ROOT / "tests" / "bcd_edge", folder / "tests")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return shell(python, "-m", "pytest", "-q", "-r", "fE", "tests", cwd=folder).splitlines()[-1]


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def pip(*arguments: str | Path) -> Sequence[str | Path]:
    """A pip command of this interpreter that downloads or unpacks and never compiles."""
    return (sys.executable, "-m", "pip", *arguments[:1], "--quiet", "--disable-pip-version-check", *arguments[1:])
