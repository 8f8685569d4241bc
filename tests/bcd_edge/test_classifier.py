"""One image to one record, with the embedded model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bcd_edge
from bcd_edge import Classifier, imaging
from bcd_edge.errors import BundleError, UsageError


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
    small = imaging.fit(image, classifier.bundle.input)
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
