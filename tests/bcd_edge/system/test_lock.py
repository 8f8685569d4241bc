"""A lock between programs."""

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


def test_one_holds_it_and_it_is_free_again_when_that_one_is_killed(tmp_path: Path) -> None:
    told: list[str] = []
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "True\n"
        with exclusive(tmp_path / "lock", 0.3, lambda: told.append("waiting")) as held:
            assert not held
        other.kill()
    assert told == ["waiting"]
    with exclusive(tmp_path / "lock", 0.3, lambda: told.append("waiting")) as held:
        assert held
    assert told == ["waiting"]


def test_where_no_file_can_be_there_is_no_lock(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="unable to open"), exclusive(tmp_path / "no folder" / "lock", 0):
        pass
