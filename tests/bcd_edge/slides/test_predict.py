"""`bcd-edge predict` with slides: exit codes, sentences, and a batch that goes on."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from bcd_edge.cli import main
from bcd_edge.synthetic import tissue
from benchmarks.slide_files import Drawn, write_dicom, write_svs

SMALL = Drawn(1024, 1024, ((0.0, 0.0, 1.0, 1.0),), downsamples=(1, 4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, slides, and what laboratories take for slides."""
    folder = tmp_path_factory.mktemp("scans")
    write_svs(folder / "b-good.svs", SMALL, 1.0, AppMag="10")
    write_svs(folder / "c-no-scale.svs", SMALL, None)
    write_svs(folder / "d-wrong-scale.svs", SMALL, 300.0)
    write_svs(folder / "e-glass.svs", Drawn(1024, 1024, (), downsamples=(1, 4)), 1.0, AppMag="10")
    (folder / "f-cut.svs").write_bytes((folder / "b-good.svs").read_bytes()[:-300])
    (folder / "g-no-folder.mrxs").write_bytes(b"\xff\xd8\xff\xe0")
    (folder / "h-macro-only.svs").write_bytes(cv2.imencode(".tif", tissue(1))[1].tobytes())
    for name in ("a.png", "i.png"):
        (folder / name).write_bytes(cv2.imencode(".png", tissue(5)[..., ::-1])[1].tobytes())
    return folder


SENTENCES = {
    "c-no-scale.svs": "is not known (the file does not tell it); give it with --um-per-pixel",
    "d-wrong-scale.svs": "the file gives 300 µm, which no scanner has",
    "e-glass.svs": "No tissue was seen",
    "f-cut.svs": "is damaged or was cut",
    "g-no-folder.mrxs": "lacks its folder g-no-folder",
    "h-macro-only.svs": "no level of tissue that can be read",
}


def test_a_folder_of_pictures_and_slides_goes_on_after_each_failure(folder: Path, tmp_path: Path) -> None:
    options = ["--provider", "null", "--format", "jsonl", "--slide-out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, ["predict", str(folder), *options])
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 1
    assert [Path(record["source"]).name for record in records] == ["a.png", "b-good.svs", *SENTENCES, "i.png"]
    assert {Path(record["source"]).name: record["kind"] for record in records if record["status"] == "ok"} == {
        **{"a.png": "image", "b-good.svs": "slide", "i.png": "image"},
    }
    for record in records:
        sentence = SENTENCES.get(Path(record["source"]).name, "")
        assert sentence in (record["error"] or ""), record["error"]
        assert (record["error"] or "").count("\n") == 0
    assert f"{len(SENTENCES)} inputs failed" in done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"b-good"}


def test_every_format_has_the_slide(folder: Path, tmp_path: Path) -> None:
    options = ["--provider", "null", "--slide-out", str(tmp_path), "--format"]
    rows = list(csv.DictReader(CliRunner().invoke(main, ["predict", str(folder / "b-good.svs"), *options, "csv"]).stdout.splitlines()))
    assert (rows[0]["kind"], rows[0]["decision"], rows[0]["slide.tiles"], rows[0]["slide.vendor"]) == ("slide", "review", "36", "aperio")
    table = CliRunner().invoke(main, ["predict", str(folder / "b-good.svs"), *options, "table"])
    assert table.exit_code == 0
    assert "review" in table.stdout
    assert "left out; open " in table.stdout


def test_the_pixel_size_can_be_given(folder: Path, tmp_path: Path) -> None:
    paths = [str(folder / "c-no-scale.svs"), str(folder / "d-wrong-scale.svs")]
    done = CliRunner().invoke(main, ["predict", *paths, "--provider", "null", "--mpp", "1", "--format", "jsonl", "--slide-out", str(tmp_path)])
    assert [json.loads(line)["um_per_pixel"] for line in done.stdout.splitlines()] == [1.0, 1.0]


@pytest.mark.parametrize(("option", "value"), [("--field-um", "5"), ("--overlap", "0.9"), ("--mpp", "0")])
def test_impossible_options_are_usage_errors(folder: Path, tmp_path: Path, option: str, value: str) -> None:
    done = CliRunner().invoke(main, ["predict", str(folder / "b-good.svs"), option, value, "--provider", "null", "--slide-out", str(tmp_path)])
    assert done.exit_code == 2
    assert option in done.stderr


def test_a_dicom_slide_is_one_slide_however_many_files_it_has(tmp_path: Path) -> None:
    first = write_dicom(tmp_path / "dicom", SMALL, 1.0)
    options = ["--provider", "null", "--format", "jsonl", "--slide-out", str(tmp_path / "out")]
    for asked in (first.parent, first):
        records = [json.loads(line) for line in CliRunner().invoke(main, ["predict", str(asked), *options]).stdout.splitlines()]
        assert [(Path(record["source"]).name, record["kind"], record["slide"]["vendor"]) for record in records] == [("level0.dcm", "slide", "dicom")]


def test_an_interrupted_process_is_resumed(tmp_path: Path) -> None:
    """Ctrl-C in the middle: what was answered stays, and the next run does only the rest."""
    path = write_svs(tmp_path / "long.svs", Drawn(3072, 2048, ((0.0, 0.0, 1.0, 1.0),), downsamples=(1, 4)), 1.0, AppMag="10")
    command = [sys.executable, "-m", "bcd_edge", "predict", str(path), "--slide-out", str(tmp_path), "--quiet", "--provider", "null"]
    process = subprocess.Popen([*command, "--provider-option", "delay=50ms"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tiles = tmp_path / "long" / "tiles.csv"
    while not (tiles.exists() and tiles.read_text(encoding="utf-8").count("\n") > 60):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = tiles.read_text(encoding="utf-8").splitlines()[:61]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = tiles.read_text(encoding="utf-8").splitlines()
    assert after[:61] == before
    assert len(after) == len(set(after)) == 1 + 16 * 11


def test_without_the_extra_a_sentence_says_what_to_install(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None if name == "openslide" else find(name, package))
    done = CliRunner().invoke(main, ["predict", str(folder / "b-good.svs"), "--provider", "null", "--slide-out", str(tmp_path)])
    assert done.exit_code == 1
    assert 'b-good.svs is a whole slide, and what reads them is not installed; fix: pip install "bcd-edge[slide]"' in " ".join(done.stdout.split())
