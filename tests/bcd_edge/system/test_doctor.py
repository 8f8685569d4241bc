"""Checks of the machine that need no other process; what `bcd-edge doctor` prints is in test_cli_runtime.py."""

from __future__ import annotations

import sys

import pytest

from bcd_edge.system import doctor


@pytest.mark.parametrize(("home", "ok"), [("/opt/bcd-edge", True), ("/home/anna/.venv", None), ("/root/.venv", None)])
def test_a_python_in_a_home_folder_cannot_be_a_service(monkeypatch: pytest.MonkeyPatch, home: str, ok: bool | None) -> None:
    monkeypatch.setattr(sys, "prefix", home)
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    monkeypatch.setattr(doctor, "__file__", f"{home}/lib/bcd_edge/system/doctor.py")
    report = doctor.examine()
    (check,) = [check for check in report.checks if check.name == "as a service"]
    assert check.ok is ok
    assert (home in check.message and "/opt" in check.fix) or ok
    assert report.ok, "a service is one way to run it, not the only one"
