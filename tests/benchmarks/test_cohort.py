from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from benchmarks.cohort import BETWEEN, NAMES, PATIENTS, PICTURES, cohort


def test_simulated_cohorts_have_the_effect_and_the_clusters_that_are_said() -> None:
    shift = np.zeros(len(NAMES))
    shift[0] = 1.0
    moved, within, total = [], [], []
    for seed in range(30):
        names, values, pictures = cohort(seed, shift)
        assert (len(names), pictures.shape) == (PATIENTS, (PATIENTS, PICTURES, len(NAMES)))
        moved.append(values[1::2].mean(axis=0) - values[::2].mean(axis=0))
        within.append(pictures.var(axis=1, ddof=1).mean())
        total.append(pictures[::2].var(axis=(0, 1)).mean())
    assert np.mean(moved, axis=0)[0] == pytest.approx(1, abs=0.1)
    assert np.abs(np.mean(moved, axis=0)[1:]).max() < 0.15
    assert np.mean(within) == pytest.approx(1 - BETWEEN, rel=0.05)
    assert np.mean(total) == pytest.approx(1, rel=0.05)
