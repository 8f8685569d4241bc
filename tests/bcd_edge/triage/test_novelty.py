"""Distances beside a plain Mahalanobis distance, and statistics that survive a file."""

from __future__ import annotations

import numpy as np
import pytest

from bcd_edge.errors import BundleError
from bcd_edge.triage.novelty import Novelty

RANDOM = np.random.default_rng(0)
SIZE = 6


def statistics(components: int) -> tuple[Novelty, np.ndarray, np.ndarray]:
    spread = RANDOM.normal(size=(SIZE, SIZE))
    covariance = spread @ spread.T + np.eye(SIZE)
    variances, vectors = np.linalg.eigh(covariance)
    variances, vectors = variances[::-1][:components], vectors[:, ::-1][:, :components]
    mean, centres = RANDOM.normal(size=SIZE), RANDOM.normal(size=(2, SIZE))
    projection = (vectors / np.sqrt(variances)).astype(np.float32)
    return Novelty(mean.astype(np.float32), projection, (centres @ projection).astype(np.float32), 1e9, 2.0), covariance, mean + centres


def test_with_all_components_it_is_the_mahalanobis_distance_to_the_nearest_class() -> None:
    novelty, covariance, centres = statistics(SIZE)
    embeddings = RANDOM.normal(scale=3, size=(20, SIZE)).astype(np.float32)
    inverse = np.linalg.inv(covariance)
    expected = [min(np.sqrt((row - centre) @ inverse @ (row - centre)) for centre in centres) / 2.0 for row in embeddings]
    np.testing.assert_allclose(novelty.distances(embeddings), expected, rtol=1e-3)


def test_what_the_components_leave_over_counts() -> None:
    novelty, _, _ = statistics(2)
    close = Novelty(novelty.mean, novelty.projection, novelty.centres, 1e-3, novelty.threshold)
    embeddings = RANDOM.normal(size=(5, SIZE)).astype(np.float32)
    assert (close.distances(embeddings) > 2 * novelty.distances(embeddings)).all()


def test_statistics_survive_a_file_and_another_file_is_refused() -> None:
    novelty, _, _ = statistics(3)
    embeddings = RANDOM.normal(size=(5, SIZE)).astype(np.float32)
    again = Novelty.read(novelty.write(), novelty.threshold)
    np.testing.assert_array_equal(again.distances(embeddings), novelty.distances(embeddings))
    for content in (b"", b"no archive", novelty.write()[:100]):
        with pytest.raises(BundleError, match="novelty statistics cannot be read"):
            Novelty.read(content, 1.0)
