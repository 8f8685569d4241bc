"""A run to a bundle that the runtime opens, and everything that is refused on the way."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from bcd_edge import Classifier, bundle
from bcd_edge.backends import Options, cpu
from bcd_edge.errors import BundleError
from export import compare, graph, quantise
from export.__main__ import main
from train import network
from train.data import decode, read_all


@pytest.fixture(scope="module")
def built(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "small"
    done = CliRunner().invoke(main, ["bundle", "--run", str(run), "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return out


def test_the_runtime_opens_it_and_both_variants_answer_as_alike_as_the_manifest_says(built: Path, run: Path, collection: str) -> None:
    parts = json.loads((run / "split.json").read_text())
    data = next(item.data for item in read_all([collection]) if parts[item.group] == "test")
    answers = [Classifier.load(built, precision=precision).classify(data) for precision in ("fp32", "int8")]
    assert [record.execution.precision for record in answers] == ["fp32", "int8"]
    bound = sum(variant["difference"]["max_delta_p"] for variant in json.loads((built / "manifest.json").read_text())["variants"])
    assert answers[0].p_malignant == pytest.approx(answers[1].p_malignant, abs=bound + 1e-4)


def test_the_runtime_answers_as_the_checkpoint_does(built: Path, run: Path, collection: str) -> None:
    images = decode(read_all([collection])[:5], 32)
    checkpoint = network.load(run / "best.pt")
    model = network.build()
    model.load_state_dict(checkpoint["model"])
    with torch.inference_mode():
        logits = model.eval()(torch.from_numpy(images.pixels_nhwc_u8).permute(0, 3, 1, 2) / 255).numpy()
    classifier = Classifier.load(built, precision="fp32")
    found = [classifier.classify(pixels).p_malignant for pixels in images.pixels_nhwc_u8]
    expected = 1 / (1 + np.exp(-(logits[:, 1] - logits[:, 0]) / checkpoint["meta"]["temperature"]))
    assert np.allclose(found, expected, atol=1e-5)


def test_the_manifest_holds_the_comparison_and_no_path_of_this_machine(built: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = (built / "manifest.json").read_text()
    manifest = json.loads(text)
    for variant in manifest["variants"]:
        assert variant["difference"]["images"] == 15
        assert variant["test"]["breakhis"]["patients"] == 5
    assert manifest["variants"][0]["difference"]["max_delta_p"] <= compare.MAX_DELTA_P_FP32
    assert str(tmp_path_factory.getbasetemp()) not in text
    assert manifest["training"]["settings"]["data"] == ["breakhis=images.zip"]


def test_graphs_load_on_old_runtimes_and_name_no_path(built: Path) -> None:
    for file in built.glob("*.onnx"):
        model = onnx.load(file)
        assert model.ir_version <= 10
        assert {entry.domain: entry.version for entry in model.opset_import} == {"": 20}
        (given,), (answered,) = model.graph.input, model.graph.output
        assert (given.name, given.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
        assert (answered.name, answered.type.tensor_type.elem_type) == ("logits", onnx.TensorProto.FLOAT)
        assert not {"BatchNormalization"} & {node.op_type for node in model.graph.node}
        assert b"site-packages" not in file.read_bytes()


def test_int8_is_per_channel_signed_and_unsigned(built: Path) -> None:
    model = onnx.load(built / "model.int8.onnx")
    kinds = {initializer.name: initializer for initializer in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Conv":
            (weights,) = [other for other in model.graph.node if other.output and other.output[0] == node.input[1]]
            assert kinds[weights.input[0]].data_type == onnx.TensorProto.INT8
            assert kinds[weights.input[1]].dims[0] == kinds[weights.input[0]].dims[0]
        if node.op_type == "QuantizeLinear":
            assert kinds[node.input[2]].data_type == onnx.TensorProto.UINT8


def test_calibration_images_are_training_images(collection: str) -> None:
    images = decode(read_all([collection]), 16)
    chosen = quantise.calibration_set(images, 0)
    assert len(chosen) == 60
    assert set(chosen.sha256) <= set(images.sha256)


def test_a_variant_that_lost_accuracy_is_refused_and_nothing_is_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_int8 = quantise.write_int8

    def broken(*arguments: object) -> dict:
        how = write_int8(*arguments)  # type: ignore[arg-type]
        model = onnx.load(arguments[2])
        for initializer in model.graph.initializer:  # the sign of the head's weights
            if list(initializer.dims) == [2, 2048] or list(initializer.dims) == [2048, 2]:
                values = onnx.numpy_helper.to_array(initializer)
                initializer.CopyFrom(onnx.numpy_helper.from_array(np.clip(-values.astype(int), -127, 127).astype(values.dtype), initializer.name))
        onnx.save(model, arguments[2])
        return how

    monkeypatch.setattr("export.quantise.write_int8", broken)
    done = CliRunner().invoke(main, ["bundle", "--run", str(run), "--out", str(tmp_path / "out")])
    assert done.exit_code == 3, done.output
    assert "int8 lost" in done.output
    assert not list(tmp_path.iterdir())


def test_other_images_than_the_runs_are_refused(run: Path, tmp_path: Path) -> None:
    from tests.conftest import write_collection

    other = write_collection(tmp_path / "images.zip", patients=11, images=1)
    done = CliRunner().invoke(main, ["bundle", "--run", str(run), "--out", str(tmp_path / "out"), "--data", f"breakhis={other}"])
    assert done.exit_code == 1
    assert "split fingerprint" in done.output


def test_an_unfinished_run_and_an_existing_bundle_are_refused(built: Path, run: Path, tmp_path: Path) -> None:
    assert "exists" in CliRunner().invoke(main, ["bundle", "--run", str(run), "--out", str(built)]).output
    content = network.load(run / "best.pt")
    del content["meta"]["test"]
    torch.save(content, tmp_path / "best.pt")
    assert "not finished" in CliRunner().invoke(main, ["bundle", "--run", str(tmp_path), "--out", str(tmp_path / "out")]).output


def test_a_folder_that_cannot_be_written_is_5_and_a_bundle_that_is_none_3(run: Path, collection: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["bundle", "--run", str(run), "--out", "/proc/nowhere/bundle"])
    assert done.exit_code == 5, done.output
    (tmp_path / "predictions.csv").touch()
    done = CliRunner().invoke(main, ["score", str(tmp_path / "predictions.csv"), "--bundle", str(tmp_path), "--data", collection])
    assert done.exit_code == 3, done.output


def test_score_finds_what_the_manifest_promises(built: Path, collection: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(collection.partition("=")[2]) as archive:
        archive.extractall(tmp_path / "images")
    said = subprocess.run(
        [sys.executable, "-m", "bcd_edge", "predict", tmp_path / "images", "--bundle", built, "--precision", "int8", "--format", "csv"],
        capture_output=True,
        check=True,
    )
    predictions = tmp_path / "predictions.csv"
    predictions.write_bytes(said.stdout)
    command = ["score", str(predictions), "--bundle", str(built), "--data", collection]
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(said.stdout.decode().splitlines()))
    for row in rows:
        row["p_malignant"] = str(1 - float(row["p_malignant"]))
    with predictions.open("w") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1
    assert "differs" in done.output
    predictions.write_bytes(b"".join(said.stdout.splitlines(keepends=True)[:5]))
    assert "no answer for" in CliRunner().invoke(main, command).output


def test_weights_outside_the_file_are_not_loaded(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load(built / "model.fp32.onnx")
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError):
        cpu.open((tmp_path / "model.onnx").read_bytes(), Options())


def test_the_graph_takes_any_number_of_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    graph.write_fp32(network.build().eval(), 32, tmp_path / "model.onnx")
    backend = cpu.open((tmp_path / "model.onnx").read_bytes(), Options())
    for count in (1, 7):
        assert backend.infer(np.zeros((count, 32, 32, 3), np.uint8)).shape == (count, 2)


def test_the_embedded_bundle_was_compared_and_passed() -> None:
    manifest = bundle.open().manifest
    assert manifest["compared"]["fp32"]["difference"]["max_delta_p"] <= 1e-4
    assert all(drop <= 0.005 for drop in manifest["variants"][0]["difference"]["auroc_drop"].values())
