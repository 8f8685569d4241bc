"""Processor, cores and NVIDIA cards of this machine, as the operating system reports them."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from bcd_edge.system import jetson

# Instruction sets that speed up INT8 and low precision, by their names in /proc/cpuinfo on x86 and Arm.
FEATURES: Final = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_int8": "AMX INT8",
    "amx_bf16": "AMX BF16",
    "asimd": "NEON",
    "asimddp": "dot product",
    "i8mm": "INT8 matrix",
    "bf16": "BF16",
    "sve": "SVE",
}


@cache
def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def cpu_name() -> str:
    """The board's name on Arm, else the processor's model name (Linux), else its architecture.

    Every Jetson calls its processor `ARMv8 Processor`, and what was compiled or tuned on one board must not be used on another.
    """
    if board := jetson.board():
        return board
    model = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return model[1].strip() if model else platform.processor() or platform.machine()


def cpu_features() -> list[str] | None:
    """Those of `FEATURES` that the processor has; None if the system does not report them."""
    line = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    if not line:
        return None
    flags = set(line[1].split())
    return [name for flag, name in FEATURES.items() if flag in flags]


def adds_bytes_exactly() -> bool:
    """Whether the processor adds products of bytes in 32 bits.

    An x86 processor without VNNI or AMX has `vpmaddubsw` for them, which adds two in 16 bits and saturates, so that uint8 x int8 with all 8 bits
    comes out wrong. One whose features are not known counts as such.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return True
    return not {"AVX-512 VNNI", "AVX VNNI", "AMX INT8"}.isdisjoint(cpu_features() or ())


def cores() -> int:
    """Logical processors that this process may use; a container or taskset can limit them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def nvidia_driver() -> str:
    """The version of NVIDIA's kernel driver, empty without one; read from a file, which is cheap."""
    try:
        return Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return ""


def nvidia() -> list[str]:
    """One line per card from `nvidia-smi`: name, driver, memory; empty without a driver."""
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        completed = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in completed.stdout.splitlines() if line.strip()]
