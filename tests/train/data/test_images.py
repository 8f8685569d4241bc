"""Pixels, weights and augmentation."""

from __future__ import annotations

import threading
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
import torch

from bcd_edge.bundle import Input
from bcd_edge.readers import raster
from train.data import images as data
from train.data import split
from train.data.sources import Item


def images(counts: dict[tuple[str, str, bool], int]) -> data.Images:
    rows = [key for key, count in counts.items() for _ in range(count)]
    column = [np.array(values) for values in zip(*rows, strict=True)]
    return data.Images(np.zeros((len(rows), 8, 8, 3), np.uint8), column[2].astype(bool), column[0], column[1], column[0], column[0])


def test_pixels_are_those_of_the_runtime(collection: str) -> None:
    items = data.read_all([collection])
    decoded = data.decode(items[:3], 32)
    for index in range(3):
        assert np.array_equal(decoded.pixels_nhwc_u8[index], raster.resize(raster.decode(items[index].data), Input(32, 32)))


def test_the_same_file_twice_counts_once(collection: str) -> None:
    assert len(data.read_all([collection, collection])) == len(data.read_all([collection])) == 60


def test_a_collection_of_one_class_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "benign").mkdir()
    (tmp_path / "benign" / "a.png").write_bytes(b"a")
    with pytest.raises(click.ClickException, match="All images of folder are benign"):
        data.read_all([f"folder={tmp_path}"])


def test_a_damaged_image_ends_the_run_by_name() -> None:
    with pytest.raises(click.ClickException, match=r"breakhis bad\.png"):
        data.decode([Item("breakhis", "bad.png", b"no image", True, "1")], 32)


def test_parts_share_no_patient(collection: str) -> None:
    items = data.read_all([collection])
    divided = split.make(items, "patient", 0)
    decoded = data.decode(items, 16)
    groups = [set(data.part(decoded, divided, name).groups) for name in split.PARTS]
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


def test_magnifications_are_filtered(tmp_path: Path) -> None:
    for name in ("SOB_B_A-14-1-40-001.png", "SOB_M_DC-14-2-100-001.png", "SOB_M_DC-14-3-400-001.png"):
        (tmp_path / name).write_bytes(name.encode())
    items = data.read_all([f"breakhis={tmp_path}"], ["40X", "400X"])
    assert {item.magnification for item in items} == {"40X", "400X"}
    with pytest.raises(click.ClickException, match="20X: no image has it; there are 100X, 400X, 40X"):
        data.read_all([f"breakhis={tmp_path}"], ["40X", "20X"])


def test_fields_of_view_are_the_collections_else_the_pictures_own() -> None:
    picture = cv2.imencode(".png", np.zeros((30, 40, 3), np.uint8))[1].tobytes()
    items = [
        Item("breakhis", "a", picture, True, "1", "100X", um_per_pixel=9.0),
        Item("idc", "b", picture, True, "1"),
        Item("manifest", "c", picture, True, "1", um_per_pixel=0.5),
        Item("ward", "d", picture, True, "1", "40X"),
    ]
    fields = data.decode(items, 8).fields_um
    assert fields is not None
    assert fields == pytest.approx([368.8, 200, 0.5 * 1200**0.5, np.nan], nan_ok=True)


def test_a_batch_is_what_was_asked_for() -> None:
    some = images({("idc", "1", False): 3, ("idc", "2", True): 1})
    some.pixels_nhwc_u8[2] = 7
    pixels, target, weight = data.Batches(some)[[2, 3, 2]]
    assert pixels.shape == (3, 3, 8, 8)
    assert pixels.dtype == torch.uint8
    assert [int(value) for value in pixels[:, 0, 0, 0]] == [7, 0, 7]
    assert target.tolist() == [0, 1, 0]
    assert weight.tolist() == pytest.approx([2 / 3, 2, 2 / 3])


def test_draws_follow_the_weights_and_the_seed() -> None:
    draws = data.WeightedBatchSampler(np.array([0.0, 1.0, 3.0]), batches=200, size=10)
    torch.manual_seed(0)
    first = list(draws)
    torch.manual_seed(0)
    assert first == list(draws)
    assert len(first) == len(draws) == 200
    counts = np.bincount(np.array(first).ravel(), minlength=3)
    assert counts[0] == 0
    assert counts[2] / counts[1] == pytest.approx(3, rel=0.2)


def test_workers_gather_the_same_batches() -> None:
    some = images({("idc", str(index), index % 2 == 1): 1 for index in range(60)})
    some.pixels_nhwc_u8[:] = np.arange(60)[:, None, None, None]
    epochs = []
    for workers in (0, 1, 3):
        torch.manual_seed(3)
        epochs.append(list(data.loader(data.Batches(some), 20, 8, workers, torch.device("cpu"))))
    assert len(epochs[0]) == 20
    assert torch.stack([pixels for pixels, _, _ in epochs[0]]).float().std() > 1
    for epoch in epochs[1:]:
        assert all(
            torch.equal(tensor, repeated) for batch, same in zip(epochs[0], epoch, strict=True) for tensor, repeated in zip(batch, same, strict=True)
        )


def test_a_loader_that_is_left_early_leaves_no_thread() -> None:
    batches = data.loader(data.Batches(images({("idc", "1", False): 3, ("idc", "2", True): 1})), 1000, 2, 2, torch.device("cpu"))
    next(batches)
    assert any(thread.name.startswith("loader") for thread in threading.enumerate())
    batches.close()
    assert not any(thread.name.startswith("loader") for thread in threading.enumerate())
