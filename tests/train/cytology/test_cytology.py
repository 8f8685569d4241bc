from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bcd_edge.cytology.classifier import TableClassifier
from export.__main__ import main as export
from train.cytology import report, validation
from train.cytology.models import MODELS, build
from train.cytology.tables import diagnostic, original
from train.cytology.validation import Outcome, fit, log_loss, select, simplest, validate

WISCONSIN = Path(__file__).parents[4] / "shared/data/wisconsin/breast-cancer-wisconsin.csv"
FEATURES = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 rows of four grades, of which `a` and `b` matter: rows 1 to 20 stand twice, and the last two have one id."""
    random = np.random.default_rng(0)
    x = random.integers(1, 11, (100, 4))
    rows = [[str(number), *map(str, row), "4" if row[0] + row[1] + random.normal() > 11 else "2"] for number, row in enumerate(x)]
    rows += [[str(100 + number), *row[1:]] for number, row in enumerate(rows[:20])]
    rows[-1][0], rows[50][3] = rows[-2][0], "?"
    file = tmp_path_factory.mktemp("cytology") / "table.csv"
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([["id", *FEATURES, "class"], *rows])
    return file


@pytest.fixture
def two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the two quickest."""
    monkeypatch.setattr(validation, "MODELS", {name: MODELS[name] for name in ("logistic regression", "gradient boosting")})


def test_identical_rows_and_ids_are_one_group(path: Path) -> None:
    table = original(path)
    assert len(np.unique(table.groups)) == 99
    assert len(np.unique(table.twins)) == 100
    assert table.groups[18] == table.groups[19] == table.groups[118] == table.groups[119]
    assert np.isnan(table.x[50, 2])


def test_a_table_that_is_not_the_set(tmp_path: Path, path: Path) -> None:
    wrong = tmp_path / "wrong.csv"
    for text, message in (
        (path.read_text().replace("class", "kind"), "needs columns id and class"),
        (path.read_text().replace("?", "x"), "no number"),
    ):
        wrong.write_text(text)
        with pytest.raises(Exception, match=message):
            original(wrong)


def test_every_model_learns(path: Path) -> None:
    table = original(path)
    every, kept = np.arange(len(table.x)), np.ones(4, bool)
    for name in MODELS:
        p = fit(name, table, every, kept, 0).predict_proba(table.x)
        assert p.sum(axis=1) == pytest.approx(1)
        assert ((p[:, 1] >= 0.5) == table.malignant).mean() > 0.75, name


@pytest.mark.usefixtures("two_models")
def test_a_random_split_sees_twins_and_a_grouped_one_does_not(path: Path) -> None:
    table = original(path)
    random, grouped = (validate(table, 3, 0, grouped=grouped) for grouped in (False, True))
    assert random.seen.any()
    assert not grouped.seen.any()
    assert grouped.chosen[:, :2].all(), "the two that matter"
    assert "40 rows have an identical one" in report.duplicates(table, random, grouped)[0]


def test_imputation_learns_from_training_rows_only() -> None:
    model = build("logistic regression", 0).fit(np.array([[1.0], [3.0], [np.nan]]), np.array([False, True, True]))
    assert model[0].statistics_ == [2]


def test_the_simplest_that_is_not_worse_is_chosen(path: Path) -> None:
    table = original(path)
    good, bad = np.where(table.malignant, 0.9, 0.1), np.full(len(table.x), 0.5)
    outcome = Outcome({"first": bad, "second": good, "third": good}, np.ones((3, 4), bool), np.zeros(len(table.x), bool))
    assert simplest(table, outcome)[0] == "second"
    assert log_loss(table.malignant, good) == pytest.approx(-np.log(0.9))


def test_figures_stand_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.MARKS[0]}\nold\n{report.MARKS[1]}\nafter\n")
    report.write_between(page, "new")
    report.write_between(page, "newer")
    assert page.read_text() == f"before\n{report.MARKS[0]}\n\nnewer\n\n{report.MARKS[1]}\nafter\n"


@pytest.mark.parametrize("name", ["logistic regression", "DNN (hidden layers of 64, 32, 16)"])
def test_a_run_becomes_a_bundle_that_answers_the_same(path: Path, tmp_path: Path, name: str) -> None:
    from train.cytology.fit import final

    table = original(path)
    held_out = Outcome(
        {name: np.where(np.arange(len(table.x)) % 10 < 9, table.malignant, ~table.malignant) * 0.8 + 0.1},
        np.ones((3, 4), bool),
        np.zeros(len(table.x), bool),
    )
    model = final(table, held_out, 0)
    (tmp_path / "model.json").write_text(json.dumps(model | {"reference": {}}))
    ran = CliRunner().invoke(export, ["cytology", "--run", str(tmp_path), "--out", str(tmp_path / "bundle")], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    kept = select(table, np.arange(len(table.x)), True, 0)
    expected = fit(name, table, np.arange(len(table.x)), kept, 0).predict_proba(table.x[:50, kept])[:, 1]
    temperature = model["temperature"]
    answers = TableClassifier.load(str(tmp_path / "bundle")).probabilities(table.x[:50][:, kept])
    assert np.log(answers / (1 - answers)) * temperature == pytest.approx(np.log(expected / (1 - expected)), abs=1e-3)


def test_a_model_without_layers_is_not_exported(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"model": "gradient boosting", "layers": None}))
    ran = CliRunner().invoke(export, ["cytology", "--run", str(tmp_path), "--out", str(tmp_path / "bundle")])
    assert (ran.exit_code, "no dense layers" in ran.output) == (1, True)


def test_the_diagnostic_set() -> None:
    table = diagnostic()
    assert (table.x.shape, int(table.malignant.sum()), len(np.unique(table.groups))) == ((569, 30), 212, 569)


@pytest.mark.data
@pytest.mark.skipif(not WISCONSIN.exists(), reason=f"the Wisconsin table is not at {WISCONSIN}")
def test_the_original_set() -> None:
    table = original(WISCONSIN)
    assert (table.x.shape, int(table.malignant.sum()), int(np.isnan(table.x).sum())) == ((699, 9), 241, 16)
    assert (len(np.unique(table.twins)), len(np.unique(table.groups))) == (463, 418)
