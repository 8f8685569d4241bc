"""The commands built on `fit`: pretraining with a teacher, cross-validation, the published protocol, the bench."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bcd_edge import plugins
from tests.conftest import write_collection
from train import checkpoint, networks
from train.__main__ import main
from train.bench import bench
from train.data.images import Batches, Images, loader
from train.data.sources import Item, read
from train.data.split import PARTS
from train.evaluation import reproduce
from train.teacher import Distillation
from train.training import Settings, Training

pytestmark = pytest.mark.usefixtures("unrendered")

TINY = ["--network", "tiny", "--size", "32", "--epochs", "2", "--epoch-images", "64", "--batch-size", "8", "--device", "cpu"]


def train(*options: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, [*map(str, options)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_pretraining_with_a_teacher_starts_a_fit(collection: str, tmp_path: Path) -> None:
    code, output = train("pretrain", "--data", collection, "--out", tmp_path / "pretrain", *TINY, "--teacher", "efficientnet-lite0")
    assert code == 0, output
    kept = checkpoint.load(tmp_path / "pretrain" / "best.pt")
    assert kept["meta"]["settings"]["teacher"] == "efficientnet-lite0"
    assert set(kept["model"]) == set(networks.build(name="tiny").state_dict())  # neither the teacher nor its map
    options = ["--label-smoothing", "0.1", "--mixup", "0.2", "--accumulate", "2", "--unfreeze", "layer4", "--head-epochs", "1"]
    code, output = train("fit", "--data", collection, "--init", tmp_path / "pretrain" / "best.pt", "--out", tmp_path / "fit", *TINY, *options)
    assert code == 0, output
    tuned = checkpoint.load(tmp_path / "fit" / "best.pt")
    assert tuned["meta"]["before"][0]["settings"]["teacher"] == "efficientnet-lite0"
    assert torch.equal(tuned["model"]["layer3.0.conv1.weight"], kept["model"]["layer3.0.conv1.weight"])
    assert torch.equal(tuned["model"]["layer3.0.bn1.running_mean"], kept["model"]["layer3.0.bn1.running_mean"])
    assert not torch.equal(tuned["model"]["layer4.0.conv1.weight"], kept["model"]["layer4.0.conv1.weight"])


def test_two_runs_with_a_seed_give_the_same_metrics_and_another_seed_others(collection: str, tmp_path: Path) -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert train("fit", "--data", collection, "--out", tmp_path / name, *TINY, "--seed", seed)[0] == 0
    a, b, c = ((tmp_path / name / "predictions.csv").read_text() for name in "abc")
    assert a == b
    assert a != c


def test_early_stopping_stops(collection: str, tmp_path: Path) -> None:
    options = [*TINY, "--epochs", "30", "--epoch-images", "16", "--head-epochs", "1", "--patience", "2", "--learning-rate", "1e-6"]
    code, output = train("fit", "--data", collection, "--out", tmp_path / "run", *options)
    assert code == 0, output
    assert "stopping early" in output
    history = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert 4 <= len(history) < 31


@pytest.mark.parametrize("name", plugins.names("train.networks"))
def test_every_network_takes_a_step_of_training(name: str) -> None:
    size = networks.get_architecture(name).smallest
    pixels = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8)
    column = np.array(list("abcd"))
    images = Images(pixels, np.array([False, True] * 2), np.full(4, "idc"), column, column, column)
    torch.manual_seed(0)
    model = networks.build(name=name)
    before = {parameter: value.detach().clone() for parameter, value in model.named_parameters()}
    settings = Settings(data=(), network=name, size=size, batch_size=4, head_epochs=0, warm_up=0)
    training = Training(settings, model, dict.fromkeys(PARTS, images), torch.device("cpu"), 0, False)
    training.unfreeze(0)
    loss, _, _ = training.step(iter(loader(Batches(images), 1, 4, 0, torch.device("cpu"))))
    assert torch.isfinite(loss)
    assert not [parameter for parameter, value in model.named_parameters() if torch.equal(value, before[parameter])]


def test_an_input_too_small_for_the_network_is_said(collection: str, tmp_path: Path) -> None:
    code, output = train("fit", "--data", collection, "--out", tmp_path / "run", "--network", "inception_v3", "--size", "64")
    assert code == 1
    assert "needs at least 75 pixels" in output


def test_a_split_by_image_marks_everything(collection: str, tmp_path: Path) -> None:
    code, output = train("fit", "--data", collection, "--out", tmp_path / "run", *TINY, "--split", "image")
    assert code == 0, output
    assert "LEAKY" in output
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["leaky"] is True
    assert "LEAKY" in (tmp_path / "run" / "report.html").read_text()
    for name in ("predictions.csv", "history.csv"):
        heading, *rows = (tmp_path / "run" / name).read_text().splitlines()
        assert heading.endswith(",leaky")
        assert all(row.endswith(",1") for row in rows)
    assert json.loads((tmp_path / "run" / "split.json").read_text())["unit"] == "image"
    from export.__main__ import main as export

    done = CliRunner().invoke(export, ["bundle", "--name", "leaky", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "bundle")])
    assert done.exit_code == 1
    assert "split by image" in done.output


def test_cross_validation_tests_everybody_once_and_goes_on_where_it_was(collection: str, tmp_path: Path) -> None:
    options = ["--data", collection, "--out", tmp_path / "cv", "--folds", "3", *TINY]
    code, output = train("cross-validate", *options)
    assert code == 0, output
    result = json.loads((tmp_path / "cv" / "crossval.json").read_text())["sources"]["breakhis"]
    assert (result["images"], result["patients"]) == (60, 20)
    assert set(result["baselines"]) == {"colour", "frozen features"}
    assert all(len(inside) == 3 for inside in result["folds"].values())
    metric = result["network"]["auroc"]
    assert metric["low"] <= metric["value"] <= metric["high"]
    assert "| breakhis | network |" in (tmp_path / "cv" / "crossval.md").read_text()
    finished = (tmp_path / "cv" / "fold-1" / "best.pt").stat().st_mtime_ns
    (tmp_path / "cv" / "fold-3" / "metrics.json").unlink()
    code, again = train("cross-validate", *options)
    assert code == 0, again
    assert (tmp_path / "cv" / "fold-1" / "best.pt").stat().st_mtime_ns == finished
    assert json.loads((tmp_path / "cv" / "crossval.json").read_text())["sources"]["breakhis"] == result
    code, output = train("cross-validate", *options, "--seed", "1")
    assert code == 1
    assert "another seed" in output


def test_the_published_protocol_beside_patients(tmp_path: Path) -> None:
    data = f"breakhis={write_collection(tmp_path / 'images.zip', patients=14, images=12, side=32)}"
    code, output = train("reproduce-published", "--data", data, "--out", tmp_path / "out", *TINY)
    assert code == 0, output
    result = json.loads((tmp_path / "out" / "published.json").read_text())
    assert (result["image"]["images"], result["image"]["malignant"]) == (140, 80)
    assert result["image"]["shared_patients"] > 10
    assert result["patient"]["shared_patients"] == 0
    assert abs(result["patient"]["images"] - 140) <= 14
    table = (tmp_path / "out" / "published.md").read_text()
    assert "LEAKY" in table
    assert "| published, by image | benign | 0.98 | 0.95 | 57 | 79 | 1 | 3 |" in table


def test_the_published_protocol_wants_enough_images_and_patients(collection: str) -> None:
    items = read(collection)
    with pytest.raises(click.ClickException, match="too few"):
        reproduce.by_image(items, 0)
    few = [
        Item("breakhis", f"{patient}-{index}", f"{patient} {index}".encode(), patient > 1, str(patient))
        for patient in range(4)
        for index in range(90)
    ]
    with pytest.raises(click.ClickException, match="patients of each class"):
        reproduce.by_patient(few, 0)


def test_a_teacher_that_is_not_installed_says_which_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(click.ClickException, match=r"pip install .*teacher"):
        Distillation("efficientnet-lite0", 8)


def test_distillation_falls_to_zero_for_the_teachers_own_features() -> None:
    torch.manual_seed(0)
    distillation = Distillation("efficientnet-lite0", 1280)
    images = torch.rand(2, 3, 64, 64)
    (teacher,) = distillation._teacher
    with torch.no_grad():
        own = teacher.extract_features((images - 0.498) / 0.502).mean(dim=(2, 3))
        distillation.projection.weight.copy_(torch.eye(1280))
        distillation.projection.bias.zero_()
        assert float(distillation(own, images)) == pytest.approx(0, abs=1e-5)
        assert 0.5 < float(distillation(torch.randn(2, 1280), images)) < 1.5
    assert {name for name, _ in distillation.named_parameters()} == {"projection.weight", "projection.bias"}


def test_the_bench_prints_three_rates_and_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    bench("tiny", 32, 4, 0.1, device="cpu", workers=1, compiled=False)
    output = capsys.readouterr().out
    rates = [float(line.split()[-1].replace(",", "")) for line in output.splitlines() if line.startswith(("loader alone", "step alone", "both"))]
    assert len(rates) == 3
    assert all(np.isfinite(rates))
    assert min(rates) > 0
    assert "it may" in output
