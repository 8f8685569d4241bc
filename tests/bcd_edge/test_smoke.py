"""What proves an installed wheel, in seconds: complete, without PyTorch, every command there, pictures classified and watched.

`make wheel-test` runs this file alone, away from the source tree, in an environment with the wheel.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bcd_edge.cli import main
from bcd_edge.cytology.classifier import TableClassifier

IMPORT_ALL = """
import importlib, pkgutil, sys, bcd_edge
for module in pkgutil.walk_packages(bcd_edge.__path__, "bcd_edge."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name not in ("pyarrow", "ray"):  # of the extras for archives; its command says which to install
                raise
forbidden = ("torch", "torchvision", "onnx", "sklearn", "matplotlib", "train", "export", "benchmarks", "deploy")
print(sorted(set(forbidden) & set(sys.modules)))
"""


def run(*arguments: str | Path) -> str:
    """Standard output of `bcd-edge`, which must succeed."""
    completed = subprocess.run([sys.executable, "-m", "bcd_edge", *arguments], capture_output=True, text=True)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    run("samples", folder)
    return folder


def test_every_module_imports_without_torch_or_the_other_stages(tmp_path: Path) -> None:
    printed = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=True).stdout
    assert printed == "[]\n"


def test_every_command_shows_its_help() -> None:
    listed = main.list_commands(click.Context(main))
    assert {"predict", "explain", "watch", "benchmark", "bundle", "doctor"} <= set(listed)
    for name in listed:
        done = CliRunner().invoke(main, [name, "--help"], catch_exceptions=False)
        assert done.exit_code == 0, done.output


def test_the_types_and_the_licence_are_in_the_package() -> None:
    assert resources.files("bcd_edge").joinpath("py.typed").is_file()
    assert metadata.metadata("bcd-edge")["License-Expression"] == "Apache-2.0"


def test_pictures_are_classified(images: Path) -> None:
    rows = list(csv.DictReader(run("predict", images, "--format", "csv", "--provider", "cpu").splitlines()))
    assert [row["status"] for row in rows] == ["ok"] * 4


def test_rows_of_a_table_are_classified(tmp_path: Path) -> None:
    features = TableClassifier.load().features
    table = tmp_path / "table.csv"
    table.write_text(",".join(feature.name for feature in features) + "\n" + ",".join("1" for _ in features) + "\n")
    assert json.loads(run("cytology", table, "--format", "jsonl"))["decision"] == "benign"


def test_a_folder_is_watched_once(images: Path, tmp_path: Path) -> None:
    run("watch", images, "--out", tmp_path / "results", "--once", "--provider", "cpu")
    assert json.loads(run("watch", "report", tmp_path / "results", "--json"))
    assert "4 " in run("watch", "verify", tmp_path / "results")
    assert (tmp_path / "results" / "summary.html").is_file()


def test_the_embedded_bundle_answers_as_its_exporter_did() -> None:
    assert "model.int8.onnx" in run("bundle", "selftest", "--provider", "cpu")
