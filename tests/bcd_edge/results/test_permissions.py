"""A group may read a folder of results, and nobody else: tried as other users."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

grp = pytest.importorskip("grp", reason="this system has no groups of users")
ROOT = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can act as other users")
READER, STRANGER = 65533, 65532


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where other users may pass through, unlike pytest's."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


def watch(images: Path, results: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bcd_edge", "watch", images, "--out", results, "--once", "--provider", "null", *options]
    return subprocess.run(command, capture_output=True, text=True)


def can_read(path: Path, user: int, groups: list[int]) -> bool:
    command = ["/bin/cat", path] if path.is_file() else ["/bin/ls", path]
    return subprocess.run(command, capture_output=True, user=user, group=user, extra_groups=groups).returncode == 0


@ROOT
def test_members_read_everything_but_the_journal(folder: Path, png: bytes) -> None:
    images, results, group = folder / "inbox", folder / "results", grp.getgrnam("users")
    images.mkdir()
    (images / "before.png").write_bytes(png)
    assert watch(images, results).returncode == 0
    assert not can_read(results, READER, [group.gr_gid])
    (images / "after.png").write_bytes(png + b"\0")
    completed = watch(images, results, "--group", group.gr_name)
    assert completed.returncode == 0, completed.stderr
    assert "can be entered by other users" not in completed.stderr
    shared = [path for path in (results, *results.rglob("*")) if not path.name.startswith("journal")]
    assert len([path for path in shared if path.suffix == ".json" and path.parent != results]) == 2
    assert [path for path in shared if not can_read(path, READER, [group.gr_gid])] == []
    assert [path for path in shared if can_read(path, STRANGER, [])] == []
    journal = list(results.glob("journal*"))
    assert journal
    assert [path for path in journal if can_read(path, READER, [group.gr_gid])] == []


def test_a_group_that_is_not_there_is_a_usage_error(folder: Path) -> None:
    (folder / "inbox").mkdir()
    completed = watch(folder / "inbox", folder / "results", "--group", "no-such-group")
    assert completed.returncode == 2
    assert "sudo groupadd no-such-group" in completed.stderr
    assert not (folder / "results").exists()


AS_READER = f"""
import os, sys
from pathlib import Path
from bcd_edge.errors import UsageError
from bcd_edge.results.permissions import share
import grp
os.setgroups([]), os.setgid({READER}), os.setuid({READER})
try:
    share(Path(sys.argv[1]), "users")
except UsageError as error:
    print(error)
"""


@ROOT
def test_a_group_that_the_account_is_not_in_is_a_usage_error(folder: Path) -> None:
    folder.chmod(0o777)
    completed = subprocess.run([sys.executable, "-c", AS_READER, folder / "results"], capture_output=True, text=True, check=True)
    assert "sudo install -d -o USER -g users -m 2750" in completed.stdout
