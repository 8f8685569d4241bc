"""A run to a bundle that the runtime opens, and everything that is refused on the way."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from scipy.special import expit
from torchvision.models.resnet import Bottleneck, ResNet

from bcd_edge import Classifier, bundle, plugins
from bcd_edge.backends.providers import cpu
from bcd_edge.errors import BundleError
from bcd_edge.options import RunOptions
from export import gate, graph, members, previous, quantise, variants
from export.__main__ import main
from export.manifest import scale
from train import checkpoint, networks
from train.data import split
from train.data.images import Images, decode, read_all
from train.evaluation import calibration, scores

# Five test patients rule no loss out, so the gate would refuse any INT8: what is tested here is not the gate.
LENIENT = [option for metric in gate.BOUNDS for option in ("--max-drop", f"{metric}=1")]
QUICK = ["--calibration", "minmax", "--seconds", "0.01"]


def export(*options: str | Path) -> Result:
    return CliRunner().invoke(main, ["bundle", "--name", "small", *map(str, options)])


@pytest.fixture(scope="module")
def built(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "small"
    done = export("--run", run, "--out", out, "--variants", "fp32,int8,fp16,int8-tensorrt,int8-openvino", *LENIENT, *QUICK)
    assert done.exit_code == 0, done.output
    assert f"Wrote {out}. Next:" in done.output
    assert f"bcd-edge predict --bundle {out}" in done.output.replace("\n", " ")
    return out


def test_the_runtime_opens_it_and_both_variants_answer_as_alike_as_the_manifest_says(built: Path, run: Path, collection: str) -> None:
    divided = split.read(run / "split.json")
    data = next(item.data for item in read_all([collection]) if divided.part(item) == "test")
    answers = [Classifier.load(built, RunOptions(precision=precision)).classify(data) for precision in ("fp32", "int8")]
    assert [record.execution.precision for record in answers] == ["fp32", "int8"]
    bound = sum(variant["gate"]["max_delta_p"] for variant in json.loads((built / "manifest.json").read_text())["variants"])
    assert answers[0].p_malignant == pytest.approx(answers[1].p_malignant, abs=bound + 1e-4)


def test_the_runtime_answers_as_the_checkpoint_does(built: Path, run: Path, collection: str) -> None:
    images = decode(read_all([collection])[:5], 32)
    content = checkpoint.load(run / "best.pt")
    model = networks.build(name="tiny")
    model.load_state_dict(content["model"])
    with torch.inference_mode():
        logits = model.eval()(torch.tensor(images.pixels_nhwc_u8).permute(0, 3, 1, 2) / 255).numpy()
    classifier = Classifier.load(built, RunOptions(precision="fp32"))
    probabilities = [classifier.classify(pixels).p_malignant for pixels in images.pixels_nhwc_u8]
    expected = expit((logits[:, 1] - logits[:, 0]) / content["meta"]["temperature"])
    assert np.allclose(probabilities, expected, atol=1e-5)


def test_the_manifest_holds_the_comparison_and_no_path_of_this_machine(built: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = (built / "manifest.json").read_text()
    manifest = json.loads(text)
    for variant in manifest["variants"]:
        assert variant["gate"]["images"] == 15
        assert variant["gate"]["refused"] == []
        assert variant["test"]["breakhis"]["patients"] == 5
        assert variant["latency"].get("cpu", {}).get("p50_ms", 1) > 0
    assert manifest["variants"][0]["gate"]["max_delta_p"] <= 1e-4
    assert [variant.get("providers") for variant in manifest["variants"]] == [None, None, None, ["tensorrt"], ["openvino"]]
    assert str(tmp_path_factory.getbasetemp()) not in text
    assert manifest["training"]["settings"]["data"] == ["breakhis=images.zip"]


def test_what_nobody_stated_is_left_open_and_what_was_stated_is_in_the_card(run: Path, built: Path, tmp_path: Path) -> None:
    card = (built / "MODEL_CARD.md").read_text()
    assert "IDC" not in card  # it was not trained on
    assert json.loads((built / "manifest.json").read_text())["scale"] == {"low_um": 245.9, "high_um": 461.0, "trained_um": {"breakhis/100X": 368.8}}
    assert "breakhis/100X 369, zoomed from 246 to 461" in card
    assert card.count("not stated by whoever exported this model") == 3
    assert "Trained on few patients (12 of breakhis) and tested on few (5 of breakhis)" in card
    assert CliRunner().invoke(main, ["bundle", "--run", str(run), "--out", str(tmp_path / "out")]).exit_code == 2
    options = ["--description", "H&E of one hospital.", "--intended-use", "Teaching.", "--licence", "CC0-1.0"]
    done = export("--run", run, "--out", tmp_path / "out", "--variants", "fp32", "--seconds", "0", *options)
    assert done.exit_code == 0, done.output
    card = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert "H&E of one hospital. Teaching." in card
    assert "Licence of the weights: CC0-1.0." in card
    assert "not stated" not in card


def test_a_bundle_knows_its_fields_of_view_only_if_every_training_image_has_one() -> None:
    names = np.array(["a", "b", "c"])
    images = Images(np.zeros((3, 1, 1, 3), np.uint8), names == "a", names, names, np.array(["ward", "ward", "idc"]), names)
    assert scale(images) == scale(replace(images, fields_um=np.array([100, 300, np.nan]))) == {}
    known = scale(replace(images, fields_um=np.array([100.0, 300, 200])))
    assert known == {"low_um": 66.7, "high_um": 375.0, "trained_um": {"idc": 200.0, "ward": 200.0}}


def test_graphs_load_on_old_runtimes_and_name_no_path(built: Path) -> None:
    for file in built.glob("*.onnx"):
        model = onnx.load(file)
        assert model.ir_version <= 10
        assert {entry.domain: entry.version for entry in model.opset_import} == {"": 20}
        (given,), (answered, embedding) = model.graph.input, model.graph.output
        assert embedding.name == "embedding"
        assert (given.name, given.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
        assert (answered.name, answered.type.tensor_type.elem_type) == ("logits", onnx.TensorProto.FLOAT)
        assert not {"BatchNormalization", "Gather", "Range"} & {node.op_type for node in model.graph.node}
        assert b"site-packages" not in file.read_bytes()


def test_int8_is_per_channel_and_the_pixels_are_its_first_activation(built: Path) -> None:
    for name, activations in (("int8", onnx.TensorProto.UINT8), ("int8-tensorrt", onnx.TensorProto.INT8)):
        model = onnx.load(built / f"model.{name}.onnx")
        kinds = {initializer.name: initializer for initializer in model.graph.initializer}
        made_by = {output: node for node in model.graph.node for output in node.output}
        for node in model.graph.node:
            if node.op_type == "Conv":
                weights = made_by[node.input[1]]
                assert kinds[weights.input[0]].data_type == onnx.TensorProto.INT8
                assert kinds[weights.input[1]].dims[0] == kinds[weights.input[0]].dims[0]
            if node.op_type == "QuantizeLinear":
                assert kinds[node.input[2]].data_type == activations
                if name == "int8-tensorrt":
                    assert not onnx.numpy_helper.to_array(kinds[node.input[2]]).any()
        first = next(node for node in model.graph.node if node.op_type == "Conv")
        pixels = made_by[first.input[0]]
        if name == "int8":
            assert pixels.op_type == "DequantizeLinear"
            assert made_by[pixels.input[0]].op_type == "Transpose"
            assert onnx.numpy_helper.to_array(kinds[pixels.input[1]]) == np.float32(1 / 255)
            assert onnx.numpy_helper.to_array(kinds[pixels.input[2]]) == 0
            assert not {"Cast", "Div"} & {node.op_type for node in model.graph.node}


def test_half_as_large_in_fp16_and_a_quarter_in_int8_and_computes_the_same(collection: str, tmp_path: Path) -> None:
    """ResNet-50 with one block a stage: as wide, so that the files are weights above all, and shallow enough to be written in a second."""
    torch.manual_seed(0)
    model, images = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=2).eval(), decode(read_all([collection]), 32)
    for name in ("fp32", "fp16"):
        graph.write(model, 32, tmp_path / f"{name}.onnx", half=name == "fp16")
    quantise.write(quantise.prepare(tmp_path / "fp32.onnx", tmp_path), images, tmp_path / "int8.onnx")
    sizes = {name: (tmp_path / f"{name}.onnx").stat().st_size for name in ("fp32", "fp16", "int8")}
    assert sizes["fp16"] == pytest.approx(sizes["fp32"] / 2, rel=0.01)
    assert sizes["int8"] < 0.27 * sizes["fp32"]
    expected = scores.logits(model, images, torch.device("cpu"))
    for name, tolerance in (("fp32", 1e-4), ("fp16", 0.01), ("int8", 0.1)):
        assert np.abs(gate.answers((tmp_path / f"{name}.onnx").read_bytes(), images) - expected).max() < tolerance * np.abs(expected).max(), name


def test_every_file_answers(built: Path) -> None:
    for file in built.glob("*.onnx"):
        backend = cpu.open(file.read_bytes(), RunOptions())
        for count in (1, 7):
            outputs = backend.infer(np.full((count, 32, 32, 3), 128, np.uint8))
            assert outputs.shape == (count, 2 + bundle.open(built).embedding_size)
            assert outputs.dtype == np.float32


def test_golden_inputs_are_in_the_bundle_with_what_every_variant_says(built: Path) -> None:
    manifest = json.loads((built / "manifest.json").read_text())
    assert len(manifest["golden"]) == 4
    classifier = Classifier.load(built, RunOptions(precision="fp32"))
    for entry in manifest["golden"]:
        assert set(entry["variants"]) == {variant["file"] for variant in manifest["variants"]}
        p = classifier.classify(built / entry["file"]).p_malignant
        assert p == pytest.approx(entry["variants"]["model.fp32.onnx"], abs=1e-5)
        assert p == pytest.approx(entry["p_malignant"], abs=1e-4)


def test_the_report_is_beside_the_bundle(built: Path) -> None:
    report = json.loads((built.with_name("small-report") / "export.json").read_text())
    assert [row["precision"] for row in report["variants"]] == ["fp32", "int8", "fp16", "int8-tensorrt", "int8-openvino"]
    assert "does not diagnose alone" in (built.with_name("small-report") / "export.html").read_text()


def test_calibration_images_are_training_images_and_never_test_patients(collection: str) -> None:
    images = decode(read_all([collection]), 16)
    training, test = images.select(images.groups < "breakhis/1010"), images.select(images.groups >= "breakhis/1010")
    chosen = quantise.calibration_set(training, test, 0)
    assert set(chosen.sha256) == set(training.sha256)
    with pytest.raises(click.ClickException, match="calibrated on 20 test patients"):
        quantise.calibration_set(images, images, 0)
    with pytest.raises(click.ClickException, match="no training image"):
        quantise.calibration_set(images.select(images.groups == "nobody"), test, 0)


def broken(path: Path) -> None:
    """Turns the head's weights round, as a bug in a quantiser might."""
    model = onnx.load(path)
    for initializer in model.graph.initializer:
        if list(initializer.dims) in ([2, 64], [64, 2]):
            values = onnx.numpy_helper.to_array(initializer)
            initializer.CopyFrom(onnx.numpy_helper.from_array(np.clip(-values.astype(int), -127, 127).astype(values.dtype), initializer.name))
    onnx.save(model, path)


