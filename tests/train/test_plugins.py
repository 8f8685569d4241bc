"""A file in the folder of a kind is all that a network or a collection needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = '''"""Every image is benign."""
from train.data.sources import Item, files
NOTE = "Invented."
def recognises(path, names):
    return False
def read(path, labels):
    for name, data in files(path):
        yield Item("invented", str(name), data, False, name.stem)
'''


def train(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "train", *arguments]
    return subprocess.run(command, cwd=tree, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def test_a_file_in_its_folder_is_a_network_or_a_collection_and_help_names_it(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "train", tmp_path / "train", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests" / "networks" / "tiny.py", tmp_path / "train" / "networks" / "invented_network.py")
    (tmp_path / "train" / "data" / "sources" / "invented.py").write_text(SOURCE)
    helped = train(tmp_path, "fit", "--help").stdout
    assert "invented_network" in helped
    assert "invented," in helped
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"damaged")
    assert "all images of invented are benign" in " ".join(train(tmp_path, "data", "invented=images").stdout.split())
