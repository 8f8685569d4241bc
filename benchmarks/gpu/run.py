"""Runs the parts one after the other within a number of seconds, and keeps what each has measured."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from bcd_edge import backends
from bcd_edge.backends import nvidia
from bcd_edge.errors import ProviderError
from bcd_edge.system import machine
from bcd_edge.system.atomic import atomic_write
from benchmarks.gpu.report import markdown
from benchmarks.gpu.setting import Setting

# In the order of their worth, with the share of the time that is left when each begins.
PARTS: Final = {"contract": 0.4, "latency": 0.55, "throughput": 0.5, "training": 0.6, "autotune": 1.0}
LOG_END: Final = 2000  # characters of a part's output that are kept when it dies


def measure(out: Path, bundle: str, seconds: float, *, dry_run: bool) -> dict[str, Any]:
    """Measures every part; `out` receives `gpu.json` after each of them, `gpu.md` and `log.txt`.

    Raises:
        ProviderError: there is no card.
    """
    cards, reason = nvidia.cuda_devices()
    if not cards and not dry_run:
        raise ProviderError(f"benchmarks gpu measures an NVIDIA card, and {reason}; give --dry-run to try every part on the CPU.")
    out.mkdir(parents=True, exist_ok=True)
    setting = Setting(bundle, dry_run, 0.02 if dry_run else 1.0)
    document = facts(setting)
    for sentence in document["cannot"]:
        print(f"cannot: {sentence}", flush=True)
    end = time.monotonic() + seconds
    for name, share in PARTS.items():
        document["parts"][name] = run_part(name, setting, share * (end - time.monotonic()), out / "log.txt")
        atomic_write(out / "gpu.json", json.dumps(document, indent=1).encode())
    text = markdown(document)
    (out / "gpu.md").write_text(text, encoding="utf-8")
    print(text)
    return document


def facts(setting: Setting) -> dict[str, Any]:
    """The machine, the versions, and what cannot be measured here with its reason."""
    cards, reason = nvidia.cuda_devices()
    names = ("torch", "triton", "nvidia-cudnn-cu13", "numpy", "opencv-python-headless")
    opened = setting.open_bundle()
    cannot = [f"a card: {reason}"] if not cards else []
    for provider in ("cuda", "tensorrt"):
        answer = backends.availability(provider)
        cannot += [] if answer.available else [f"provider {provider}: {answer.reason}"]
    cannot += [f"{module}: not installed" for module in ("torch", "pytest", "pynvml") if not find_spec(module)]
    missing = {"int8", "fp16", "fp32"} - set(opened.precisions)
    cannot += [f"{precision}: {opened.name} has no such variant" for precision in sorted(missing)]
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "dry_run": setting.dry_run,
        "card": nvidia.card_name(0) if cards else "none",
        "driver": machine.nvidia_driver(),
        "cpu": machine.cpu_name(),
        "cores": machine.cores(),
        "bundle": opened.name,
        "versions": {"python": platform.python_version(), **backends.versions(), **{name: _version(name) for name in names}},
        "cannot": cannot,
        "parts": {},
    }


def run_part(name: str, setting: Setting, limit_s: float, log: Path) -> dict[str, Any]:
    """The figures of each step of a part. A process that dies is started again behind the step that killed it; one that is too slow is ended."""
    end, started = time.monotonic() + limit_s, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        journal, steps, ended = Path(folder) / "journal", {}, ""
        journal.touch()
        for _ in range(5):
            code = _process(name, setting, journal, list(steps), end - time.monotonic(), log)
            steps = _steps(journal, ended := _ending(code), steps)
            if code in (0, None):
                break
    seconds = round(time.monotonic() - started, 1)
    print(f"{name}: {seconds} s, {ended or 'done'}", flush=True)
    died = {"log": log.read_text(encoding="utf-8", errors="replace")[-LOG_END:]} if ended else {}
    return {"seconds": seconds, "ended": ended or "done", "steps": steps, **died}


def _process(name: str, setting: Setting, journal: Path, done: list[str], limit_s: float, log: Path) -> int | None:
    """The exit code; None if it was ended at the limit."""
    # PyTorch compiles for a minute on a CPU, so a dry run goes through the calls without it
    environment = os.environ | ({"TORCHDYNAMO_DISABLE": "1"} if setting.dry_run else {})
    command = [sys.executable, "-m", "benchmarks.gpu", name, json.dumps(asdict(setting)), str(journal), *done]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env=environment)
        try:
            return process.wait(max(1.0, limit_s))
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:  # with the compilers that it started
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _ending(code: int | None) -> str:
    if code is None:
        return "ended at its limit of time"
    return f"died with exit code {code}" if code else ""


def _steps(journal: Path, ended: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """Step to figures; one that began and did not end has the way the process ended in their place."""
    steps = dict(before)
    for line in journal.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "figures" in row:
            steps[row["step"]] = {"seconds": row["seconds"], **row["figures"]}
        elif row["step"] not in steps:
            steps[row["step"]] = {"error": ended}
    if ended and not steps:
        steps["start"] = {"error": ended}
    return steps


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"
