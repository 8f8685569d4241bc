"""Python environments for one check: interpreters by version, the oldest allowed packages, installed size."""

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
# Extras for a device or a clinic's PC; the others are for training, export and tests. `gpu` has packages for x86 only.
RUNTIME_EXTRAS: Final = ("cpu", "openvino", "explain", "watch", "serve", "heic", "dicom", "slide")


def shell(*command: str | Path, **options: Any) -> str:
    """Output of a command that must succeed; an interpreter that it starts does not see this process's Python paths.

    Raises:
        subprocess.CalledProcessError: it failed; `output` holds both streams.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")} | options.pop("env", {})
    arguments = [str(part) for part in command]
    completed = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    completed.check_returncode()
    return str(completed.stdout)


def find_python(version: str) -> str | None:
    """A working interpreter of a version such as `3.10`: on PATH, or one of pyenv's; None if there is none."""
    installed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for candidate in (sys.executable, f"python{version}", *sorted(map(str, installed.glob(f"{version}.*/bin/python3")))):
        if shutil.which(candidate):
            completed = subprocess.run([candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True)
            if completed.stdout.strip() == version:
                return candidate
    return None


def build(folder: Path) -> Path:
    """Builds the wheel of this source and, next to it, those of the extra `explain`, which PyPI has only as source (lime, pure Python)."""
    shell(*pip("wheel", "--no-deps", "--wheel-dir", folder, ROOT, *project()["optional-dependencies"]["explain"]))
    (own,) = folder.glob("bcd_edge-*.whl")
    return own


def make(folder: Path, python: str, *requirements: str | Path) -> Path:
    """Makes an environment with these packages and options of pip, from wheels only; returns its interpreter."""
    shell(python, "-m", "venv", folder)
    own = folder / "bin" / "python"
    if requirements:
        shell(own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", *requirements)
    return own


def oldest() -> list[str]:
    """The requirements of the runtime and of `cpu` in pyproject, each as its oldest series: `numpy>=1.24` as `numpy==1.24.*`."""
    requirements = project()["dependencies"] + project()["optional-dependencies"]["cpu"]
    pinned = []
    for requirement in map(Requirement, requirements):
        (lowest,) = [bound.version for bound in requirement.specifier if bound.operator in (">=", "==")]
        series = lowest if "." in lowest else f"{lowest}.0"
        marker = f"; {requirement.marker}" if requirement.marker else ""
        pinned.append(f"{requirement.name}=={series}.*{marker}")
    return pinned


def extras() -> list[str]:
    """The runtime's extras in pyproject, after an empty one for the runtime without extras."""
    return ["", *(extra for extra in RUNTIME_EXTRAS if extra in project()["optional-dependencies"])]


def with_extra(wheel: Path, extra: str) -> str:
    """The requirement that installs a wheel with an extra, or without if it is empty."""
    return f"{wheel}[{extra}]" if extra else str(wheel)


def beside(wheel: Path) -> tuple[str | Path, str | Path]:
    """Pip's option to find the wheels that `build` made."""
    return "--find-links", wheel.parent


def packages_bytes(folder: Path) -> int:
    """Size of a site-packages folder without pip and setuptools."""
    own = ("pip", "setuptools", "_distutils_hack", "distutils-precedence")
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(file.stat().st_size for file in files if not file.relative_to(folder).parts[0].startswith(own))


def pass_runtime_tests(python: Path, folder: Path) -> str:
    """Copies the runtime's tests away from the source, runs them in an environment, and returns pytest's last line."""
    shell(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pytest", "pytest-timeout", "hypothesis")
    shutil.copytree(ROOT / "tests" / "bcd_edge", folder / "tests")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return shell(python, "-m", "pytest", "-q", "-r", "fE", "tests", cwd=folder).splitlines()[-1]


def project() -> dict[str, Any]:
    """The table [project] of pyproject."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def pip(*arguments: str | Path) -> Sequence[str | Path]:
    """A pip command of this interpreter."""
    return (sys.executable, "-m", "pip", *arguments[:1], "--quiet", "--disable-pip-version-check", *arguments[1:])
