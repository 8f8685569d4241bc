"""A whole study on a small collection: pack, trials, folds, the table, the chosen run, and that it goes on where it stopped."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bcd_edge.readers import raster
from train import checkpoint, study
from train.__main__ import main
from train.data.sources import read

OPTIONS = [
    *("--network", "tiny", "--size", "32", "--epochs", "1", "--head-epochs", "0", "--epoch-images", "96", "--batch-size", "16"),
    *("--learning-rate", "5e-3", "--labels", "subtype", "--folds", "3", "--device", "cpu", "--soften", "0.5"),
]
pytestmark = pytest.mark.usefixtures("unrendered")

TRIALS = '[[trial]]\nname = "subtype"\n\n[[trial]]\nname = "class"\nlabels = "class"\n'


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def packed(collection: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pack") / "pack"
    code, output = run("pack", "--data", collection, "--size", "32", "--out", out)
    assert code == 0, output
    return out


def test_a_pack_holds_the_same_images_smaller_and_under_their_names(collection: str, packed: Path) -> None:
    before, after = read(collection), read(f"breakhis={packed / 'breakhis.zip'}")
    assert [(item.name.rpartition(".")[0], item.group, item.malignant) for item in before] == [
        (item.name.rpartition(".")[0], item.group, item.malignant) for item in after
    ]
    for item, smaller in zip(before[:3], after[:3], strict=True):
        pixels = raster.decode(smaller.data)
        assert pixels.shape == (32, 32, 3)
        shrunk = raster.decode(item.data).reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
        assert np.abs(pixels - shrunk).mean() < 6  # levels of 255 that WebP of quality 95 and rounding may cost


def test_a_pack_is_not_written_over_something(collection: str, packed: Path) -> None:
    code, output = run("pack", "--data", collection, "--out", packed)
    assert code == 1 and "is not empty" in output


@pytest.fixture(scope="module")
def studied(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "trials.toml").write_text(TRIALS)
    code, output = run(
        "study", "--data", f"breakhis={packed / 'breakhis.zip'}", *OPTIONS, "--trials", folder / "trials.toml", "--out", folder, "--final"
    )
    assert code == 0, output
    return folder


def test_the_table_has_every_trial_and_what_choosing_is_worth(studied: Path) -> None:
    with (studied / "study.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["trial"] for row in rows] == ["subtype", "class", "nested choice"]
    assert json.loads(rows[1]["settings"]) == {"labels": "class"}
    assert all(0 <= float(row["breakhis each_patient"]) <= 1 for row in rows)


def test_the_final_run_tests_only_people_set_aside_and_is_calibrated_by_the_others(studied: Path, packed: Path) -> None:
    meta = json.loads((studied / "final" / "metrics.json").read_text())
    parts = json.loads((studied / "final" / "split.json").read_text())["parts"]
    assert "validation" not in parts.values()
    assert set(meta["trained_on"]) == {group for group, name in parts.items() if name == "train"}
    assert set(meta["calibration"]) == {"breakhis"} and meta["temperature"] == 1
    assert checkpoint.load(studied / "final" / "best.pt")["model"]["fc.scale"].item() == pytest.approx(meta["calibration"]["breakhis"]["scale"])
    held = {item.sha256 for item in read(f"breakhis={packed / 'breakhis.zip'}") if parts[item.group] == "test"}
    assert held
    for fold in (studied / "subtype").glob("*.npz"):
        assert held.isdisjoint(np.load(fold)["sha256"])


def test_a_second_call_trains_nothing_again(studied: Path, packed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in studied.glob("*/fold-*.npz")}
    assert len(before) == 6
    code, output = run("study", "--data", f"breakhis={packed / 'breakhis.zip'}", *OPTIONS, "--trials", studied / "trials.toml", "--out", studied)
    assert code == 0, output
    assert before == {path: path.stat().st_mtime_ns for path in studied.glob("*/fold-*.npz")}


def test_nested_choice_answers_each_fold_by_the_trial_best_on_the_others() -> None:
    from tests.train.test_subtypes import images

    some = images(["idc"] * 8, [False, True] * 4, None)
    fold = np.repeat([0, 1], 4)
    right = np.stack([np.zeros(8), np.where(some.malignant, 1.0, -1.0)], axis=1).astype(np.float32)
    good_on_0, good_on_1 = right * np.where(fold == 0, 1, -1)[:, None], right * np.where(fold == 1, 1, -1)[:, None]
    rows = [("a", None, some, good_on_0.astype(np.float32), fold, 0.0), ("b", None, some, good_on_1.astype(np.float32), fold, 0.0)]
    _, logits, chosen = study.nested(rows)  # type: ignore[arg-type]
    assert chosen == ["b", "a"]  # each was best where it is not asked, so the honest figure is the worst one
    assert study.figures(some, logits)["idc"]["image"] == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nothing", "lists no trials"),
        ('[[trial]]\nname = "a"\nspeed = 1\n', "sets speed, which is no setting"),
        ("[[trial]]\nsize = 1\n", "lists no trials"),
    ],
)
def test_a_file_of_trials_that_cannot_be_used_is_refused(text: str, sentence: str, tmp_path: Path, collection: str) -> None:
    (tmp_path / "trials.toml").write_text(text)
    code, output = run("study", "--data", collection, *OPTIONS, "--trials", tmp_path / "trials.toml", "--out", tmp_path / "out")
    assert code == 1 and sentence in output
