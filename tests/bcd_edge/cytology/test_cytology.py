from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from scipy.stats import truncnorm

from bcd_edge import bundle
from bcd_edge.cli import main
from bcd_edge.cytology import explain
from bcd_edge.cytology.classifier import KIND, TableClassifier
from bcd_edge.cytology.table import Feature, Row
from bcd_edge.records import Record

WISCONSIN = Path(__file__).parents[4] / "shared/data/wisconsin/breast-cancer-wisconsin.csv"


@pytest.fixture(scope="module")
def classifier() -> TableClassifier:
    return TableClassifier.load()


@pytest.fixture
def table(tmp_path: Path, classifier: TableClassifier) -> Path:
    """All ones, all tens, a missing value, one out of range, and one that is no number."""
    count = len(classifier.features)
    rows = [["1"] * count, ["10"] * count, ["?"] + ["1"] * (count - 1), ["40"] + ["1"] * (count - 1), ["many"] + ["1"] * (count - 1)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(",".join(row) for row in [[feature.name for feature in classifier.features], *rows]))
    return path


def cytology(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["cytology", *map(str, arguments)])


def test_golden_rows(classifier: TableClassifier) -> None:
    golden = bundle.open(kind=KIND).manifest["golden_rows"]
    p = classifier.probabilities(np.array([row["values"] for row in golden]))
    assert p == pytest.approx([row["p_malignant"] for row in golden], abs=1e-5)


def test_decisions(table: Path) -> None:
    ran = cytology(table, "--format", "jsonl")
    records = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.exit_code == 1
    assert "1 row failed" in ran.stderr
    assert [record["decision"] for record in records] == ["benign", "malignant", "review", "review", None]
    assert {record["kind"] for record in records} == {"row"}
    assert [Path(record["source"]).name for record in records] == [f"table.csv:{line}" for line in range(2, 7)]
    assert "missing" in records[2]["reasons"][0]
    assert "outside 1 to 10" in records[3]["reasons"][0]
    assert "no number" in records[4]["error"]
    assert json.loads(json.dumps(Record.from_dict(records[2]).as_dict())) == records[2]
    assert records[0]["sha256"] != records[1]["sha256"]


def test_formats(table: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(cytology(table, "--format", "csv").stdout)))
    assert [row["kind"] for row in rows] == ["row"] * 5
    shown = cytology(table).stdout
    assert "5 rows: 1 benign, 1 malignant, 2 review, 1 failed" in shown
    assert "image" not in shown
    assert "µm" not in shown


def test_the_threshold_extends_the_review_band(classifier: TableClassifier) -> None:
    row = Row("t:2", {feature.name: "1" for feature in classifier.features})
    assert classifier.classify(row).decision == "benign"
    assert TableClassifier.load(threshold=0.0).classify(row).decision == "review"


def test_a_bundle_of_another_kind_or_that_was_changed_is_refused(table: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle.embedded(KIND), copy)
    assert bundle.verify(bundle.open(copy, kind=KIND)) == ([], [])
    model = copy / "model.fp32.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    for path, message in ((copy, "wrong SHA-256"), (bundle.embedded(), "a bundle of kind image, and one of kind tabular")):
        ran = cytology(table, "--tabular-bundle", path)
        assert (ran.exit_code, message in ran.stderr) == (3, True)
    ran = CliRunner().invoke(main, ["predict", str(table), "--bundle", str(copy)])
    assert (ran.exit_code, "bcd-edge cytology" in ran.stderr) == (3, True)


def test_settings_of_the_model_of_pictures_do_not_reach_it(table: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'bundle = "{bundle.embedded().as_posix()}"\nthreshold = 0.0\n')
    ran = CliRunner().invoke(main, ["--config", str(config), "cytology", str(table), "--format", "jsonl"])
    assert json.loads(ran.stdout.splitlines()[0])["decision"] == "benign"


def test_its_files_are_verified_by_the_same_command() -> None:
    ran = CliRunner().invoke(main, ["bundle", "verify", str(bundle.embedded(KIND))])
    assert (ran.exit_code, "fine: cytology-wisconsin 1" in ran.stdout) == (0, True)


def test_the_manifest_is_checked() -> None:
    manifest = json.loads((bundle.embedded(KIND) / "manifest.json").read_text())
    manifest["features"][0]["scale"] = 0
    with pytest.raises(bundle.BundleError, match="refused at features/0/scale"):
        bundle.check(manifest, "here")


class Linear(TableClassifier):
    """Log odds are a sum: the surrogate has a closed form."""

    def __init__(self, coefficients: list[float], features: list[Feature]) -> None:
        self.coefficients, self.features = np.array(coefficients), features

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-(values @ self.coefficients - 1))))