@pytest.fixture
def broken_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    write = quantise.write

    def breaking(prepared: Path, calibration: object, path: Path, **options: object) -> dict:
        how = write(prepared, calibration, path, **options)  # type: ignore[arg-type]
        broken(path)
        return how

    monkeypatch.setattr("export.quantise.write", breaking)
    monkeypatch.setattr("export.quantise.sensitive", lambda nodes, loss, say: [])  # nothing would help, and it takes minutes


@pytest.mark.usefixtures("broken_int8")
def test_a_variant_that_lost_accuracy_is_refused_and_the_others_are_written(run: Path, tmp_path: Path) -> None:
    done = export("--run", run, "--out", tmp_path / "out", "--variants", "int8,fp32", *QUICK)
    assert done.exit_code == 3, done.output
    words = " ".join(done.output.split())
    assert "int8 may have lost" in words
    assert "Next:" not in words
    assert "was written with fp32 only." in words
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [variant["precision"] for variant in manifest["variants"]] == ["fp32"]
    assert manifest["compared"]["int8"]["gate"]["refused"]
    assert not (tmp_path / "out" / "model.int8.onnx").exists()
    rows = json.loads((tmp_path / "out-report" / "export.json").read_text())["variants"]
    assert [(row["precision"], row["carried"]) for row in rows] == [("fp32", True), ("int8", False)]


