from __future__ import annotations

import cv2
import numpy as np
import pytest

from bcd_edge.cohort.dictionary import FEATURES, NAMES
from bcd_edge.cohort.features import density, measure
from bcd_edge.synthetic import GLASS, NUCLEUS, STROMA, tissue

SHARES = ("cell_rich_share", "stroma_share", "fat_share", "blank_share")


def field(*, nuclei: int, radius: int = 8, side: int = 400) -> np.ndarray:
    """Nuclei of one size on a grid, so that their number, area and spacing are known."""
    canvas = np.full((side, side, 3), STROMA, np.float32)
    per_row = round(nuclei**0.5)
    step = side // per_row
    for index in range(per_row**2):
        centre = (step // 2 + step * (index % per_row), step // 2 + step * (index // per_row))
        cv2.circle(canvas, centre, radius, NUCLEUS.tolist(), -1)
    canvas[:40] = GLASS
    noisy = cv2.GaussianBlur(canvas, (0, 0), 0.8) + np.random.default_rng(0).normal(0, 3, canvas.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def test_the_nuclei_of_a_grid_are_counted_and_measured() -> None:
    features = measure(field(nuclei=64), 0.5)
    assert features["nuclei_count"] == 56, "eight of them are under the glass"
    assert features["nucleus_area_mean"] == pytest.approx(np.pi * 4**2, rel=0.12)
    assert features["nuclei_spacing"] == pytest.approx(25, rel=0.02)
    assert features["nucleus_eccentricity_mean"] < 0.4
    assert features["nuclei_density"] == pytest.approx(56 / (0.2 * 0.18), rel=0.05)


def test_the_scale_of_the_picture_does_not_change_what_is_measured() -> None:
    picture = field(nuclei=49, radius=12)
    finer = cv2.resize(picture, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    coarse, fine = measure(picture, 0.5), measure(finer, 0.25)
    for name in ("nuclei_count", "nucleus_area_mean", "nuclei_spacing", "stroma_share", "blank_share", "eosin_mean", "field_mm2"):
        assert fine[name] == pytest.approx(coarse[name], rel=0.05), name


def test_nuclei_that_touch_are_divided() -> None:
    canvas = np.full((120, 120, 3), STROMA, np.float32)
    canvas[:20] = GLASS
    for centre in ((52, 60), (67, 60)):
        cv2.circle(canvas, centre, 9, NUCLEUS.tolist(), -1)
    assert measure(np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.8), np.uint8), 0.5)["nuclei_count"] == 2


def test_shares_sum_to_one_and_see_empty_areas() -> None:
    features = measure(tissue(2, glands=6), 0.5)
    assert sum(features[name] for name in SHARES) == pytest.approx(1)
    assert features["fat_share"] > 0.02, "lumens are round and empty, too"
    empty = measure(np.full((200, 200, 3), 240, np.uint8), 0.5)
    assert empty["blank_share"] == 1
    assert empty["nuclei_count"] == 0
    assert empty["nuclei_density"] is None


def test_what_needs_the_scale_is_missing_without_it() -> None:
    for um_per_pixel in (None, 1.5, 900.0):
        features = measure(tissue(3, height=150, width=150), um_per_pixel)
        assert list(features) == list(NAMES)
        assert features["eosin_mean"] is not None
        assert [
            feature.name for feature in FEATURES if feature.needs_scale and feature.name != "field_mm2" and features[feature.name] is not None
        ] == []


def test_a_dim_lamp_is_no_stain() -> None:
    picture = tissue(4)
    dim = (picture * 0.85).astype(np.uint8)
    assert np.abs(density(picture) - density(dim)).mean() < 0.01
    assert measure(dim, 0.5)["nuclei_count"] == pytest.approx(measure(picture, 0.5)["nuclei_count"], rel=0.05)


def test_a_tinted_lamp_is_seen_and_is_no_stain_either() -> None:
    picture = tissue(6)
    green = (picture * (0.85, 1, 0.9)).astype(np.uint8)
    assert measure(green, 0.5)["white_tint"] < measure(picture, 0.5)["white_tint"] - 20
    assert measure(green, 0.5)["eosin_mean"] == pytest.approx(measure(picture, 0.5)["eosin_mean"], rel=0.05)


def test_every_feature_has_a_unit_a_definition_and_a_source() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert [
        feature.name for feature in FEATURES if not (feature.unit and feature.title and feature.source and feature.definition.endswith("."))
    ] == []
