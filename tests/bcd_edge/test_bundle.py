"""What is refused: damage, the unknown, and paths that leave the folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bcd_edge import bundle
from bcd_edge.classifier import Classifier
from bcd_edge.errors import BundleError

Changed = Callable[..., Path]


def test_the_embedded_bundle_is_whole() -> None:
    opened = bundle.open()
    assert opened.precisions[0] == "int8"
    assert opened.model()[0] == opened.manifest["variants"][0]
    assert bundle.verify(opened) == ([], [])
    card = (bundle.embedded() / "MODEL_CARD.md").read_text()
    assert "must not be used" in card


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a Protocol Buffers message, the integers and the bytes; the runtime has no onnx package."""

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    at = 0
    while at < len(message):
        key = varint()
        if key & 7 == 2:
            size = varint()
            yield key >> 3, message[at : at + size]
            at += size
        else:
            assert key & 7 == 0
            yield key >> 3, varint()


def test_the_embedded_models_load_in_onnxruntime_1_20() -> None:
    """ModelProto (onnx.proto): field 1 is ir_version, field 8 an OperatorSetIdProto of domain (1) and version (2).

    ONNX Runtime 1.20 of JetPack 6 knows opset 21 and IR version 10, its TensorRT 10.3 opset 20.
    """
    opened = bundle.open()
    for variant in opened.variants():
        for entry, model in zip(bundle.files(variant), opened.model(variant["precision"])[1], strict=True):
            model_fields = list(fields(model))
            (ir_version,) = [value for number, value in model_fields if number == 1]
            opsets = [dict(fields(value)) for number, value in model_fields if number == 8 and isinstance(value, bytes)]
            assert isinstance(ir_version, int)
            assert ir_version == entry["ir_version"] <= 10
            assert [opset.get(1, b"") for opset in opsets] == [b""]
            assert opsets[0][2] == entry["opset"] <= 20


def test_a_zip_is_a_bundle_too(changed: Changed, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "zipped"), "zip", changed())
    assert bundle.open(archive).model() == bundle.open().model()


def test_what_is_named_one_level_too_high_or_too_low_is_told_apart(changed: Changed, tmp_path: Path) -> None:
    folder = changed()
    for wrong in (shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path, folder.name), tmp_path):
        with pytest.raises(BundleError, match=f"is in the folder {folder.name}: give that folder"):
            bundle.open(wrong)
    with pytest.raises(BundleError, match="a model without its manifest; give the bundle's folder"):
        bundle.open(folder / "model.int8.onnx")


@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_a_changed_byte_is_refused(changed: Changed, place: float) -> None:
    folder = changed()
    model = folder / bundle.open(folder).manifest["variants"][0]["file"]
    content = bytearray(model.read_bytes())
    content[int(place * len(content)) if place > 0 else int(place)] ^= 1
    model.write_bytes(content)
    with pytest.raises(BundleError, match="SHA-256"):
        Classifier.load(folder)


