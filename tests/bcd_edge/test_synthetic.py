"""Synthetic pictures: the same each time, and pink with purple."""

from __future__ import annotations

import numpy as np

from bcd_edge.synthetic import samples, tissue


def test_a_seed_is_a_picture() -> None:
    assert np.array_equal(tissue(1), tissue(1))
    assert not np.array_equal(tissue(1), tissue(2))


def test_more_nuclei_make_it_darker_and_stroma_is_pink() -> None:
    sparse, crowded = tissue(1, glands=0, scattered=0), tissue(1, glands=0, scattered=1500)
    assert crowded.mean() < sparse.mean() - 5
    red, green, blue = sparse.mean(axis=(0, 1))
    assert red > blue > green


def test_samples_are_rgb_pictures() -> None:
    pictures = samples()
    assert sum(name.startswith("synthetic-") for name in pictures) == 3
    assert all(image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 for image in pictures.values())
