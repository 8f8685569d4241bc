"""A slide through the real model: its record, its files, and what happens when it is interrupted or cannot be read."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from bcd_edge import bundle
from bcd_edge.classifier import Classifier
from bcd_edge.errors import OutputError
from bcd_edge.readers import slide
from bcd_edge.records import Record
from bcd_edge.slides.classify import classify
from bcd_edge.slides.settings import SlideSettings
from bcd_edge.slides.tiles import TileFile
from bcd_edge.slides.tiling import grid
from bcd_edge.system.lock import exclusive
from benchmarks.slide_files import Drawn, write_dicom, write_ome, write_svs


@pytest.fixture(scope="module")
def done(svs: Path, classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Path]:
    out = tmp_path_factory.mktemp("out")
    return classify(classifier, svs, SlideSettings(out)), out / "biopsy"


def tiles(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "tiles.csv").read_text(encoding="utf-8").splitlines()))


def test_the_record_says_what_the_answer_is_made_of(done: tuple[Record, Path], svs: Path) -> None:
    record, folder = done
    assert (record.status, record.kind, record.decision, record.um_per_pixel) == ("ok", "slide", "review", 1.0)
    assert record.sha256 == hashlib.sha256(svs.read_bytes()).hexdigest()
    assert "no answer for a slide was validated" in record.reasons[0]
    summary = record.slide
    assert summary
    assert (summary.width, summary.height, summary.vendor, summary.field_um, summary.files) == (3072, 2048, "aperio", 200.0, str(folder))
    assert summary.tiles == summary.benign + summary.review + summary.malignant
    assert summary.tiles + summary.left_out == len(tiles(folder)) == 66
    assert Record.from_dict(json.loads(json.dumps(record.as_dict()))) == record


def test_tiles_have_the_answers_that_the_same_pixels_get_alone(done: tuple[Record, Path], svs: Path, classifier: Classifier) -> None:
    record, folder = done
    answered = [row for row in tiles(folder) if row["p_malignant"]][::9]
    with slide.open(svs) as opened:
        for row in answered:
            alone = classifier.classify(opened.read(0, int(row["x"]), int(row["y"]), 200, 200))
            assert (alone.decision, alone.p_malignant) == (row["decision"], pytest.approx(float(row["p_malignant"]), abs=1e-4))
    p = sorted(float(row["p_malignant"]) for row in tiles(folder) if row["p_malignant"])
    assert record.p_malignant == pytest.approx(np.mean(p[-25:]), abs=1e-6)


def test_files_to_look_at(done: tuple[Record, Path]) -> None:
    _, folder = done
    heatmap = cv2.imread(str(folder / "heatmap.png"))
    assert heatmap is not None
    assert heatmap.shape[1] == 1536
    layer = cv2.imread(str(folder / "tiles.png"), cv2.IMREAD_UNCHANGED)
    assert layer is not None
    assert layer.shape == (11, 16, 4)
    assert (layer[:, :6, 3] == 255).all()
    assert (layer[:, 6:, 3] == 0).all()
    content = json.loads((folder / "slide.js").read_text(encoding="utf-8").removeprefix("window.BCD_EDGE_SLIDE = ").rstrip(";\n"))
    page = content["page"]
    assert (page["width"], page["height"], len(content["tiles"])) == (3072, 2048, 66)
    for level in range(page["levels"]):
        width, height = (-(-page[side] // 2 ** (page["levels"] - 1 - level)) for side in ("width", "height"))
        files = {file.name for file in (folder / "pyramid" / str(level)).iterdir()}
        assert files == {f"{column}_{row}.jpg" for column in range(-(-width // 512)) for row in range(-(-height // 512))}
    assert {"index.html", "page.js", "page.css", "viewer.js", "regions.geojson"} <= {file.name for file in folder.iterdir()}


def test_an_interrupted_slide_goes_on_after_its_last_whole_row(done: tuple[Record, Path], svs: Path, classifier: Classifier, tmp_path: Path) -> None:
    record, folder = done
    shutil.copytree(folder, tmp_path / "biopsy")
    lines = (folder / "tiles.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "biopsy" / "tiles.csv").write_text("".join(lines[:40]) + lines[40][:12], encoding="utf-8")
    counts: list[tuple[int, int]] = []
    again = classify(classifier, svs, SlideSettings(tmp_path), progress=lambda done, total: counts.append((done, total)))
    assert counts[0] == (39, 66)
    assert counts[-1] == (66, 66)
    assert again.slide
    assert record.slide
    assert again.p_malignant == pytest.approx(record.p_malignant, abs=1e-4)
    assert replace(again.slide, files="") == replace(record.slide, files="")
    assert sorted((row["column"], row["row"]) for row in tiles(tmp_path / "biopsy")) == sorted((row["column"], row["row"]) for row in tiles(folder))


def test_other_settings_begin_anew(done: tuple[Record, Path], svs: Path, classifier: Classifier, tmp_path: Path) -> None:
    _, folder = done
    shutil.copytree(folder, tmp_path / "biopsy")
    record = classify(classifier, svs, SlideSettings(tmp_path, field_um=300.0))
    assert record.slide
    assert record.slide.field_um == 300.0
    assert {row["side"] for row in tiles(tmp_path / "biopsy")} == {"300"}


@pytest.mark.parametrize("text", ["", "column,row\n", "column,row,x,y,side,decision,p_malignant,novelty,left_out\none,two,,,,,,,\n"])
def test_a_file_of_tiles_that_somebody_edited_begins_anew(done: tuple[Record, Path], svs: Path, tmp_path: Path, text: str) -> None:
    _, folder = done
    shutil.copytree(folder, tmp_path / "biopsy")
    (tmp_path / "biopsy" / "tiles.csv").write_text(text, encoding="utf-8")
    with slide.open(svs) as opened:
        run = json.loads((folder / "run.json").read_bytes())
        with TileFile(tmp_path / "biopsy", run, grid(opened, 1.0, bundle.open())) as file:
            assert file.answers == {}
    assert tiles(tmp_path / "biopsy") == []


def test_two_slides_of_one_name_have_a_folder_each(classifier: Classifier, tmp_path: Path) -> None:
    drawn = Drawn(1024, 1024, ((0.0, 0.0, 1.0, 1.0),), downsamples=(1, 4))
    folders = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        record = classify(classifier, write_svs(tmp_path / name / "x.svs", drawn, 1.0, AppMag="10"), SlideSettings(tmp_path / "out"))
        assert record.slide
        folders.append(Path(record.slide.files).name)
    assert folders[0] == "x"
    assert folders[1].startswith("x-")


@pytest.mark.parametrize("kind", ["ome", "dicom"])
def test_twins_in_other_formats_get_the_same_answers(done: tuple[Record, Path], classifier: Classifier, tmp_path: Path, kind: str) -> None:
    _, folder = done
    drawn = Drawn(3072, 2048, ((0.0, 0.0, 0.34, 1.0),), downsamples=(1, 4))
    path = write_ome(tmp_path / "twin.ome.tif", drawn, 1.0) if kind == "ome" else write_dicom(tmp_path / "dicom", drawn, 1.0)
    with slide.open(path) as opened:
        assert opened.um_per_pixel == 1.0
    twin = classify(classifier, path, SlideSettings(tmp_path))
    assert twin.slide
    ours, theirs = ({(row["x"], row["y"]): row["p_malignant"] for row in tiles(place)} for place in (folder, Path(twin.slide.files)))
    assert ours.keys() == theirs.keys()
    assert all(float(theirs[place] or 0) == pytest.approx(float(p or 0), abs=0.01) for place, p in ours.items())


def test_a_folder_that_cannot_be_written_ends_the_run(svs: Path, classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"files of biopsy.svs could not be written into .*file \(Not a directory\)"):
        classify(classifier, svs, SlideSettings(tmp_path / "file"))


def test_one_process_classifies_a_slide(svs: Path, classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "biopsy").mkdir()
    with exclusive(tmp_path / "biopsy" / ".lock", 0.0):
        assert "is being classified into" in str(classify(classifier, svs, SlideSettings(tmp_path)).error)


def test_what_cannot_be_classified_has_a_sentence(classifier: Classifier, tmp_path: Path) -> None:
    glass = write_svs(tmp_path / "glass.svs", Drawn(1024, 1024, (), downsamples=(1, 4)), 1.0, AppMag="10")
    blurred = cv2.GaussianBlur(Drawn(1, 1)._picture(), (0, 0), 12)
    blur = write_svs(tmp_path / "blur.svs", Drawn(1024, 1024, ((0, 0, 1, 1),), np.asarray(blurred, np.uint8), (1, 4)), 1.0, AppMag="10")
    unknown = write_svs(tmp_path / "unknown.svs", Drawn(512, 512, downsamples=(1,)), None)
    cut = tmp_path / "cut.svs"
    cut.write_bytes(blur.read_bytes()[:-500])
    sentences = {path.stem: str(classify(classifier, path, SlideSettings(tmp_path / "out")).error) for path in (glass, blur, unknown, cut)}
    assert "No tissue was seen on the slide glass.svs" in sentences["glass"]
    assert "No tile of the slide blur.svs can be classified: out of focus" in sentences["blur"]
    assert "--um-per-pixel" in sentences["unknown"]
    assert "damaged or was cut" in sentences["cut"]
    assert classify(classifier, unknown, SlideSettings(tmp_path / "out", um_per_pixel=0.5)).error != sentences["unknown"]
