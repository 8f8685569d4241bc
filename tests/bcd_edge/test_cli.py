"""The command as a person types it: real processes, exit codes, streams."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from bcd_edge import plugins
from bcd_edge.cli import main

Changed = Callable[..., Path]


def run(*arguments: str | Path, stdin: bytes = b"", **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "bcd_edge", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, **options)  # type: ignore[call-overload]
    assert b"Traceback" not in done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path, png: bytes) -> Path:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for name in ("a.png", "b.png"):
        (inbox / name).write_bytes(png)
    return inbox


def test_all_fine_is_0(folder: Path) -> None:
    done = run("predict", folder)
    assert done.returncode == 0
    assert b"2 images" in done.stdout
    assert done.stderr == b""


def test_a_failed_input_is_1_and_the_batch_goes_on(folder: Path) -> None:
    (folder / "aa.png").write_bytes(b"")
    done = run("predict", folder, folder / "none.png", "--format", "jsonl")
    assert done.returncode == 1
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["ok", "failed", "ok", "failed"]
    assert b"2 inputs failed" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["predict"], ["predict", "x", "--threshold", "2"], ["predict", "x", "--format", "xml"], ["predict", "x", "--provider", "abacus"], ["nonsense"]],
)
def test_usage_is_2(arguments: list[str]) -> None:
    assert run(*arguments).returncode == 2


def test_a_refused_bundle_is_3(folder: Path, changed: Changed) -> None:
    done = run("predict", folder, "--bundle", changed(lambda manifest: manifest.update(schema=9)))
    assert done.returncode == 3
    assert b"schema 9" in done.stderr
    assert done.stdout == b""


def test_no_engine_is_4_and_says_which_line_to_type(folder: Path) -> None:
    script = "import sys; sys.modules['onnxruntime'] = None; from bcd_edge.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script, "predict", str(folder), "--provider", "cpu"], capture_output=True)
    assert done.returncode == 4
    assert b'pip install "bcd-edge[cpu]"' in done.stderr
    assert b"Traceback" not in done.stderr


def test_openvino_that_is_missing_is_4_too(folder: Path, changed: Changed) -> None:
    bundle = changed(lambda manifest: manifest["variants"][0].pop("providers", None))
    script = "import sys; sys.modules['openvino'] = None; from bcd_edge.cli import main; main()"
    command = [sys.executable, "-c", script, "predict", str(folder), "--provider", "openvino", "--bundle", str(bundle)]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 4
    assert b'pip install "bcd-edge[openvino]"' in done.stderr


def test_a_refused_variant_warns_on_every_start_and_the_table_is_the_same(folder: Path, changed: Changed) -> None:
    gate = {"refused": ["int8 lost 0.0123 AUROC", "int8 lost \x1b[31m sensitivity"]}
    done = run("predict", folder, "--bundle", changed(lambda manifest: manifest["variants"][0].update(gate=gate)))
    assert done.returncode == 0
    warnings = done.stderr.decode().splitlines()
    assert len(warnings) == 2
    assert all(line.startswith("warning: ") and "for research only" in line for line in warnings)
    assert b"\x1b" not in done.stderr
    assert b"warning" not in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a full disk in a file")
@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
def test_a_full_disk_is_5(folder: Path, form: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-m", "bcd_edge", "predict", str(folder), "--format", form], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 5
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_reader_that_leaves_is_no_error(folder: Path) -> None:
    shell = f"{sys.executable} -m bcd_edge predict {folder} {folder} {folder} --format jsonl | head -n 1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == b""


def test_standard_input_is_one_image(png: bytes) -> None:
    done = run("predict", "-", "--format", "csv", stdin=png)
    (row,) = csv.DictReader(io.StringIO(done.stdout.decode()))
    assert (row["source"], row["status"]) == ("-", "ok")
    assert run("predict", "-").returncode == 1


def test_what_was_left_out_of_a_folder_is_counted(folder: Path) -> None:
    (folder / "notes.txt").write_text("x")
    assert b"because they are hidden or no images: 1." in run("predict", folder).stderr


@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
def test_a_name_the_terminal_cannot_show_is_escaped(folder: Path, form: str) -> None:
    (folder / "grün-\u6771.png").write_bytes(b"")
    (folder / os.fsdecode(b"\xff.png")).write_bytes(b"")
    done = run("predict", folder, "--format", form, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1
    assert b"6771" in done.stdout


def test_samples_can_be_classified(tmp_path: Path) -> None:
    done = run("samples", tmp_path / "samples")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 4
    assert run("predict", tmp_path / "samples").returncode == 0
    assert run("samples", "/proc/nowhere").returncode == 5


def test_every_command_has_help_and_an_exit_code_is_documented() -> None:
    for name in plugins.names("bcd_edge.cli"):
        output = CliRunner().invoke(main, [name, "--help"])
        assert output.exit_code == 0
        assert "Usage: " in output.output
    assert "3 bundle refused" in " ".join(CliRunner().invoke(main, ["predict", "--help"]).output.split())


def test_importing_the_package_loads_no_engine_and_no_opencv() -> None:
    script = "import bcd_edge, bcd_edge.cli, sys; print(sorted({'cv2', 'numpy', 'onnxruntime', 'skimage', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
