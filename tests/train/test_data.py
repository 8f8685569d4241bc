"""Pixels, weights and augmentation."""

from __future__ import annotations

import click
import numpy as np
import pytest
import torch

from bcd_edge import imaging
from bcd_edge.bundle import Input
from bcd_edge.synthetic import tissue
from train import data
from train.sources import Item
from train.split import by_patient


def images(counts: dict[tuple[str, str, bool], int]) -> data.Images:
    rows = [key for key, count in counts.items() for _ in range(count)]
    column = [np.array(values) for values in zip(*rows, strict=True)]
    return data.Images(np.zeros((len(rows), 8, 8, 3), np.uint8), column[2].astype(bool), column[0], column[1], column[0], column[0])


def test_pixels_are_those_of_the_runtime(collection: str) -> None:
    items = data.read_all([collection])
    decoded = data.decode(items[:3], 32)
    for index in range(3):
        assert np.array_equal(decoded.pixels_nhwc_u8[index], imaging.fit(imaging.decode(items[index].data), Input(32, 32)))


def test_the_same_file_twice_counts_once(collection: str) -> None:
    assert len(data.read_all([collection, collection])) == len(data.read_all([collection])) == 60


def test_a_damaged_image_ends_the_run_by_name() -> None:
    with pytest.raises(click.ClickException, match=r"breakhis bad\.png"):
        data.decode([Item("breakhis", "bad.png", b"no image", True, "1")], 32)


def test_parts_share_no_patient(collection: str) -> None:
    items = data.read_all([collection])
    parts = by_patient(items, 0)
    decoded = data.decode(items, 16)
    groups = [set(data.part(decoded, parts, name).groups) for name in ("train", "validation", "test")]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20


def test_class_weights_balance_within_each_source() -> None:
    some = images({("idc", "1", False): 9, ("idc", "1", True): 3, ("breakhis", "2", False): 2, ("breakhis", "3", True): 6})
    weights = data.class_weights(some)
    for source in ("idc", "breakhis"):
        own = some.sources == source
        assert weights[own & some.malignant].sum() == pytest.approx(weights[own & ~some.malignant].sum())
        assert weights[own].mean() == pytest.approx(1)


def test_sampling_is_by_the_square_root_of_sources_and_patients() -> None:
    some = images({("idc", "a", False): 64, ("idc", "b", True): 36, ("breakhis", "c", True): 25})
    weights = data.sampling_weights(some)
    totals = {group: weights[some.groups == group].sum() for group in "abc"}
    assert totals["a"] / totals["b"] == pytest.approx(8 / 6)
    assert totals["c"] == pytest.approx(25 / (5 * 5))


def test_augmentation_moves_and_recolours_and_the_seed_repeats_it() -> None:
    image = torch.from_numpy(imaging.fit(tissue(1), Input(64, 64))).permute(2, 0, 1)
    augment = data.augmentation(64)
    torch.manual_seed(0)
    first, second = augment(image), augment(image)
    torch.manual_seed(0)
    assert torch.equal(first, augment(image))
    assert first.shape == (3, 64, 64)
    assert first.dtype == torch.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert (first - second).abs().mean() > 0.01


def test_stain_jitter_of_nothing_changes_nothing() -> None:
    image = torch.from_numpy(tissue(1, height=32, width=32)).permute(2, 0, 1) / 255
    assert torch.allclose(data.StainJitter(0)(image), image, atol=1e-4)
    torch.manual_seed(0)
    assert not torch.allclose(data.StainJitter(0.3)(image), image, atol=1e-2)
