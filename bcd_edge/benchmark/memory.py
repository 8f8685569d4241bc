"""Peak memory of a row: the process's high-water mark, which Linux can reset."""

from __future__ import annotations

import re
from pathlib import Path

import psutil

from bcd_edge.benchmark.sensors import ROOT, text


def reset_peak(root: Path = ROOT) -> bool:
    """Resets the high-water mark to what is resident now (Linux: `5` to clear_refs, filesystems/proc.rst); returns whether it could."""
    try:
        (root / "proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_mib(root: Path = ROOT) -> float | None:
    """The high-water mark of this process's resident memory since its reset, or since the process was started."""
    match = re.search(r"^VmHWM:\s+(\d+) kB", text(root / "proc/self/status") or "", re.MULTILINE)
    if match:
        return int(match[1]) / 1024
    peak = getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows
    return None if peak is None else peak / 2**20
