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
from bcd_edge import Classifier
from bcd_edge.backends import Options
from bcd_edge.errors import BundleError, ProviderError, UsageError
from bcd_edge.readers import raster


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
    from bcd_edge.synthetic import tissue

    image = tissue(2)
    small = raster.fit(image, classifier.bundle.input)
    assert classifier.classify(image).p_malignant == classifier.classify(small).p_malignant
    assert classifier.classify(image).p_malignant != classifier.classify(image[..., ::-1]).p_malignant


def test_the_threshold_is_the_callers(png: bytes) -> None:
    assert Classifier.load(threshold=0).classify(png).label == "malignant"
    assert Classifier.load(threshold=1).classify(png).label == "benign"
    with pytest.raises(UsageError):
        Classifier.load(threshold=2)


def test_an_unknown_provider_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="choose one of cpu"):
        Classifier.load(provider="abacus")


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
        f"{name} int8 was refused by the accuracy gate and is carried for research only: int8 lost 0.0123 AUROC on idc.",
    )


def test_an_ensemble_answers_with_the_mean_of_calibrated_probabilities(
    ensemble: Callable[..., Path], classifier: Classifier, picture: np.ndarray
) -> None:
    (single,) = classifier.bundle.members
    p = classifier.classify(picture).p_malignant
    assert p
    difference = single.temperature * math.log(p / (1 - p))
    found = Classifier.load(ensemble(), provider="cpu").classify(picture)
    assert found.p_malignant == pytest.approx(np.mean([1 / (1 + math.exp(-difference / temperature)) for temperature in (1, 3)]), abs=1e-6)
    assert found.execution.precision == "int8"
    assert set(found.as_dict()) == set(classifier.classify(picture).as_dict())


class Fake:
    """Answers as its file says, and takes one size only."""

    provider, device, batch = "cpu", "a processor", 0

    def __init__(self, content: bytes) -> None:
        self.side, *self.logits = map(float, content.split())

    def infer(self, batch: np.ndarray) -> np.ndarray:
        assert batch.shape == (1, self.side, self.side, 3)
        return np.array([self.logits], np.float32)

    def close(self) -> None:
        self.side = 0


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
    ensemble: Callable[..., Path], picture: np.ndarray, monkeypatch: pytest.MonkeyPatch, order: tuple[bytes, bytes]
) -> None:
    folder = ensemble(with_files(*order))
    for content in order:
        (folder / f"model-{content[:2].decode()}.onnx").write_bytes(content)
    monkeypatch.setattr("bcd_edge.backends.providers.cpu.open", lambda content, options: Fake(content))
    expected = [1 / (1 + math.exp(-float(content.split()[2]) / temperature)) for content, temperature in zip(order, (1, 3), strict=True)]
    with Classifier.load(folder, provider="cpu") as classifier:
        assert classifier.classify(picture).p_malignant == pytest.approx(np.mean(expected))


def test_a_member_that_answers_no_number_is_no_answer(ensemble: Callable[..., Path], picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(content: bytes, options: Options) -> Fake:
        opened.append(Fake(b"150 0 nan" if opened else b"150 0 1"))
        return opened[-1]

    opened: list[Fake] = []
    monkeypatch.setattr("bcd_edge.backends.providers.cpu.open", nowhere)
    with pytest.raises(ProviderError):
        Classifier.load(ensemble(), provider="cpu").classify(picture)
