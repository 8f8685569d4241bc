"""One image to one record, with the embedded model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bcd_edge
from bcd_edge import Classifier, bundle
from bcd_edge.backends.fake import FakeBackend
from bcd_edge.errors import BundleError, ProviderError, UsageError
from bcd_edge.loading import LoadedModel
from bcd_edge.options import Plan, RunOptions
from bcd_edge.pictures import decode
from bcd_edge.readers import raster
from bcd_edge.synthetic import tissue


def test_path_bytes_and_pixels_give_one_answer(classifier: Classifier, picture: np.ndarray, png: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    file.write_bytes(png)
    records = [classifier.classify(source) for source in (str(file), file, png, picture)]
    assert len({record.p_malignant for record in records}) == 1
    assert [record.source for record in records] == [str(file), str(file), "<bytes>", "<array>"]
    assert records[0].sha256 == hashlib.sha256(png).hexdigest()


def test_a_record_says_what_ran_and_how_long(classifier: Classifier, png: bytes) -> None:
    record = classifier.classify(png, name="x")
    assert record.status == "ok"
    assert record.source == "x"
    assert record.error is None
    assert record.decision in (record.label, "review")
    assert record.timing_ms
    assert 0 < record.timing_ms.infer < record.timing_ms.total
    assert record.execution.provider == "cpu"
    assert record.execution.precision == "int8"
    assert record.execution.version == bcd_edge.__version__
    assert len(record.execution.bundle_sha256) == 64


@pytest.mark.parametrize("source", [b"", b"no image", "none.png", np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3)), np.zeros((0, 2, 3), np.uint8)])
def test_what_is_no_image_becomes_a_failed_record(classifier: Classifier, source: bytes | str | np.ndarray) -> None:
    record = classifier.classify(source)
    assert record.status == "failed"
    assert record.error
    assert record.error.endswith(".")
    assert record.label is record.p_malignant is record.decision is record.timing_ms is None


def test_pixels_may_be_a_view(classifier: Classifier, picture: np.ndarray) -> None:
    flipped = picture[:, ::-1]
    assert classifier.classify(flipped).p_malignant == classifier.classify(flipped.copy()).p_malignant


def test_size_does_not_change_the_answer_much_and_colour_does(classifier: Classifier) -> None:
    image = tissue(2)
    small = raster.resize(image, classifier.bundle.input)
    assert classifier.classify(image).p_malignant == classifier.classify(small).p_malignant
    assert classifier.classify(image).p_malignant != classifier.classify(image[..., ::-1]).p_malignant


def test_the_threshold_is_the_callers(png: bytes) -> None:
    assert Classifier.load(threshold=0).classify(png).label == "malignant"
    assert Classifier.load(threshold=1).classify(png).label == "benign"
    with pytest.raises(UsageError):
        Classifier.load(threshold=2)


def test_an_unknown_provider_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="choose one of cpu"):
        Classifier.load(options=RunOptions(provider="abacus"))


def test_a_model_that_is_none_is_refused(changed: Callable[..., Path]) -> None:
    def empty(manifest: dict) -> None:
        manifest["variants"][0].update(file="none.onnx", sha256=hashlib.sha256(b"none").hexdigest())

    folder = changed(empty)
    (folder / "none.onnx").write_bytes(b"none")
    with pytest.raises(BundleError, match="does not load"):
        Classifier.load(folder)


def test_it_closes(png: bytes) -> None:
    with Classifier.load() as classifier:
        assert classifier.classify(png).status == "ok"


def test_a_variant_that_the_gate_refused_warns(changed: Callable[..., Path], classifier: Classifier) -> None:
    assert classifier.warnings == ()
    folder = changed(lambda manifest: manifest["variants"][0].update(gate={"refused": ["int8 lost 0.0123 AUROC on idc."]}))
    name = classifier.bundle.name
    assert Classifier.load(folder).warnings == (
        f"{name} int8 was refused by the accuracy gate and is for research only: int8 lost 0.0123 AUROC on idc.",
    )


def test_an_ensemble_answers_with_the_mean_of_calibrated_probabilities(
    ensemble: Callable[..., Path], classifier: Classifier, picture: np.ndarray
) -> None:
    (single,) = classifier.bundle.members
    p = classifier.classify(picture).p_malignant
    assert p
    difference = single.temperature * math.log(p / (1 - p))
    record = Classifier.load(ensemble(), RunOptions(provider="cpu")).classify(picture)
    assert record.p_malignant == pytest.approx(np.mean([1 / (1 + math.exp(-difference / temperature)) for temperature in (1, 3)]), abs=1e-6)
    assert record.execution.precision == "int8"
    assert set(record.as_dict()) == set(classifier.classify(picture).as_dict())


def with_files(*contents: bytes) -> Callable[[dict[str, Any]], None]:
    """Members of the sizes their files ask for, in this order."""

    def edit(manifest: dict[str, Any]) -> None:
        for member, file, content in zip(manifest["members"], manifest["variants"][0]["members"], contents, strict=True):
            side = int(content.split()[0])
            member["input"].update(height=side, width=side)
            file.update(file=f"model-{side}.onnx", sha256=hashlib.sha256(content).hexdigest())

        manifest["input"] = manifest["members"][0]["input"]

    return edit


@pytest.mark.parametrize("order", [(b"40 0 2", b"60 0 -1"), (b"60 0 -1", b"40 0 2")])
def test_each_member_gets_its_file_its_size_and_its_temperature(
    ensemble: Callable[..., Path], picture: np.ndarray, order: tuple[bytes, bytes]
) -> None:
    folder = ensemble(with_files(*order))
    for content in order:
        (folder / f"model-{content[:2].decode()}.onnx").write_bytes(content)
    opened = bundle.open(folder)
    backends = [answering(content) for content in opened.model()[1]]
    expected = [1 / (1 + math.exp(-float(content.split()[2]) / temperature)) for content, temperature in zip(order, (1, 3), strict=True)]
    with Classifier(LoadedModel(opened, Plan("fake"), opened.variant(), backends)) as classifier:
        assert classifier.classify(picture).p_malignant == pytest.approx(np.mean(expected))
    assert all(backend.is_closed for backend in backends)


def answering(content: bytes) -> FakeBackend:
    """Takes images of one size only, and gives the same logits for each, as its file says."""
    side, *logits = map(float, content.split())

    def model(batch: np.ndarray) -> np.ndarray:
        assert batch.shape == (1, side, side, 3)
        return np.array([logits], np.float32)

    return FakeBackend(model)


def test_a_member_that_answers_no_number_is_no_answer(ensemble: Callable[..., Path], picture: np.ndarray) -> None:
    opened = bundle.open(ensemble())
    backends = [answering(content) for content in (b"192 0 1", b"192 0 nan")]
    with pytest.raises(ProviderError, match="two numbers per image"):
        Classifier(LoadedModel(opened, Plan("fake"), opened.variant(), backends)).classify(picture)


def test_every_picture_comes_back_with_its_key(png: bytes) -> None:
    opened = bundle.open()
    backend = FakeBackend()
    with Classifier(LoadedModel(opened, Plan("fake", batch=3, streams=2), opened.variant(), [backend])) as classifier:
        pictures = [((number, number % 5), tissue(number) if number % 3 else png if number % 2 else b"damaged") for number in range(20)]
        answers = list(classifier.classify_many(pictures, name=lambda key: f"tile {key[0]}"))
        assert [key for key, _ in answers] == [key for key, _ in pictures]
        for (key, picture), (_, record) in zip(pictures, answers, strict=True):
            assert record.source == f"tile {key[0]}"
            assert record.p_malignant == classifier.classify(picture).p_malignant
        assert answers[0][1].sha256 == hashlib.sha256(b"damaged").hexdigest()
        assert max(shape[0] for shape in backend.shapes) <= 3


def test_an_image_that_was_decoded_before_gives_the_same_record(classifier: Classifier, png: bytes) -> None:
    image = decode(png)
    record, again = classifier.classify(png, name="x"), classifier.classify(image, name="x")
    assert (record.sha256, record.p_malignant) == (again.sha256, again.p_malignant)
    assert again.timing_ms
    assert again.timing_ms.decode == pytest.approx(image.decode_ms, abs=1e-3)
