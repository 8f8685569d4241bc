"""A file in its folder is a plug-in: the command line knows it, and no other file has to be changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    "bcd_edge/backends/providers/grey.py": """
from bcd_edge.backends import Availability
from bcd_edge.backends.fake import FakeBackend
REQUIRES, RANK, OPTIONS, RUNS_MODEL = (), 1, {}, False
def is_available(): return Availability(True)
def runs_on_cpu(device): return True
def open(model, options, cache=None): return FakeBackend(provider="grey")
""",
    "bcd_edge/explain/explainers/leave_one_out.py": """
from bcd_edge.explain.explainers.occlusion import explain
ALIASES = ("loo",)
""",
    "bcd_edge/outputs/formats/names.py": """
class Names:
    def __init__(self, stream): self.stream = stream
    def write(self, record): print(record.source, record.execution.provider, file=self.stream)
    def close(self): pass
def open(stream): return Names(stream)
""",
    "bcd_edge/cli/greet.py": """
import click
@click.command()
def command(): "Greet the user."
""",
    "bcd_edge/readers/codecs/ppm.py": """
import numpy as np
def matches(data): return data.startswith(b"P6 2 2 255 ")
def decode(data): return np.frombuffer(data[-12:], np.uint8).reshape(2, 2, 3)
""",
    "train/networks/tiny.py": "",
    "train/data/sources/slides_of_ours.py": "",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages, as links in folders of their own, and a plug-in of each kind."""
    root = tmp_path_factory.mktemp("tree")
    for package in ("bcd_edge", "train", "export"):
        shutil.copytree(ROOT / package, root / package, copy_function=os.symlink, ignore=shutil.ignore_patterns("__pycache__", "models"))
    (root / "bcd_edge/models").symlink_to(ROOT / "bcd_edge/models")
    for file, content in FILES.items():
        (root / file).write_text(content)
    (root / "image.ppm").write_bytes(b"P6 2 2 255 " + bytes(range(0, 240, 20)))
    return root


def run(tree: Path, module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)}, stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("names", "command"),
    [
        (["greet", "Greet the user"], ["bcd_edge", "--help"]),
        (["|grey|", "|names|"], ["bcd_edge", "predict", "--help"]),
        (["|leave_one_out|"], ["bcd_edge", "explain", "--help"]),
        (["|tiny]", "slides_of_ours"], ["train", "fit", "--help"]),
    ],
)
def test_help_lists_it(tree: Path, names: list[str], command: list[str]) -> None:
    output = "".join(run(tree, *command).split())
    assert [name for name in names if "".join(name.split()) not in output] == []


def test_it_runs(tree: Path) -> None:
    assert run(tree, "bcd_edge", "predict", "image.ppm", "--format", "names") == "image.ppm grey\n", "the provider of lowest rank runs"
    run(tree, "bcd_edge", "explain", "image.ppm", "--explainer", "loo")
    assert '"explainer": "occlusion"' in next((tree / "explanations").glob("image-*.json")).read_text()
