"""What is said of the processor."""

from __future__ import annotations

import platform

import pytest

from bcd_edge.system import machine


@pytest.mark.parametrize(
    ("architecture", "flags", "exact"),
    [
        ("x86_64", "flags : fma avx2", False),
        ("x86_64", "flags : avx2 avx512f", False),
        ("x86_64", "flags : avx2 avx_vnni", True),
        ("x86_64", "flags : avx2 avx512f avx512_vnni", True),
        ("AMD64", "", False),
        ("aarch64", "Features : asimd", True),
        ("arm64", "", True),
    ],
)
def test_where_sums_of_bytes_are_exact(monkeypatch: pytest.MonkeyPatch, architecture: str, flags: str, exact: bool) -> None:
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    monkeypatch.setattr(machine, "_cpuinfo", lambda: f"model name : a processor\n{flags}\n")
    assert machine.adds_bytes_exactly() is exact