def expected(value: float, quantiles: list[float]) -> float:
    """What a unit of weight on a feature adds in the value's quarter: the mean of what is drawn in it, less that of what is drawn in the others."""
    edges = np.unique(np.percentile(quantiles, [25, 50, 75]))
    quarter = np.searchsorted(edges, quantiles)
    ends = [quantiles[0], *edges, quantiles[-1]]
    means, shares = [], []
    for number in range(len(edges) + 1):
        inside = np.array(quantiles)[quarter == number]
        deviation = inside.std() + 1e-11
        low, high = (np.array(ends[number : number + 2]) - inside.mean()) / deviation
        drawn = truncnorm.mean(low, high, inside.mean(), deviation) if inside.std() else inside.mean()
        means.append(drawn)
        shares.append(len(inside))
    own = int(np.searchsorted(edges, value))
    others = [number for number in range(len(means)) if number != own]
    return float(means[own] - np.average(np.array(means)[others], weights=np.array(shares)[others]))


@pytest.mark.parametrize("place", [0, 7, 20])
def test_lime_of_a_linear_model_has_the_closed_form(classifier: TableClassifier, place: int) -> None:
    coefficients = [0.5, -0.2, 0.0, 0.1, 0.3, 0.4, -0.1, 0.2, 0.6]
    values = [feature.quantiles[place] for feature in classifier.features]
    row = Row("t:2", {feature.name: str(value) for feature, value in zip(classifier.features, values, strict=True)})
    explanation = explain.explain(Linear(coefficients, classifier.features), row)
    # the kernel is a product over features, and so are the draws: each weight is as if the others were not there
    weights = [
        coefficient * expected(value, list(feature.quantiles))
        for coefficient, value, feature in zip(coefficients, values, classifier.features, strict=True)
    ]
    assert explanation.weights == pytest.approx(weights, abs=0.15)
    assert np.corrcoef(explanation.weights, weights)[0, 1] > 0.99


def test_explanations_are_written(table: Path, tmp_path: Path, classifier: TableClassifier) -> None:
    out = tmp_path / "explanations"
    ran = cytology(table, "--explain", "--explain-out", out, "--format", "jsonl")
    records = [json.loads(line) for line in ran.stdout.splitlines()]
    stems = [f"table-{number}-{record['sha256'][:8]}" for number, record in enumerate(records[:4], 2)]
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{stem}.{kind}" for stem in stems for kind in ("json", "png"))
    written = json.loads((out / f"{stems[1]}.json").read_text())
    assert written["decision"] == "malignant"
    weights = [part["weight"] for part in written["explanation"]["features"]]
    assert sorted(weights, key=abs, reverse=True) == weights
    assert sum(weights) > 0
    with Image.open(out / f"{stems[1]}.png") as picture:
        colours = {colour for _, colour in picture.getcolors(1 << 20) or []}
    assert explain.FOR in colours


def test_an_explanation_is_the_same_each_time_and_names_where_a_value_lies(classifier: TableClassifier) -> None:
    row = Row("t:2", {feature.name: "10" for feature in classifier.features} | {"bare_nuclei": "?", "mitoses": "12"})
    first, second = (explain.explain(classifier, row).as_dict() for _ in range(2))
    assert first == second
    parts = {part["feature"]: part for part in first["features"]}
    assert (parts["mitoses"]["given"], parts["mitoses"]["value"], parts["mitoses"]["condition"]) == ("12", 10, "mitoses > 1.00")
    assert parts["bare_nuclei"]["value"] == pytest.approx(3.5, abs=0.1)
    assert parts["clump_thickness"]["condition"] == "clump_thickness > 6.00"
    assert parts["clump_thickness"]["weight"] > 0


def test_the_runtime_needs_neither_pandas_nor_scikit_learn(table: Path) -> None:
    code = (
        "import sys; from bcd_edge.cli import main; main(sys.argv[1:], standalone_mode=False); print({'pandas', 'sklearn', 'torch'} & {*sys.modules})"
    )
    text = "\n".join(table.read_text().splitlines()[:3])
    ran = subprocess.run([sys.executable, "-c", code, "cytology", "-"], input=text, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "set()"


@pytest.mark.data
@pytest.mark.skipif(not WISCONSIN.exists(), reason=f"the Wisconsin table is not at {WISCONSIN}")
def test_the_real_table() -> None:
    records = [json.loads(line) for line in cytology(WISCONSIN, "--format", "jsonl").stdout.splitlines()]
    with WISCONSIN.open() as file:
        rows = list(csv.DictReader(file))
    assert len(records) == len(rows) == 699
    missing = [record for record, row in zip(records, rows, strict=True) if not row["bare_nuclei"].strip("?")]
    assert (len(missing), {record["decision"] for record in missing}) == (16, {"review"})
    called = [record["label"] == "malignant" for record in records]
    assert np.mean([own == (row["class"] == "4") for own, row in zip(called, rows, strict=True)]) > 0.95
    benign = [row["class"] for record, row in zip(records, rows, strict=True) if record["decision"] == "benign"]
    assert benign.count("4") / 241 <= 0.02
