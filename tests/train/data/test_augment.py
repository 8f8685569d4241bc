"""Augmentation: what it changes, what it must not, and that a seed repeats it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bcd_edge.bundle import Input
from bcd_edge.readers import raster
from bcd_edge.synthetic import tissue
from train.data import augment


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.from_numpy(np.stack([raster.resize(tissue(seed), Input(64, 64)) for seed in range(4)])).permute(0, 3, 1, 2)


def test_it_moves_and_recolours_and_the_seed_repeats_it(pictures: torch.Tensor) -> None:
    torch.manual_seed(0)
    first, second = augment.augment(pictures, 0.3), augment.augment(pictures, 0.3)
    torch.manual_seed(0)
    assert torch.equal(first, augment.augment(pictures, 0.3))
    assert first.shape == pictures.shape
    assert first.dtype == torch.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert (first - second).abs().mean() > 0.01
    torch.manual_seed(0)
    assert not torch.allclose(first, augment.augment(pictures, 0.1), atol=0.01)


def test_each_picture_of_a_batch_is_changed_its_own_way(pictures: torch.Tensor) -> None:
    torch.manual_seed(0)
    out = augment.augment(pictures[:1].expand(4, -1, -1, -1), 0.3)
    for index in range(3):
        assert (out[index] - out[index + 1]).abs().mean() > 0.01


def test_moving_a_plain_picture_uncovers_nothing() -> None:
    torch.manual_seed(0)
    plain = torch.full((16, 3, 32, 32), 0.7)
    assert torch.allclose(augment.move(plain), plain, atol=1e-5)


def test_both_mirror_images_and_every_quarter_are_drawn() -> None:
    """A picture with one dark corner: after many draws the darkness has been in all four, turned and mirrored."""
    torch.manual_seed(0)
    picture = torch.ones(400, 3, 32, 32)
    picture[:, :, 2:14, 2:14] = 0
    picture[:, 0, 2:8, 2:14] = 0.5  # its upper half is redder, which tells a mirror image from a rotation
    moved = augment.move(picture)
    dark = 1 - moved[:, 1]
    coordinate = torch.linspace(-1, 1, 32)
    x, y = (dark.sum(dim) * coordinate for dim in (1, 2))
    x, y = x.sum(1) / dark.sum((1, 2)), y.sum(1) / dark.sum((1, 2))
    assert all(((x > 0) == right).logical_and((y > 0) == down).any() for right in (True, False) for down in (True, False))
    red = (moved[:, 0] - moved[:, 1]).clamp(min=0)
    rx, ry = (red.sum(1) * coordinate).sum(1) / red.sum((1, 2)), (red.sum(2) * coordinate).sum(1) / red.sum((1, 2))
    side = x * ry - y * rx  # its sign is kept by a rotation about the centre and turned by a mirror
    assert 0.3 < (side > 0).float().mean() < 0.7


def test_stain_jitter_of_nothing_changes_nothing(pictures: torch.Tensor) -> None:
    images = pictures.float() / 255
    assert torch.allclose(augment.stain(images, 0), images.clamp(min=1 / 255), atol=1e-4)
    torch.manual_seed(0)
    assert not torch.allclose(augment.stain(images, 0.3), images, atol=1e-2)
    assert torch.allclose(augment.light(images, 0), images, atol=1e-6)


def test_mixup_mixes_pictures_and_labels_alike() -> None:
    torch.manual_seed(1)
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 2, 2)
    mixed, target, weight = augment.mix(images, torch.arange(8.0), 2 * torch.arange(8.0), 0.4)
    assert torch.allclose(mixed[:, 0, 0, 0], target)
    assert torch.allclose(2 * target, weight)
    assert target.sum() == pytest.approx(28)
    assert not torch.allclose(target, torch.arange(8.0))
