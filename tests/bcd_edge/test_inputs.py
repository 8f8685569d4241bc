"""Files, folders, globs and `-`: everything named is accounted for."""

from __future__ import annotations

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from bcd_edge.errors import InputError
from bcd_edge.inputs import Inputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "sub/c.tiff", "sub/deep/d.webp", "notes.txt", ".hidden.png", "odd[1].png"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    return tmp_path


def names(inputs: Inputs, root: Path) -> list[str]:
    return [os.path.relpath(name, root) for name, _ in inputs]


def errors(inputs: Inputs) -> list[str]:
    return [str(source) for _, source in inputs if isinstance(source, InputError)]


def test_a_folder_gives_its_images_sorted_and_counts_the_rest(folder: Path) -> None:
    inputs = Inputs([str(folder)])
    assert names(inputs, folder) == ["a.JPG", "b.png", "odd[1].png", "sub/c.tiff", "sub/deep/d.webp"]
    assert inputs.skipped == 2


def test_a_named_file_is_taken_whatever_its_name(folder: Path) -> None:
    assert names(Inputs([str(folder / "notes.txt"), str(folder / "none.png")]), folder) == ["notes.txt", "none.png"]


def test_a_file_without_a_suffix_is_taken_by_its_content(folder: Path) -> None:
    picture = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    for name, data in (("IMG0001", picture), ("sub/IMG0002", picture), ("README", b"no image"), ("scan.old", picture), (".IMG", picture)):
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe")
    inputs = Inputs([str(folder)])
    assert names(inputs, folder) == ["IMG0001", "a.JPG", "b.png", "odd[1].png", "sub/IMG0002", "sub/c.tiff", "sub/deep/d.webp"]
    assert (inputs.skipped, inputs.listed) == (6, 7)


def test_globs(folder: Path) -> None:
    assert names(Inputs([str(folder / "**" / "*.[tw]*")]), folder) == ["notes.txt", "sub/c.tiff", "sub/deep/d.webp"]
    assert names(Inputs([str(folder / "*.png")]), folder) == ["b.png", "odd[1].png"]
    assert names(Inputs([str(folder / "odd[1].png")]), folder) == ["odd[1].png"]
    assert "No file matches" in errors(Inputs([str(folder / "*.gif")]))[0]


def test_a_folder_loop_is_said_and_left(folder: Path) -> None:
    (folder / "sub" / "loop").symlink_to(folder)
    inputs = Inputs([str(folder)])
    assert len(list(inputs)) == 6
    assert "was read already" in errors(Inputs([str(folder)]))[0]


def test_a_link_to_itself_is_a_file_that_cannot_be_read(folder: Path) -> None:
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "self").symlink_to(folder / "self")
    inputs = Inputs([str(folder)])
    assert "self.png" in names(inputs, folder)
    assert inputs.skipped == 3


def test_the_same_folder_twice_is_read_twice(folder: Path) -> None:
    assert len(list(Inputs([str(folder), str(folder)]))) == 10


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    assert "contains no image" in errors(Inputs([str(tmp_path)]))[0]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="drops root's right to read everything, so it needs root")
def test_a_folder_without_permission(folder: Path) -> None:
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(0o755)
    (folder / "sub").chmod(0)
    os.seteuid(65534)
    try:
        assert "permission" in errors(Inputs([str(folder)]))[0]
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(("data", "expected"), [(b"png bytes", b"png bytes"), (b"", None)])
def test_a_dash_is_one_image_on_standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes, expected: bytes | None) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    ((name, source),) = Inputs(["-"])
    assert name == "-"
    assert source == expected if expected else isinstance(source, InputError)