@pytest.mark.usefixtures("broken_int8")
def test_nothing_is_written_when_nothing_passed_and_allowing_it_is_written_down(run: Path, tmp_path: Path) -> None:
    done = export("--run", run, "--out", tmp_path / "out", "--variants", "int8", *QUICK)
    assert done.exit_code == 3, done.output
    assert [path.name for path in tmp_path.iterdir()] == ["out-report"]
    done = export("--run", run, "--out", tmp_path / "out", "--variants", "int8", "--allow-refused", *QUICK)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["variants"][0]["gate"]["refused"]
    assert any("research" in sentence for sentence in Classifier.load(tmp_path / "out").warnings)


def test_sensitive_nodes_are_kept_in_float_one_by_one_until_the_gate_passes(
    run: Path, collection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quantiser that ruins one layer: the search finds that layer, and the file has it in float32."""
    parts = variants.parts(members.load([run], [collection]))
    write, last = quantise.write, []

    def ruins_one(prepared: Path, calibration: object, path: Path, **options: object) -> dict:
        how = write(prepared, calibration, path, **options)  # type: ignore[arg-type]
        last[:] = quantise.convolutions(prepared)[-1:]
        if last[0] not in options["keep"]:  # type: ignore[operator]
            broken(path)
        return how

    monkeypatch.setattr("export.quantise.write", ruins_one)
    monkeypatch.setattr("export.quantise.convolutions", lambda prepared, real=quantise.convolutions: real(prepared)[-3:])
    messages: list[str] = []
    fp32 = variants.floats(parts, tmp_path, "fp32")

    def passes(variant: variants.Variant) -> bool:
        return f"0:{last[0]}" in variant.quantisation["float_nodes"]

    made = variants.int8("int8", fp32, parts, tmp_path, 0, "minmax", passes, messages.append)
    assert made.quantisation["float_nodes"][-1] == f"0:{last[0]}"
    assert f"0:{last[0]} in float32" in messages[-1]
    kept = next(node for node in onnx.load(made.files[0]).graph.node if node.name == last[0])
    assert kept.op_type == "Conv"


def variation(run: Path, out: Path, size: int) -> Path:
    """A finished run of another network: the weights of a trained one, each up to some per cent larger or smaller."""
    content = checkpoint.load(run / "best.pt")
    torch.manual_seed(0)
    for value in content["model"].values():
        if value.is_floating_point():
            value *= 1 + 0.02 * torch.randn_like(value)
    content["meta"]["settings"]["size"] = size
    out.mkdir()
    torch.save(content, out / "best.pt")
    for name in ("split.json", members.UNSEEN):
        shutil.copy(run / name, out)
    return out


def test_an_ensemble_of_one_size_is_one_graph_and_of_two_sizes_two_files(run: Path, tmp_path: Path) -> None:
    for name, size in (("same", 32), ("larger", 64)):
        out = tmp_path / f"with-{name}"
        done = export("--run", run, "--run", variation(run, tmp_path / name, size), "--out", out, "--variants", "fp32,int8", *LENIENT, *QUICK)
        assert done.exit_code == 0, done.output
        manifest = json.loads((out / "manifest.json").read_text())
        assert len(list(out.glob("model.fp32*.onnx"))) == (1 if name == "same" else 2)
        assert manifest["schema"] == (1 if name == "same" else 2)
        assert "ensemble of tiny at 32 x 32" in (out / "MODEL_CARD.md").read_text()
        ensemble = Classifier.load(out, RunOptions(precision="fp32"))
        for entry in manifest["golden"]:
            assert ensemble.classify(out / entry["file"]).p_malignant == pytest.approx(entry["p_malignant"], abs=1e-4)


def test_the_rule_of_an_ensemble_is_chosen_by_answers_for_patients_that_no_member_has_seen(run: Path, tmp_path: Path) -> None:
    first = {"sha256": np.array(["a", "b", "c", "d"]), "p": np.array([0.1, 0.9, 0.6, 0.2]), "malignant": np.array([False, True, True, False])}
    first["groups"] = np.array(["w", "x", "y", "z"])
    second = {name: values[::-1] for name, values in first.items()} | {"p": np.array([0.4, 0.4, 0.7, 0.1])}
    folders = [tmp_path / "1", tmp_path / "2"]
    for folder, answers in zip(folders, (first, second), strict=True):
        folder.mkdir()
        np.savez(folder / members.UNSEEN, **answers)
    runs = [members.Member(folder, {}, torch.nn.Identity(), {}) for folder in folders]
    expected = calibration.decision(first["malignant"], np.array([0.1, 0.8, 0.5, 0.3]), first["groups"])
    assert members.decision(runs) == expected
    np.savez(folders[1] / members.UNSEEN, **second | {"sha256": np.array(["a", "b", "c", "e"])})
    with pytest.raises(click.ClickException, match="calibrated on different images"):
        members.decision(runs)
    (folders[1] / members.UNSEEN).unlink()
    with pytest.raises(click.ClickException, match="train the run again"):
        members.decision(runs)


def test_runs_that_hold_out_different_people_are_no_ensemble(run: Path, collection: str, tmp_path: Path) -> None:
    other = variation(run, tmp_path / "other", 32)
    content = checkpoint.load(other / "best.pt")
    content["meta"]["split"]["fingerprint"] = split.make(read_all([collection]), "patient", 1).fingerprint
    torch.save(content, other / "best.pt")
    done = export("--run", run, "--run", other, "--out", tmp_path / "torn")
    assert done.exit_code == 1
    assert "hold out different people" in done.output


def test_the_bundle_it_replaces_is_compared_on_the_same_patients(built: Path, run: Path, tmp_path: Path) -> None:
    done = export("--run", run, "--out", tmp_path / "out", "--variants", "fp32", "--previous", built, *LENIENT, *QUICK)
    assert done.exit_code == 0, done.output
    previous = json.loads((tmp_path / "out" / "manifest.json").read_text())["previous"]
    assert previous["difference"]["auroc"] == {"value": 0, "low": 0, "high": 0}
    assert "## Beside small 1, on the same test patients" in (tmp_path / "out" / "MODEL_CARD.md").read_text()
    done = export("--run", run, "--out", tmp_path / "second", "--variants", "fp32", "--previous", bundle.embedded(), *LENIENT, *QUICK)
    assert done.exit_code == 1
    assert "--previous-split FILE" in done.output


def test_bundles_of_other_splits_are_compared_on_whom_neither_learned_from(built: Path, run: Path, tmp_path: Path) -> None:
    """The next run keeps the test patients of the one before it, and meets others: some trained the earlier bundle, some it never saw."""
    made = split.read(run / "split.json")
    tested = sorted(group for group, part in made.parts.items() if part == "test")
    trained = sorted(group for group, part in made.parts.items() if part == "train")[:3]
    names = np.array([*tested, *trained, "folder/new"] * 2)
    malignant = np.repeat([False, True], len(names) // 2)
    test = Images(np.empty((len(names), 1, 1, 3), np.uint8), malignant, np.full(len(names), "folder"), names, names, names)
    chosen = previous.load(built, run / "split.json", "another", test)
    assert set(names[chosen.unseen]) == {*tested, "folder/new"}
    assert chosen.held_out == tested
    whole = previous.load(built, None, made.fingerprint, test)
    assert whole.unseen.all()
    with pytest.raises(click.ClickException, match="--previous-split FILE"):
        previous.load(built, None, "another", test)
    (tmp_path / "split.json").write_text(split.Split("patient", {"folder/new": "test"}).text())
    with pytest.raises(click.ClickException, match="was not trained with this split"):
        previous.load(built, tmp_path / "split.json", "another", test)
    with pytest.raises(click.ClickException, match="cannot be compared"):
        previous.load(built, run / "split.json", "another", test.select(np.isin(names, trained)))


def test_a_run_that_keeps_the_split_before_it_is_compared_with_its_bundle(built: Path, run: Path, tmp_path: Path) -> None:
    made = split.read(run / "split.json")
    moved = sorted(group for group, part in made.parts.items() if part == "train")[0]
    extended = split.Split("patient", made.parts | {moved: "test"})
    content = checkpoint.load(variation(run, tmp_path / "next", 32) / "best.pt")
    content["meta"]["split"]["fingerprint"] = extended.fingerprint
    torch.save(content, tmp_path / "next" / "best.pt")
    (tmp_path / "next" / "split.json").write_text(extended.text())
    how = ("--variants", "fp32", "--previous", built, "--previous-split", run / "split.json", *LENIENT, *QUICK)
    done = export("--run", tmp_path / "next", "--out", tmp_path / "out", *how)
    assert done.exit_code == 0, done.output
    beside = json.loads((tmp_path / "out" / "manifest.json").read_text())["previous"]
    tested = sum(part == "test" for part in made.parts.values())
    assert (beside["patients"], beside["held_out_by_both"]) == (tested, tested)
    assert f"On {tested} test patients" in (tmp_path / "out" / "MODEL_CARD.md").read_text()


def test_a_checkpoint_that_is_not_what_it_says(run: Path, tmp_path: Path) -> None:
    content = checkpoint.load(run / "best.pt")
    (tmp_path / "split.json").write_bytes((run / "split.json").read_bytes())
    for change, sentence in (
        ({"classes": ["malignant", "benign"]}, "exchanged"),
        ({"settings": content["meta"]["settings"] | {"network": "resnet50"}}, "does not hold the resnet50"),
    ):
        torch.save({**content, "meta": content["meta"] | change}, tmp_path / "best.pt")
        done = export("--run", tmp_path, "--out", tmp_path / "out")
        assert done.exit_code == 1, done.output
        assert sentence in done.output
    (tmp_path / "best.pt").write_bytes((run / "best.pt").read_bytes()[:100_000])
    done = export("--run", tmp_path, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "no usable checkpoint" in done.output


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--variants", "int4"], "choose from"),
        (["--max-drop", "luck=1"], "metrics that are judged"),
        (["--max-drop", "auroc=much"], "number from 0 to 1"),
    ],
)
def test_options_that_make_no_sense(options: list[str], sentence: str, run: Path, tmp_path: Path) -> None:
    done = export("--run", run, "--out", tmp_path / "out", *options)
    assert done.exit_code == 2
    assert sentence in done.output


def test_other_images_than_the_runs_are_refused(run: Path, tmp_path: Path) -> None:
    from tests.conftest import write_collection

    other = write_collection(tmp_path / "images.zip", patients=11, images=1)
    done = export("--run", run, "--out", tmp_path / "out", "--data", f"breakhis={other}")
    assert done.exit_code == 1
    assert "split fingerprint" in done.output


def test_an_unfinished_run_and_an_existing_bundle_are_refused(built: Path, run: Path, tmp_path: Path) -> None:
    assert "exists" in export("--run", run, "--out", built).output
    content = checkpoint.load(run / "best.pt")
    del content["meta"]["test"]
    torch.save(content, tmp_path / "best.pt")
    assert "not finished" in export("--run", tmp_path, "--out", tmp_path / "out").output


def test_a_folder_that_cannot_be_written_is_5_and_a_bundle_that_is_none_3(run: Path, collection: str, tmp_path: Path) -> None:
    done = export("--run", run, "--out", "/proc/nowhere/bundle")
    assert done.exit_code == 5, done.output
    (tmp_path / "predictions.csv").touch()
    done = CliRunner().invoke(main, ["score", str(tmp_path / "predictions.csv"), "--bundle", str(tmp_path), "--data", collection])
    assert done.exit_code == 3, done.output


def test_score_finds_what_the_manifest_promises(built: Path, collection: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(collection.partition("=")[2]) as archive:
        archive.extractall(tmp_path / "images")
    predicted = subprocess.run(
        [
            sys.executable,
            "-m",
            "bcd_edge",
            "predict",
            tmp_path / "images",
            "--bundle",
            built,
            "--precision",
            "int8",
            "--provider",
            "cpu",
            "--format",
            "csv",
        ],
        capture_output=True,
        check=True,
    )
    predictions = tmp_path / "predictions.csv"
    predictions.write_bytes(predicted.stdout)
    command = ["score", str(predictions), "--bundle", str(built), "--data", collection]
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(predicted.stdout.decode().splitlines()))
    for row in rows:
        row["p_malignant"] = str(1 - float(row["p_malignant"]))
    with predictions.open("w") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1
    assert "differs" in done.output
    done = CliRunner().invoke(main, ["score", str(predictions), "--data", collection])
    assert done.exit_code == 1
    assert "was made with the bundle small 1" in done.output
    assert "--bundle DIR" in done.output
    predictions.write_bytes(b"".join(predicted.stdout.splitlines(keepends=True)[:5]))
    assert "no answer for" in CliRunner().invoke(main, command).output


def test_int8_in_fp32_is_compared_on_the_test_patients(built: Path, collection: str, tmp_path: Path) -> None:
    int8 = shutil.copytree(built, tmp_path / "int8")
    manifest = json.loads((int8 / "manifest.json").read_text())
    manifest["variants"] = [variant for variant in manifest["variants"] if variant["precision"] != "fp32"]
    (int8 / "manifest.json").write_text(json.dumps(manifest))
    done = CliRunner().invoke(main, ["dequantise", "--bundle", str(int8), "--out", str(tmp_path / "fp32"), "--data", collection])
    assert done.exit_code == 0, done.output
    assert "the gate's bound" in done.output
    opened = bundle.open(tmp_path / "fp32")
    assert set(opened.variants()[0]["test"]) == set(manifest["variants"][0]["test"])
    assert opened.manifest["derived_from"]["difference"]["patients"] == manifest["variants"][0]["gate"]["patients"]


def test_weights_outside_the_file_are_not_loaded(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load(built / "model.fp32.onnx")
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError):
        cpu.open((tmp_path / "model.onnx").read_bytes(), RunOptions())


@pytest.mark.parametrize("name", plugins.names("train.networks"))
def test_folded_networks_compute_what_the_checkpoint_computes(name: str) -> None:
    torch.manual_seed(0)
    model = networks.build(name=name).eval()
    with torch.no_grad():
        for key, value in model.named_buffers():
            if key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            if key.endswith("running_mean"):
                value.normal_(0, 0.1)
        images = torch.rand(2, 3, networks.get_architecture(name).smallest, networks.get_architecture(name).smallest)
        expected = model(images)
        folded = graph.plain(model)(images)
    assert torch.allclose(folded, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    left = sum(isinstance(module, torch.nn.BatchNorm2d) for module in graph.plain(model).modules())
    assert left == {"densenet121": 62, "resnet50v2": 15}.get(name, 0)  # those before their convolution


def test_the_embedded_bundle_was_compared_and_passed() -> None:
    manifest = bundle.open().manifest
    assert manifest["compared"]["fp32"]["gate"]["max_delta_p"] <= 1e-4
    (shipped,) = manifest["variants"]
    assert shipped["gate"]["refused"] == []
    assert {shipped["gate"]["provider"], *shipped["gate"]["others"]} == {"cpu", "openvino"}
    assert all(scores["auroc"]["value"] >= -0.005 for scores in shipped["gate"]["by_source"].values())
    assert bundle.open().golden()
