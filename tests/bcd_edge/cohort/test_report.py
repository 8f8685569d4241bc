from __future__ import annotations

import csv
import importlib.util
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from bcd_edge.cli import main
from bcd_edge.cohort import clinical, extract
from bcd_edge.cohort.dictionary import FEATURES, NAMES
from bcd_edge.cohort.montage import ends
from bcd_edge.cohort.report import Settings, analyse

pytest.importorskip("lifelines")
anndata = pytest.importorskip("anndata")
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
    for name in (*TABLES, "report.html", "reproduce.py"):
        assert (report / "reproduced" / name).read_bytes() == (report / name).read_bytes(), name


def test_features_serve_another_table_and_names_are_hidden(report: Path, tmp_path: Path) -> None:
    table = tmp_path / "other.csv"
    table.write_text("".join(["id,er,comment\n", *(f"P{number:02},{number % 2},Ms Smith {number}\n" for number in range(11)), "P99,1,\n"]))
    result = cohort(report / "features.parquet", "--clinical", table, "--key", "id", "--pseudonymise", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "not in the clinical table are left out, 1 in all" in result.output
    for name in ("report.html", *TABLES):
        assert not re.search(r"\bP\d\d\b|field\.png|Smith", (tmp_path / "out" / name).read_text()), name


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
    assert "P01" not in (tmp_path / "out" / "patients.csv").read_text(), "the folder of results shows hashes, so the report does"


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
    assert list(found.notes) == [
        "relapse: 1 against 0: focus goes with it, so the pictures were taken differently; what looks like biology may be that.",
        "p(malignant) and novelty are by a, the embedding by b.",
    ]


def test_ends_of_a_feature_are_of_different_patients(report: Path) -> None:
    low, high = ends(extract.read(report / "features.parquet"), "nuclei_count", 3)
    assert len({*low, *high}) == 6


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
