"""Tissue passes at any size; what cannot be judged is flagged for the right reason, and never answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

from bcd_edge import Classifier
from bcd_edge.errors import InputError
from bcd_edge.readers.pixels import UInt8Image
from bcd_edge.records import Record
from bcd_edge.synthetic import samples, tissue
from bcd_edge.triage.quality import SIDE, quality

PICTURE = tissue(2)


def negative(image: UInt8Image) -> UInt8Image:
    return np.asarray(255 - image, np.uint8)


DEGRADED: dict[str, Callable[[UInt8Image], UInt8Image]] = {
    "out of focus": lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), 11), np.uint8),
    "too dark": lambda image: np.asarray(image * 0.4, np.uint8),
    "overexposed": lambda image: np.asarray(np.clip(image * 1.6, 0, 255), np.uint8),
    "uniform": lambda image: np.asarray(128 + (image - 128.0) * 0.1, np.uint8),
    "hardly any tissue": lambda image: np.asarray(np.where(np.arange(700)[:, None] < 680, 244, image), np.uint8),
    "colourless": lambda image: np.asarray(np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2), np.uint8),
    "not stained with H&E": lambda image: np.ascontiguousarray(image[..., (0, 2, 1)]),
    "not stained": negative,
}


@pytest.mark.parametrize("size", [(460, 700), (192, 192), (230, 350), (900, 1200)])
@pytest.mark.parametrize("seed", range(3))
def test_tissue_passes(seed: int, size: tuple[int, int]) -> None:
    picture = np.asarray(cv2.resize(tissue(seed), size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    measured = quality(picture)
    assert measured.reasons == ()
    assert measured.stain > 0.9
    assert 0 <= measured.tissue <= 1


@pytest.mark.parametrize("reason", DEGRADED)
def test_what_cannot_be_judged_is_flagged_for_its_reason(reason: str) -> None:
    assert any(sentence.startswith(reason) for sentence in quality(DEGRADED[reason](PICTURE)).reasons)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_nothing_to_see_is_an_error(level: int) -> None:
    with pytest.raises(InputError, match="Nothing can be seen"):
        quality(np.full((100, 120, 3), level, np.uint8))


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (3, 2), (20, 20), (2000, 3)])
def test_any_size_is_measured(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    try:
        assert quality(picture).focus >= 0
    except InputError:
        assert shape == (1, 1)


def test_the_reduced_picture_gives_the_same() -> None:
    reduced = np.asarray(cv2.resize(PICTURE, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    assert quality(PICTURE, reduced) == quality(PICTURE)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load()


def test_a_flagged_picture_needs_review_and_the_reason_comes_first(classifier: Classifier) -> None:
    record = classifier.classify(samples()["real-colon-ihc"])
    assert record.decision == "review"
    assert record.reasons[0].startswith("not stained with H&E")
    assert record.quality is not None
    assert record.reasons[: len(record.quality.reasons)] == record.quality.reasons
    assert record.reasons[-1].startswith("p_malignant")
    assert Record.from_dict(record.as_dict()) == record


def test_nothing_to_see_fails_and_the_rest_is_answered(classifier: Classifier) -> None:
    pictures = {"blank": np.full((64, 64, 3), 243, np.uint8), "tissue": PICTURE}
    records = dict(classifier.classify_many(pictures.items()))
    assert (records["blank"].status, records["tissue"].status) == ("failed", "ok")
    assert "Nothing can be seen" in (records["blank"].error or "")
    assert records["blank"].sha256


def test_without_the_check_the_models_answer_stands(classifier: Classifier) -> None:
    image = negative(PICTURE)
    with Classifier.load(measures_quality=False) as unchecked:
        plain = unchecked.classify(image)
    checked = classifier.classify(image)
    assert plain.quality is None
    assert checked.p_malignant == plain.p_malignant
    assert checked.decision == "review"
    tissue_record = classifier.classify(PICTURE)
    with Classifier.load(measures_quality=False) as unchecked:
        expected = replace(unchecked.classify(PICTURE), timing_ms=None)
    assert replace(tissue_record, timing_ms=None, quality=None) == expected