def variant(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["variants"][0].update(fields)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda manifest: manifest.update(schema=4), "schema 4 and this program reads 1 to 3"),
        (lambda manifest: manifest.pop("novelty"), "novelty: schema 3 has it"),
        (lambda manifest: manifest["novelty"].update(file="../novelty.npz"), "novelty/file"),
        (lambda manifest: manifest.update(schema=2), "'members' is a required"),
        (lambda manifest: manifest.update(members=[]), "members: schema 3 has no such key"),
        (lambda manifest: manifest.pop("schema"), "schema None"),
        (lambda manifest: manifest.update(classes=["malignant", "benign"]), "classes"),
        (lambda manifest: manifest.pop("classes"), "classes"),
        (lambda manifest: manifest["input"].update(colour="BGR"), "input/colour"),
        (lambda manifest: manifest["output"].update(temperature=0), "output/temperature"),
        (lambda manifest: manifest["decision"].update(review_low=0.999999, threshold=0.1), "review band"),
        (variant(file="../model.onnx"), "variants/0/file"),
        (variant(file="/etc/passwd"), "variants/0/file"),
        (variant(file="sub/model.onnx"), "variants/0/file"),
        (variant(file="..\\model.onnx"), "variants/0/file"),
        (variant(sha256="0" * 63), "variants/0/sha256"),
        (variant(opset=21), "variants/0/opset"),
        (variant(providers=[]), "variants/0/providers"),
        (variant(gate={}), "variants/0/gate"),
        (variant(test={"idc": {"metrics": {"auroc": 0.9}}}), "variants/0/test/idc"),
        (lambda manifest: manifest.update(variants=[]), "variants"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(changed: Changed, edit: Callable[[dict[str, Any]], None], sentence: str) -> None:
    with pytest.raises(BundleError, match=sentence):
        bundle.open(changed(edit))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe", b'"manifest"', b'{"schema": NaN}', b"[" * 100_000])
def test_a_manifest_that_is_none_is_refused(changed: Changed, content: bytes) -> None:
    folder = changed()
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        bundle.open(folder)


def test_a_link_that_leaves_the_folder_is_refused(changed: Changed, tmp_path: Path) -> None:
    folder = changed()
    model = folder / bundle.open(folder).manifest["variants"][0]["file"]
    outside = tmp_path / "outside.onnx"
    model.rename(outside)
    model.symlink_to(outside)
    with pytest.raises(BundleError, match="leaves the bundle"):
        bundle.open(folder).model()


def test_missing_files_and_damaged_archives(changed: Changed, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        bundle.open(tmp_path / "none")
    with pytest.raises(BundleError, match="missing"):
        bundle.open(tmp_path)
    folder = changed()
    archive = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", folder))
    archive.write_bytes(archive.read_bytes()[:-5000])
    with pytest.raises(BundleError, match=r"zipped\.zip"):
        bundle.open(archive)
    (folder / bundle.open(folder).manifest["variants"][0]["file"]).unlink()
    with pytest.raises(BundleError, match="missing"):
        bundle.open(folder).model()


def test_an_unknown_precision_names_those_there_are() -> None:
    with pytest.raises(BundleError, match="has no fp16 variant; it has int8"):
        bundle.open().model("fp16")


def test_the_card_says_what_the_manifest_says() -> None:
    manifest = json.loads((bundle.embedded() / "manifest.json").read_text())
    card = (bundle.embedded() / "MODEL_CARD.md").read_text()
    for scores in manifest["variants"][0]["test"].values():
        auroc = scores["metrics"]["auroc"]
        assert f"{auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]" in card
    for limit in manifest["limits"]:
        assert limit in card


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda manifest: manifest["golden"][0].update(file="../x.png"), "golden/0/file"),
        (lambda manifest: manifest["golden"][0].update(p_malignant=1.5), "golden/0/p_malignant"),
        (lambda manifest: manifest["golden"][1].update(variants={}), r"golden/1/variants: nothing was measured for model\.int8\.onnx"),
    ],
)
def test_golden_images_that_say_nothing_are_refused(golden: Changed, edit: Callable[[dict[str, Any]], None], sentence: str) -> None:
    with pytest.raises(BundleError, match=sentence):
        bundle.open(golden(edit))


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda manifest: manifest.pop("members"), "'members' is a required"),
        (lambda manifest: manifest["members"].pop(), "members"),
        (lambda manifest: manifest.update(schema=1), "schema 1 has no such key"),
        (lambda manifest: manifest["input"].update(height=151), "input: it differs from the first member's"),
        (lambda manifest: manifest["variants"][0]["members"].pop(), "variants/0/members: 1 files for 2 members"),
        (lambda manifest: manifest["variants"][0]["members"].append(manifest["variants"][0]["members"][0]), "3 files for 2 members"),
        (lambda manifest: manifest["variants"][0].pop("members"), "variants/0"),
        (variant(file="model.int8.onnx"), "variants/0/file: schema 2 has no such key"),
        (lambda manifest: manifest["variants"][0]["members"][1].update(file="../model.onnx"), "variants/0/members/1/file"),
        (lambda manifest: manifest["members"][1].update(temperature=0), "members/1/temperature"),
        (lambda manifest: manifest["output"].update(temperature=2), "output/temperature"),
    ],
)
def test_an_ensemble_that_contradicts_itself_is_refused(ensemble: Changed, edit: Callable[[dict[str, Any]], None], sentence: str) -> None:
    with pytest.raises(BundleError, match=sentence):
        bundle.open(ensemble(edit))


def several(*variants: tuple[str, list[str] | None]) -> Callable[[dict[str, Any]], None]:
    """Variants of these precisions and providers, each calling itself by its number."""

    def edit(manifest: dict[str, Any]) -> None:
        (first,) = manifest["variants"]
        first.pop("providers", None)
        manifest["variants"] = [
            first | {"precision": precision, "difference": {"number": number}} | ({"providers": providers} if providers else {})
            for number, (precision, providers) in enumerate(variants)
        ]

    return edit


@pytest.mark.parametrize(
    ("precision", "provider", "number"),
    [
        (None, None, 0),
        (None, "cpu", 1),
        (None, "tensorrt", 0),
        ("int8", None, 1),
        ("int8", "cpu", 1),
        ("int8", "openvino", 2),
        ("fp32", "openvino", 3),
    ],
)
def test_a_variant_made_for_the_provider_comes_first(changed: Changed, precision: str | None, provider: str | None, number: int) -> None:
    opened = bundle.open(changed(several(("fp16", ["tensorrt"]), ("int8", None), ("int8", ["openvino"]), ("fp32", None))))
    assert opened.variant(precision, provider)["difference"]["number"] == number


def test_no_variant_for_a_provider_says_what_there_is(changed: Changed) -> None:
    opened = bundle.open(changed(several(("fp16", ["tensorrt", "cuda"]), ("int8", ["openvino"]))))
    with pytest.raises(BundleError, match=r"has no variant for the provider cpu; it has fp16 \(for tensorrt, cuda\), int8 \(for openvino\)\."):
        opened.variant(provider="cpu")
    with pytest.raises(BundleError, match="has no int8 variant for the provider cuda"):
        opened.variant("int8", "cuda")
