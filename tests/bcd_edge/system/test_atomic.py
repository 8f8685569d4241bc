"""A file is written completely or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bcd_edge.system.atomic import atomic_write


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    for content in (b"before", b"after"):
        atomic_write(tmp_path / "a.json", content)
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.json", content)]


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"before")
    (tmp_path / f".{os.getpid()}.a.json.part").mkdir()  # in the way of the new one, as a full disk is
    with pytest.raises(OSError):
        atomic_write(path, b"after")
    assert path.read_bytes() == b"before"
