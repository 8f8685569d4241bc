from __future__ import annotations

import csv
import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from bcd_edge.cli import main
from bcd_edge.cohort import clinical, extract
from bcd_edge.cohort.dictionary import FEATURES, NAMES
from bcd_edge.cohort.montage import ends
from bcd_edge.cohort.report import UNFINISHED, Settings, analyse

pytest.importorskip("lifelines")
anndata = pytest.importorskip("anndata")
pytest.importorskip("resvg_py")
TABLES = ("associations.csv", "patients.csv", "slides.csv", "features.csv", "clinical.csv", "dictionary.csv")


def cohort(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["cohort", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def report(drawn: Path) -> Path:
    out = drawn / "report"
    result = cohort(
        *(drawn / "images", "--patients", "folder", "--um-per-pixel", 0.5, "--provider", "cpu"),
        *("--clinical", drawn / "clinical.csv", "--time", "months", "--event", "died", "--out", out),
    )
    assert result.exit_code == 0, result.output
    assert "12 patients, 12 pictures" in result.output
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_was_drawn_is_found(report: Path) -> None:
    found = {(row["outcome"], row["feature"]): row for row in rows(report / "associations.csv")}
    row = found["relapse: yes against no", "nuclei_count"]
    assert (float(row["effect"]), row["patients"], row["cases"]) == (1, "12", "6")
    assert float(row["q"]) >= float(row["p"])
    assert {outcome for outcome, _ in found} == {"died by months", "relapse: yes against no", "grade", "age"}


def test_every_picture_has_its_features_with_unit_and_definition(report: Path) -> None:
    table = extract.read(report / "features.parquet")
    assert table["picture"].to_pylist() == [f"P{number:02}/field.png" for number in range(12)]
    assert not np.isnan(extract.matrix(table, ["nuclei_count", "p_malignant", "embedding_pc1", "focus"])).any()
    schema = pq.read_schema(report / "features.parquet")
    for feature in FEATURES:
        assert schema.field(feature.name).metadata[b"unit"].decode() == feature.unit
    assert [row["name"] for row in rows(report / "dictionary.csv")] == list(NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = anndata.read_h5ad(report / "cohort.h5ad")
    assert data.shape == (12, len(NAMES))
    assert data.obsm["X_pca"].shape == (12, 2)
    assert list(data.obs["clinical: relapse"][:2]) == ["no", "yes"]


def test_the_page_needs_nothing_else(report: Path) -> None:
    page = (report / "report.html").read_text()
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', page) == []
    assert "http" not in page
    assert page.count("data-picture=") == 12
    for words in ("12 patients, 12 pictures", "site: not compared, it has one value", "least effect", "relapse: yes against no: AUROC", "log-rank p"):
        assert words in page


def test_it_is_made_again_from_its_parquet(report: Path) -> None:
    runpy.run_path(str(report / "reproduce.py"), run_name="__main__")
    again = report / "reproduced"
    names = {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
    assert names == {path.relative_to(report) for path in report.rglob("*") if path.is_file() and again not in path.parents}
    for name in names:
        assert (again / name).read_bytes() == (report / name).read_bytes(), name


def test_every_figure_is_a_file_too(report: Path) -> None:
    names = sorted(path.stem for path in (report / "figures").glob("*.svg"))
    assert len(names) == 4 * 5 + 1, "of four outcomes the effects and two features with the pictures at their ends, and the map"
    assert {"1-died-by-months-effects", "2-relapse-yes-against-no-effects", "map-pca"} <= {*names}
    by_grade = [path.read_text() for path in (report / "figures").glob("3-grade-*.svg") if not path.stem.endswith(("-ends", "-effects"))]
    assert [">2 (4)<" in figure for figure in by_grade] == [True, True], "patients by grade"
    for name in names:
        svg = ElementTree.parse(report / "figures" / f"{name}.svg").getroot()
        assert svg.tag == "{http://www.w3.org/2000/svg}svg"
        height, width = cv2.imread(str(report / "figures" / f"{name}.png")).shape[:2]
        zoom = 1 if name.endswith("-ends") else 2
        assert (width, height) == tuple(zoom * int(side) for side in svg.attrib["viewBox"].split()[2:])


def test_features_serve_another_table_and_names_are_hidden(report: Path, tmp_path: Path) -> None:
    table = tmp_path / "other.csv"
    table.write_text("".join(["id,er,comment\n", *(f"P{number:02},{number % 2},Ms Smith {number}\n" for number in range(11)), "P99,1,\n"]))
    result = cohort(report / "features.parquet", "--clinical", table, "--key", "id", "--pseudonymise", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "not in the clinical table are left out, 1 in all" in result.output
    for name in ("report.html", "reproduce.py", *TABLES):
        assert not re.search(r"\bP\d\d\b|field\.png|Smith", (tmp_path / "out" / name).read_text()), name
    runpy.run_path(str(tmp_path / "out" / "reproduce.py"), run_name="__main__")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "no picture, 1 in all" in page
    assert (tmp_path / "out" / "reproduced" / "report.html").read_text() == page, "it says what was left out, which its tables do not show"


def test_a_folder_of_results_and_an_archive_give_the_same(drawn: Path, report: Path, tmp_path: Path) -> None:
    scale = ("--um-per-pixel", "0.5", "--provider", "cpu")
    runner = CliRunner()
    images = str(drawn / "images")
    assert runner.invoke(main, ["watch", images, "--out", str(tmp_path / "results"), "--once", "--patients", "folder", *scale]).exit_code == 0
    assert runner.invoke(main, ["archive", images, "--out", str(tmp_path / "archive"), "--patients", r"/(?P<patient>P\d+)/", *scale]).exit_code == 0
    expected = rows(report / "patients.csv")
    for source in ("results", "archive"):
        out = tmp_path / f"report-{source}"
        assert cohort(tmp_path / source, "--clinical", drawn / "clinical.csv", "--provider", "cpu", "--out", out).exit_code == 0
        assert rows(out / "patients.csv") == expected


def test_pictures_that_are_gone_are_counted(drawn: Path, tmp_path: Path) -> None:
    inbox, results = tmp_path / "inbox", tmp_path / "results"
    shutil.copytree(drawn / "images", inbox)
    watch = ["watch", str(inbox), "--out", str(results), "--once", "--patients", "folder", "--pseudonymise", "--provider", "cpu"]
    assert CliRunner().invoke(main, watch).exit_code == 0
    moved = inbox.rename(tmp_path / "moved")
    (moved / "P03" / "field.png").unlink()
    arguments = (results, "--clinical", drawn / "clinical.csv", "--provider", "cpu", "--out", tmp_path / "out")
    gone = cohort(*arguments)
    assert (gone.exit_code, "12: The picture was moved or deleted" in gone.output) == (2, True), gone.output
    result = cohort(*arguments, "--inbox", moved)
    assert (result.exit_code, "1 picture left out" in result.output) == (1, True), result.output
    assert "11 patients, 11 pictures" in result.output
    for name in ("patients.csv", "report.html", "reproduce.py"):
        assert not re.search(r"\bP\d\d\b", (tmp_path / "out" / name).read_text()), "the folder of results shows hashes, so the report does"


def test_a_file_that_is_damaged_or_has_an_odd_name(drawn: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(drawn / "images", images)
    (images / "P03" / "field.png").write_bytes(b"")
    (images / "P04" / "field.png").rename(images / "P04" / os.fsdecode(b"\xff.png"))
    for extra, names in (("--quiet", r"\(P03/field.png\)"), ("--pseudonymise", "$")):
        out = tmp_path / extra
        arguments = (images, "--patients", "folder", "--um-per-pixel", 0.5, "--provider", "cpu", "--clinical", drawn / "clinical.csv")
        result = cohort(*arguments, "--out", out, extra)
        assert result.exit_code == 1, result.output
        assert re.search(rf"^1 picture left out: the file is empty \(0 bytes\) ?{names}", result.output, re.MULTILINE), result.output
        assert len(rows(out / "features.csv")) == 11


def test_a_missing_package_is_said(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "lifelines" else find(name, *more))
    result = cohort(drawn / "images", "--clinical", drawn / "clinical.csv", "--out", tmp_path / "out")
    assert (result.exit_code, 'pip install "bcd-edge[research]"' in result.output) == (4, True)


def test_the_command_s_modules_load_no_statistics_until_they_are_used() -> None:
    script = "import sys; from bcd_edge.cli import cohort; from bcd_edge.cohort import report; print({'pandas', 'lifelines'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_pictures_that_were_taken_differently_are_a_warning(tmp_path: Path) -> None:
    patients = [f"P{number:02}" for number in range(20)]
    table = tmp_path / "clinical.csv"
    table.write_text("".join(["patient,relapse\n", *(f"{name},{number % 2}\n" for number, name in enumerate(patients))]))
    nothing = dict.fromkeys(NAMES) | {"embedding": None, "thumbnail": b"", "slide": None, "sha256": "", "bundle": "a", "embedding_bundle": "b"}
    rows = [nothing | {"picture": "x", "patient": name, "focus": number % 2 + number / 100} for number, name in enumerate(patients)]
    found = analyse(extract.table_of(rows), clinical.read(table), Settings())
    assert [(row.feature, row.is_found) for row in found.associations] == [("focus", True)]
    assert list(found.warnings) == [
        "relapse: 1 against 0: Sharpness goes with it, so the pictures were taken differently; what looks like biology may be that.",
        "p(malignant) and novelty are by a, the embedding by b.",
    ]


def test_ends_of_a_feature_are_of_different_patients(report: Path) -> None:
    low, high = ends(extract.read(report / "features.parquet"), "nuclei_count", 3)
    assert len({*low, *high}) == 6


def test_columns_are_taken_for_what_the_patients_with_pictures_have(report: Path, tmp_path: Path) -> None:
    table = tmp_path / "clinical.csv"
    table.write_text("".join(["patient,type\n", *(f"P{number:02},{'abc'[number % 2 if number < 12 else 2]}\n" for number in range(20))]))
    assert cohort(report / "features.parquet", "--clinical", table, "--out", tmp_path / "out").exit_code == 0
    assert {row["outcome"] for row in rows(tmp_path / "out" / "associations.csv")} == {"type: b against a"}


def test_an_earlier_report_is_replaced_whole_or_not_at_all(drawn: Path, report: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = (report / "features.parquet", "--clinical", drawn / "clinical.csv", "--out", out)
    (out / UNFINISHED).mkdir(parents=True)
    (out / UNFINISHED / "features.csv").write_text("of a run that was killed")
    assert cohort(*first).exit_code == 0
    before = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert not (out / UNFINISHED).exists()
    assert cohort(*first, "--key", "comment").exit_code == 2
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert cohort(*first, "--column", "relapse=ignore", "--column", "grade=ignore").exit_code == 0
    assert [path.name for path in (out / "figures").glob("*relapse*")] == []


def test_a_folder_with_other_files_is_left_alone(drawn: Path, report: Path, tmp_path: Path) -> None:
    table = shutil.copy(drawn / "clinical.csv", tmp_path)
    before = Path(table).read_bytes()
    result = cohort(report / "features.parquet", "--clinical", table, "--out", tmp_path)
    assert (result.exit_code, "has files that are no report's" in result.output) == (2, True), result.output
    assert Path(table).read_bytes() == before


def test_mistakes_are_said(drawn: Path, report: Path, tmp_path: Path) -> None:
    table = ("--clinical", drawn / "clinical.csv", "--out", tmp_path / "out")
    for arguments, code, words in (
        ((tmp_path / "no", *table), 2, "does not exist; give a folder of results"),
        ((drawn / "images", *table), 2, "say with --patients"),
        ((drawn / "clinical.csv", *table), 2, "No picture could be measured"),
        ((report / "associations.parquet", *table), 2, "has no column picture"),
        ((report / "features.parquet", *table, "--column", "grade=many"), 2, "'many' is no kind of column"),
        ((report / "features.parquet", *table, "--key", "site"), 2, "No patient of the pictures"),
    ):
        result = cohort(*arguments)
        assert (result.exit_code, words in result.output) == (code, True), result.output
    assert not (tmp_path / "out").exists()
