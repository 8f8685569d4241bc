"""What belongs to a system or a storage device is left alone by classification, watching and training alike."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from bcd_edge.inputs import Inputs
from bcd_edge.system.folders import SYSTEM_FOLDERS, is_ignored
from bcd_edge.watch.scanner import is_wanted

OWNED = ["@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX", ".Trash-1000", ".git"]


@pytest.mark.parametrize("folder", OWNED)
def test_predict_watch_and_train_leave_it_alone(tmp_path: Path, folder: str) -> None:
    from train.data import sources

    picture = cv2.imencode(".png", np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8))[1].tobytes()
    for path in ("benign/P1/a.png", f"benign/P1/{folder}/b.png", f"{folder}/benign/P2/c.png"):
        (tmp_path / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / path).write_bytes(picture)
    images = tmp_path / "images"
    assert [name for name, _ in Inputs([str(images)])] == [str(images / "benign/P1/a.png")]
    assert [name for name, _ in Inputs([f"{images}/**/*.png"])] == [str(images / "benign/P1/a.png")]
    assert [path.relative_to(images).as_posix() for path in images.rglob("*.png") if is_wanted(path.relative_to(images).as_posix(), (), ())] == [
        "benign/P1/a.png"
    ]
    assert [item.name for item in sources.read(str(images))] == ["benign/P1/a.png"]
    shutil.make_archive(str(tmp_path / "packed"), "zip", images)
    assert [item.name for item in sources.read(str(tmp_path / "packed.zip"))] == ["benign/P1/a.png"]


def test_names_are_compared_in_any_case_and_whole() -> None:
    for folder in SYSTEM_FOLDERS:
        assert is_ignored(f"a/{folder.upper()}/b.png")
        assert not is_ignored(f"a/{folder} of mine/b.png")
    for path in ("./a.png", "../a.png", "a/b.png", "x.y/z.png"):
        assert not is_ignored(path)


def test_what_is_named_directly_is_taken(tmp_path: Path) -> None:
    (tmp_path / "@eaDir").mkdir()
    (tmp_path / "@eaDir" / "a.png").write_bytes(b"x")
    assert len(list(Inputs([str(tmp_path / "@eaDir" / "a.png")]))) == 1
    assert len(list(Inputs([str(tmp_path / "@eaDir")]))) == 1
