"""A lock between processes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bcd_edge.system.lock import exclusive

HOLDING = """
import sys, time
from pathlib import Path
from bcd_edge.system.lock import exclusive
with exclusive(Path(sys.argv[1]), 0) as held:
    print(held, flush=True)
    time.sleep(60)
"""


def test_a_lock_is_exclusive_and_released_when_its_holder_is_killed(tmp_path: Path) -> None:
    calls: list[str] = []
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "True\n"
        with exclusive(tmp_path / "lock", 0.3, lambda: calls.append("waiting")) as held:
            assert not held
        other.kill()
    assert calls == ["waiting"]
    with exclusive(tmp_path / "lock", 0.3, lambda: calls.append("waiting")) as held:
        assert held
    assert calls == ["waiting"]


def test_a_lock_file_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="unable to open"), exclusive(tmp_path / "no folder" / "lock", 0):
        pass
