"""`bcd-edge monitor`, on a clinic whose patients, readers and scanner are simulated."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bcd_edge.classifier import Classifier
from bcd_edge.cli import main
from bcd_edge.records import Quality, Record
from bcd_edge.results import reviews, worklist
from bcd_edge.results.clock import Clock
from bcd_edge.results.folder import Results
from bcd_edge.results.worklist import Filter

PATIENTS, CHANGED = 120, 80  # the scanner changes at patient `CHANGED`


class Clinic:
    """A folder of results, made answer by answer."""

    def __init__(self, root: Path, classifier: Classifier, base: Record) -> None:
        self.root, self.classifier, self.base = root, classifier, base
        self.now = datetime(2026, 3, 2, 8, tzinfo=timezone.utc)
        self.malignant: dict[str, bool] = {}

    def open(self) -> Results:
        results = Results.open(self.root, clock=Clock(wall=lambda: self.now))
        results.use(self.classifier.bundle, self.classifier.rule)
        return results

    def answer(self, results: Results, random: np.random.Generator, patient: int, *, malignant: bool, changed: bool) -> None:
        p = float(1 / (1 + np.exp(-random.normal(2 if malignant else -3.5, 1.5))))
        prediction = self.classifier.rule.predict(p)
        focus, exposure, contrast, tissue = map(float, random.random(4))
        quality = Quality(focus, exposure, contrast, tissue, float(random.normal(0.6 if changed else 0.9, 0.05)), ())
        sha256 = f"{len(self.malignant):064x}"
        answered = {"sha256": sha256, "p_malignant": p, "label": prediction.label, "decision": prediction.decision, "quality": quality}
        results.commit(f"{patient}/{sha256[-4:]}.png", replace(self.base, novelty=float(random.random()), **answered), patient=f"P{patient}")
        self.malignant[sha256] = malignant


@pytest.fixture(scope="session")
def base(classifier: Classifier) -> Record:
    import cv2

    picture = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[1].tobytes()
    return classifier.classify(picture, name="base.png")


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory, classifier: Classifier, base: Record) -> Clinic:
    made = Clinic(tmp_path_factory.mktemp("clinic") / "results", classifier, base)
    random = np.random.default_rng(0)
    with made.open() as results, results.journal.transaction():
        worklist.change_audit_share(results.journal, 0.5)
        for patient in range(PATIENTS):
            made.now += timedelta(hours=12)
            malignant = bool(random.random() < 0.5)
            for _ in range(random.integers(1, 7)):
                made.answer(results, random, patient, malignant=malignant, changed=patient >= CHANGED)
        for case in worklist.cases(results.journal.connection, Filter(), limit=-1):
            reviews.add(results, case.sha256, "malignant" if made.malignant[case.sha256] else "benign", reader="Dr A")
    return made


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["monitor", *map(str, arguments)])


def plain(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--format", "json")
    content: dict[str, Any] = json.loads(result.output)
    return content


def test_accuracy_is_that_of_all_answers(clinic: Clinic) -> None:
    report = plain(clinic.root)
    with clinic.open() as results:
        rows = results.journal.connection.execute("SELECT sha256, p_malignant, decision FROM images").fetchall()
    malignant = np.array([clinic.malignant[row[0]] for row in rows])
    called = np.array([row[1] >= clinic.classifier.rule.threshold for row in rows])
    missed = np.array([row[2] == "benign" for row in rows])
    figures = {figure["name"]: figure["here"] for figure in report["figures"]}
    for name, value in {
        "sensitivity": called[malignant].mean(),
        "specificity": (~called)[~malignant].mean(),
        "miss_rate": missed[malignant].mean(),
        "review": np.mean([row[2] == "review" for row in rows]),
        "p_malignant": np.mean([row[1] for row in rows]),
    }.items():
        assert figures[name]["low"] <= value <= figures[name]["high"], name
    assert report["pictures"] == len(rows)
    assert [sum(stratum[key] for stratum in report["strata"]) for key in ("pictures", "sampled")] == [
        len(rows),
        sum(stratum["labelled"] for stratum in report["strata"]),
    ]


def test_the_bundles_own_figures_stand_beside(clinic: Clinic) -> None:
    figures = {figure["name"]: figure["reference"] for figure in plain(clinic.root)["figures"]}
    manifest = clinic.classifier.bundle.manifest
    tested = manifest["variants"][0]["test"]["breakhis"]
    assert figures["sensitivity"]["breakhis"] == pytest.approx(tested["metrics"]["sensitivity"]["value"], rel=1e-5)
    assert figures["review"]["breakhis"] == pytest.approx(tested["review"] / tested["images"], rel=1e-5)
    assert figures["novel"] == {}
    notes = " ".join(plain(clinic.root)["notes"])
    assert ("mean probability" in notes) == (not figures["p_malignant"])
    assert manifest["novelty"]["chosen"] in notes
    assert re.search(rf"^breakhis +{100 * tested['review'] / tested['images']:.0f} %", run(clinic.root).output, re.MULTILINE)


def test_a_new_scanner_is_found_and_dated(clinic: Clinic) -> None:
    result = run(clinic.root)
    (change,) = plain(clinic.root)["changes"]
    expected = datetime(2026, 3, 2, 8, tzinfo=timezone.utc) + timedelta(hours=12 * (CHANGED + 1))
    assert change["measure"] == "stain"
    assert abs(datetime.fromisoformat(change["at"]) - expected) <= timedelta(days=2)
    assert result.exit_code == 1
    assert f"changed about {change['at'][:10]}: stain" in " ".join(result.output.split())


def test_weeks_add_up(clinic: Clinic) -> None:
    report = plain(clinic.root)
    assert sum(week["pictures"] for week in report["weeks"]) == report["pictures"]
    assert [week["monday"] for week in report["weeks"]] == sorted(week["monday"] for week in report["weeks"])
    assert all(datetime.fromisoformat(week["monday"]).weekday() == 0 for week in report["weeks"])
    mean = sum(week["pictures"] * week["review"]["value"] for week in report["weeks"]) / report["pictures"]
    (review,) = (figure["here"]["value"] for figure in report["figures"] if figure["name"] == "review")
    assert mean == pytest.approx(review, rel=1e-4)


def test_the_text_fits_a_terminal_and_the_page_stands_alone(clinic: Clinic, tmp_path: Path) -> None:
    assert max(map(len, run(clinic.root).output.splitlines())) <= 80
    run(clinic.root, "--format", "html", "--out", tmp_path / "monitor.html")
    page = (tmp_path / "monitor.html").read_text()
    assert not re.search(r"https?:|<script|<img|<link|@import|url\(", page)
    assert "sensitivity" in page


def test_gauges_are_in_prometheus_text_format(clinic: Clinic) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    families = {family.name: family for family in text_string_to_metric_families(run(clinic.root, "--format", "prometheus").output)}
    values = {tuple(sample.labels.values()): sample.value for sample in families["bcd_edge_monitor"].samples}
    (sensitivity,) = (figure["here"] for figure in plain(clinic.root)["figures"] if figure["name"] == "sensitivity")
    assert {end: value for (end, figure), value in values.items() if figure == "sensitivity"} == pytest.approx(sensitivity)
    assert families["bcd_edge_monitor_changes"].samples[0].value == 1
    assert families["bcd_edge_monitor_last_change_timestamp_seconds"].samples[0].value > 0


def test_a_real_process_says_the_same(clinic: Clinic) -> None:
    done = subprocess.run([sys.executable, "-m", "bcd_edge", "monitor", str(clinic.root)], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stdout == run(clinic.root).output


def test_before_any_review_it_says_what_is_unknown(tmp_path: Path, classifier: Classifier, base: Record) -> None:
    made = Clinic(tmp_path / "results", classifier, base)
    with made.open() as results:
        for patient in range(3):
            made.answer(results, np.random.default_rng(patient), patient, malignant=False, changed=False)
    result = run(made.root)
    assert result.exit_code == 0
    assert "cannot be told" in result.output
    assert "unknown" in result.output


def test_answers_that_nobody_drew_are_left_out_and_counted(tmp_path: Path, classifier: Classifier, base: Record) -> None:
    made = Clinic(tmp_path / "results", classifier, base)
    with made.open() as results:
        worklist.change_audit_share(results.journal, 0)
        for patient in range(20):
            made.answer(results, np.random.default_rng(patient), patient, malignant=False, changed=False)
        confident = worklist.cases(results.journal.connection, Filter("all", decision="benign"), limit=-1)
        reviews.add(results, confident[0].sha256, "benign", reader="A")
    report = plain(made.root)
    assert sum(stratum["labelled"] for stratum in report["strata"]) == 0
    assert any("1 confident answer reviewed without being drawn" in note for note in report["notes"])


def test_another_bundle_than_the_one_that_answered_is_refused(clinic: Clinic, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(clinic.classifier.bundle.path, other)
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"version": "99"}))
    result = run(clinic.root, "--bundle", other)
    assert result.exit_code == 2
    assert "has not answered in this folder" in result.output


def test_a_folder_of_an_earlier_version_is_explained(tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    from bcd_edge.results import schema

    with closing(sqlite3.connect(tmp_path / "journal.sqlite3")) as db:
        db.executescript(schema.MIGRATIONS[0] + f"PRAGMA user_version = {schema.FIRST};")
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "earlier bcd-edge" in result.output


def test_patients_that_a_bundle_learned_from_do_not_flatter_it(clinic: Clinic, tmp_path: Path) -> None:
    """Their labels were exported, and the bundle was trained with the split of that export."""
    import shutil
    from contextlib import closing

    from bcd_edge import holdout
    from bcd_edge.results import labels, monitor
    from bcd_edge.results.journal import connect

    shutil.copytree(clinic.root, tmp_path / "results")
    bundle = clinic.classifier.bundle
    with closing(connect(tmp_path / "results" / "journal.sqlite3")) as db:
        whole = monitor.monitor(db, bundle)
        learned = {f"P{number}" for number in range(0, PATIENTS, 2)}
        trained = {bundle.manifest["training"]["split"]["fingerprint"]: sorted(learned), holdout.fingerprint({}): ["P1"]}
        db.execute("INSERT INTO meta VALUES (?, ?)", (labels.SPLITS_SETTING, json.dumps(trained)))
        rest = monitor.monitor(db, bundle)
        own = db.execute("SELECT COUNT(*) FROM cases WHERE CAST(SUBSTR(patient, 2) AS INTEGER) % 2 = 1").fetchone()[0]
        assert labels.learned_from(db, bundle) == learned
    assert sum(stratum.pictures for stratum in rest.strata) == own
    assert sum(stratum.pictures for stratum in whole.strata) == rest.pictures
    assert any(f"{len(learned)} patients from whose labels the bundle learned" in note for note in rest.notes)
    assert (rest.weeks, rest.changes) == (whole.weeks, whole.changes)
